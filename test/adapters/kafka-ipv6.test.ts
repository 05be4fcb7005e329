// A Kafka with an IPv6 address, both in the variable and as advertised by the broker.
import { anyFreePort } from '../../deploy/local/ports.ts';
import { openClient, withAdmin } from '../../activities/adapters/kafka/client.ts';
import { readVariables } from '../../workers/config.ts';
import { freshName } from '../contracts/cases.ts';
import { describeWith } from '../servers.ts';
import { startBroker, type OwnBroker } from './kafka-broker.ts';

const port = await anyFreePort('::1').catch(() => undefined);

test.each([
  ['[::1]:9092', ['[::1]:9092']],
  ['[2001:db8::7]:9092, kafka.example:9093', ['[2001:db8::7]:9092', 'kafka.example:9093']],
])('OCDL_KAFKA_BROKERS=%s', (given, brokers) => {
  expect(readVariables({ OCDL_KAFKA_BROKERS: given }).values.OCDL_KAFKA_BROKERS).toEqual(brokers);
});

test.each(['::1:9092', '[::1]', '[kafka]:9092', 'a]:9092'])('OCDL_KAFKA_BROKERS=%s is refused', (given) => {
  expect(() => readVariables({ OCDL_KAFKA_BROKERS: given })).toThrow(/OCDL_KAFKA_BROKERS: .*IPv6 address in brackets/);
});

describeWith(['kafka'], 'a broker on the IPv6 loopback', () => {
  let broker: OwnBroker | undefined;
  afterAll(() => broker?.close());

  test('accepts a connection and an event, and advertises that address', async () => {
    if (port === undefined) {
      if (process.env.CI === 'true') throw new Error('this machine has no IPv6 loopback');
      process.stderr.write('SKIPPED: a broker on the IPv6 loopback, which this machine does not have.\n');
      return;
    }
    const add = (stack: string, name: string, more: string): string =>
      `${name}=${new RegExp(`^${name.replaceAll('.', '\\.')}=(.*)$`, 'm').exec(stack)?.[1]},${more}`;
    broker = await startBroker({
      ipv6: true,
      properties: (stack) => [
        add(stack, 'listeners', `SIX://[::1]:${port}`),
        add(stack, 'advertised.listeners', `SIX://[::1]:${port}`),
        add(stack, 'listener.security.protocol.map', 'SIX:PLAINTEXT'),
      ],
    });
    const kafka = openClient({ brokers: [`[::1]:${port}`] }, 3);
    const topic = freshName('topic');
    const { brokers } = await withAdmin(kafka, async (admin) => {
      await admin.createTopics({ topics: [{ topic }], waitForLeaders: true });
      return await admin.describeCluster();
    });
    expect(brokers).toEqual([expect.objectContaining({ host: '::1', port })]);
    const producer = kafka.producer();
    await producer.connect();
    try {
      const [sent] = await producer.send({ topic, acks: -1, messages: [{ value: 'here' }] });
      expect(sent).toMatchObject({ topicName: topic, errorCode: 0, baseOffset: '0' });
    } finally {
      await producer.disconnect();
    }
  }, 300_000);
});
