// Reads processes from /proc: their identity, their descendants, their total memory.
import { readdirSync, statfsSync, statSync } from 'node:fs';
import { z } from 'zod';
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
  readonly bytes: number;
  /** Device numbers of the folders, as /proc shows them for mappings. */
  readonly devices: ReadonlySet<string>;
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
  const devices = new Set<string>();
  // The file counts the sockets of the process's own network.
  const sockets = Number(/^sockets: used (\d+)/.exec(readIfThere(`/proc/${pid}/net/sockstat`))?.[1] ?? 0);
  const tcp = ['sockstat', 'sockstat6'].reduce(
    (sum, name) => sum + Number(/^TCP6?: inuse (\d+)/m.exec(readIfThere(`/proc/${pid}/net/${name}`))?.[1] ?? 0),
    0,
  );
  let bytes = sockets * SOCKET_BYTES + tcp * TCP_BYTES;
  for (const folder of folders) {
    const path = `/proc/${pid}/root${folder}`;
    try {
      const { dev } = statSync(path);
      const { blocks, bfree, bsize, files, ffree } = statfsSync(path);
      devices.add(deviceName(dev));
      bytes += (blocks - bfree) * bsize + (files - ffree) * FILE_BYTES;
    } catch {
      // The process has ended, and its folders with it.
    }
  }
  return { bytes, devices };
}

/**
 * Bytes of memory that these processes, their page tables, files in memory and sockets use together. When the sum exceeds
 * `enough`, it is computed precisely: shared pages count once, and mapped files are not counted again.
 */
export function memoryOf(tree: readonly TreeProcess[], enough: number, shared: SharedMemory = NOTHING): number {
  const rough = tree.reduce(
    (sum, { pid }) => sum + kibibytes(`/proc/${pid}/status`, /^(?:Rss(?:Anon|Shmem)|VmPTE):\s+(\d+)/gm),
    shared.bytes,
  );
  if (rough <= enough) return rough;
  // Computing the proportional size is expensive, so only when it matters.
  const fair = tree.reduce((sum, { pid }) => {
    // Mappings are read first: a process that ends in between then counts as zero, instead of its files counting twice.
    const mapped = shared.bytes === 0 ? 0 : mappedOf(pid, shared.devices);
    // Read-only mappings of empty pages have page tables and no memory of their own.
    const tables = kibibytes(`/proc/${pid}/status`, /^VmPTE:\s+(\d+)/gm);
    const own = kibibytes(`/proc/${pid}/smaps_rollup`, /^Pss_(?:Anon|Shmem):\s+(\d+)/gm);
    return sum + tables + Math.max(0, own - mapped);
  }, 0);
  return fair === 0 ? rough : fair + shared.bytes;
}

const NOTHING: SharedMemory = { bytes: 0, devices: new Set() };

/** Bytes of files on these devices that the process maps, as its share of shared pages; without private copies. */
function mappedOf(pid: number, devices: ReadonlySet<string>): number {
  let counts = false;
  let bytes = 0;
  for (const line of readIfThere(`/proc/${pid}/smaps`).split('\n')) {
    const mapping = /^[0-9a-f]+-[0-9a-f]+ \S+ [0-9a-f]+ ([0-9a-f]+:[0-9a-f]+) /.exec(line)?.[1];
    if (mapping !== undefined) counts = devices.has(mapping);
    const [, field, size] = (counts && /^(Pss|Anonymous):\s+(\d+) kB/.exec(line)) || [];
    if (field !== undefined) bytes += (field === 'Pss' ? 1 : -1) * Number(size) * 1024;
  }
  return Math.max(0, bytes);
}

/** The kernel's notation of a device number (linux/kdev_t.h). */
function deviceName(dev: number): string {
  const hex = (number: number): string => number.toString(16).padStart(2, '0');
  return `${hex((dev >>> 8) & 0xfff)}:${hex((dev & 0xff) | ((dev >>> 12) & 0xfff00))}`;
}

/** The number of out-of-memory kills since boot. */
export function oomKills(): number {
  return Number(/^oom_kill (\d+)/m.exec(readIfThere('/proc/vmstat'))?.[1] ?? 0);
}

function kibibytes(path: string, pattern: RegExp): number {
  return [...readIfThere(path).matchAll(pattern)].reduce((sum, match) => sum + Number(match[1]) * 1024, 0);
}
