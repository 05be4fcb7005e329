// The Python environments of local jobs: one per (lock, interpreter), created once in the sandbox and kept read-only.
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { Sandbox } from './sandbox.ts';
import { failure, messageOf } from '../../failures.ts';
import { lockMessage, parseLock, renderLock } from '../../../workflows/domain/lock.ts';
import { indexSettings, makeEnvironment, makePip, type IndexSettings, type Workshop } from './environment-steps.ts';
import { createEnvironmentRoom, removeWhole, type EnvironmentRoom } from './environment-room.ts';
import { madeOnce } from './made-once.ts';
import { findPython, type Python } from './python.ts';

export type Environment = {
  /** The environment's interpreter, only for jobs in their sandbox. */
  readonly python: string;
  /** The interpreter that created the environment, without its packages. */
  readonly base: string;
  /** SHA-256 of the lock's text: the environment's identity in a run's record. */
  readonly sha256: string;
  /** Folders that a sandbox must mount read-only for `python` to work. */
  readonly folders: readonly string[];
  /** Ends this use of the environment: until then, it is not removed. */
  readonly done: () => void;
};

export type EnvironmentRequest = {
  /** Text of the requirements lock. */
  readonly lock: string;
  /** Owner of the packages. Projects never get the platform's environments, even for the same lock. */
  readonly owner: 'platform' | 'project';
  readonly sandbox: Sandbox;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: (line: string) => void;
};

export type EnvironmentsOptions = {
  /** The parent folder of all environments. */
  readonly cache: string;
  /** The platform's home, hidden from everything that is installed. */
  readonly home: string;
  /** The interpreter to use (`OCDL_PYTHON`); by default the first suitable one on the path. */
  readonly python?: string | undefined;
  /** Package index to use instead of the one in this machine's pip configuration. */
  readonly index?: string | undefined;
  /** Additional hosts that serve the files of the index. */
  readonly indexHosts?: readonly string[];
  /** Maximum bytes that one environment may download, and maximum installed size. */
  readonly limitBytes?: number;
  /** Maximum size of all environments together: after one was made, those used least recently are removed. Those in use stay. */
  readonly totalBytes?: number;
  readonly deadlineMs?: number;
  /** How long an environment must be unused before it may be removed; for tests. */
  readonly idleMs?: number;
};

/** 10 GiB: PyTorch with its GPU libraries takes 6. */
const LIMIT_BYTES = 10 * 1024 ** 3;
/** 20 GiB: a few large environments, or many small ones. A removed one is made again when it is needed. */
const TOTAL_BYTES = 20 * 1024 ** 3;
/** Enough for ten gigabytes over a slow connection; after that the index or the disk hangs. */
const DEADLINE_MS = 60 * 60 * 1000;

/**
 * Returns the function that creates environments. Concurrent requests for the same environment share one creation, which is
 * aborted when all of them are; several processes may use the same folder.
 */
export function createEnvironments(
  options: EnvironmentsOptions,
): (request: EnvironmentRequest) => Promise<Environment> {
  const cache = resolve(options.cache);
  const making = new Map<string, Making>();
  const room = createEnvironmentRoom({
    folders: ['project', 'platform'].map((owner) => join(cache, owner)),
    totalBytes: options.totalBytes ?? TOTAL_BYTES,
    ...(options.idleMs !== undefined && { idleMs: options.idleMs }),
  });

  return async ({ lock, owner, sandbox, signal, onProgress }) => {
    const { packages, problems } = parseLock(lock);
    if (packages === undefined) throw failure('InvalidInput', lockMessage('The lock', problems), [...problems]);
    signal?.throwIfAborted();
    const sha256 = createHash('sha256').update(lock).digest('hex');
    const base = await findPython(options.python);
    // By what is installed: a comment makes no other environment.
    const requirements = renderLock(packages);
    const installed = createHash('sha256').update(requirements).digest('hex');
    const folder = join(cache, owner, `${installed}-${interpreterKey(base)}`);
    const environment = {
      done: await room.use(folder),
      python: join(folder, 'bin', 'python'),
      base: base.executable,
      sha256,
      folders: [folder, base.prefix],
    };
    if (isWhole(environment.python)) return environment;
    const make = async (watch: Watch): Promise<void> => {
      await beforeDeadline(options, sha256, watch.signal, async (inTime) => {
        const workshop = workshopOf(options, { base, sandbox, signal: inTime, onProgress: watch.onProgress });
        const pip = await pipFor(workshop, cache);
        await wholeOnce(folder, (draft, final) => makeEnvironment(workshop, { draft, final, pip, requirements }));
      });
      await makeRoom(room, watch.onProgress);
      watch.onProgress('the Python environment is ready');
    };
    try {
      await together(making, `${folder} ${sandbox.kind}`, { signal, onProgress }, make);
    } catch (error) {
      environment.done();
      throw error;
    }
    return environment;
  };
}

/** Removes what is above the total size. A failure costs disk space, not the environment that was made. */
async function makeRoom(room: EnvironmentRoom, onProgress: Watch['onProgress']): Promise<void> {
  try {
    const count = await room.makeRoom();
    if (count > 0)
      onProgress(`removed the ${count} Python environments used least recently (OCDL_ENVIRONMENTS_TOTAL_BYTES)`);
  } catch (error) {
    onProgress(`Python environments that are no longer used could not be removed: ${messageOf(error)}`);
  }
}

