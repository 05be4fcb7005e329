// The jobs that this process runs, by name: starts each once, follows its state, and ends it.
import { failure, messageOf } from '../../failures.ts';
import {
  isPassing,
  type Cluster,
  type JobOutcome,
  type JobProgress,
  type JobSpec,
  type JobState,
} from '../../ports.ts';
import { keyOf, type EndedJob } from './job-progress.ts';

export interface HeldWatch {
  readonly signal: AbortSignal;
  readonly onProgress: (progress: JobProgress) => void;
  /** Gives the function that returns the job's log so far. */
  readonly onLog: (tail: () => string) => void;
}

export interface HeldJobsOptions {
  /** Runs a job to its end. After an abort, rejects once all its processes have ended. */
  readonly run: (spec: JobSpec, token: string, watch: HeldWatch) => Promise<JobOutcome>;
  /** Ends of jobs that an earlier process ran; without them, jobs are known only while this process lives. */
  readonly ends?: {
    all(): Promise<readonly string[]>;
    read(name: string): Promise<EndedJob | undefined>;
    write(name: string, ended: EndedJob): Promise<void>;
  };
  /** Removes what an ended or lost job has left. */
  readonly remove?: (name: string) => Promise<void>;
}

export type HeldJobs = Omit<Cluster, 'startService' | 'stopService'> & {
  /** Names of the jobs that run now. */
  running(): readonly string[];
  /** Ends every job; each is `missing` for the next process, which starts it again. */
  close(): Promise<void>;
};

interface Held {
  readonly key: string;
  readonly abort: AbortController;
  state: JobState;
  log: () => string;
  ended: Promise<void>;
}

export function createHeldJobs({ run, ends, remove }: HeldJobsOptions): HeldJobs {
  const jobs = new Map<string, Held>();
  const watchers = new Set<(name: string, state: JobState) => void>();
  const turns = new Map<string, Promise<unknown>>();

  /** One start or removal of a name at a time. */
  const inTurn = async <T>(name: string, work: () => Promise<T>): Promise<T> => {
    const mine = (turns.get(name) ?? Promise.resolve()).then(work, work);
    turns.set(name, mine);
    try {
      return await mine;
    } finally {
      if (turns.get(name) === mine) turns.delete(name);
    }
  };

  const tell = (name: string, state: JobState): void => {
    for (const onChange of watchers) onChange(name, state);
  };

  const end = async (name: string, why: string): Promise<void> => {
    const held = jobs.get(name);
    held?.abort.abort(failure('Conflict', `job ${name} was stopped: ${why}`));
    await held?.ended;
    jobs.delete(name);
  };

  const removeAll = async (name: string, why: string): Promise<void> => {
    await end(name, why);
    await remove?.(name);
  };

  const lastEnd = async (name: string): Promise<EndedJob | undefined> => {
    const held = jobs.get(name);
    if (held?.state.phase === 'ended') return { key: held.key, outcome: held.state.outcome };
    return held ? undefined : ends?.read(name);
  };

  /** Runs the job in the background until it ends or is stopped. */
  const begin = (spec: JobSpec, key: string, token: string): void => {
    const { name } = spec;
    const held: Held = {
      ...{ key, abort: new AbortController(), state: { phase: 'running' } as const, log: () => '' },
      ended: Promise.resolve(),
    };
    const change = (state: JobState): void => {
      held.state = state;
      tell(name, state);
    };
    const work = async (): Promise<void> => {
      const outcome = await outcomeOf(spec, token, held, (progress) => change({ phase: 'running', progress }));
      if (outcome === undefined) return void jobs.delete(name);
      const text = outcome.log;
      held.log = () => text;
      await ends?.write(name, { key, outcome }).catch(() => undefined);
      change({ phase: 'ended', outcome });
    };
    jobs.set(name, held);
    tell(name, held.state);
    held.ended = work();
  };

  /** `undefined` for a job that was stopped. */
  async function outcomeOf(
    spec: JobSpec,
    token: string,
    held: Held,
    onProgress: HeldWatch['onProgress'],
  ): Promise<JobOutcome | undefined> {
    const { signal } = held.abort;
    try {
      return await run(spec, token, { signal, onProgress, onLog: (tail) => void (held.log = tail) });
    } catch (error) {
      if (signal.aborted) return undefined;
      // This machine could not run it: its disk is full, or it has no process left.
      return { status: 'failed', reason: 'environment', exitCode: null, log: `${held.log()}${messageOf(error)}\n` };
    }
  }

  const stateOf = async (name: string): Promise<JobState> => {
    const held = jobs.get(name);
    if (held) return held.state;
    const ended = await ends?.read(name);
    return ended ? { phase: 'ended', outcome: ended.outcome } : { phase: 'missing' };
  };

  return {
    startJob: (spec, token) =>
      inTurn(spec.name, async () => {
        const key = keyOf(spec);
        const held = jobs.get(spec.name);
        const ended = await lastEnd(spec.name);
        const isSame = (held ?? ended)?.key === key;
        if (isSame && !(ended && isPassing(ended.outcome))) return;
        const secret = await token();
        if (!isSame && (held ?? ended)) await removeAll(spec.name, 'another job of this name was started');
        begin(spec, key, secret);
      }),
    jobState: stateOf,
    async jobLog(name) {
      return jobs.get(name)?.log() ?? (await ends?.read(name))?.outcome.log ?? '';
    },
    async watchJobs(onChange, signal) {
      signal.throwIfAborted();
      const changed = new Set<string>();
      const watcher = (name: string, state: JobState): void => {
        changed.add(name);
        onChange(name, state);
      };
      watchers.add(watcher);
      try {
        const aborted = new Promise<void>((resolve) => {
          signal.addEventListener('abort', () => resolve(), { once: true });
        });
        for (const name of new Set([...jobs.keys(), ...((await ends?.all()) ?? [])])) {
          const state = await stateOf(name);
          if (!changed.has(name) && state.phase !== 'missing' && !signal.aborted) watcher(name, state);
        }
        await aborted;
      } finally {
        watchers.delete(watcher);
      }
    },
    removeJob: (name) =>
      inTurn(name, async () => {
        const was = await stateOf(name);
        await removeAll(name, 'it was removed');
        if (was.phase !== 'missing') tell(name, { phase: 'missing' });
      }),
    running: () => [...jobs].flatMap(([name, { state }]) => (state.phase === 'running' ? [name] : [])),
    async close() {
      await Promise.all([...jobs.keys()].map((name) => inTurn(name, () => end(name, 'the cluster was closed'))));
    },
  };
}
