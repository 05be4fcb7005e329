// Names a process beyond its reused number: pid plus start time, so that a record on disk never points at a stranger.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';

export const processRecordSchema = z.object({ pid: z.int().positive(), startedAs: z.string().min(1) });
export type ProcessRecord = z.infer<typeof processRecordSchema>;

/** Returns pid and start mark of a living process; undefined where there is none (a zombie counts as none). */
export function identify(pid: number): ProcessRecord | undefined {
  const startedAs = process.platform === 'linux' ? startOnLinux(pid) : startByPs(pid);
  return startedAs === undefined ? undefined : { pid, startedAs };
}

/** Returns this process's own record. */
export function identifySelf(): ProcessRecord {
  const own = identify(process.pid);
  if (own === undefined) throw new Error(`Cannot read the start time of process ${process.pid}: is /proc mounted?`);
  return own;
}

/** Says whether exactly the recorded process (not a later one with its number) still runs. */
export function isAlive(record: ProcessRecord): boolean {
  return identify(record.pid)?.startedAs === record.startedAs;
}

/** Sends a signal; true when it reached a process. 0 only asks, also of a zombie. `group` reaches the whole group the process leads. */
export function sendSignal(pid: number, signal: NodeJS.Signals | 0, group = false): boolean {
  try {
    return process.kill(group ? -pid : pid, signal);
  } catch {
    return false;
  }
}

/** Ends exactly the recorded process: asks with `signal`, and kills its group when it is still there after `graceMs`. */
export async function endProcess(record: ProcessRecord, signal: NodeJS.Signals, graceMs: number): Promise<void> {
  if (!isAlive(record)) return;
  sendSignal(record.pid, signal);
  if (await waitUntilGone(record, graceMs)) return;
  if (!sendSignal(record.pid, 'SIGKILL', true)) sendSignal(record.pid, 'SIGKILL');
  // A killed process is gone within milliseconds; five seconds cover a machine that swaps.
  await waitUntilGone(record, 5_000);
}

async function waitUntilGone(record: ProcessRecord, withinMs: number): Promise<boolean> {
  const until = Date.now() + withinMs;
  while (isAlive(record)) {
    if (Date.now() >= until) return false;
    await sleep(25);
  }
  return true;
}

function startOnLinux(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The name in parentheses may itself hold blanks and parentheses: fields are counted from the last one.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    const state = fields[0];
    const startTicks = fields[19];
    if (startTicks === undefined || state === 'Z' || state === 'X') return undefined;
    // Ticks count from boot: the boot's id keeps two boots apart.
    return `${readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()}/${startTicks}`;
  } catch {
    return undefined;
  }
}

function startByPs(pid: number): string | undefined {
  try {
    const line = execFileSync('ps', ['-o', 'stat=,lstart=', '-p', String(pid)], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    }).trim();
    const [state = 'Z', ...start] = line.split(/\s+/);
    return line === '' || state.startsWith('Z') ? undefined : start.join(' ');
  } catch {
    return undefined;
  }
}
