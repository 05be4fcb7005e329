// One subscription: a member of a Kafka consumer group that is started again whenever it fails, until it is stopped.
import { setTimeout as sleep } from 'node:timers/promises';
import type { Consumer, ConsumerConfig, EachBatchPayload } from 'kafkajs';
import { createCommitter } from './committer.ts';
import type { Delivery } from './delivery.ts';

/** First and longest pause before a failed member starts again: soon after a hiccup, rarely while a broker is gone. */
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 30_000;
/** A few missed heartbeats, so that a busy process keeps its place and a dead one is replaced soon. */
const HEARTBEAT_MS = 3_000;
const SESSION_MS = 15_000;
/**
 * How long a group that forms anew waits for a handler that is running. After that its event is given to somebody else, who
 * handles it at the same time: so, longer than any handler may take. A dead member is noticed by its heartbeats.
 */
const REBALANCE_MS = 600_000;
/** How long a fetch waits at the broker for something new, and so about how long a stop takes and a retry is late. */
const FETCH_WAIT_MS = 250;
/** Keys of other partitions do not wait for one slow handler. */
const PARTITIONS_AT_ONCE = 4;

export const memberConfig = {
  sessionTimeout: SESSION_MS,
  heartbeatInterval: HEARTBEAT_MS,
  rebalanceTimeout: REBALANCE_MS,
  maxWaitTimeInMs: FETCH_WAIT_MS,
  allowAutoTopicCreation: false,
} as const satisfies Partial<ConsumerConfig>;

export interface Subscription {
  /** Ends after the handlers that are running; what they did not finish is handed over again to the group. */
  stop(): Promise<void>;
}

/**
 * Starts consuming `topic`. `open` makes the topic where it is missing and a new consumer that does not restart by itself;
 * `tell` hears why it has to be called again.
 */
export function startSubscription(options: {
  readonly topic: string;
  readonly open: () => Promise<Consumer>;
  readonly deliver: Delivery;
  readonly tell: (error: unknown) => void;
}): Subscription {
  const { topic, open, deliver, tell } = options;
  const stopping = new AbortController();
  const stopped = (): boolean => stopping.signal.aborted;
  const untilStop = new Promise<void>((resolve) =>
    stopping.signal.addEventListener('abort', () => resolve(), { once: true }),
  );

  /** Hands over the messages of one partition, in order. Whatever ends it early leaves the rest to the next fetch. */
  async function eachBatch(payload: EachBatchPayload, timers: Set<NodeJS.Timeout>): Promise<void> {
    const { batch } = payload;
    const { partition } = batch;
    const committer = createCommitter((offset) =>
      payload.commitOffsetsIfNecessary({ topics: [{ topic, partitions: [{ partition, offset }] }] }),
    );
    // Why this member must join its group again: known from a heartbeat, obeyed after the handler that is running.
    const lost: unknown[] = [];
    const beat = setInterval(
      () => void payload.heartbeat().catch((error: unknown) => lost.push(error)),
      HEARTBEAT_MS / 2,
    );
    try {
      for (const message of batch.messages) {
        if (stopped() || !payload.isRunning() || payload.isStale() || lost.length > 0 || committer.failed()) break;
        const wait = await deliver(partition, message);
        if (wait !== undefined) {
          const resume = payload.pause();
          const timer = setTimeout(() => {
            timers.delete(timer);
            resume();
          }, wait);
          timers.add(timer);
          break;
        }
        payload.resolveOffset(message.offset);
        committer.note(String(BigInt(message.offset) + 1n));
        await committer.keptUp();
      }
      await committer.flush();
    } finally {
      clearInterval(beat);
    }
    if (lost.length > 0) throw lost[0];
  }

  /** Is a member of the group until the subscription stops; rejects when kafkajs has given up. */
  async function takePart(joined: () => void): Promise<void> {
    const consumer = await open();
    const timers = new Set<NodeJS.Timeout>();
    const crashed = new Promise<never>((_, reject) =>
      consumer.on(consumer.events.CRASH, ({ payload }) => reject(payload.error)),
    );
    // It may crash before anybody waits for it.
    crashed.catch(() => undefined);
    consumer.on(consumer.events.GROUP_JOIN, joined);
    try {
      await consumer.connect();
      await consumer.subscribe({ topics: [topic], fromBeginning: true });
      await consumer.run({
        autoCommit: false,
        eachBatchAutoResolve: false,
        partitionsConsumedConcurrently: PARTITIONS_AT_ONCE,
        eachBatch: (payload) => eachBatch(payload, timers),
      });
      await Promise.race([crashed, untilStop]);
    } finally {
      for (const timer of timers) clearTimeout(timer);
      await consumer.disconnect();
    }
  }

  async function keepTakingPart(): Promise<void> {
    const wait = { ms: FIRST_PAUSE_MS };
    while (!stopped()) {
      try {
        await takePart(() => (wait.ms = FIRST_PAUSE_MS));
      } catch (error) {
        if (!stopped()) tell(error);
        await sleep(wait.ms, undefined, { signal: stopping.signal }).catch(() => undefined);
        wait.ms = Math.min(wait.ms * 2, LONGEST_PAUSE_MS);
      }
    }
  }

  const ended = keepTakingPart();
  return {
    stop: async () => {
      stopping.abort();
      await ended;
    },
  };
}
