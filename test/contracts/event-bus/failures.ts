// The contract of EventBus, failures: restarts, attempts, dead letters, stopping, refusals.
import assert from 'node:assert/strict';
import { deadLetterTopic, type Received } from '../../../activities/ports.ts';
import { failure } from '../../../activities/failures.ts';
import { eventually, freshName, rejects, rejectsAs, type Case } from '../cases.ts';
import { PAUSE_MS, event, idOf, listen, numbered, planted, publishAll, type BusSubject } from './listener.ts';

export const failureCases: readonly Case<BusSubject>[] = [
  {
    name: 'remembers across a restart which events the group has processed',
    async run({ another }) {
      const topic = freshName('topic');
      const before = await another();
      const first = await listen(before, topic, 'group');
      await publishAll(before, topic, 'k', numbered('a-', 5));
      await eventually('the first part', () => first.finished.length >= 5);
      await first.stop();
      await before.close();
      const after = await another();
      const second = await listen(after, topic, 'group');
      await after.publish(topic, 'k', event('b'));
      await eventually('the event after the restart', () => second.finished.includes('b'));
      await second.stop();
      await after.close();
      assert.deepEqual(second.finished, ['b']);
    },
  },
  {
    name: 'delivers unfinished events again after a restart',
    async run({ another }) {
      const topic = freshName('topic');
      const before = await another();
      const first = await listen(before, topic, 'group', (one) => (idOf(one) === 'b' ? planted() : undefined), 1000);
      await publishAll(before, topic, 'k', ['a', 'b', 'c']);
      await eventually('an attempt at b', () => first.seen.some((one) => idOf(one) === 'b'));
      await first.stop();
      await before.close();
      const after = await another();
      const second = await listen(after, topic, 'group');
      await eventually('b and c', () => second.finished.includes('c'));
      await second.stop();
      await after.close();
      assert.deepEqual(first.finished, ['a']);
      assert.deepEqual(second.finished, ['b', 'c']);
    },
  },
  {
    name: 'dead-letters an event with a non-retryable failure immediately',
    async run({ bus }) {
      const topic = freshName('topic');
      const refused = (one: Received): void => {
        if (idOf(one) === 'b') throw failure('InvalidInput', 'no event of ours');
      };
      const { seen, stop } = await listen(bus, topic, 'group', refused);
      const dead = await listen(bus, deadLetterTopic(topic), 'group');
      await publishAll(bus, topic, 'k', ['a', 'b', 'c']);
      await eventually('c', () => seen.some((one) => idOf(one) === 'c'));
      await eventually('a dead letter', () => dead.seen.length > 0);
      await stop();
      await dead.stop();
      assert.deepEqual(seen.map(idOf), ['a', 'b', 'c']);
      assert.equal(dead.seen.length, 1);
    },
  },
  {
    name: 'retries a failed event before later ones',
    async run({ bus }) {
      const topic = freshName('topic');
      const refused = (one: Received): void => (idOf(one) === 'b' && one.attempt < 3 ? planted() : undefined);
      const { seen, stop } = await listen(bus, topic, 'group', refused);
      const dead = await listen(bus, deadLetterTopic(topic), 'group');
      await publishAll(bus, topic, 'k', ['a', 'b', 'c']);
      await eventually('c', () => seen.some((one) => idOf(one) === 'c'));
      await stop();
      await dead.stop();
      assert.deepEqual(
        seen.map((one) => `${idOf(one)}${one.attempt}`),
        ['a1', 'b1', 'b2', 'b3', 'c1'],
      );
      assert.deepEqual(dead.seen, []);
    },
  },
  {
    name: 'dead-letters an event with the reason once its attempts are used up, and continues',
    async run({ bus }) {
      const topic = freshName('topic');
      const { seen, finished, stop } = await listen(
        bus,
        topic,
        'group',
        (one) => (idOf(one) === 'bad' ? planted() : undefined),
        2,
      );
      const dead = await listen(bus, deadLetterTopic(topic), 'watchers');
      await publishAll(bus, topic, 'k', ['good', 'bad', 'next']);
      await eventually('the event after the bad one', () => finished.includes('next'));
      await eventually('the dead letter', () => dead.seen.length >= 1);
      await stop();
      await dead.stop();
      assert.deepEqual(finished, ['good', 'next']);
      const attempts = seen.filter((one) => idOf(one) === 'bad').map(({ attempt }) => attempt);
      assert.deepEqual(attempts, [1, 2, 3]);
      const [letter] = dead.seen;
      const { data } = letter?.value as { data: Record<string, unknown> };
      assert.equal(letter?.key, 'k');
      assert.match(String(data['reason']), /planted/);
      assert.deepEqual(data['value'], event('bad'));
      assert.equal(data['topic'], topic);
      assert.equal(data['group'], 'group');
      assert.equal(data['key'], 'k');
      assert.equal(dead.seen.length, 1);
    },
  },
  {
    name: 'reports failures to the error listener',
    async run({ bus }) {
      const topic = freshName('topic');
      const errors: unknown[] = [];
      const subscription = await bus.subscribe({
        topic,
        group: 'group',
        retries: 1,
        pauseMs: PAUSE_MS,
        handle: async () => planted(),
        onError: (error) => errors.push(error),
      });
      await bus.publish(topic, 'k', event('bad'));
      await eventually('two errors', () => errors.filter((error) => String(error).includes('planted')).length >= 2);
      await subscription.stop();
    },
  },
  {
    name: 'stop() waits for the running handler, and nothing is delivered afterwards',
    async run({ bus }) {
      const topic = freshName('topic');
      let release = (): void => undefined;
      const held = new Promise<void>((resolve) => (release = resolve));
      const { seen, finished, stop } = await listen(bus, topic, 'group', () => held);
      await publishAll(bus, topic, 'k', ['a', 'b']);
      await eventually('a to begin', () => seen.length >= 1);
      let stopped = false;
      const stopping = stop().then(() => (stopped = true));
      try {
        await new Promise((resolve) => setTimeout(resolve, 100));
        assert.equal(stopped, false, 'stop() did not wait');
      } finally {
        release();
      }
      await stopping;
      assert.deepEqual(finished, ['a']);
      // A new subscriber of the group sees b, so the stopped one would have had time to see it.
      const next = await listen(bus, topic, 'group');
      await eventually('b', () => next.finished.includes('b'));
      await next.stop();
      assert.deepEqual(next.finished, ['b']);
      assert.deepEqual(finished, ['a']);
    },
  },
  {
    name: 'refuses invalid topics, and every call once it is closed',
    async run({ bus, another }) {
      for (const topic of ['', '../x', 'Upper', 'a/b', '.dead', 'a..dead', 'x'.repeat(64)]) {
        await rejectsAs('InvalidInput', `publishing to "${topic}"`, bus.publish(topic, 'k', event('a')));
        const handle = async (): Promise<void> => undefined;
        await rejectsAs('InvalidInput', `consuming "${topic}"`, bus.subscribe({ topic, group: 'group', handle }));
      }
      const closed = await another();
      await closed.close();
      await closed.close();
      await rejects('publishing when closed', closed.publish(freshName('topic'), 'k', event('a')));
    },
  },
];
