// The event bus when Kafka's broker is killed, paused and started again, and when a consumer's process dies.
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { createKafkaBus } from '../../activities/adapters/kafka.ts';
import type { EventBus } from '../../activities/ports.ts';
import { CASE_TIMEOUT_MS, eventually, freshName, patience } from '../contracts/cases.ts';
import { event, listen, numbered, publishAll } from '../contracts/event-bus/listener.ts';
import { describeWith } from '../servers.ts';
import { startProgram } from './child-program.ts';
import { until } from '../workflows/until.ts';
import { bareClient, startBroker, type OwnBroker } from './kafka-broker.ts';

// A broker that was killed is back after 5 to 12 s on a quiet machine.
patience.ms = 180_000;
const LONG_MS = 4 * CASE_TIMEOUT_MS;

describeWith(['kafka'], 'kafka with faults', () => {
  let broker: OwnBroker;
  const buses: EventBus[] = [];
  const open = async (): Promise<EventBus> => {
    const topics = { partitions: 2, replication: 1, retentionMs: 86_400_000 };
    const bus = await createKafkaBus({ brokers: broker.brokers, topics });
    buses.push(bus);
    return bus;
  };
  beforeAll(async () => {
    broker = await startBroker();
  }, LONG_MS);
  afterEach(async () => {
    await Promise.all(buses.splice(0).map((bus) => bus.close()));
  }, LONG_MS);
  afterAll(async () => broker?.close(), CASE_TIMEOUT_MS);

  /** Ids in the topic in their order, seen by a new group. All are of one key. */
  async function contents(topic: string, last: string): Promise<readonly string[]> {
    const { finished, stop } = await listen(await open(), topic, freshName('all'));
    await eventually(`${last} in ${topic}`, () => finished.includes(last));
    await stop();
    return finished;
  }

  it(
    'keeps each acknowledged event exactly once if the broker is killed while publishing 200',
    async () => {
      const topic = freshName('killed');
      const bus = await open();
      const acknowledged: string[] = [];
      const publishing = (async () => {
        for (const id of numbered('e-', 200)) {
          await bus.publish(topic, 'k', event(id));
          acknowledged.push(id);
        }
      })();
      // Twice, at different places.
      for (const reached of [50, 120]) {
        await eventually(`${reached} acknowledged`, () => acknowledged.length >= reached);
        broker.signal('SIGKILL');
      }
      await publishing;
      assert.deepEqual(await contents(topic, 'e-199'), numbered('e-', 200));
    },
    LONG_MS,
  );

  it(
    'resumes consuming after the broker was killed, in order and without losses',
    async () => {
      const topic = freshName('consumed');
      const bus = await open();
      const errors: unknown[] = [];
      const seen: string[] = [];
      const finished = new Set<string>();
      await bus.subscribe({
        topic,
        group: 'group',
        handle: async ({ value }) => {
          const { id } = value as { id: string };
          seen.push(id);
          await sleep(20);
          finished.add(id);
        },
        onError: (error) => errors.push(error),
      });
      await publishAll(bus, topic, 'k', numbered('e-', 200));
      await eventually('the first 40', () => finished.size >= 40);
      broker.signal('SIGKILL');
      await bus.publish(topic, 'k', event('last'));
      await eventually('the last', () => finished.has('last'));
      const once = seen.filter((id, at) => seen.indexOf(id) === at);
      assert.deepEqual(once, [...numbered('e-', 200), 'last']);
      // What was handled but could not be committed any more comes again: the one in hand and the few before, not the rest.
      assert.ok(seen.length - once.length <= 5, `${seen.length - once.length} events came again`);
      for (const error of errors) assert.match(String(error), /consuming consumed-.* for the group group: /);
    },
    LONG_MS,
  );

  it(
    'waits for a paused broker, beyond the session timeout of the group',
    async () => {
      const topic = freshName('paused');
      const bus = await open();
      const { finished } = await listen(bus, topic, 'group');
      await publishAll(bus, topic, 'k', numbered('before-', 5));
      await eventually('the first five', () => finished.length >= 5);
      broker.signal('SIGSTOP');
      const publishing = publishAll(bus, topic, 'k', numbered('after-', 5));
      await sleep(20_000);
      assert.equal(finished.length, 5);
      broker.signal('SIGCONT');
      await publishing;
      await eventually('the last five', () => finished.includes('after-4'));
      const once = finished.filter((id, at) => finished.indexOf(id) === at);
      assert.deepEqual(once, [...numbered('before-', 5), ...numbered('after-', 5)]);
      assert.deepEqual(await contents(topic, 'after-4'), once);
    },
    LONG_MS,
  );

  it(
    'gives the unfinished events of a killed process to another subscriber, but not finished ones',
    async () => {
      const topic = freshName('died');
      const bus = await open();
      const ids = [...numbered('e-', 10), 'stuck', 'next'];
      await publishAll(bus, topic, 'k', ids);
      const admin = bareClient(broker.brokers).admin();
      await admin.connect();
      const child = startProgram('kafka-consumer.ts', [broker.brokers[0] ?? '', topic, 'group']);
      await eventually('the child to be stuck', () => child.lines.includes('stuck'));
      // The commit of what came before is on its way while the stuck one is in hand.
      await until('the ten before it to be committed', async () => {
        const [found] = await admin.fetchOffsets({ groupId: `group@${topic}`, topics: [topic] });
        return found?.partitions.some(({ offset }) => offset === '10');
      });
      child.kill();
      await Promise.all([child.ended, admin.disconnect()]);
      const { finished } = await listen(bus, topic, 'group');
      await eventually('the rest', () => finished.includes('next'));
      assert.deepEqual(child.lines, ids.slice(0, -1));
      assert.deepEqual(finished, ['stuck', 'next']);
    },
    LONG_MS,
  );
});
