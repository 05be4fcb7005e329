// How much memory a transfer holds: garbage is collected first, so that the collector's pace does not count.
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

const MEGABYTE = 1024 * 1024;
/** Collecting garbage takes time, so looks that come sooner than this after the last one (in ms) measure nothing. */
const PAUSE_MS = 50;

/** Watches what this process holds in memory while bytes pass. */
export interface HeldMemory {
  /** Measures, unless it has just done so. */
  look(): void;
  /** The largest growth that was measured, in MB, counted from the start of the watch. */
  growth(): number;
}

/** Starts to watch. */
export function watchHeldMemory(): HeldMemory {
  setFlagsFromString('--expose-gc');
  const collectGarbage = runInNewContext('gc') as () => void;
  const held = (): number => {
    // The first collection frees array buffers in the background; the second waits until that is done.
    collectGarbage();
    collectGarbage();
    const { heapUsed, external } = process.memoryUsage();
    return (heapUsed + external) / MEGABYTE;
  };
  const before = held();
  let [last, most] = [performance.now(), 0];
  return {
    look() {
      if (performance.now() < last + PAUSE_MS) return;
      most = Math.max(most, held() - before);
      last = performance.now();
    },
    growth: () => Math.round(most),
  };
}
