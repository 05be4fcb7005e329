// Reads processes from /proc: their identity, their descendants, their total memory.
import { readdirSync, readFileSync, statfsSync, statSync } from 'node:fs';
import { z } from 'zod';

export const processMarkSchema = z.object({ pid: z.int().positive(), started: z.string() });
/** A process id with its start time, so that a record on disk never matches a later process with the same id. */
export type ProcessMark = z.infer<typeof processMarkSchema>;

/** The mark of a living process; a zombie counts as dead. Without /proc, only the id. */
export function markOf(pid: number): ProcessMark | undefined {
  if (process.platform !== 'linux') return send(pid, 0) ? { pid, started: '' } : undefined;
  const stat = readStat(pid);
  if (stat === undefined || stat.state === 'Z' || stat.state === 'X') return undefined;
  return { pid, started: `${bootId()}/${stat.started}` };
}

export function isAlive(mark: ProcessMark): boolean {
  return markOf(mark.pid)?.started === mark.started;
}

/** Sends a signal to a process, or with a negative id to a group; `false` if there is none. */
export function send(pid: number, signal: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(pid, signal);
  } catch {
    return false;
  }
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
    const stat = Number.isInteger(pid) ? readStat(pid) : undefined;
    if (stat === undefined) continue;
    if (pid === root) tree.push({ pid, name: stat.name });
    children.set(stat.parent, [...(children.get(stat.parent) ?? []), { pid, name: stat.name }]);
  }
  // The list grows during the iteration: breadth first.
  for (const { pid } of tree) tree.push(...(children.get(pid) ?? []));
  return tree;
}

/** Size and devices of folders in memory (tmpfs). */
export interface FilesInMemory {
  readonly bytes: number;
  /** Their device numbers, as /proc shows them for mappings. */
  readonly devices: ReadonlySet<string>;
}

/** Measures folders in memory through a process that sees them; zero once that process has ended. */
export function filesInMemory(pid: number, folders: readonly string[]): FilesInMemory {
  const devices = new Set<string>();
  let bytes = 0;
  for (const folder of folders) {
    const path = `/proc/${pid}/root${folder}`;
    try {
      const { dev } = statSync(path);
      const { blocks, bfree, bsize } = statfsSync(path);
      devices.add(deviceName(dev));
      bytes += (blocks - bfree) * bsize;
    } catch {
      // The process has ended, and its folders with it.
    }
  }
  return { bytes, devices };
}

/**
 * Bytes of memory that these processes and the files in memory use together. When the sum exceeds `enough`, it is computed
 * precisely: shared pages count once, and mapped files are not counted again.
 */
export function memoryOf(tree: readonly TreeProcess[], enough: number, files: FilesInMemory = NO_FILES): number {
  const rough = tree.reduce(
    (sum, { pid }) => sum + kibibytes(`/proc/${pid}/status`, /^Rss(?:Anon|Shmem):\s+(\d+)/gm),
    files.bytes,
  );
  if (rough <= enough) return rough;
  // Computing the proportional size is expensive, so only when it matters.
  const fair = tree.reduce((sum, { pid }) => {
    // Mappings are read first: a process that ends in between then counts as zero, instead of its files counting twice.
    const mapped = files.bytes === 0 ? 0 : mappedOf(pid, files.devices);
    return sum + Math.max(0, kibibytes(`/proc/${pid}/smaps_rollup`, /^Pss_(?:Anon|Shmem):\s+(\d+)/gm) - mapped);
  }, 0);
  return fair === 0 ? rough : fair + files.bytes;
}

const NO_FILES: FilesInMemory = { bytes: 0, devices: new Set() };

/** Bytes of files on these devices that the process maps, as its share of shared pages; without private copies. */
function mappedOf(pid: number, devices: ReadonlySet<string>): number {
  let counts = false;
  let bytes = 0;
  for (const line of read(`/proc/${pid}/smaps`).split('\n')) {
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
  return Number(/^oom_kill (\d+)/m.exec(read('/proc/vmstat'))?.[1] ?? 0);
}

function kibibytes(path: string, pattern: RegExp): number {
  return [...read(path).matchAll(pattern)].reduce((sum, match) => sum + Number(match[1]) * 1024, 0);
}

interface Stat {
  readonly name: string;
  readonly state: string;
  readonly parent: number;
  readonly started: string;
}

function readStat(pid: number): Stat | undefined {
  const stat = read(`/proc/${pid}/stat`);
  if (stat === '') return undefined;
  // The name in parentheses may contain spaces and parentheses: fields are counted after the last one.
  const [state = '', parent = '0', ...rest] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return {
    name: stat.slice(stat.indexOf('(') + 1, stat.lastIndexOf(')')),
    state,
    parent: Number(parent),
    started: rest[17] ?? '',
  };
}

/** Start times count from boot: the boot id separates boots. */
function bootId(): string {
  return read('/proc/sys/kernel/random/boot_id').trim();
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
