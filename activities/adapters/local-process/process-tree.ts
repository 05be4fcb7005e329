// Looks at processes through /proc: which one exactly, what it started, how much memory they hold together.
import { readdirSync, readFileSync, statfsSync, statSync } from 'node:fs';
import { z } from 'zod';

export const processMarkSchema = z.object({ pid: z.int().positive(), started: z.string() });
/** A process number plus its start time, so that a record on disk never points at a stranger that was given the number later. */
export type ProcessMark = z.infer<typeof processMarkSchema>;

/** The mark of a living process; a zombie counts as dead. Where there is no /proc, the number alone. */
export function markOf(pid: number): ProcessMark | undefined {
  if (process.platform !== 'linux') return send(pid, 0) ? { pid, started: '' } : undefined;
  const stat = readStat(pid);
  if (stat === undefined || stat.state === 'Z' || stat.state === 'X') return undefined;
  return { pid, started: `${bootId()}/${stat.started}` };
}

export function isAlive(mark: ProcessMark): boolean {
  return markOf(mark.pid)?.started === mark.started;
}

/** Sends a signal to a process, or with a negative number to a group; false when there is none. */
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

/** The process and all that descend from it. Empty where there is no /proc. */
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
  // The list grows while it is walked: breadth first.
  for (const { pid } of tree) tree.push(...(children.get(pid) ?? []));
  return tree;
}

/** What lies in folders that are memory (tmpfs). */
export interface FilesInMemory {
  readonly bytes: number;
  /** Their devices, as /proc tells them of mappings. */
  readonly devices: ReadonlySet<string>;
}

/** Looks at folders in memory through one of the processes that see them; nothing once that process has ended. */
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
      // It has ended, and with it what it saw.
    }
  }
  return { bytes, devices };
}

/**
 * Bytes of memory these processes and the files in memory hold together. As soon as the sum is above `enough`, pages that
 * processes share count once, and files that they map do not count again.
 */
export function memoryOf(tree: readonly TreeProcess[], enough: number, files: FilesInMemory = NO_FILES): number {
  const rough = tree.reduce(
    (sum, { pid }) => sum + kibibytes(`/proc/${pid}/status`, /^Rss(?:Anon|Shmem):\s+(\d+)/gm),
    files.bytes,
  );
  if (rough <= enough) return rough;
  // The proportional size is dear to compute, so only when it matters.
  const fair = tree.reduce((sum, { pid }) => {
    // Looked at first: of a process that ends between the two looks nothing counts, instead of its files twice.
    const mapped = files.bytes === 0 ? 0 : mappedOf(pid, files.devices);
    return sum + Math.max(0, kibibytes(`/proc/${pid}/smaps_rollup`, /^Pss_(?:Anon|Shmem):\s+(\d+)/gm) - mapped);
  }, 0);
  return fair === 0 ? rough : fair + files.bytes;
}

const NO_FILES: FilesInMemory = { bytes: 0, devices: new Set() };

/** Bytes of files on these devices that the process maps, its share of pages that others map too; without its own copies. */
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

/** As the kernel writes a device's number (linux/kdev_t.h). */
function deviceName(dev: number): string {
  const hex = (number: number): string => number.toString(16).padStart(2, '0');
  return `${hex((dev >>> 8) & 0xfff)}:${hex((dev & 0xff) | ((dev >>> 12) & 0xfff00))}`;
}

/** How often the kernel has killed for lack of memory since boot. */
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
  // The name in parentheses may itself hold blanks and parentheses: fields are counted from the last one.
  const [state = '', parent = '0', ...rest] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return {
    name: stat.slice(stat.indexOf('(') + 1, stat.lastIndexOf(')')),
    state,
    parent: Number(parent),
    started: rest[17] ?? '',
  };
}

/** Start times count from boot: its id keeps two boots apart. */
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
