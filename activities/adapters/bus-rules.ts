// What every EventBus adapter checks alike: what may be a topic, and what a consumer group.
import { nameProblem, pathProblem } from '../../workflows/domain/names.ts';
import { failure } from '../failures.ts';
import { deadLetterTopic } from '../ports.ts';

const DEAD = deadLetterTopic('');

/** Answers the topic, which is a name, or a name with the ending of dead letters. Throws `InvalidInput`. */
export function checkTopic(topic: string): string {
  const problem = nameProblem(isDeadLetterTopic(topic) ? topic.slice(0, -DEAD.length) : topic);
  if (problem) throw failure('InvalidInput', `"${topic.slice(0, 100)}" is no topic: ${problem}`);
  return topic;
}

export const isDeadLetterTopic = (topic: string): boolean => topic.endsWith(DEAD);

/** Answers the consumer group, which is one segment of a path. Throws `InvalidInput`. */
export function checkGroup(group: string): string {
  const problem = group.includes('/') ? 'no "/"' : pathProblem(group);
  if (problem) throw failure('InvalidInput', `"${group.slice(0, 100)}" is no consumer group: ${problem}`);
  return group;
}
