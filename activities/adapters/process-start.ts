// Identifies processes of this machine by their start time: a record on disk never refers to a later process with the same id.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';

/** What /proc says about a process. */
export interface ProcessStat {
  readonly name: string;
  readonly state: string;
  readonly parent: number;
  /** In ticks since boot. */
  readonly started: string;
}

/** The state of a process on Linux; undefined once it is gone. */
export function statOf(pid: number): ProcessStat | undefined {
  const stat = readIfThere(`/proc/${pid}/stat`);
  if (stat === '') return undefined;
  // The name in parentheses may contain spaces and parentheses: fields are counted after the last one.
  const [state = '', parent = '0', ...rest] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const name = stat.slice(stat.indexOf('(') + 1, stat.lastIndexOf(')'));
  return { name, state, parent: Number(parent), started: rest[17] ?? '' };
}

/** The start of a running process, as text unique among processes with its id; undefined once it has ended. A zombie has ended. */
export function startOf(pid: number): string | undefined {
  if (process.platform !== 'linux') return startByPs(pid);
  const stat = statOf(pid);
  if (!stat || stat.state === 'Z' || stat.state === 'X' || stat.started === '') return undefined;
  // Ticks count from boot; the boot id distinguishes boots.
  return `${readIfThere('/proc/sys/kernel/random/boot_id').trim()}/${stat.started}`;
}

/** Sends a signal to a process, or with a negative id to a group; false if it is gone. Signal 0 only checks, and finds zombies too. */
export function sendSignal(pid: number, signal: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(pid, signal);
  } catch {
    return false;
  }
}

/** The text of a file that may not exist; empty if it does not. */
export function readIfThere(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

function startByPs(pid: number): string | undefined {
  try {
    const line = execFileSync('/bin/ps', ['-o', 'stat=,lstart=', '-p', String(pid)], {
      ...{ encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'], env: { LC_ALL: 'C' } },
    }).trim();
    const [state = 'Z', ...start] = line.split(/\s+/);
    return line === '' || state.startsWith('Z') ? undefined : start.join(' ');
  } catch {
    return undefined;
  }
}
