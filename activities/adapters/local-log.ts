// EventBus on a local disk: a log file per topic that several processes of one machine publish to and consume.
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

/** Soon enough for people, rare enough to cost nothing. Events of the same process are seen at once. */
const DEFAULT_POLL_MS = 200;
/** With 5 retries at doubled pauses: 15 s in all, enough for a service to start again. */
const DEFAULT_PAUSE_MS = 500;
const DEFAULT_RETRIES = 5;

/**
 * Opens (and makes) a log in the folder `root`. Offsets are the records' positions in bytes. One subscriber of a group is
 * active, others stand by until it stops or its process ends. Events that fail on a dead-letter topic are reported and
 * passed over: they stay where they are.
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
        `event ${event.id} for ${topic} has ${line.byteLength} bytes of at most ${RECORD_LIMIT}: send a reference to the data`,
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
          // Straight to the log, past the size limit's check: the wrapping may not cost an event its place.
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
    // No topic begins with a dot.
    marker: markerFile(join(root, '.installation')),
    close: () => (closed ??= close()),
  };
}

async function prepare(given: string): Promise<string> {
  try {
    await mkdir(given, { recursive: true, mode: FOLDER_MODE });
    const root = await realpath(given);
    if (!(await lstat(root)).isDirectory()) throw failure('InvalidInput', `${given} is no folder`);
    return root;
  } catch (error) {
    throw diskError(error, `opening the log in ${given}`, 'event log');
  }
}
