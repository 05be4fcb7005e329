// Maintains HOME/run/NAME.pid: records of the processes a platform started, so that orphaned processes can be found and stopped.
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { endProcess, isAlive, processRecordSchema, type ProcessRecord } from './process-identity.ts';

const runRecordSchema = z.object({
  name: z.string().min(1),
  child: processRecordSchema,
  supervisor: processRecordSchema,
  stopSignal: z.enum(['SIGTERM', 'SIGINT']),
});
export type RunRecord = z.infer<typeof runRecordSchema>;

/** Writes a child's record atomically. */
export function writeRunRecord(folder: string, record: RunRecord): void {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const path = join(folder, `${record.name}.pid`);
  writeFileSync(`${path}.new`, JSON.stringify(record), { mode: 0o600 });
  renameSync(`${path}.new`, path);
}

/** Removes a child's record if it still belongs to that child. */
export function removeRunRecord(folder: string, name: string, child: ProcessRecord): void {
  const found = readRunRecords(folder).find((record) => record.name === name);
  if (found?.child.pid === child.pid && found.child.startedAs === child.startedAs) rmSync(join(folder, `${name}.pid`));
}

/** Reads all records; skips files that are not records (a partly removed home). */
export function readRunRecords(folder: string): readonly RunRecord[] {
  const records: RunRecord[] = [];
  for (const file of filesOf(folder).filter((name) => name.endsWith('.pid'))) {
    try {
      records.push(runRecordSchema.parse(JSON.parse(readFileSync(join(folder, file), 'utf8'))));
    } catch {
      continue;
    }
  }
  return records;
}

/**
 * Stops the recorded processes and removes the records; returns the names of those that were still running.
 * With `supervisor`, only processes that it started: a late watchdog must not touch the next platform.
 */
export async function endLeftovers(folder: string, supervisor?: ProcessRecord): Promise<readonly string[]> {
  const records = readRunRecords(folder).filter(
    (record) => supervisor === undefined || record.supervisor.startedAs === supervisor.startedAs,
  );
  const alive = records.filter((record) => isAlive(record.child));
  // In parallel, not in order: the clients of these servers are already dead, and the servers do not depend on each other.
  await Promise.all(alive.map((record) => endProcess(record.child, record.stopSignal, 5_000)));
  for (const record of records) removeRunRecord(folder, record.name, record.child);
  return alive.map((record) => record.name);
}

function filesOf(folder: string): readonly string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}
