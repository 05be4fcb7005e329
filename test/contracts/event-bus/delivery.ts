// The contract of EventBus, delivery: no losses, no duplicates, order per key, groups.
import assert from 'node:assert/strict';
import { eventually, freshName, type Case } from '../cases.ts';
import { event, idOf, listen, numbered, publishAll, type BusSubject } from './listener.ts';

export const deliveryCases: readonly Case<BusSubject>[] = [
  {
    name: 'delivers keys and events unchanged and in order',
    async run({ bus }) {
      const topic = freshName('topic');
      const events = [
        event('a', { nested: [1, 'zwei', null, { deep: true }], text: 'line\nbreak "quoted" ✓ \u0000' }),
        event('b', null),
        { ...event('c', 'x'.repeat(300_000)), subject: 'with a subject' },
        event('d', []),
      ];
      const { seen, stop } = await listen(bus, topic, 'group');
      const offsets: string[] = [];
      for (const each of events) offsets.push((await bus.publish(topic, 'k/1', each)).offset);
      await eventually('all events', () => seen.length >= events.length);
      await stop();
      assert.deepEqual(
        seen.map(({ value }) => value),
        events,
      );
      assert.deepEqual(
        seen.map(({ key }) => key),
        events.map(() => 'k/1'),
      );
      assert.deepEqual(
        seen.map(({ attempt }) => attempt),
        events.map(() => 1),
      );
      assert.deepEqual(
        seen.map(({ offset }) => offset),
        offsets,
      );
      for (const [at, offset] of offsets.entries())
        if (at > 0) assert.ok(BigInt(offset) > BigInt(offsets[at - 1] ?? 0), `offsets ${offsets.join(', ')}`);
    },
  },
  {
    name: 'keeps the order of each key, with no losses and no duplicates, also when publishing concurrently',
    async run({ bus }) {
      const topic = freshName('topic');
      const keys = ['one', 'two', 'three', 'four'];
      const { seen, stop } = await listen(bus, topic, 'group');
      // Not awaited one by one: the order of the calls counts.
      await Promise.all(
        numbered('', 50).flatMap((n) => keys.map((key) => bus.publish(topic, key, event(`${key}-${n}`)))),
      );
      await Promise.all(keys.map((key) => bus.publish(topic, key, event(`${key}-end`))));
      await eventually(
        'the last of each key',
        () => seen.filter((one) => idOf(one).endsWith('-end')).length >= keys.length,
      );
      await stop();
      for (const key of keys)
        assert.deepEqual(seen.filter((one) => one.key === key).map(idOf), [...numbered(`${key}-`, 50), `${key}-end`]);
    },
  },
  {
    name: 'starts a group’s first subscription at the oldest event',
    async run({ bus }) {
      const topic = freshName('topic');
      await publishAll(bus, topic, 'k', numbered('old-', 5));
      const { finished, stop } = await listen(bus, topic, 'group');
      await eventually('the old events', () => finished.length >= 5);
      await bus.publish(topic, 'k', event('new'));
      await eventually('the new event', () => finished.includes('new'));
      await stop();
      assert.deepEqual(finished, [...numbered('old-', 5), 'new']);
    },
  },
  {
    name: 'waits for a topic that does not exist yet',
    async run({ bus, another }) {
      const topic = freshName('topic');
      const { finished, stop } = await listen(bus, topic, 'group');
      const publisher = await another();
      await publisher.publish(topic, 'k', event('first'));
      await eventually('the first event', () => finished.length >= 1);
      await stop();
      await publisher.close();
      assert.deepEqual(finished, ['first']);
    },
  },
  {
    name: 'delivers every event to every group',
    async run({ bus }) {
      const topic = freshName('topic');
      const groups = await Promise.all(['alpha', 'beta'].map((group) => listen(bus, topic, group)));
      await publishAll(bus, topic, 'k', numbered('e-', 10));
      await eventually('all in both', () => groups.every(({ finished }) => finished.length >= 10));
      await Promise.all(groups.map(({ stop }) => stop()));
      for (const { finished } of groups) assert.deepEqual(finished, numbered('e-', 10));
    },
  },
  {
    name: 'delivers each event to one of two subscribers of a group',
    async run({ bus, another }) {
      const topic = freshName('topic');
      const second = await another();
      const both = [await listen(bus, topic, 'group'), await listen(second, topic, 'group')];
      const count = (): number => both.reduce((sum, { finished }) => sum + finished.length, 0);
      for (const n of numbered('', 40)) await bus.publish(topic, `k${n}`, event(`e-${n}`));
      const all = (): Set<string> => new Set(both.flatMap(({ finished }) => finished));
      await eventually('all events', () => all().size >= 40);
      await Promise.all(both.map(({ stop }) => stop()));
      await second.close();
      // At least once: after a rebalance a few events may be delivered again, but not all of them.
      assert.ok(count() < 60, `${count()} deliveries of 40 events`);
    },
  },
  {
    name: 'lets another subscriber of the group continue where one stopped',
    async run({ bus, another }) {
      const topic = freshName('topic');
      const second = await another();
      const first = await listen(bus, topic, 'group');
      await publishAll(bus, topic, 'k', numbered('a-', 5));
      await eventually('the first part', () => first.finished.length >= 5);
      const standby = await listen(second, topic, 'group');
      await first.stop();
      await publishAll(bus, topic, 'k', numbered('b-', 5));
      await eventually('the second part', () => standby.finished.includes('b-4'));
      await standby.stop();
      await second.close();
      assert.deepEqual(first.finished, numbered('a-', 5));
      assert.deepEqual(standby.finished, numbered('b-', 5));
    },
  },
  {
    name: 'delivers one event of a key at a time',
    async run({ bus }) {
      const topic = freshName('topic');
      const running = new Map<string, number>();
      let most = 0;
      const { finished, stop } = await listen(bus, topic, 'group', async ({ key }) => {
        running.set(key, (running.get(key) ?? 0) + 1);
        most = Math.max(most, running.get(key) ?? 0);
        await new Promise((resolve) => setTimeout(resolve, 30));
        running.set(key, (running.get(key) ?? 0) - 1);
      });
      await Promise.all(
        numbered('', 10).flatMap((n) => ['a', 'b'].map((key) => bus.publish(topic, key, event(`${key}${n}`)))),
      );
      await eventually('all', () => finished.length >= 20);
      await stop();
      assert.equal(most, 1);
    },
  },
];
