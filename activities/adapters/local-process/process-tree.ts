// Reads processes from /proc: their identity, their descendants, their total memory.
import { readdirSync, statfsSync, statSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { countOpenFiles, openFilesOf, PIPE_BYTES } from './open-files.ts';
import { readIfThere, startOf, statOf } from '../process-start.ts';

export const processMarkSchema = z.object({ pid: z.int().positive(), started: z.string() });
/** A process id with its start time, so that a record on disk never matches a later process with the same id. */
export type ProcessMark = z.infer<typeof processMarkSchema>;

/** The mark of a process; undefined unless it runs. */
export function markOf(pid: number): ProcessMark | undefined {
  const started = startOf(pid);
  return started === undefined ? undefined : { pid, started };
}

export function isAlive(mark: ProcessMark): boolean {
  return markOf(mark.pid)?.started === mark.started;
}

export interface TreeProcess {
  readonly pid: number;
  readonly name: string;
}

/** The process and all its descendants. Empty without /proc. */
export function processTree(root: number): readonly TreeProcess[] {
  if (process.platform !== 'linux') return [];
  const children = new Map<number, TreeProcess[]>();
  const tree: TreeProcess[] = [];
  for (const entry of readdirSync('/proc')) {
    const pid = Number(entry);
    const stat = Number.isInteger(pid) ? statOf(pid) : undefined;
    if (stat === undefined) continue;
    if (pid === root) tree.push({ pid, name: stat.name });
    children.set(stat.parent, [...(children.get(stat.parent) ?? []), { pid, name: stat.name }]);
  }
  // The list grows during the iteration: breadth first.
  for (const { pid } of tree) tree.push(...(children.get(pid) ?? []));
  return tree;
}

/** Memory that belongs to no process: folders in memory (tmpfs), and what sockets can hold. */
export interface SharedMemory {
  readonly folderBytes: number;
  readonly socketBytes: number;
  /** Device numbers of the folders. */
  readonly devices: ReadonlySet<number>;
}

/** The kernel's own memory for one file in memory, even an empty one: its inode and the entry of its name. */
const FILE_BYTES = 1024;
/** What one socket can hold (socket(7), wmem_default and rmem_default): bytes sent to it, or from it, and not yet received. */
const SOCKET_BYTES = Math.max(
  ...['wmem_default', 'rmem_default'].map((name) => Number(readIfThere(`/proc/sys/net/core/${name}`))),
);
/**
 * What one TCP socket can hold: the kernel lets its buffers grow to the last number of each file. A sandbox's network gets
 * the machine's numbers.
 */
const TCP_BYTES = ['tcp_rmem', 'tcp_wmem'].reduce(
  (sum, name) => sum + Number(/(\d+)\s*$/.exec(readIfThere(`/proc/sys/net/ipv4/${name}`))?.[1] ?? 0),
  0,
);

/**
 * Measures folders in memory and sockets through a process in the sandbox; zero once that process has ended. The buffers of
 * a socket are in no statistics, so each counts with the largest size that the kernel and the sandbox's filter leave it.
 */
export function sharedMemory(pid: number, folders: readonly string[]): SharedMemory {
  const devices = new Set<number>();
  // The file counts the sockets of the process's own network.
  const sockets = Number(/^sockets: used (\d+)/.exec(readIfThere(`/proc/${pid}/net/sockstat`))?.[1] ?? 0);
  const tcp = ['sockstat', 'sockstat6'].reduce(
    (sum, name) => sum + Number(/^TCP6?: inuse (\d+)/m.exec(readIfThere(`/proc/${pid}/net/${name}`))?.[1] ?? 0),
    0,
  );
  let bytes = 0;
  for (const folder of folders) {
    const path = `/proc/${pid}/root${folder}`;
    try {
      const { dev } = statSync(path);
      const { blocks, bfree, bsize, files, ffree } = statfsSync(path);
      devices.add(dev);
      bytes += (blocks - bfree) * bsize + (files - ffree) * FILE_BYTES;
    } catch {
      // The process has ended, and its folders with it.
    }
  }
  return { folderBytes: bytes, socketBytes: sockets * SOCKET_BYTES + tcp * TCP_BYTES, devices };
}

/** After this time, shared pages are not looked for: meanwhile the program can take more memory. */
const PRECISE_WITHIN_MS = 3_000;
/** With more open files than this, each counts as a pipe, for the same reason. */
const MOST_OPEN_FILES = 20_000;

/**
 * Bytes of memory that these processes, their page tables and pipes, files in memory and sockets use together. When the sum
 * exceeds `enough`, it is computed precisely: shared pages and pipes count once, mapped files are not counted again.
 */
export async function memoryOf(
  tree: readonly TreeProcess[],
  enough: number,
  shared: SharedMemory = NOTHING,
): Promise<number> {
  const files = tree.reduce((sum, { pid }) => sum + countOpenFiles(pid), 0);
  const rough = tree.reduce(
    (sum, { pid }) => {
      const { own, mapped, tables } = roughly(pid);
      return sum + own + mapped + tables;
    },
    shared.folderBytes + shared.socketBytes + files * PIPE_BYTES,
  );
  if (rough <= enough) return rough;
  // Computing the proportional size is expensive, so only when it matters, and without blocking the worker.
  const until = Date.now() + PRECISE_WITHIN_MS;
  const held = { own: 0, mapped: 0 };
  for (const { pid } of tree) {
    const share = Date.now() < until ? await shareOf(pid) : undefined;
    // A process can hide its share from a worker that is not root.
    const { own, mapped, tables } = { ...roughly(pid), ...share };
    held.own += own + tables;
    held.mapped += mapped;
  }
  const pids = tree.map(({ pid }) => pid);
  const pipes = files > MOST_OPEN_FILES ? files : (await openFilesOf(pids, shared.devices)).pipes;
  // Shared pages are those of files in memory, mapped or not.
  return held.own + Math.max(held.mapped, shared.folderBytes) + shared.socketBytes + pipes * PIPE_BYTES;
}

const NOTHING: SharedMemory = { folderBytes: 0, socketBytes: 0, devices: new Set() };

/** Bytes of a process's own pages, of pages that it shares with others, and of its page tables; zero once it has ended. */
function roughly(pid: number): { own: number; mapped: number; tables: number } {
  const status = readIfThere(`/proc/${pid}/status`);
  return {
    own: kibibytes(status, 'RssAnon'),
    mapped: kibibytes(status, 'RssShmem'),
    // Read-only mappings of empty pages have page tables and no memory of their own.
    tables: kibibytes(status, 'VmPTE'),
  };
}

/** The same with its share of the pages that several processes map; `undefined` if it cannot be read. */
async function shareOf(pid: number): Promise<{ own: number; mapped: number } | undefined> {
  const text = await readFile(`/proc/${pid}/smaps_rollup`, 'utf8').catch(() => '');
  return text === '' ? undefined : { own: kibibytes(text, 'Pss_Anon'), mapped: kibibytes(text, 'Pss_Shmem') };
}

/** The number of out-of-memory kills since boot. */
export function oomKills(): number {
  return Number(/^oom_kill (\d+)/m.exec(readIfThere('/proc/vmstat'))?.[1] ?? 0);
}

/** The number of bytes in a line such as `RssAnon:  12 kB`; zero without that line. */
function kibibytes(text: string, name: string): number {
  return Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(text)?.[1] ?? 0) * 1024;
}
