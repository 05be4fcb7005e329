// Identifies a process by pid and start time, so that a record on disk never refers to another process with a reused pid.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';

export const processRecordSchema = z.object({ pid: z.int().positive(), startedAs: z.string().min(1) });
export type ProcessRecord = z.infer<typeof processRecordSchema>;

/** Returns the pid and start time of a running process; undefined if there is none (a zombie does not count). */
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

/** Whether exactly the recorded process (not a later one with its pid) is still running. */
export function isAlive(record: ProcessRecord): boolean {
  return identify(record.pid)?.startedAs === record.startedAs;
}

/** Sends a signal; true if it reached a process. Signal 0 only checks for existence, including zombies. `group` signals the process's whole group. */
export function sendSignal(pid: number, signal: NodeJS.Signals | 0, group = false): boolean {
  try {
    return process.kill(group ? -pid : pid, signal);
  } catch {
    return false;
  }
}

/** Stops exactly the recorded process: sends `signal`, and kills its group if it is still running after `graceMs`. */
export async function endProcess(record: ProcessRecord, signal: NodeJS.Signals, graceMs: number): Promise<void> {
  if (!isAlive(record)) return;
  sendSignal(record.pid, signal);
  if (await waitUntilGone(record, graceMs)) return;
  if (!sendSignal(record.pid, 'SIGKILL', true)) sendSignal(record.pid, 'SIGKILL');
  // A killed process ends within milliseconds; five seconds cover a machine that swaps.
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
    // The name in parentheses may contain spaces and parentheses, so fields are counted from the last one.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    const state = fields[0];
    const startTicks = fields[19];
    if (startTicks === undefined || state === 'Z' || state === 'X') return undefined;
    // Ticks count from boot; the boot id distinguishes boots.
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
