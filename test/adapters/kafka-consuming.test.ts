// Consuming from Kafka: foreign and junk messages, long backlogs, slow handlers, waiting retries.
import assert from 'node:assert/strict';
import { Partitioners, type Admin, type GroupDescriptions, type Producer } from 'kafkajs';
import { createKafkaBus } from '../../activities/adapters/kafka.ts';
import { failure } from '../../activities/failures.ts';
import { deadLetterTopic, type CloudEvent, type EventBus, type Received } from '../../activities/ports.ts';
import { CASE_TIMEOUT_MS, eventually, freshName, patience } from '../contracts/cases.ts';
import { event, listen, numbered, planted, publishAll } from '../contracts/event-bus/listener.ts';
import { describeWith, kafkaServer } from '../servers.ts';
import { bareClient, bareMessages } from './kafka-broker.ts';

// Several thousand events on a machine that does other things too.
patience.ms = 120_000;
const topics = { partitions: 3, replication: 1, retentionMs: 7 * 86_400_000 };
const LONG_MS = 4 * CASE_TIMEOUT_MS;

describeWith(['kafka'], 'kafka, consuming', () => {
  let brokers: readonly string[] = [];
  let admin: Admin;
  let producer: Producer;
  let slow: Promise<void> | undefined;
  const buses: EventBus[] = [];
  const open = async (options: Partial<Parameters<typeof createKafkaBus>[0]> = {}) => {
    const bus = await createKafkaBus({ brokers, topics, ...options });
    buses.push(bus);
    return bus;
  };
  beforeAll(async () => {
    brokers = [(await kafkaServer()).brokers];
    const client = bareClient(brokers);
    admin = client.admin();
    producer = client.producer({ createPartitioner: Partitioners.DefaultPartitioner });
    await Promise.all([admin.connect(), producer.connect()]);
    slow = slowHandler();
    slow.catch(() => undefined);
  }, CASE_TIMEOUT_MS);
  afterEach(async () => {
    await Promise.all(buses.splice(0).map((bus) => bus.close()));
  }, CASE_TIMEOUT_MS);
  afterAll(async () => {
    await slow?.catch(() => undefined);
    await Promise.all([admin.disconnect(), producer.disconnect()]);
  }, LONG_MS);

  async function countOf(topic: string): Promise<number> {
    const offsets = await admin.fetchTopicOffsets(topic);
    return offsets.reduce((sum, { high, low }) => sum + Number(high) - Number(low), 0);
  }

  /** Waits longer than a member without heartbeats keeps its place (15 s), so it runs beside the other cases. */
  async function slowHandler(): Promise<void> {
    const topic = freshName('slow');
    const [first, second] = await Promise.all([
      createKafkaBus({ brokers, topics }),
      createKafkaBus({ brokers, topics }),
    ]);
    let release = (): void => undefined;
    const held = new Promise<void>((resolve) => (release = resolve));
    try {
      const running = new Set<string>();
      const overlaps: string[] = [];
      const counts = new Map<string, number>();
      const handle = async ({ value }: Received): Promise<void> => {
        const { id } = value as CloudEvent;
        if (running.has(id)) overlaps.push(id);
        running.add(id);
        counts.set(id, (counts.get(id) ?? 0) + 1);
        if (id === 'slow') await held;
        running.delete(id);
      };
      const errors: unknown[] = [];
      await first.subscribe({ topic, group: 'group', handle, onError: (error) => errors.push(error) });
      await first.publish(topic, 'k', event('slow'));
      await eventually('the slow one to begin', () => running.has('slow'));
      const joined = await second.subscribe({ topic, group: 'group', handle });
      for (const [at, id] of numbered('e-', 60).entries()) await first.publish(topic, `k${at}`, event(id));
      // The second has asked to join, and the group waits for the first.
      const asked = { groups: 0 };
      const asking = setInterval(() => void admin.describeGroups([`group@${topic}`]).then(note), 200);
      const note = ({ groups: [group] }: GroupDescriptions): void => {
        if (group?.state === 'PreparingRebalance') asked.groups += 1;
      };
      await eventually('the second to ask', () => asked.groups > 0).finally(() => clearInterval(asking));
      // Longer than a member without heartbeats keeps its place (15 s).
      await new Promise((resolve) => setTimeout(resolve, 20_000));
      assert.deepEqual([...running], ['slow']);
      release();
      await eventually('all events', () => counts.size >= 61 && running.size === 0);
      await joined.stop();
      assert.deepEqual(overlaps, []);
      assert.deepEqual(errors, []);
      assert.equal(counts.get('slow'), 1);
    } finally {
      release();
      await Promise.all([first.close(), second.close()]);
    }
  }

  it(
    'reads both modes of the binding, and passes other messages on unchanged',
    async () => {
      const topic = freshName('modes');
      const bus = await open();
      const seen: Received[] = [];
      await admin.createTopics({ waitForLeaders: false, topics: [{ topic, numPartitions: 1 }] });
      const { datacontenttype, data, ...attributes } = event('binary', { n: 1 });
      const ce = Object.fromEntries(Object.entries(attributes).map(([name, value]) => [`ce_${name}`, String(value)]));
      await producer.send({
        topic,
        messages: [
          { key: 'k', value: JSON.stringify(data), headers: { ...ce, 'content-type': datacontenttype } },
          { key: 'k', value: JSON.stringify(event('structured')) },
          { value: '{"no": "event"}' },
          { value: 'no {json}' },
          { value: Buffer.from([0xff, 0x00, 0xfe]) },
          { key: 'k', value: null },
        ],
      });
      await bus.subscribe({ topic, group: 'group', handle: async (received) => void seen.push(received) });
      await eventually('all six', () => seen.length >= 6);
      assert.deepEqual(
        seen.map(({ value }) => value),
        [
          event('binary', { n: 1 }),
          event('structured'),
          { no: 'event' },
          'no {json}',
          { base64: Buffer.from([0xff, 0x00, 0xfe]).toString('base64') },
          null,
        ],
      );
      assert.deepEqual(
        seen.map(({ key }) => key),
        ['k', 'k', '', '', '', 'k'],
      );
    },
    CASE_TIMEOUT_MS,
  );

  it(
    'dead-letters 10,000 junk messages and handles the valid ones between them',
    async () => {
      const topic = freshName('junk');
      const bus = await open({ topics: { ...topics, partitions: 1 } });
      await bus.publish(topic, 'k', event('before'));
      const kinds = ['no json', '{"half":', '{"an": "object"}', '[]', Buffer.from([0xff, 0xfe]), null, '"x"', '1'];
      for (let sent = 0; sent < 10_000; sent += 1_000)
        await producer.send({
          topic,
          messages: Array.from({ length: 1_000 }, (_, at) => ({ key: 'k', value: kinds[at % kinds.length] ?? null })),
        });
      await bus.publish(topic, 'k', event('after'));
      const good: string[] = [];
      // With the pauses by default: what is known to be hopeless is not tried again.
      await bus.subscribe({
        topic,
        group: 'group',
        handle: async ({ value }) => {
          if (typeof value !== 'object' || value === null || !('id' in value))
            throw failure('InvalidInput', 'no release event');
          good.push(String(value.id));
        },
      });
      await eventually('both good events', () => good.length >= 2);
      assert.deepEqual(good, ['before', 'after']);
      assert.equal(await countOf(deadLetterTopic(topic)), 10_000);
      const letters = await bareMessages(brokers, deadLetterTopic(topic), 10_000);
      const parsed = letters.map(({ value }) => JSON.parse(String(value)) as CloudEvent);
      assert.equal(new Set(parsed.map(({ id }) => id)).size, 10_000);
      for (const { data } of parsed) assert.equal((data as { reason: string }).reason, 'no release event');
      assert.equal((parsed[0]?.data as { value: unknown }).value, 'no json');
      assert.equal((parsed[0]?.data as { offset: unknown }).offset, '0/1');
    },
    LONG_MS,
  );

  it(
    'resumes at the group’s offset and handles all missed events in order',
    async () => {
      const topic = freshName('backlog');
      const bus = await open();
      const before = await listen(bus, topic, 'group');
      await publishAll(bus, topic, 'k', numbered('before-', 10));
      await eventually('the first ten', () => before.finished.length >= 10);
      await before.stop();
      await Promise.all(numbered('while-away-', 5_000).map((id) => bus.publish(topic, 'k', event(id))));
      const after = await listen(await open(), topic, 'group');
      await eventually('the backlog', () => after.finished.length >= 5_000);
      assert.deepEqual(after.finished, numbered('while-away-', 5_000));
    },
    LONG_MS,
  );

  it(
    'continues other partitions while one waits for a retry',
    async () => {
      const topic = freshName('pause');
      const bus = await open();
      const seen: string[] = [];
      await bus.subscribe({
        topic,
        group: 'group',
        retries: 5,
        // No second attempt within this test.
        pauseMs: 10 * LONG_MS,
        handle: async ({ key }) => (key === 'bad' ? planted() : void seen.push(key)),
      });
      await bus.publish(topic, 'bad', event('bad'));
      // Of 20 keys some lie in other partitions than `bad`.
      for (const key of numbered('key-', 20)) await bus.publish(topic, key, event(key));
      await eventually('other partitions', () => seen.length > 5);
      await bus.publish(topic, seen[0] ?? '', event('later'));
      const before = seen.length;
      await eventually('a later event there', () => seen.length > before);
    },
    CASE_TIMEOUT_MS,
  );

  it(
    'dead-letters even the largest event, truncated if it would become too large',
    async () => {
      const topic = freshName('largest');
      const bus = await open({ topics: { ...topics, partitions: 1 } });
      await bus.publish(topic, 'k', event('a', 'x'.repeat(999_000)));
      // As text in JSON each of these takes six characters.
      await producer.send({ topic, messages: [{ key: 'k', value: '\u0001'.repeat(500_000) }] });
      await bus.subscribe({ topic, group: 'group', retries: 0, handle: async () => planted() });
      const dead: Record<string, unknown>[] = [];
      await bus.subscribe({
        topic: deadLetterTopic(topic),
        group: 'group',
        handle: async ({ value }) => void dead.push((value as { data: Record<string, unknown> }).data),
      });
      await eventually('both letters', () => dead.length >= 2);
      assert.equal((dead[0]?.['value'] as CloudEvent).id, 'a');
      assert.equal((dead[1]?.['value'] as { characters: number }).characters, 3_000_002);
      assert.match(String(dead[1]?.['reason']), /planted/);
    },
    CASE_TIMEOUT_MS,
  );

  it(
    'lets a slow handler finish while another subscriber joins, with no losses and no concurrent duplicates',
    async () => slow,
    LONG_MS,
  );
});
