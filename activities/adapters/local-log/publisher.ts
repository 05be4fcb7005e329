// Publishes to one topic: waiting events are written together, under the topic's lock, with one flush.
import { mkdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { diskError, FOLDER_MODE, syncFolder, unless } from '../durable-file.ts';
import type { LockOwner } from './owner.ts';
import { RECORD_LIMIT } from './record.ts';
import { appendLines } from './topic-file.ts';

/** Another publisher holds the lock for one flush; a longer wait means that its process is stopped. */
const LOCK_WAIT_MS = 30_000;
/** Longest pause between two attempts to take the lock: about the duration of a flush. */
const LOCK_PAUSE_MS = 5;

interface Waiting {
  readonly line: Buffer;
  readonly resolve: (position: number) => void;
  readonly reject: (error: unknown) => void;
}

export interface Publisher {
  /** The position of the line in the log, once it is durable. Lines keep the order of the calls. */
  append(line: Buffer): Promise<number>;
  /** Resolves when no events are waiting. */
  idle(): Promise<void>;
}

/** Creates a publisher to the topic in `folder`; `onAppend` is called after each flush. */
export function createPublisher(folder: string, owner: LockOwner, onAppend: () => void): Publisher {
  const waiting: Waiting[] = [];
  const lock = join(folder, 'publish.lock');
  let end: number | undefined;
  let made = false;
  let flushing: Promise<void> | undefined;

  async function makeFolder(): Promise<void> {
    if (made) return;
    await mkdir(folder, { recursive: true, mode: FOLDER_MODE });
    await syncFolder(dirname(folder));
    made = true;
  }

  async function append(batch: readonly Waiting[]): Promise<readonly number[]> {
    await makeFolder();
    const held = await acquire(owner, lock);
    try {
      const isNew = end === undefined;
      const written = await appendLines(
        join(folder, 'log.jsonl'),
        batch.map(({ line }) => line),
        end,
      );
      if (isNew) await syncFolder(folder);
      end = written.end;
      return written.positions;
    } finally {
      await held.release();
    }
  }

  /** The lines of one flush: at most one reader's window, so that a torn end stays short. */
  function take(): readonly Waiting[] {
    let bytes = 0;
    const count = waiting.findIndex(({ line }, at) => (bytes += line.byteLength) > RECORD_LIMIT && at > 0);
    return waiting.splice(0, count < 0 ? waiting.length : count);
  }

  async function flush(): Promise<void> {
    while (waiting.length > 0) {
      const batch = take();
      try {
        const positions = await append(batch);
        batch.forEach(({ resolve }, at) => resolve(positions[at] ?? 0));
        onAppend();
      } catch (error) {
        end = undefined;
        made = false;
        for (const { reject } of batch) reject(diskError(error, `publishing to the log in ${folder}`, 'event log'));
      }
    }
    flushing = undefined;
  }

  return {
    append: (line) =>
      new Promise((resolve, reject) => {
        waiting.push({ line, resolve, reject });
        flushing ??= flush();
      }),
    idle: async () => flushing,
  };
}

async function acquire(owner: LockOwner, path: string): Promise<{ release(): Promise<void> }> {
  const until = Date.now() + LOCK_WAIT_MS;
  for (;;) {
    const held = await owner.tryLock(path);
    if (held) return held;
    if (Date.now() > until) {
      const pid = await unless(['ENOENT'], owner.holder(path));
      throw new Error(
        `process ${pid} has held the lock ${path} for more than ${LOCK_WAIT_MS / 1000} s: end that process if it hangs`,
      );
    }
    await sleep(1 + Math.random() * LOCK_PAUSE_MS);
  }
}
