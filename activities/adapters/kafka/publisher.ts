// Publishes to one Kafka topic: one message at a time, each acknowledged by all in-sync replicas.
import type { Producer } from 'kafkajs';
import type { WireMessage } from './binding.ts';

export interface Publisher {
  /** The message's offset, once it is durable. Messages keep the order of the calls. */
  send(message: WireMessage): Promise<string>;
  /** Resolves when every sent message is settled. */
  close(): Promise<void>;
}

/**
 * A publisher with its own producer. The producer is idempotent: a message whose acknowledgement is lost with its broker is
 * sent again and stored once. After a failure the producer is replaced, because kafkajs would give the next message the
 * sequence number of the failed one, and the broker would drop it as a duplicate.
 */
export function createPublisher(topic: string, connect: () => Promise<Producer>): Publisher {
  let producer: Producer | undefined;
  let last: Promise<unknown> = Promise.resolve();

  async function sendNow(message: WireMessage): Promise<string> {
    const used = (producer ??= await connect());
    try {
      // -1: all in-sync replicas.
      const [sent] = await used.send({ topic, acks: -1, messages: [message] });
      if (sent?.baseOffset === undefined) throw new Error(`the acknowledgement of topic ${topic} contains no offset`);
      return sent.baseOffset;
    } catch (error) {
      producer = undefined;
      // Not awaited: a hanging broker would delay the result.
      void used.disconnect().catch(() => undefined);
      throw error;
    }
  }

  return {
    send: (message) => {
      const sending = last.then(() => sendNow(message));
      last = sending.catch(() => undefined);
      return sending;
    },
    close: async () => {
      await last;
      await producer?.disconnect();
    },
  };
}
