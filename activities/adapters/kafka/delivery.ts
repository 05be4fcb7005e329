// Hands over one message: counts its attempts, says how long to wait for the next one, puts away what cannot be handled.
import type { KafkaMessage } from 'kafkajs';
import { isFinal } from '../../failures.ts';
import type { Received } from '../../ports.ts';
import { decodeMessage } from './binding.ts';

/** Longest pause between two attempts: a person who mends the cause should not wait longer for the effect. */
const LONGEST_PAUSE_MS = 30_000;

/** Resolves when the message is finished (`undefined`), or with the milliseconds until it should come again. Never rejects. */
export type Delivery = (partition: number, message: KafkaMessage) => Promise<number | undefined>;

interface Trouble {
  readonly offset: string;
  readonly attempts: number;
  /** Set when no attempt is left and only the putting away has failed so far. */
  readonly hopeless?: { readonly event: Received; readonly error: unknown };
}

/**
 * The delivery of one subscription. Attempts are counted here, not in the group: they begin anew where a partition goes to
 * another process. A failure that trying again cannot mend (see failures.ts) is put away at once, so that a flood of junk
 * does not hold up what comes after it.
 */
export function createDelivery(options: {
  readonly retries: number;
  readonly pauseMs: number;
  readonly handle: (event: Received) => Promise<void>;
  readonly bury: (partition: number, event: Received, error: unknown) => Promise<void>;
  readonly tell: (error: unknown) => void;
}): Delivery {
  const { retries, pauseMs, handle, bury, tell } = options;
  // Of each partition the message that is being tried: it holds up those behind it, so there is one at most.
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
