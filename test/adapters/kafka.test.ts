// The event bus on Kafka: the contract, and what only Kafka promises to publishers and operators, over the test run's broker.
import assert from 'node:assert/strict';
import { Kafka as Binding } from 'cloudevents';
import kafkajs, { type Admin } from 'kafkajs';
import { createKafkaBus } from '../../activities/adapters/kafka.ts';
import type { EventBus } from '../../activities/ports.ts';
import { anyFreePort } from '../../deploy/local/ports.ts';
import { CASE_TIMEOUT_MS, eventually, freshName, patience, rejectsAs } from '../contracts/cases.ts';
import { eventBusContract } from '../contracts/event-bus.ts';
import { event, listen, publishAll } from '../contracts/event-bus/listener.ts';
import { describeWith, kafkaServer } from '../servers.ts';
import { bareClient, bareMessages } from './kafka-broker.ts';

patience.ms = 120_000;
const topics = { partitions: 3, replication: 1, retentionMs: 7 * 86_400_000 };

describeWith(['kafka'], 'kafka', () => {
  eventBusContract('contract', async () => {
    const { brokers } = await kafkaServer();
    const another = () => createKafkaBus({ brokers: [brokers], topics });
    const bus = await another();
    return { bus, another, close: () => bus.close() };
  });

  let brokers: readonly string[] = [];
  let admin: Admin;
  const buses: EventBus[] = [];
  const warnings: string[] = [];
  const open = async (options: Partial<Parameters<typeof createKafkaBus>[0]> = {}) => {
    const bus = await createKafkaBus({ brokers, topics, onWarn: (message) => warnings.push(message), ...options });
    buses.push(bus);
    return bus;
  };
  beforeAll(async () => {
    brokers = [(await kafkaServer()).brokers];
    admin = bareClient(brokers).admin();
    await admin.connect();
  }, CASE_TIMEOUT_MS);
  afterEach(async () => {
    await Promise.all(buses.splice(0).map((bus) => bus.close()));
    warnings.splice(0);
  }, CASE_TIMEOUT_MS);
  afterAll(async () => admin.disconnect(), CASE_TIMEOUT_MS);

  const makeTopic = (topic: string, numPartitions: number, config: Readonly<Record<string, string>> = {}) =>
    admin.createTopics({
      waitForLeaders: false,
      topics: [
        { topic, numPartitions, configEntries: Object.entries(config).map(([name, value]) => ({ name, value })) },
      ],
    });
  it(
    'writes standard CloudEvents for Kafka',
    async () => {
      const topic = freshName('wire');
      const sent = { ...event('e-1', { release: 'r-1', text: '✓' }), subject: 'models/rf' };
      await (await open()).publish(topic, 'random-forest', sent);
      const [message] = await bareMessages(brokers, topic, 1);
      assert.ok(message?.value && message.key);
      const headers = Object.fromEntries(Object.entries(message.headers ?? {}).map(([k, v]) => [k, String(v)]));
      assert.deepEqual(headers, { 'content-type': 'application/cloudevents+json; charset=UTF-8' });
      assert.equal(message.key.toString(), 'random-forest');
      assert.deepEqual(JSON.parse(message.value.toString()), sent);
      // CloudEvents' own library agrees.
      const foreign = { headers, key: message.key.toString(), value: message.value.toString(), body: undefined };
      assert.ok(Binding.isEvent(foreign));
      const known = Binding.toEvent(foreign);
      assert.ok(!Array.isArray(known));
      assert.deepEqual([known.id, known.type, known.data], ['e-1', sent.type, sent.data]);
    },
    CASE_TIMEOUT_MS,
  );

  it(
    'creates a missing topic as configured, without a warning',
    async () => {
      const topic = freshName('made');
      await (await open()).publish(topic, 'k', event('a'));
      await (await open()).publish(topic, 'k', event('b'));
      const { topics: found } = await admin.fetchTopicMetadata({ topics: [topic] });
      assert.equal(found[0]?.partitions.length, 3);
      const { resources } = await admin.describeConfigs({
        includeSynonyms: false,
        resources: [{ type: kafkajs.ConfigResourceTypes.TOPIC, name: topic, configNames: ['retention.ms'] }],
      });
      assert.equal(resources[0]?.configEntries[0]?.configValue, String(topics.retentionMs));
      assert.deepEqual(warnings, []);
    },
    CASE_TIMEOUT_MS,
  );

  it(
    'warns about a topic with different settings, says how to fix it, and does not change it',
    async () => {
      const topic = freshName('other');
      await makeTopic(topic, 2, { 'retention.ms': '3600000' });
      const bus = await open({ topics: { ...topics, replication: 2 } });
      await publishAll(bus, topic, 'k', ['a', 'b']);
      const { topics: found } = await admin.fetchTopicMetadata({ topics: [topic] });
      assert.equal(found[0]?.partitions.length, 2);
      assert.equal(warnings.length, 3, warnings.join('\n'));
      for (const [at, say] of [
        /has partitions 2 instead of the configured 3.*kafka-topics\.sh --alter/,
        /has replication 1 instead of the configured 2.*kafka-reassign-partitions\.sh/,
        /has retention\.ms 3600000 instead of the configured 604800000.*kafka-configs\.sh --alter/,
      ].entries()) {
        assert.match(warnings[at] ?? '', say);
        assert.match(warnings[at] ?? '', new RegExp(`topic ${topic} `));
      }
    },
    CASE_TIMEOUT_MS,
  );

  it(
    'refuses an event that is too large for the bus or its topic, and continues',
    async () => {
      const topic = freshName('large');
      const bus = await open();
      await rejectsAs('InvalidInput', 'too large', bus.publish(topic, 'k', event('a', 'x'.repeat(1_000_000))));
      await bus.publish(topic, 'k', event('b', 'x'.repeat(999_000)));
      const narrow = freshName('narrow');
      await makeTopic(narrow, 3, { 'max.message.bytes': '2000', 'retention.ms': String(topics.retentionMs) });
      await rejectsAs('InvalidInput', 'too large there', bus.publish(narrow, 'k', event('c', 'x'.repeat(3_000))));
      await bus.publish(narrow, 'k', event('d'));
      const { finished } = await listen(bus, narrow, 'group');
      await eventually('the small one', () => finished.includes('d'));
      assert.deepEqual(finished, ['d']);
    },
    CASE_TIMEOUT_MS,
  );

  it(
    'starts although no broker answers, and reports it without writing to the console',
    async () => {
      const said: unknown[] = [];
      const original = { ...console };
      const note = (...words: unknown[]): void => void said.push(words);
      Object.assign(console, { log: note, info: note, warn: note, error: note, debug: note });
      try {
        const address = `127.0.0.1:${await anyFreePort('127.0.0.1')}`;
        const bus = await open({ brokers: [address] });
        const errors: unknown[] = [];
        const handle = async (): Promise<void> => undefined;
        await bus.subscribe({ topic: 'nowhere', group: 'group', handle, onError: (error) => errors.push(error) });
        const answer = new RegExp(`Kafka at ${address} does not answer .*ECONNREFUSED.*check the address`);
        await assert.rejects(bus.check(), answer);
        await eventually('the subscription to tell', () => errors.length > 0);
        assert.match(String(errors[0]), answer);
        assert.match(String(errors[0]), /consuming nowhere for the group group/);
        assert.ok(warnings.some((line) => line.includes('ECONNREFUSED')));
      } finally {
        Object.assign(console, original);
      }
      assert.deepEqual(said, []);
      await (await open()).check();
      await rejectsAs('InvalidInput', 'no brokers', createKafkaBus({ brokers: [] }));
    },
    CASE_TIMEOUT_MS,
  );
});
