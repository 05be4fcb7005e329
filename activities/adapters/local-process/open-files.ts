// What processes hold by open files alone: the content of pipes, which is in memory, and of unlinked files, which is on disk.
import { readdirSync, statfsSync, statSync, type Stats } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';

/** What one pipe can hold (pipe(7)): 16 pages. The sandbox's filter keeps that size. */
export const PIPE_BYTES = 16 * pageBytes();

/** More open files than this count as endless: looking at each takes longer than filling a disk. */
const MOST_FILES = 200_000;

/** Looking at files one after the other takes several times as long. */
const TOGETHER = 32;

export interface OpenFiles {
  readonly pipes: number;
  /** Disk usage of files that have no name any more. */
  readonly unlinkedBytes: number;
}

/** The number of open files of a process. Every pipe is at least one of them. */
export function countOpenFiles(pid: number): number {
  try {
    const folder = `/proc/${pid}/fd`;
    // Before Linux 6.2 the size is 0.
    return statSync(folder).size || readdirSync(folder).length;
  } catch {
    // The process has ended.
    return 0;
  }
}

/** Looks at all open files of these processes, each once. Files on the devices `inMemory` are not on disk. */
export async function openFilesOf(pids: readonly number[], inMemory: ReadonlySet<number>): Promise<OpenFiles> {
  const pipes = new Set<string>();
  const unlinked = new Map<string, number>();
  let [files, hidden] = [0, 0];
  for (const pid of pids) {
    const names = await readdir(`/proc/${pid}/fd`).catch(() => undefined);
    // A process can hide its files from a worker that is not root, but not their number.
    if (names === undefined) hidden += countOpenFiles(pid);
    for (let at = 0; at < (names?.length ?? 0); at += TOGETHER) {
      const some = names?.slice(at, at + TOGETHER) ?? [];
      files += some.length;
      if (files > MOST_FILES) return { pipes: Infinity, unlinkedBytes: Infinity };
      for (const status of await Promise.all(some.map((name) => statusOf(`/proc/${pid}/fd/${name}`)))) {
        const key = `${status?.dev}:${status?.ino}`;
        if (status?.isFIFO()) pipes.add(key);
        if (status?.isFile() && status.nlink === 0 && !inMemory.has(status.dev)) unlinked.set(key, status.blocks * 512);
      }
    }
  }
  const unlinkedBytes = [...unlinked.values()].reduce((sum, bytes) => sum + bytes, 0);
  return { pipes: pipes.size + hidden, unlinkedBytes };
}

const statusOf = (path: string): Promise<Stats | undefined> => stat(path).catch(() => undefined);

function pageBytes(): number {
  try {
    return statfsSync('/proc').bsize;
  } catch {
    // Without /proc nothing is measured.
    return 4096;
  }
}
