// While systems disagree after a restore, activities that publish or deliver fail with a retryable failure that says why.
import { pausedError } from '../activities/installation.ts';
import type { Records } from '../activities/records.ts';

/** Activities that write from the records to other systems. Decisions are paused in the records' own transactions. */
const waiting: ReadonlySet<string> = new Set([
  'publishRelease',
  'announceRelease',
  'recordAnnounced',
  'announceWithdrawal',
  'returnToPrivate',
  'lockModel',
  'runGate',
  'commitLive',
  'commitLabels',
]);

/** Wraps the activities: those that publish or deliver first check whether the platform is paused. */
export function whilePlatformRuns<A extends object>(records: Pick<Records, 'paused'>, activities: A): A {
  return new Proxy(activities, {
    get(target, name) {
      const activity: unknown = Reflect.get(target, name);
      if (typeof name !== 'string' || !waiting.has(name) || typeof activity !== 'function') return activity;
      return async (input: unknown): Promise<unknown> => {
        const paused = await records.paused();
        if (paused) throw pausedError(paused);
        return Reflect.apply(activity, target, [input]);
      };
    },
  });
}
