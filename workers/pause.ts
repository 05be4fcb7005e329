// Activities that decide or deliver wait while systems were set back to another moment: they fail, say why, and are tried again.
import { RESTORED, pausedMessage } from '../activities/installation.ts';
import type { Records } from '../activities/records.ts';

type Input = Readonly<Record<string, unknown>>;

/** Which activities wait: all of these, and the record of a transition where it is a person's decision. */
const waiting: Readonly<Record<string, (input: Input) => boolean>> = {
  ...Object.fromEntries(
    [
      'allotRelease',
      'publishRelease',
      'announceRelease',
      'recordAnnounced',
      'fenceReleases',
      'receiveRelease',
      'lockModel',
      'runGate',
      'moveLivePointer',
      'commitLive',
    ].map((name) => [name, () => true]),
  ),
  recordTransition: ({ command }) => command !== null && command !== undefined,
};

/** The same activities; those that decide or deliver look first whether they may. */
export function whilePlatformRuns<A extends object>(records: Pick<Records, 'paused'>, activities: A): A {
  return new Proxy(activities, {
    get(target, name) {
      const activity: unknown = Reflect.get(target, name);
      const waits = typeof name === 'string' && Object.hasOwn(waiting, name) ? waiting[name] : undefined;
      if (!waits || typeof activity !== 'function') return activity;
      return async (input: Input): Promise<unknown> => {
        const paused = waits(input) ? await records.paused() : undefined;
        if (paused) throw Object.assign(new Error(pausedMessage(paused)), { code: RESTORED });
        return Reflect.apply(activity, target, [input]);
      };
    },
  });
}
