// EventBus on Kafka: CloudEvents by topic, acknowledged by all replicas; consumer groups that commit what is handled.
import { Partitioners, type Producer } from 'kafkajs';
import { failure } from '../failures.ts';
import { deadLetterTopic, type CloudEvent, type EventBus, type Received } from '../ports.ts';
import { checkTopic, isDeadLetterTopic } from './bus-rules.ts';
import { deadLetter } from './dead-letter.ts';
import { checkSize, encodeEvent, type WireMessage } from './kafka/binding.ts';
import { kafkaError, openClient, protocolType, withAdmin, type KafkaConnection } from './kafka/client.ts';
import { createDelivery } from './kafka/delivery.ts';
import { kafkaMarker } from './kafka/marker.ts';
import { createPublisher, type Publisher } from './kafka/publisher.ts';
import { memberConfig, startSubscription, type Subscription } from './kafka/subscription.ts';
import { ensureTopic, kafkaGroup, type TopicSettings } from './kafka/topics.ts';

/** With 5 retries at doubled pauses: 15 s in all, enough for a service to start again. */
const DEFAULT_PAUSE_MS = 500;
const DEFAULT_RETRIES = 5;
/** About a minute of attempts at growing pauses: a broker's restart is waited for, a missing cluster is reported. */
const PUBLISH_RETRIES = 12;
/** A consumer that fails is made anew anyway, so kafkajs need not try for long, and a stop need not wait for it. */
const CONSUME_RETRIES = 3;
/** A person waits for the answer of a check. */
const CHECK_RETRIES = 1;
const CHECK_ANSWER_MS = 5_000;
/** What is left of a value that is too large for the dead letters: enough to know it by. */
const CUT_CHARACTERS = 100_000;

export interface KafkaBusOptions extends KafkaConnection {
  /** How missing topics are made; the brokers' defaults unless given. Topics that differ are warned of and left alone. */
  readonly topics?: TopicSettings;
}

/**
 * Opens a bus on a Kafka cluster. Nothing is connected before it is used, so a process may start while the cluster is away:
 * publishing then rejects with what is wrong, subscriptions tell it to their `onError` and go on when it is back. Failures
 * that trying again cannot mend (failures.ts) go to the dead letters without retries; events that fail on a dead-letter topic
 * are reported and passed over. `check` rejects with what is wrong and how to mend it.
 */
export async function createKafkaBus(options: KafkaBusOptions): Promise<EventBus & { check(): Promise<void> }> {
  if (options.brokers.length === 0) throw failure('InvalidInput', 'Kafka needs at least one broker (HOST:PORT)');
  const onWarn = options.onWarn ?? (() => undefined);
  const topicsReady = new Map<string, Promise<void>>();
  const publishers = new Map<string, Publisher>();
  const subscriptions = new Set<Subscription>();
  let closed: Promise<void> | undefined;

  const checkOpen = (): void => {
    if (closed) throw new Error(`the bus to Kafka at ${options.brokers.join(', ')} is closed: open it again`);
  };

  /** Once per topic, until something fails there. */
  async function topicReady(topic: string, retries: number): Promise<void> {
    const ready = topicsReady.get(topic) ?? ensureTopic(openClient(options, retries), topic, options.topics, onWarn);
    topicsReady.set(topic, ready);
    await ready;
  }

  async function connectProducer(topic: string): Promise<Producer> {
    await topicReady(topic, PUBLISH_RETRIES);
    const producer = openClient(options, PUBLISH_RETRIES).producer({
      idempotent: true,
      // What idempotence needs for its order.
      maxInFlightRequests: 1,
      allowAutoTopicCreation: false,
      createPartitioner: Partitioners.DefaultPartitioner,
    });
    await producer.connect();
    return producer;
  }

  async function send(topic: string, message: WireMessage): Promise<string> {
    const publisher = publishers.get(topic) ?? createPublisher(topic, () => connectProducer(topic));
    publishers.set(topic, publisher);
    try {
      return await publisher.send(message);
    } catch (error) {
      topicsReady.delete(topic);
      throw error;
    }
  }

  async function publish(topic: string, key: string, event: CloudEvent): Promise<{ readonly offset: string }> {
    checkOpen();
    const message = encodeEvent(key, event);
    checkSize(checkTopic(topic), event, message);
    try {
      return { offset: await send(topic, message) };
    } catch (error) {
      throw kafkaError(error, `publishing event ${event.id} to ${topic}`, options);
    }
  }

  async function bury(topic: string, group: string, event: Received, error: unknown): Promise<void> {
    const grave = deadLetterTopic(topic);
    try {
      await send(grave, encodeEvent(event.key, deadLetter(topic, group, event, error)));
    } catch (refusal) {
      if (protocolType(refusal) !== 'MESSAGE_TOO_LARGE')
        throw kafkaError(refusal, `putting away a message of ${topic} to ${grave}`, options);
      const text = JSON.stringify(event.value);
      const value = { cut: text.slice(0, CUT_CHARACTERS), characters: text.length };
      await send(grave, encodeEvent(event.key, deadLetter(topic, group, { ...event, value }, error)));
    }
  }

  async function close(): Promise<void> {
    await Promise.all([...subscriptions].map((subscription) => subscription.stop()));
    await Promise.all([...publishers.values()].map((publisher) => publisher.close()));
  }

  return {
    publish,
    async subscribe({ topic, group, handle, retries = DEFAULT_RETRIES, pauseMs = DEFAULT_PAUSE_MS, onError }) {
      checkOpen();
      const groupId = kafkaGroup(checkTopic(topic), group);
      const tell = (error: unknown): void => {
        try {
          onError?.(error);
        } catch {
          // A listener's own fault must not end the subscription.
        }
      };
      const subscription = startSubscription({
        topic,
        open: async () => {
          await topicReady(topic, CONSUME_RETRIES);
          const retry = { retries: CONSUME_RETRIES, restartOnFailure: async () => false };
          return openClient(options, CONSUME_RETRIES).consumer({ groupId, ...memberConfig, retry });
        },
        deliver: createDelivery({
          retries,
          pauseMs,
          handle,
          tell,
          bury: async (partition, event, error) => {
            if (isDeadLetterTopic(topic)) return;
            // Offsets count within a partition.
            await bury(topic, group, { ...event, offset: `${partition}/${event.offset}` }, error);
          },
        }),
        tell: (error) => {
          topicsReady.delete(topic);
          tell(kafkaError(error, `consuming ${topic} for the group ${group}`, options));
        },
      });
      subscriptions.add(subscription);
      return {
        stop: async () => {
          await subscription.stop();
          subscriptions.delete(subscription);
        },
      };
    },
    async check() {
      const kafka = openClient({ ...options, onWarn: () => undefined }, CHECK_RETRIES, CHECK_ANSWER_MS);
      await withAdmin(kafka, (admin) => admin.describeCluster()).catch((error: unknown) => {
        throw kafkaError(error, 'checking Kafka', options);
      });
    },
    marker: kafkaMarker(options, onWarn),
    close: () => (closed ??= close()),
  };
}
