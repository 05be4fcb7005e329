// Keeps HOME/run/NAME.pid: which processes a platform started, so that those of a killed one are found and ended.
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

/** Writes a child's record; whole or not at all. */
export function writeRunRecord(folder: string, record: RunRecord): void {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const path = join(folder, `${record.name}.pid`);
  writeFileSync(`${path}.new`, JSON.stringify(record), { mode: 0o600 });
  renameSync(`${path}.new`, path);
}

/** Removes a child's record, if it is still that child's. */
export function removeRunRecord(folder: string, name: string, child: ProcessRecord): void {
  const found = readRunRecords(folder).find((record) => record.name === name);
  if (found?.child.pid === child.pid && found.child.startedAs === child.startedAs) rmSync(join(folder, `${name}.pid`));
}

/** Reads all records; a file that is not one is passed over (it can only be a half-removed home). */
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
 * Ends what the records name and removes the records; returns the names of those that still ran.
 * With `supervisor`, only what that one started: a late watchdog must not touch the platform that came after it.
 */
export async function endLeftovers(folder: string, supervisor?: ProcessRecord): Promise<readonly string[]> {
  const records = readRunRecords(folder).filter(
    (record) => supervisor === undefined || record.supervisor.startedAs === supervisor.startedAs,
  );
  const alive = records.filter((record) => isAlive(record.child));
  // At once, not in order: whoever wrote through these has died already, and each of them survives the others' end.
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
