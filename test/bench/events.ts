// Events produced and consumed through the bus, against a plain kafkajs loop that awaits each send; durable deliveries apart.
import { Kafka, logLevel, Partitioners } from 'kafkajs';
import pg from 'pg';
import { createKafkaBus } from '../../activities/adapters/kafka.ts';
import type { CloudEvent } from '../../activities/ports.ts';
import type { Bench, Contender, Given } from './rounds.ts';
import { variable } from './systems.ts';

export const events = (given: Given): Bench => ({
  title: `${given.events} events produced and consumed`,
  module: 'events',
  contenders: ['bus', 'plain kafkajs loop'],
  peer: 'plain kafkajs loop',
  goals: { bus: 0.9 },
  amount: given.events,
  unit: 'events',
});

/** What each delivery costs besides: its row is on disk before the next event is handled. */
export const durableDeliveries = (given: Given): Bench => ({
  title: `${given.events} events consumed, each recorded in PostgreSQL before the next`,
  module: 'events',
  contenders: ['bus, durable deliveries', 'the rows alone'],
  peer: 'the rows alone',
  amount: given.events,
  unit: 'events',
});

export const contenders: Readonly<Record<string, Contender>> = {
  async bus(given) {
    const { bus, publish, consume } = await openBus(given);
    await publish(eventOf(given, 0));
    return async () => {
      for (let number = 1; number < given.events; number += 1) await publish(eventOf(given, number));
      await consume(() => Promise.resolve());
      return () => bus.close();
    };
  },

  async 'plain kafkajs loop'(given) {
    const kafka = new Kafka({ brokers: brokersOf(given), logLevel: logLevel.ERROR });
    const topic = topicOf(given);
    const admin = kafka.admin();
    await admin.connect();
    await admin.createTopics({ topics: [{ topic }], waitForLeaders: true });
    await admin.disconnect();
    const producer = kafka.producer({
      idempotent: true,
      maxInFlightRequests: 1,
      createPartitioner: Partitioners.DefaultPartitioner,
    });
    await producer.connect();
    const publish = async (event: CloudEvent): Promise<void> => {
      await producer.send({ topic, acks: -1, messages: [{ key: 'model', value: JSON.stringify(event) }] });
    };
    await publish(eventOf(given, 0));
    return async () => {
      for (let number = 1; number < given.events; number += 1) await publish(eventOf(given, number));
      // It waits for something new as long as the bus does.
      const consumer = kafka.consumer({ groupId: topic, maxWaitTimeInMs: 250 });
      await consumer.connect();
      await consumer.subscribe({ topics: [topic], fromBeginning: true });
      const seen = countTo(given.events);
      await consumer.run({
        eachMessage: ({ message }) => {
          seen.add(idOf(JSON.parse(String(message.value))));
          return Promise.resolve();
        },
      });
      await seen.all;
      return async () => {
        await consumer.disconnect();
        await producer.disconnect();
      };
    };
  },

  async 'bus, durable deliveries'(given) {
    const { bus, publish, consume } = await openBus(given);
    for (let number = 0; number < given.events; number += 1) await publish(eventOf(given, number));
    const { client, record } = await openRows(given);
    return async () => {
      await consume(record);
      return async () => {
        await bus.close();
        await client.end();
      };
    };
  },

  async 'the rows alone'(given) {
    const { client, record } = await openRows(given);
    return async () => {
      for (let number = 0; number < given.events; number += 1) await record(eventOf(given, number).id);
      return () => client.end();
    };
  },
};

const brokersOf = (given: Given): string[] => variable(given, 'OCDL_KAFKA_BROKERS').split(',');
/** A type of models is a name of at most 63 lower-case letters, digits and dashes. */
const topicOf = ({ name }: Given): string => `bench-${name.replaceAll(/-+/g, '-')}`;

async function openBus(given: Given) {
  const topic = topicOf(given);
  const bus = await createKafkaBus({ brokers: brokersOf(given) });
  return {
    bus,
    publish: (event: CloudEvent) => bus.publish(topic, 'model', event),
    /** Handles every event once; resolves when the last is handled. */
    consume: async (handle: (id: string) => Promise<void>): Promise<void> => {
      const seen = countTo(given.events);
      await bus.subscribe({
        topic,
        group: 'bench',
        onError: (error) => process.stderr.write(`${String(error)}\n`),
        handle: async ({ value }) => {
          const id = idOf(value);
          await handle(id);
          seen.add(id);
        },
      });
      await seen.all;
    },
  };
}

async function openRows(given: Given) {
  const client = new pg.Client({ connectionString: variable(given, 'DATABASE_URL') });
  await client.connect();
  const table = `bench_${given.name.replaceAll('-', '_')}`;
  await client.query(`create table ${table} (id text primary key, at timestamptz not null default now())`);
  const statement = { name: 'record', text: `insert into ${table} (id) values ($1) on conflict do nothing` };
  return { client, record: async (id: string) => void (await client.query({ ...statement, values: [id] })) };
}

/** About as large as an announced release. */
const eventOf = (given: Given, number: number): CloudEvent => ({
  specversion: '1.0',
  id: `${given.name}-${number}`,
  source: '/projects/bench/models/model',
  type: 'io.ocdl.model.released.v1',
  subject: `model/${number}`,
  time: new Date().toISOString(),
  datacontenttype: 'application/json',
  data: { release: `${given.name}-${number}`, filling: 'x'.repeat(500) },
});

const idOf = (value: unknown): string =>
  typeof value === 'object' && value !== null && 'id' in value ? String(value.id) : '';

/** Delivered more than once, an event still counts once. */
function countTo(events: number): { readonly add: (id: string) => void; readonly all: Promise<void> } {
  const seen = new Set<string>();
  let done = (): void => undefined;
  const all = new Promise<void>((resolve) => (done = resolve));
  return {
    all,
    add: (id) => {
      if (seen.add(id).size === events) done();
    },
  };
}
