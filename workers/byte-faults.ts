// Stored files that were found wrong when they were served: which of them still are; for `ocdl doctor`.
import { join } from 'node:path';
import { createLocalDisk } from '../activities/adapters/local-disk.ts';
import { listByteFaults } from '../activities/adapters/postgres/check.ts';
import { isFailure } from '../activities/failures.ts';
import type { ArtifactStore } from '../activities/ports.ts';
import type { ByteFault } from '../activities/records.ts';
import type { Config } from './config.ts';
import { systems } from './wiring.ts';

/** So many are looked at and named: whoever has more knows enough to restore a store as a whole. */
const MOST = 20;

/** Says that all is well. Rejects with the files that are still wrong; one that is not read again within the time counts as wrong. */
export async function checkByteFaults(config: Config, withinMs: number): Promise<string> {
  const { databaseUrl: url, database } = config;
  const faults = await listByteFaults({ url, ca: database.ca }, MOST);
  if (faults.length === 0) return 'none was found wrong when it was served';
  const stores = await openStoresOf(config);
  const signal = AbortSignal.timeout(withinMs);
  const wrong: string[] = [];
  for (const fault of faults) if (!(await isRight(stores, fault, signal))) wrong.push(describe(fault));
  if (wrong.length === 0) return `${faults.length} found wrong before are right again`;
  const count =
    wrong.length === 1 ? '1 file is' : `${wrong.length}${faults.length === MOST ? ' or more' : ''} files are`;
  throw new Error(`${count} not what is on record: restore from a backup: ${wrong.join('; ')}`);
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

/** The configured stores; what they warn of besides is said by their own checks. */
async function openStoresOf({ home, hdfs, s3 }: Config): Promise<readonly ArtifactStore[]> {
  const onWarn = (): void => undefined;
  return Promise.all([
    hdfs ? systems.hdfs(hdfs, onWarn) : createLocalDisk({ root: join(home, 'areas'), name: 'areas' }),
    s3 ? systems.s3(s3, onWarn) : createLocalDisk({ root: join(home, 'releases'), name: 'releases' }),
  ]);
}
