// One subscription: takes the group's lock, delivers event by event, stores the group's offset.
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { failure, isFinal } from '../../failures.ts';
import type { Received } from '../../ports.ts';
import { diskError, FOLDER_MODE, replaceFile, unless } from '../durable-file.ts';
import type { LockOwner } from './owner.ts';
import { positionProblem, readEntries, type LogEntry } from './topic-file.ts';

/** Longest pause between two attempts: after a fix, an operator should not wait longer for the effect. */
const LONGEST_PAUSE_MS = 30_000;

const offsetSchema = z.object({ next: z.number().int().nonnegative() });

export interface SubscriptionOptions {
  /** Folder of the topic. */
  readonly folder: string;
  readonly group: string;
  readonly owner: LockOwner;
  readonly pollMs: number;
  readonly retries: number;
  readonly pauseMs: number;
  readonly handle: (event: Received) => Promise<void>;
  /** Writes an event that could not be handled to the dead-letter topic. */
  readonly bury: (event: Received, error: unknown) => Promise<void>;
  readonly onError: (error: unknown) => void;
}

export interface Subscription {
  /** Reports a new event: read now. */
  wake(): void;
  /** Stops after the running handler; an unfinished event is delivered again to the next subscriber. */
  stop(): Promise<void>;
}

/** Starts a subscription; it stands by while another subscriber of its group is alive. */
export function startSubscription(options: SubscriptionOptions): Subscription {
  const groups = join(options.folder, 'groups');
  const log = join(options.folder, 'log.jsonl');
  const remembered = join(groups, `${options.group}.json`);
  const stopping = new AbortController();
  const bell = createBell(stopping.signal);
  const stopped = (): boolean => stopping.signal.aborted;
  const pause = (ms: number): Promise<unknown> =>
    sleep(ms, undefined, { signal: stopping.signal }).catch(() => undefined);

  function tell(error: unknown): void {
    try {
      options.onError(error);
    } catch {
      // An exception in the listener must not end the subscription.
    }
  }

  /** Repeats required work while the disk fails. */
  async function persist(work: () => Promise<void>): Promise<void> {
    for (let wait = options.pollMs; !stopped(); wait = Math.min(wait * 2, LONGEST_PAUSE_MS))
      try {
        return await work();
      } catch (error) {
        tell(diskError(error, `consuming ${log} for the group ${options.group}`, 'event log'));
        await pause(wait);
      }
  }

  async function startPosition(): Promise<number> {
    const text = await unless(['ENOENT'], readFile(remembered, 'utf8'));
    if (text === undefined) return 0;
    const { next } = parseOffset(text, remembered);
    const problem = await positionProblem(log, next);
    if (problem === undefined) return next;
    tell(failure('Corrupt', `${problem}: the group ${options.group} restarts at the oldest event`));
    return 0;
  }

  /** Delivers one event until it is handled or dead-lettered; `false` if the subscription was stopped first. */
  async function deliver(entry: LogEntry & { record: NonNullable<LogEntry['record']> }): Promise<boolean> {
    for (let attempt = 1; !stopped(); attempt += 1) {
      const { key, event: value } = entry.record;
      const event: Received = { key, value, offset: String(entry.position), attempt };
      try {
        await options.handle(event);
        return true;
      } catch (error) {
        tell(error);
        if (attempt > options.retries || isFinal(error)) {
          let buried = false;
          await persist(async () => {
            await options.bury(event, error);
            buried = true;
          });
          return buried;
        }
        await pause(Math.min(options.pauseMs * 2 ** (attempt - 1), LONGEST_PAUSE_MS));
      }
    }
    return false;
  }

  async function consume(): Promise<void> {
    let position = await startPosition();
    while (!stopped()) {
      const entries = await readEntries(log, position);
      if (entries.length === 0) await bell.rung(options.pollMs);
      for (const entry of entries) {
        if (stopped()) return;
        const { record } = entry;
        if (!record) tell(failure('Corrupt', `${log}, byte ${entry.position}: a damaged record was skipped`));
        else if (!(await deliver({ ...entry, record }))) return;
        position = entry.next;
        // The offset of finished work is stored even while stopping.
        const note = (): Promise<void> => replaceFile(remembered, JSON.stringify({ next: position }));
        if (stopped()) await note().catch(tell);
        else await persist(note);
      }
    }
  }

  async function run(): Promise<void> {
    while (!stopped()) {
      try {
        await mkdir(groups, { recursive: true, mode: FOLDER_MODE });
        const lock = await options.owner.tryLock(join(groups, `${options.group}.lock`));
        if (!lock) await pause(options.pollMs);
        else
          try {
            await consume();
          } finally {
            await lock.release();
          }
      } catch (error) {
        tell(diskError(error, `consuming ${log} for the group ${options.group}`, 'event log'));
        await pause(Math.max(options.pollMs, options.pauseMs));
      }
    }
  }

  const running = run();
  return {
    wake: bell.ring,
    stop: () => {
      stopping.abort();
      return running;
    },
  };
}

function parseOffset(text: string, file: string): z.infer<typeof offsetSchema> {
  try {
    return offsetSchema.parse(JSON.parse(text));
  } catch (cause) {
    const why = cause instanceof Error ? cause : undefined;
    throw failure('Corrupt', `${file} does not contain an offset: remove it to restart at the oldest event`, [], why);
  }
}

/** A wait that ends on `ring`, even if it was called just before the wait. */
function createBell(stop: AbortSignal): { ring: () => void; rung: (atMostMs: number) => Promise<void> } {
  let rang = false;
  let awake = (): void => undefined;
  const ring = (): void => {
    rang = true;
    awake();
  };
  stop.addEventListener('abort', ring, { once: true });
  return {
    ring,
    rung: async (atMostMs) => {
      if (!rang)
        await new Promise<void>((resolve) => {
          const timer = setTimeout(resolve, atMostMs);
          awake = () => {
            clearTimeout(timer);
            resolve();
          };
        });
      rang = false;
    },
  };
}
