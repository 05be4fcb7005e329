// Topics and groups of Kafka: what a group is called there, and that a topic exists as it was configured.
import { setTimeout as sleep } from 'node:timers/promises';
import kafkajs, { type Admin, type Kafka } from 'kafkajs';
import { checkGroup } from '../bus-rules.ts';
import { protocolType, withAdmin } from './client.ts';

/** How a missing topic is made. */
export interface TopicSettings {
  readonly partitions: number;
  readonly replication: number;
  readonly retentionMs: number;
}

/** From here on two copies must have an event before it counts as published: one broker may then be lost for ever. */
const REPLICATION_FOR_TWO = 3;
/** Brokers hear of a new topic a moment after it was made, slow ones within seconds. */
const VISIBLE_WITHIN_MS = 15_000;
const LOOK_EVERY_MS = 50;
const NOT_YET = ['UNKNOWN_TOPIC_OR_PARTITION', 'LEADER_NOT_AVAILABLE'];

/**
 * Kafka's group of a group's subscription to one topic: Kafka gives a group's partitions of all topics to all its members,
 * ours are per topic. No topic and no group has an "@". Throws `InvalidInput`.
 */
export const kafkaGroup = (topic: string, group: string): string => `${checkGroup(group)}@${topic}`;

/**
 * Makes the topic if it is missing, by `settings` or else by the brokers' defaults. One that is there is left as it is: where
 * it differs, `onWarn` hears in what, and how to mend it.
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

/** Makes the topic and waits until it can be used; `false` when somebody else was quicker. */
async function create(admin: Admin, topic: string, settings: TopicSettings | undefined): Promise<boolean> {
  const { partitions, replication } = settings ?? { partitions: -1, replication: -1 };
  const made = await admin.createTopics({
    // kafkajs' own waiting fails where the broker it asks has not yet heard of the topic.
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
  const warn = (what: string, is: string | number, should: number, mend: string): string =>
    `topic ${topic} has ${what} ${is}, configured is ${should}: it is used as it is; ${mend}`;
  return [
    ...(partitions.length === wanted.partitions
      ? []
      : [
          warn(
            'partitions',
            partitions.length,
            wanted.partitions,
            partitions.length < wanted.partitions
              ? `to mend, stop publishers and run "kafka-topics.sh --alter --topic ${topic} --partitions ${wanted.partitions}" (models then move between partitions)`
              : 'Kafka cannot take partitions away: configure this number, or make the topic anew',
          ),
        ]),
    ...(replication === wanted.replication
      ? []
      : [
          warn(
            'replication',
            replication,
            wanted.replication,
            'to mend, move its replicas with "kafka-reassign-partitions.sh", or configure this number',
          ),
        ]),
    ...(retention === String(wanted.retentionMs)
      ? []
      : [
          warn(
            'retention.ms',
            retention,
            wanted.retentionMs,
            `to mend, run "kafka-configs.sh --alter --entity-type topics --entity-name ${topic} --add-config retention.ms=${wanted.retentionMs}"`,
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
    // To describe settings is a right of its own, which publishing does not need.
    if (protocolType(error)?.endsWith('AUTHORIZATION_FAILED')) return 'unknown (no right to see it)';
    throw error;
  }
}
