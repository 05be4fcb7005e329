// Checks again the stored files that had a wrong checksum when they were served; for `ocdl doctor`.
import { join } from 'node:path';
import { createLocalDisk } from '../activities/adapters/local-disk.ts';
import { listByteFaults } from '../activities/adapters/postgres/check.ts';
import { isFailure } from '../activities/failures.ts';
import type { ArtifactStore } from '../activities/ports.ts';
import type { ByteFault } from '../activities/records.ts';
import type { Config } from './config.ts';
import { systems } from './wiring.ts';

/** At most this many are checked and listed: with more, the whole store must be restored anyway. */
const MOST = 20;

/** Returns a summary if all are intact. Rejects with the files that are still wrong; a file not read in time counts as wrong. */
export async function checkByteFaults(config: Config, withinMs: number): Promise<string> {
  const { databaseUrl: url, database } = config;
  const faults = await listByteFaults({ url, ca: database.ca }, MOST);
  if (faults.length === 0) return 'no checksum mismatch was found';
  const stores = await openStoresOf(config);
  const signal = AbortSignal.timeout(withinMs);
  const wrong: string[] = [];
  for (const fault of faults) if (!(await isRight(stores, fault, signal))) wrong.push(describe(fault));
  if (wrong.length === 0) return `all of the ${faults.length} files with an earlier checksum mismatch are intact again`;
  const count =
    wrong.length === 1 ? '1 file does' : `${wrong.length}${faults.length === MOST ? ' or more' : ''} files do`;
  throw new Error(`${count} not match the recorded checksum; restore from a backup: ${wrong.join('; ')}`);
}

const describe = ({ uri, found, expected, at }: ByteFault): string =>
  found === 'nothing' ? `${uri} is missing (sha256:${expected}, seen ${at})` : `${uri} has ${found} (seen ${at})`;

async function isRight(stores: readonly ArtifactStore[], fault: ByteFault, signal: AbortSignal): Promise<boolean> {
  const store = stores.find((one) => owns(one, fault));
  if (!store || signal.aborted) return false;
  try {
    return (await store.digest(fault.uri, signal)) === fault.expected;
  } catch (error) {
    if (isFailure(error, 'NotFound') || signal.aborted) return false;
    throw error;
  }
}

function owns(store: ArtifactStore, { uri }: ByteFault): boolean {
  try {
    store.path(uri);
    return true;
  } catch {
    return false;
  }
}

/** The configured stores. Their warnings are dropped: each store's own check reports them. */
async function openStoresOf({ home, hdfs, s3 }: Config): Promise<readonly ArtifactStore[]> {
  const onWarn = (): void => undefined;
  return Promise.all([
    hdfs ? systems.hdfs(hdfs, onWarn) : createLocalDisk({ root: join(home, 'areas'), name: 'areas' }),
    s3 ? systems.s3(s3, onWarn) : createLocalDisk({ root: join(home, 'releases'), name: 'releases' }),
  ]);
}