/** Creates an environment in the folder `draft`, which does not exist yet, for use at the path `final` of another machine. */
export async function createEnvironmentFor(
  options: EnvironmentsOptions,
  given: {
    readonly lock: string;
    readonly draft: string;
    readonly final: string;
    readonly sandbox: Sandbox;
    readonly signal: AbortSignal;
    readonly onProgress: (line: string) => void;
  },
): Promise<void> {
  const { lock, draft, final, sandbox, onProgress } = given;
  const base = await findPython(options.python);
  await beforeDeadline(options, createHash('sha256').update(lock).digest('hex'), given.signal, async (signal) => {
    const workshop = workshopOf(options, { base, sandbox, signal, onProgress });
    const pip = await pipFor(workshop, resolve(options.cache));
    await makeEnvironment(workshop, { draft, final, pip, requirements: lock });
  });
}

const workshopOf = (
  options: EnvironmentsOptions,
  given: Pick<Workshop, 'base' | 'sandbox' | 'signal' | 'onProgress'>,
): Workshop => ({ ...options, ...given, limitBytes: options.limitBytes ?? LIMIT_BYTES });

/** Runs `make` with a signal that also aborts at the deadline. */
async function beforeDeadline(
  { deadlineMs = DEADLINE_MS }: EnvironmentsOptions,
  lock: string,
  signal: AbortSignal,
  make: (signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const deadline = AbortSignal.timeout(deadlineMs);
  try {
    await make(AbortSignal.any([signal, deadline]));
  } catch (error) {
    // Not retried: twenty attempts of an hour each would hold a slot for a day. The author may retry the run later.
    if (deadline.aborted && !signal.aborted)
      throw failure(
        'JobTimedOut',
        `the Python environment of lock ${lock.slice(0, 12)} was not ready within ${deadlineMs / 60_000} minutes: ` +
          'the package index or the disk is too slow, or the environment too large; retry the run when this is fixed',
      );
    throw error;
  }
}

/** The package index for environments. */
export async function packageIndex(
  options: EnvironmentsOptions,
  { sandbox, signal, onProgress }: Pick<EnvironmentRequest, 'sandbox' | 'signal' | 'onProgress'>,
): Promise<IndexSettings> {
  const base = await findPython(options.python);
  const workshop = workshopOf(options, {
    base,
    sandbox,
    signal: signal ?? AbortSignal.timeout(options.deadlineMs ?? DEADLINE_MS),
    onProgress: onProgress ?? (() => undefined),
  });
  return indexSettings(options, await pipFor(workshop, resolve(options.cache)));
}

/** The platform's own interpreter, with pip and without project packages. */
async function pipFor(workshop: Workshop, cache: string): Promise<string> {
  const folder = join(cache, 'tools', `pip-${interpreterKey(workshop.base)}`);
  return join(await wholeOnce(folder, (draft, final) => makePip(workshop, draft, final)), 'bin', 'python');
}

/** Whether the interpreter still exists: a system upgrade may have removed it. */
const isWhole = (python: string): boolean => existsSync(python);

/** Creates the folder of an environment unless it is complete; a partial one is never visible. */
async function wholeOnce(folder: string, make: (draft: string, final: string) => Promise<void>): Promise<string> {
  if (!isWhole(join(folder, 'bin', 'python'))) await removeWhole(folder);
  return madeOnce(folder, (draft) => make(draft, folder));
}

function interpreterKey({ executable, version }: Python): string {
  return `${version}-${createHash('sha256').update(executable).digest('hex').slice(0, 8)}`;
}

type Watch = { readonly signal: AbortSignal; readonly onProgress: (line: string) => void };

type Making = {
  readonly abort: AbortController;
  readonly listeners: Set<(line: string) => void>;
  readonly made: Promise<void>;
  waiting: number;
};

/** Runs `make` once for all concurrent callers with the same key; it is aborted when all of them are. */
async function together(
  making: Map<string, Making>,
  key: string,
  asker: { signal?: AbortSignal | undefined; onProgress?: ((line: string) => void) | undefined },
  make: (watch: Watch) => Promise<void>,
): Promise<void> {
  const found = making.get(key);
  const entry = found ?? begin(making, key, make);
  if (found) asker.onProgress?.('waiting for the Python environment, which another job is creating');
  const listener = (line: string): void => asker.onProgress?.(line);
  entry.listeners.add(listener);
  entry.waiting += 1;
  const aborted = new Promise<never>((_, reject) => {
    const onAbort = (): void => reject(asker.signal?.reason as Error);
    if (asker.signal?.aborted) onAbort();
    else asker.signal?.addEventListener('abort', onAbort, { once: true });
  });
  try {
    await Promise.race([entry.made, aborted]);
  } catch (error) {
    if (asker.signal?.aborted && entry.waiting === 1) {
      entry.abort.abort(asker.signal.reason);
      // Wait until all of its processes have ended.
      await entry.made.catch(() => undefined);
    }
    throw error;
  } finally {
    entry.listeners.delete(listener);
    entry.waiting -= 1;
  }
}

function begin(making: Map<string, Making>, key: string, make: (watch: Watch) => Promise<void>): Making {
  const abort = new AbortController();
  const listeners = new Set<(line: string) => void>();
  const onProgress = (line: string): void => listeners.forEach((listener) => listener(line));
  const made = make({ signal: abort.signal, onProgress }).finally(() => making.delete(key));
  // Waiting callers see the rejection; it may also fail after the last one has left.
  made.catch(() => undefined);
  const entry = { abort, listeners, made, waiting: 0 };
  making.set(key, entry);
  return entry;
}
