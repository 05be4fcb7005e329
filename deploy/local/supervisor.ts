// Runs processes on a home folder: one supervisor per home, a watchdog for its children, orderly shutdown, no orphaned processes.
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { superviseChild, type ChildSpec, type SupervisedChild } from './child.ts';
import { takeHome } from './home-lock.ts';
import { endLeftovers } from './run-records.ts';
import { startWatchdog, type Watchdog } from './start-watchdog.ts';

export type SupervisorOptions = {
  readonly home: string;
  /** What runs on the home, for messages. */
  readonly what: string;
  /** One line for the person at the terminal. */
  readonly say: (line: string) => void;
  readonly verbose?: boolean;
  /** Aborting it stops everything in order, even during the start. */
  readonly stop?: AbortSignal;
  /** Aborting it kills every child immediately. */
  readonly force?: AbortSignal;
  /** The error message for a second supervisor on the same home. */
  readonly heldMessage: (pid: number) => string;
  /** Children to stop last, group after group, each group in parallel. All others stop before them, in reverse order of their start. */
  readonly endLast: readonly (readonly string[])[];
  /** Limit for the whole shutdown; remaining processes are then killed. */
  readonly stopWithinMs: number;
  /** Runs when all children have ended, before the home is released. */
  readonly afterEnd: () => void | Promise<void>;
};

export type Supervision = {
  /** Starts a child and keeps it running. */
  readonly supervise: (spec: ChildSpec) => SupervisedChild;
  /** Registers work (a build, a new data folder) that must finish before the home is released. */
  readonly prepared: <T>(preparation: Promise<T>) => Promise<T>;
  /** Aborted when the shutdown begins. */
  readonly signal: AbortSignal;
};

export type Supervised<T> = {
  readonly started: T;
  readonly pidOf: (name: string) => number | undefined;
  readonly stop: () => Promise<void>;
  /** Settles when all children have ended, with an error if one could not be kept running. */
  readonly ended: Promise<{ readonly error?: Error }>;
};

/** Locks the home and runs `start` on it. If either fails, it throws, and no process is left running. */
export async function superviseHome<T>(
  options: SupervisorOptions,
  start: (supervision: Supervision) => Promise<T>,
): Promise<Supervised<T>> {
  const { say } = options;
  const home = { root: options.home, run: join(options.home, 'run'), logs: join(options.home, 'logs') };
  for (const folder of Object.values(home)) mkdirSync(folder, { recursive: true, mode: 0o700 });
  const lock = takeHome(home.root);
  if (!lock.acquired) throw new Error(options.heldMessage(lock.holder.pid));

  const failed = { error: undefined as Error | undefined };
  const ending = new AbortController();
  const children: SupervisedChild[] = [];
  const preparations: Promise<unknown>[] = [];
  const watchdog: { current?: Watchdog } = {};
  const ended = settled<{ readonly error?: Error }>();

  // Shared, so that a second caller waits for the same shutdown.
  const end: { once?: Promise<void> } = {};
  const stop = (): Promise<void> => {
    end.once ??= endAll();
    return end.once;
  };
  const endAll = async (): Promise<void> => {
    ending.abort();
    const tooLate = setTimeout(() => children.forEach((child) => child.kill()), options.stopWithinMs);
    const last = options.endLast.flat();
    for (const child of children.filter(({ name }) => !last.includes(name)).reverse()) await child.stop();
    for (const group of options.endLast) {
      await Promise.all(children.filter(({ name }) => group.includes(name)).map((child) => child.stop()));
    }
    clearTimeout(tooLate);
    await Promise.allSettled(preparations);
    await watchdog.current?.end();
    await options.afterEnd();
    lock.release();
    ended.settle(failed.error === undefined ? {} : { error: failed.error });
  };
  const supervise = (spec: ChildSpec): SupervisedChild => {
    ending.signal.throwIfAborted();
    const child = superviseChild(spec, {
      home,
      say,
      verbose: options.verbose ?? false,
      onGivenUp: (error) => {
        failed.error ??= error;
        void stop();
      },
    });
    children.push(child);
    return child;
  };
  const prepared = <P>(preparation: Promise<P>): Promise<P> => {
    preparations.push(preparation);
    return preparation;
  };
  onAbort(options.stop, () => void stop());
  onAbort(options.force, () => {
    void stop();
    children.forEach((child) => child.kill());
  });

  try {
    watchdog.current = startWatchdog(home.run);
    const leftovers = await endLeftovers(home.run);
    if (leftovers.length > 0) say(`Stopped orphaned processes of a killed ${options.what}: ${leftovers.join(', ')}.`);
    const started = await start({ supervise, prepared, signal: ending.signal });
    return {
      started,
      pidOf: (name) => children.find((child) => child.name === name)?.pid(),
      stop,
      ended: ended.promise,
    };
  } catch (error) {
    failed.error ??= error instanceof Error ? error : new Error(String(error));
    await stop();
    throw failed.error;
  }
}

function onAbort(signal: AbortSignal | undefined, act: () => void): void {
  if (signal?.aborted === true) act();
  else signal?.addEventListener('abort', act, { once: true });
}

function settled<T>(): { readonly promise: Promise<T>; readonly settle: (value: T) => void } {
  const state: { settle: (value: T) => void } = { settle: () => undefined };
  const promise = new Promise<T>((resolve) => {
    state.settle = resolve;
  });
  return { promise, settle: (value) => state.settle(value) };
}
