// Planted faults of marked systems, each with the case that must detect it.
import type { MarkedSystem } from '../../../activities/installation.ts';
import type { Fault } from '../cases.ts';
import type { MarkerSubject } from '../marker.ts';

type Marked = MarkerSubject['marked'];

const fault = (name: string, caughtBy: string, change: (good: Marked) => Partial<Marked>): Fault<MarkerSubject> => ({
  name,
  caughtBy,
  wrap: ({ marked, another, close }) => {
    const faulty = (good: Marked): Marked => ({ ...good, ...change(good) });
    return { marked: faulty(marked), another: async () => faulty(await another()), close };
  },
});
const CLAIMED = 'has no owner, then one of two that claim it concurrently, then no other';
const NEWEST = 'keeps the newest checkpoint, even if a slow writer comes last';

export const markerFaults: readonly Fault<MarkerSubject>[] = [
  fault('tells everybody that it is theirs', CLAIMED, (good) => ({
    async claim(installation) {
      await good.claim(installation);
      return installation;
    },
  })),
  fault('forgets whose it is', CLAIMED, () => ({ owner: async () => undefined })),
  fault('keeps the first checkpoint', NEWEST, ({ checkpoints }) => ({
    ...(checkpoints && { checkpoints: onlyTheFirst(checkpoints) }),
  })),
];

function onlyTheFirst(good: NonNullable<MarkedSystem['checkpoints']>): NonNullable<MarkedSystem['checkpoints']> {
  return {
    ...good,
    async keep(checkpoint) {
      if (!(await good.newest())) await good.keep(checkpoint);
    },
  };
}
