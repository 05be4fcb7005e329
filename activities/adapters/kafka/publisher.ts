// Publishing to one topic of Kafka: one message after the other, each acknowledged by all replicas in sync.
import type { Producer } from 'kafkajs';
import type { WireMessage } from './binding.ts';

export interface Publisher {
  /** The message's offset, once it is durable. Messages get there in the order of the calls. */
  send(message: WireMessage): Promise<string>;
  /** Ends once everything that was sent is settled. */
  close(): Promise<void>;
}

/**
 * A publisher with a producer of its own. The producer is idempotent: a message whose answer is lost with its broker is sent
 * again and stored once. kafkajs numbers the next message as the one it gave up, which the broker would take for a
 * repetition and drop, so after a failure the producer is replaced.
 */
export function createPublisher(topic: string, connect: () => Promise<Producer>): Publisher {
  let producer: Producer | undefined;
  let last: Promise<unknown> = Promise.resolve();

  async function sendNow(message: WireMessage): Promise<string> {
    const used = (producer ??= await connect());
    try {
      // -1: all replicas in sync.
      const [sent] = await used.send({ topic, acks: -1, messages: [message] });
      if (sent?.baseOffset === undefined) throw new Error(`no offset came back from the topic ${topic}`);
      return sent.baseOffset;
    } catch (error) {
      producer = undefined;
      // Not awaited: a broker that hangs would hold up the answer.
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
