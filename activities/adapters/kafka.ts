// EventBus on Kafka: CloudEvents by topic, acknowledged by all in-sync replicas; consumer groups commit handled events.
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

/** 5 retries with doubling pauses take 15 s, enough for a service to restart. */
const DEFAULT_PAUSE_MS = 500;
const DEFAULT_RETRIES = 5;
/** About a minute of attempts with growing pauses: survives a broker's restart, reports a missing cluster. */
const PUBLISH_RETRIES = 12;
/** A failed consumer is recreated anyway, so kafkajs need not retry for long, and a stop need not wait for it. */
const CONSUME_RETRIES = 3;
/** A person waits for the result of a check. */
const CHECK_RETRIES = 1;
const CHECK_ANSWER_MS = 5_000;
/** How much of a value is kept when it is too large for the dead-letter topic: enough to identify it. */
const CUT_CHARACTERS = 100_000;

export interface KafkaBusOptions extends KafkaConnection {
  /** Settings for missing topics; default: the brokers' settings. Existing topics that differ cause a warning and are not changed. */
  readonly topics?: TopicSettings;
}

/**
 * Opens a bus on a Kafka cluster. Connects on first use, so a process can start while the cluster is down: publishing then
 * rejects with the cause; subscriptions report it to `onError` and resume when the cluster is back. Non-retryable failures
 * (failures.ts) go to the dead-letter topic without retries; failed events on a dead-letter topic are reported and skipped.
 * `check` rejects with cause and remedy.
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

  /** Ensures the topic once, until an operation on it fails. */
  async function topicReady(topic: string, retries: number): Promise<void> {
    const ready = topicsReady.get(topic) ?? ensureTopic(openClient(options, retries), topic, options.topics, onWarn);
    topicsReady.set(topic, ready);
    await ready;
  }

  async function connectProducer(topic: string): Promise<Producer> {
    await topicReady(topic, PUBLISH_RETRIES);
    const producer = openClient(options, PUBLISH_RETRIES).producer({
      idempotent: true,
      // Idempotent ordering requires one request at a time.
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
        throw kafkaError(refusal, `writing a message of ${topic} to the dead-letter topic ${grave}`, options);
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
          // An exception in the listener must not end the subscription.
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
            // Offsets are per partition.
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
