// Watches what a running program holds in memory and on disk, and reports the limit that it exceeds.
import { folderBytes } from './folders.ts';
import { openFilesOf } from './open-files.ts';
import { memoryOf, processTree, sharedMemory, type ProcessMark } from './process-tree.ts';
import { MEMORY_FOLDERS } from './sandbox.ts';

export interface ResourceWatch {
  readonly memoryBytes: number;
  readonly diskBytes: number;
  /** Where the limits come from, for the log: `resources` of a job. */
  readonly setting?: string;
  /** Folders whose contents are counted together. */
  readonly folders: readonly string[];
}

/** Called with the exceeded limit and a sentence for the log. */
export type Exceed = (what: 'memory' | 'disk', detail: string) => void;

/** Memory can grow by a gigabyte per second; reading a process tree takes a few milliseconds. */
const MEMORY_EVERY_MS = 250;
/** Walking folders is more expensive, and the kernel limits each single file. */
const DISK_EVERY_MS = 1_000;

/** Watches the program with process id `pid`, whose sandbox has the first process `inside`; returns how to stop watching. */
export function watchResources(
  pid: number,
  inside: Promise<ProcessMark | undefined>,
  watch: ResourceWatch,
  exceed: Exceed,
): () => void {
  const seen: { first?: ProcessMark | undefined; unlinkedBytes: number } = { unlinkedBytes: 0 };
  void inside.then((mark) => (seen.first = mark));
  const shared = () => seen.first && sharedMemory(seen.first.pid, MEMORY_FOLDERS);
  const timers = [
    every(MEMORY_EVERY_MS, async () => {
      const held = await memoryOf(processTree(pid), watch.memoryBytes, shared());
      if (held <= watch.memoryBytes) return;
      const detail = `it used ${held} bytes of memory; the limit is ${watch.memoryBytes}`;
      exceed('memory', `stopped: ${detail}${nameOf(watch, 'memoryBytes')}`);
    }),
    every(DISK_EVERY_MS, () => checkDisk(watch, exceed, { unlinkedBytes: seen.unlinkedBytes, ended: false })),
    // On its own, so that a program with many open files does not delay the measurement of its folders.
    every(DISK_EVERY_MS, async () => {
      const memory = shared();
      // Without a sandbox, files in memory cannot be told from files on disk.
      if (memory === undefined) return;
      const pids = processTree(pid).map((member) => member.pid);
      seen.unlinkedBytes = (await openFilesOf(pids, memory.devices)).unlinkedBytes;
    }),
  ];
  return () => timers.forEach((timer) => clearInterval(timer));
}

/** Measures the folders once more when no process of the program runs. */
export const checkDiskAtEnd = (watch: ResourceWatch, exceed: Exceed): Promise<void> =>
  checkDisk(watch, exceed, { unlinkedBytes: 0, ended: true });

async function checkDisk(
  watch: ResourceWatch,
  exceed: Exceed,
  // What open files without a name use.
  { unlinkedBytes, ended }: { unlinkedBytes: number; ended: boolean },
): Promise<void> {
  const held = (await folderBytes(watch.folders, ended)) + unlinkedBytes;
  if (held <= watch.diskBytes) return;
  const what = Number.isFinite(held)
    ? `its folders and open files use ${held} bytes of disk`
    : 'its disk usage cannot be measured: too many files, folders nested too deep, or a folder that cannot be read';
  exceed('disk', `stopped: ${what}; the limit is ${watch.diskBytes}${nameOf(watch, 'diskBytes')}`);
}

const nameOf = ({ setting }: ResourceWatch, limit: 'memoryBytes' | 'diskBytes'): string =>
  setting === undefined ? '' : ` (${setting}.${limit})`;

/** Repeats work that never rejects; a run that takes longer than the interval delays the next. */
function every(ms: number, work: () => Promise<void>): NodeJS.Timeout {
  const state = { busy: false };
  return setInterval(() => {
    if (state.busy) return;
    state.busy = true;
    void work().finally(() => (state.busy = false));
  }, ms);
}
