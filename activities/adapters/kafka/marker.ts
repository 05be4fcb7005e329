// The marker of a Kafka cluster: the oldest message of a topic with one partition and unlimited retention.
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { Partitioners, type Kafka } from 'kafkajs';
import type { Marker } from '../../ports.ts';
import { kafkaError, openClient, protocolType, withAdmin, type KafkaConnection } from './client.ts';
import { memberConfig } from './subscription.ts';
import { ensureTopic, kafkaGroup, type TopicSettings } from './topics.ts';

/** Model types contain no dot, so no release topic has this name. */
const TOPIC = 'ocdl.installation';
/** The prefix of application groups: one permission covers them all. */
const GROUP = 'application-ocdl-marker';
const RETRIES = 3;
/** A new group waits 3 s for more members before its first message; a busy broker takes longer. */
const FIRST_WITHIN_MS = 30_000;
const COORDINATOR_PAUSE_MS = 250;
const FOR_EVER = -1;

/** Opens the marker of the cluster. */
export function kafkaMarker(
  connection: KafkaConnection & { readonly topics?: TopicSettings },
  onWarn: (message: string) => void,
): Marker {
  const withContext = async <T>(doing: string, work: (kafka: Kafka) => Promise<T>): Promise<T> => {
    try {
      return await work(openClient(connection, RETRIES));
    } catch (error) {
      throw kafkaError(error, doing, connection);
    }
  };
  return {
    owner: () => withContext('reading the marker of the installation', ownerOf),
    claim: (installation) =>
      withContext('claiming Kafka for the installation', async (kafka) => {
        const known = await ownerOf(kafka);
        if (known !== undefined) return known;
        const { replication = -1 } = connection.topics ?? {};
        await ensureTopic(kafka, TOPIC, { partitions: 1, replication, retentionMs: FOR_EVER }, onWarn);
        await send(kafka, installation);
        return (await ownerOf(kafka)) ?? installation;
      }),
  };
}

/** If several installations claim concurrently, the first message wins. */
async function ownerOf(kafka: Kafka): Promise<string | undefined> {
  if (await isEmpty(kafka)) return undefined;
  for (const until = Date.now() + FIRST_WITHIN_MS; ;)
    try {
      return await firstMessage(kafka);
    } catch (error) {
      // A broker that has just started may still be creating its first group.
      if (!/COORDINATOR|GROUP_LOAD/.test(protocolType(error) ?? '') || Date.now() > until) throw error;
      await sleep(COORDINATOR_PAUSE_MS);
    }
}

async function isEmpty(kafka: Kafka): Promise<boolean> {
  try {
    const [partition] = await withAdmin(kafka, (admin) => admin.fetchTopicOffsets(TOPIC));
    return partition === undefined || partition.high === partition.low;
  } catch (error) {
    if (protocolType(error) === 'UNKNOWN_TOPIC_OR_PARTITION') return true;
    throw error;
  }
}

async function send(kafka: Kafka, installation: string): Promise<void> {
  const producer = kafka.producer({
    idempotent: true,
    maxInFlightRequests: 1,
    allowAutoTopicCreation: false,
    createPartitioner: Partitioners.DefaultPartitioner,
  });
  await producer.connect();
  try {
    // -1: all in-sync replicas.
    await producer.send({ topic: TOPIC, acks: -1, messages: [{ key: 'installation', value: installation }] });
  } finally {
    await producer.disconnect();
  }
}

/** Reads with a separate group, which commits nothing and is deleted afterwards. */
async function firstMessage(kafka: Kafka): Promise<string> {
  const groupId = kafkaGroup(TOPIC, `${GROUP}-${randomUUID()}`);
  const retry = { retries: RETRIES, restartOnFailure: async () => false };
  const consumer = kafka.consumer({ groupId, ...memberConfig, retry });
  const timer: { late?: NodeJS.Timeout } = {};
  try {
    await consumer.connect();
    await consumer.subscribe({ topics: [TOPIC], fromBeginning: true });
    return await new Promise<string>((resolve, reject) => {
      timer.late = setTimeout(
        () => reject(new Error(`no message of ${TOPIC} arrived within ${FIRST_WITHIN_MS / 1000} s`)),
        FIRST_WITHIN_MS,
      );
      consumer.on(consumer.events.CRASH, ({ payload }) => reject(payload.error));
      consumer
        .run({
          autoCommit: false,
          eachMessage: async ({ message }) => resolve(String(message.value ?? '')),
        })
        .catch(reject);
    });
  } finally {
    clearTimeout(timer.late);
    await consumer.disconnect();
    // Kafka removes an empty group without offsets later by itself; deleting it requires a separate permission.
    await withAdmin(kafka, (admin) => admin.deleteGroups([groupId])).catch(() => undefined);
  }
}
