// Checks that all EventBus adapters share: valid topics and consumer groups.
import { nameProblem, pathProblem } from '../../workflows/domain/names.ts';
import { failure } from '../failures.ts';
import { deadLetterTopic } from '../ports.ts';

const DEAD = deadLetterTopic('');

/** Returns the topic: a name, optionally with the dead-letter suffix. Throws `InvalidInput`. */
export function checkTopic(topic: string): string {
  const problem = nameProblem(isDeadLetterTopic(topic) ? topic.slice(0, -DEAD.length) : topic);
  if (problem) throw failure('InvalidInput', `"${topic.slice(0, 100)}" is not a valid topic: ${problem}`);
  return topic;
}

export const isDeadLetterTopic = (topic: string): boolean => topic.endsWith(DEAD);

/** Returns the consumer group, which is one path segment. Throws `InvalidInput`. */
export function checkGroup(group: string): string {
  const problem = group.includes('/') ? 'no "/"' : pathProblem(group);
  if (problem) throw failure('InvalidInput', `"${group.slice(0, 100)}" is not a valid consumer group: ${problem}`);
  return group;
}
