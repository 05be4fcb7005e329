// EventBus on a local disk: one log file per topic, shared by the processes of one machine.
import { lstat, mkdir, realpath } from 'node:fs/promises';
import { join } from 'node:path';
import { failure } from '../failures.ts';
import { deadLetterTopic, type CloudEvent, type EventBus } from '../ports.ts';
import { checkGroup, checkTopic, isDeadLetterTopic } from './bus-rules.ts';
import { deadLetter } from './dead-letter.ts';
import { diskError, FOLDER_MODE, markerFile } from './durable-file.ts';
import { createLockOwner } from './local-log/owner.ts';
import { createPublisher, type Publisher } from './local-log/publisher.ts';
import { encodeRecord, RECORD_LIMIT } from './local-log/record.ts';
import { startSubscription, type Subscription } from './local-log/subscription.ts';

/** Short enough for people, long enough to cost nothing. Events from the same process are delivered immediately. */
const DEFAULT_POLL_MS = 200;
/** 5 retries with doubling pauses take 15 s, enough for a service to restart. */
const DEFAULT_PAUSE_MS = 500;
const DEFAULT_RETRIES = 5;

/**
 * Opens (and creates) a log in the folder `root`. Offsets are byte positions of records. One subscriber per group is
 * active; the others stand by until it stops or its process ends. Failed events on a dead-letter topic are reported and
 * skipped: they stay in the log.
 */
export async function createLocalLog(options: { readonly root: string; readonly pollMs?: number }): Promise<EventBus> {
  const root = await prepare(options.root);
  const owner = await createLockOwner(join(root, '.owners'));
  const publishers = new Map<string, Publisher>();
  const subscriptions = new Map<Subscription, string>();
  let closed: Promise<void> | undefined;

  const openFolder = (topic: string): string => {
    if (closed) throw new Error(`the log in ${root} is closed: open it again`);
    return join(root, checkTopic(topic));
  };

  function publisherTo(topic: string): Publisher {
    const folder = openFolder(topic);
    const known = publishers.get(topic);
    if (known) return known;
    const made = createPublisher(folder, owner, () => {
      for (const [subscription, its] of subscriptions) if (its === topic) subscription.wake();
    });
    publishers.set(topic, made);
    return made;
  }

  async function publish(topic: string, key: string, event: CloudEvent): Promise<{ readonly offset: string }> {
    const publisher = publisherTo(topic);
    const line = encodeRecord({ key, at: new Date().toISOString(), event });
    if (line.byteLength > RECORD_LIMIT)
      throw failure(
        'InvalidInput',
        `event ${event.id} for ${topic} has ${line.byteLength} bytes; the limit is ${RECORD_LIMIT}: send a reference to the data`,
      );
    return { offset: String(await publisher.append(line)) };
  }

  async function close(): Promise<void> {
    await Promise.all([...subscriptions.keys()].map((subscription) => subscription.stop()));
    await Promise.all([...publishers.values()].map((publisher) => publisher.idle()));
    await owner.close();
  }

  return {
    publish,
    async subscribe({ topic, group, handle, retries = DEFAULT_RETRIES, pauseMs = DEFAULT_PAUSE_MS, onError }) {
      const folder = openFolder(topic);
      checkGroup(group);
      const subscription = startSubscription({
        folder,
        group,
        owner,
        pollMs: options.pollMs ?? DEFAULT_POLL_MS,
        retries,
        pauseMs,
        handle,
        bury: async (event, error) => {
          if (isDeadLetterTopic(topic)) return;
          const letter = deadLetter(topic, group, event, error);
          // Bypasses the size check: the wrapper must not make a valid event too large.
          const line = encodeRecord({ key: event.key, at: letter.time, event: letter });
          await publisherTo(deadLetterTopic(topic)).append(line);
        },
        onError: onError ?? (() => undefined),
      });
      subscriptions.set(subscription, topic);
      return {
        stop: async () => {
          await subscription.stop();
          subscriptions.delete(subscription);
        },
      };
    },
    // Topic names cannot start with a dot.
    marker: markerFile(join(root, '.installation')),
    close: () => (closed ??= close()),
  };
}

async function prepare(given: string): Promise<string> {
  try {
    await mkdir(given, { recursive: true, mode: FOLDER_MODE });
    const root = await realpath(given);
    if (!(await lstat(root)).isDirectory()) throw failure('InvalidInput', `${given} is not a folder`);
    return root;
  } catch (error) {
    throw diskError(error, `opening the log in ${given}`, 'event log');
  }
}
