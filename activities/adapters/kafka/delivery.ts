// Delivers one message: counts its attempts, sets the pause before the next one, dead-letters what cannot be handled.
import type { KafkaMessage } from 'kafkajs';
import { isFinal } from '../../failures.ts';
import type { Received } from '../../ports.ts';
import { decodeMessage } from './binding.ts';

/** Longest pause between two attempts: after a fix, an operator should not wait longer for the effect. */
const LONGEST_PAUSE_MS = 30_000;

/** Resolves to `undefined` when the message is finished, or to the milliseconds until its next attempt. Never rejects. */
export type Delivery = (partition: number, message: KafkaMessage) => Promise<number | undefined>;

interface Trouble {
  readonly offset: string;
  readonly attempts: number;
  /** Set when no attempts are left and only writing the dead letter has failed so far. */
  readonly hopeless?: { readonly event: Received; readonly error: unknown };
}

/**
 * The delivery of one subscription. Attempts are counted in this process, so they restart when a partition moves to
 * another process. A non-retryable failure (see failures.ts) is dead-lettered immediately, so that a flood of malformed
 * events does not delay later ones.
 */
export function createDelivery(options: {
  readonly retries: number;
  readonly pauseMs: number;
  readonly handle: (event: Received) => Promise<void>;
  readonly bury: (partition: number, event: Received, error: unknown) => Promise<void>;
  readonly tell: (error: unknown) => void;
}): Delivery {
  const { retries, pauseMs, handle, bury, tell } = options;
  // The message currently being tried, per partition: it blocks those after it, so there is at most one.
  const troubles = new Map<number, Trouble>();
  const pauseAfter = (attempts: number): number => Math.min(pauseMs * 2 ** (attempts - 1), LONGEST_PAUSE_MS);

  async function attempt(message: KafkaMessage, known: Trouble | undefined): Promise<Trouble | undefined> {
    if (known?.hopeless) return { ...known, attempts: known.attempts + 1 };
    const attempts = (known?.attempts ?? 0) + 1;
    const event: Received = { ...decodeMessage(message), offset: message.offset, attempt: attempts };
    try {
      await handle(event);
      return undefined;
    } catch (error) {
      tell(error);
      const isLast = attempts > retries || isFinal(error);
      return { offset: message.offset, attempts, ...(isLast && { hopeless: { event, error } }) };
    }
  }

  return async (partition, message) => {
    const known = troubles.get(partition);
    const trouble = await attempt(message, known?.offset === message.offset ? known : undefined);
    if (trouble?.hopeless)
      try {
        await bury(partition, trouble.hopeless.event, trouble.hopeless.error);
      } catch (error) {
        tell(error);
        troubles.set(partition, trouble);
        return pauseAfter(trouble.attempts);
      }
    else if (trouble) {
      troubles.set(partition, trouble);
      return pauseAfter(trouble.attempts);
    }
    troubles.delete(partition);
    return undefined;
  };
}
