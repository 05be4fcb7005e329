// One subscription: a member of a Kafka consumer group that is restarted after each failure until it is stopped.
import { setTimeout as sleep } from 'node:timers/promises';
import type { Consumer, ConsumerConfig, EachBatchPayload } from 'kafkajs';
import { createCommitter } from './committer.ts';
import type { Delivery } from './delivery.ts';

/** First and longest pause before a failed member restarts: short after a brief fault, long while a broker is down. */
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 30_000;
/** Several heartbeats fit in, so that a busy process keeps its place and a dead one is replaced soon. */
const HEARTBEAT_MS = 3_000;
const SESSION_MS = 15_000;
/**
 * How long a rebalancing group waits for a running handler. After that, the event is delivered to another member, which
 * handles it concurrently: so this exceeds the longest handler. Dead members are detected by their heartbeats.
 */
const REBALANCE_MS = 600_000;
/** How long a fetch waits at the broker for new messages: about the duration of a stop and the delay of a retry. */
const FETCH_WAIT_MS = 250;
/** Slow handlers must not block the keys of other partitions. */
const PARTITIONS_AT_ONCE = 4;

export const memberConfig = {
  sessionTimeout: SESSION_MS,
  heartbeatInterval: HEARTBEAT_MS,
  rebalanceTimeout: REBALANCE_MS,
  maxWaitTimeInMs: FETCH_WAIT_MS,
  allowAutoTopicCreation: false,
} as const satisfies Partial<ConsumerConfig>;

export interface Subscription {
  /** Stops after the running handlers; unfinished events are delivered again to the group. */
  stop(): Promise<void>;
}

/**
 * Starts consuming `topic`. `open` creates a missing topic and a new consumer that does not restart by itself;
 * `tell` receives the reason for each restart.
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

  /** Delivers the messages of one partition, in order. If it ends early, the rest is fetched again. */
  async function eachBatch(payload: EachBatchPayload, timers: Set<NodeJS.Timeout>): Promise<void> {
    const { batch } = payload;
    const { partition } = batch;
    const committer = createCommitter((offset) =>
      payload.commitOffsetsIfNecessary({ topics: [{ topic, partitions: [{ partition, offset }] }] }),
    );
    // A reason to rejoin the group, learnt from a heartbeat; handled after the running handler.
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

  /** A member of the group until the subscription stops; rejects when kafkajs gives up. */
  async function takePart(joined: () => void): Promise<void> {
    const consumer = await open();
    const timers = new Set<NodeJS.Timeout>();
    const crashed = new Promise<never>((_, reject) =>
      consumer.on(consumer.events.CRASH, ({ payload }) => reject(payload.error)),
    );
    // A crash may happen before anyone awaits this promise.
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
