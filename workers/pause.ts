// Activities that publish or deliver wait while systems were set back to another moment: they fail, say why, and are tried again.
import { RESTORED, pausedMessage } from '../activities/installation.ts';
import type { Records } from '../activities/records.ts';

/** What leaves the records for other systems. Decisions themselves wait in the records' own transactions. */
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

/** The same activities; those that publish or deliver look first whether they may. */
export function whilePlatformRuns<A extends object>(records: Pick<Records, 'paused'>, activities: A): A {
  return new Proxy(activities, {
    get(target, name) {
      const activity: unknown = Reflect.get(target, name);
      if (typeof name !== 'string' || !waiting.has(name) || typeof activity !== 'function') return activity;
      return async (input: unknown): Promise<unknown> => {
        const paused = await records.paused();
        if (paused) throw Object.assign(new Error(pausedMessage(paused)), { code: RESTORED });
        return Reflect.apply(activity, target, [input]);
      };
    },
  });
}
