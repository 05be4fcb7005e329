// Work under a name: the same name given again stops the work that still runs under it, and follows it.
import { failure } from '../failures.ts';

export interface OneAtATime {
  /** Runs `work` exclusively under a name; its signal also aborts when the name is given again, or at the end. */
  run<T>(key: string, signal: AbortSignal, work: (signal: AbortSignal) => Promise<T>): Promise<T>;
  /** Stops all work and waits until it has ended. */
  close(): Promise<void>;
}

export function oneAtATime(): OneAtATime {
  const running = new Map<string, { readonly abort: AbortController; readonly ended: Promise<unknown> }>();
  return {
    async run(key, signal, work) {
      const abort = new AbortController();
      const former = running.get(key);
      former?.abort.abort(
        failure('Conflict', `${key} was stopped: the same name was started again, or the cluster was closed`),
      );
      const stop = AbortSignal.any([signal, abort.signal]);
      const result = (former?.ended ?? Promise.resolve()).then(() => {
        stop.throwIfAborted();
        return work(stop);
      });
      const entry = { abort, ended: result.catch(() => undefined) };
      running.set(key, entry);
      try {
        return await result;
      } finally {
        if (running.get(key) === entry) running.delete(key);
      }
    },
    async close() {
      for (const { abort } of running.values()) abort.abort(failure('Conflict', 'the cluster was closed'));
      await Promise.all([...running.values()].map(({ ended }) => ended));
    },
  };
}
