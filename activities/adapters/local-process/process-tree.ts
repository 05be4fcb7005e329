// Looks at processes through /proc: which one exactly, what it started, how much memory they hold together.
import { readdirSync, readFileSync } from 'node:fs';
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

/** Bytes of memory these processes hold together; pages they share count once as soon as the sum is above `enough`. */
export function memoryOf(tree: readonly TreeProcess[], enough: number): number {
  const rough = tree.reduce(
    (sum, { pid }) => sum + kibibytes(`/proc/${pid}/status`, /^Rss(?:Anon|Shmem):\s+(\d+)/gm),
    0,
  );
  if (rough <= enough) return rough;
  // The proportional size is dear to compute, so only when it matters.
  const fair = tree.reduce(
    (sum, { pid }) => sum + kibibytes(`/proc/${pid}/smaps_rollup`, /^Pss_(?:Anon|Shmem):\s+(\d+)/gm),
    0,
  );
  return fair === 0 ? rough : fair;
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
