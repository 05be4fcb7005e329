// Identifies a process by pid and start time, so that a record on disk never refers to another process with a reused pid.
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { sendSignal, startOf } from '../../activities/adapters/process-start.ts';

export const processRecordSchema = z.object({ pid: z.int().positive(), startedAs: z.string().min(1) });
export type ProcessRecord = z.infer<typeof processRecordSchema>;

/** Returns the pid and start time of a running process; undefined if there is none (a zombie does not count). */
export function identify(pid: number): ProcessRecord | undefined {
  const startedAs = startOf(pid);
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

/** Stops exactly the recorded process: sends `signal`, and kills its group if it is still running after `graceMs`. */
export async function endProcess(record: ProcessRecord, signal: NodeJS.Signals, graceMs: number): Promise<void> {
  if (!isAlive(record)) return;
  sendSignal(record.pid, signal);
  if (await waitUntilGone(record, graceMs)) return;
  if (!sendSignal(-record.pid, 'SIGKILL')) sendSignal(record.pid, 'SIGKILL');
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
