// Jest's globalTeardown: ends the servers of this test run by their recorded processes and removes its folder.
import { readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { identify, identifySelf, type ProcessRecord } from '../deploy/local/process-identity.ts';
import { endLeftovers } from '../deploy/local/run-records.ts';

const prefix = 'ocdl-test-run-';

/** The process that owns this test run: jest itself, also when asked from one of its workers. */
export function runOwner(): ProcessRecord {
  const isWorker = /jest-worker[\\/]/.test(process.argv[1] ?? '');
  const owner = isWorker ? identify(process.ppid) : identifySelf();
  if (owner === undefined) throw new Error(`The jest process ${process.ppid} of this test run is gone.`);
  return owner;
}

/** The folder of this test run's servers. */
export function runFolder(): string {
  const owner = runOwner();
  // The start mark's last part tells two owners with the same number apart.
  return join(tmpdir(), `${prefix}${owner.pid}-${owner.startedAs.replace(/^.*\//, '').replaceAll(/\W/g, '')}`);
}

/** Ends the servers of one run and removes its folder. */
export async function endRun(folder: string): Promise<void> {
  await endLeftovers(join(folder, 'run'));
  rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
}

/** Ends what runs left behind whose jest was killed before its teardown. */
export async function endRunsOfDeadOwners(): Promise<void> {
  for (const name of readdirSync(tmpdir()).filter((entry) => entry.startsWith(prefix))) {
    const [pid = '', start = ''] = name.slice(prefix.length).split('-');
    const owner = identify(Number(pid));
    if (owner?.startedAs.replace(/^.*\//, '').replaceAll(/\W/g, '') === start) continue;
    await endRun(join(tmpdir(), name));
  }
}

export default async function stopServers(): Promise<void> {
  await endRun(runFolder());
}
