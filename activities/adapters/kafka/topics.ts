// Topics and groups on Kafka: the name of a group there, and the creation of topics as configured.
import { setTimeout as sleep } from 'node:timers/promises';
import kafkajs, { type Admin, type Kafka } from 'kafkajs';
import { checkGroup } from '../bus-rules.ts';
import { protocolType, withAdmin } from './client.ts';

/** Settings for missing topics. */
export interface TopicSettings {
  readonly partitions: number;
  readonly replication: number;
  readonly retentionMs: number;
}

/** With at least this many replicas, two copies must acknowledge an event, so that one broker may be lost permanently. */
const REPLICATION_FOR_TWO = 3;
/** A new topic is visible on brokers after a moment, on slow ones after seconds. */
const VISIBLE_WITHIN_MS = 15_000;
const LOOK_EVERY_MS = 50;
const NOT_YET = ['UNKNOWN_TOPIC_OR_PARTITION', 'LEADER_NOT_AVAILABLE'];

/**
 * Kafka's name of a group's subscription to one topic. Kafka distributes the partitions of all topics of a group over all
 * its members, but our groups are per topic. Names of topics and groups contain no "@". Throws `InvalidInput`.
 */
export const kafkaGroup = (topic: string, group: string): string => `${checkGroup(group)}@${topic}`;

/**
 * Creates a missing topic with `settings` or the brokers' defaults. An existing topic is not changed: if it differs,
 * `onWarn` receives the difference and the remedy.
 */
export async function ensureTopic(
  kafka: Kafka,
  topic: string,
  settings: TopicSettings | undefined,
  onWarn: (message: string) => void,
): Promise<void> {
  await withAdmin(kafka, async (admin) => {
    if ((await exists(admin, topic)) || !(await create(admin, topic, settings)))
      if (settings) for (const warning of await differences(admin, topic, settings)) onWarn(warning);
  });
}

async function exists(admin: Admin, topic: string): Promise<boolean> {
  try {
    await admin.fetchTopicMetadata({ topics: [topic] });
    return true;
  } catch (error) {
    if (NOT_YET.includes(protocolType(error) ?? '')) return false;
    throw error;
  }
}

/** Creates the topic and waits until it is usable; `false` if it already existed. */
async function create(admin: Admin, topic: string, settings: TopicSettings | undefined): Promise<boolean> {
  const { partitions, replication } = settings ?? { partitions: -1, replication: -1 };
  const made = await admin.createTopics({
    // kafkajs' own waiting fails if the asked broker does not know the topic yet.
    waitForLeaders: false,
    topics: [
      {
        topic,
        numPartitions: partitions,
        replicationFactor: replication,
        ...(settings && {
          configEntries: [
            { name: 'retention.ms', value: String(settings.retentionMs) },
            { name: 'min.insync.replicas', value: replication >= REPLICATION_FOR_TWO ? '2' : '1' },
          ],
        }),
      },
    ],
  });
  const until = Date.now() + VISIBLE_WITHIN_MS;
  while (!(await exists(admin, topic)) && Date.now() < until) await sleep(LOOK_EVERY_MS);
  return made;
}

async function differences(admin: Admin, topic: string, wanted: TopicSettings): Promise<readonly string[]> {
  const { topics } = await admin.fetchTopicMetadata({ topics: [topic] });
  const partitions = topics[0]?.partitions ?? [];
  const replication = Math.min(...partitions.map(({ replicas }) => replicas.length));
  const retention = await retentionOf(admin, topic);
  const warn = (what: string, is: string | number, should: number, remedy: string): string =>
    `topic ${topic} has ${what} ${is} instead of the configured ${should} and is used unchanged; ${remedy}`;
  return [
    ...(partitions.length === wanted.partitions
      ? []
      : [
          warn(
            'partitions',
            partitions.length,
            wanted.partitions,
            partitions.length < wanted.partitions
              ? `to fix it, stop publishers and run "kafka-topics.sh --alter --topic ${topic} --partitions ${wanted.partitions}" (models then move between partitions)`
              : 'Kafka cannot remove partitions: configure the current number, or delete the topic and let it be created again',
          ),
        ]),
    ...(replication === wanted.replication
      ? []
      : [
          warn(
            'replication',
            replication,
            wanted.replication,
            'to fix it, change its replicas with "kafka-reassign-partitions.sh", or configure the current number',
          ),
        ]),
    ...(retention === String(wanted.retentionMs)
      ? []
      : [
          warn(
            'retention.ms',
            retention,
            wanted.retentionMs,
            `to fix it, run "kafka-configs.sh --alter --entity-type topics --entity-name ${topic} --add-config retention.ms=${wanted.retentionMs}"`,
          ),
        ]),
  ];
}

async function retentionOf(admin: Admin, topic: string): Promise<string> {
  try {
    const { resources } = await admin.describeConfigs({
      includeSynonyms: false,
      resources: [{ type: kafkajs.ConfigResourceTypes.TOPIC, name: topic, configNames: ['retention.ms'] }],
    });
    return resources[0]?.configEntries[0]?.configValue ?? 'unknown';
  } catch (error) {
    // Describing settings requires a separate permission, which publishing does not need.
    if (protocolType(error)?.endsWith('AUTHORIZATION_FAILED')) return 'unknown (no permission to read it)';
    throw error;
  }
}
