// Opens the compute: the cluster of each pool. Services of models run in the first pool.
import { createHash } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import type { Logger } from 'pino';
import { createLocalProcessCluster } from '../activities/adapters/local-process/cluster.ts';
import { graphicsCards } from '../activities/adapters/local-process/enclosure.ts';
import { createEnvironments } from '../activities/adapters/local-process/environments.ts';
import { keepingDigests } from '../activities/chunk-digests.ts';
import { failure } from '../activities/failures.ts';
import type { ArtifactStore, Cluster, LockArchives } from '../activities/ports.ts';
import type { PoolRow } from '../activities/records.ts';
import { digestMismatch } from '../workflows/domain/digest-mismatch.ts';
import type { Artifact } from '../workflows/domain/model.ts';
import { kubernetesOf, type Config } from './config.ts';
import { poolRows, type PoolSetting } from './pools.ts';
import { checkout, openSources, platformLockFile, systems, type Stores } from './wiring.ts';

/** Opens the local processes, sandboxed unless the operator has disabled that. */
function openLocal(
  given: Pick<Config, 'home' | 'cache'> &
    Partial<Pick<Config, 'python' | 'environments' | 'jobsWithoutSandbox'>> & { readonly log: Logger },
  { areas, releases }: Stores,
): ReturnType<typeof createLocalProcessCluster> {
  const { home, cache, python, environments, jobsWithoutSandbox, log } = given;
  return createLocalProcessCluster({
    home,
    ...(jobsWithoutSandbox && { sandbox: 'if-possible' as const }),
    capsule: join(checkout, 'deploy', 'capsule'),
    checkout,
    inferenceEntry: join(checkout, 'api', 'inference', 'main.ts'),
    environment: createEnvironments({ home, cache: join(cache, 'environments'), python, ...environments }),
    fetchFile: (artifact, destination, signal) => fetchFile({ areas, releases }, artifact, destination, signal),
    onWarn: (message) => log.warn(message),
  });
}

/** A pool with the cluster that runs its jobs. */
export interface OpenPool {
  readonly pool: PoolRow;
  readonly cluster: Cluster;
  /** For a cluster that does not install locks itself. */
  readonly lockArchives: LockArchives | undefined;
}

/** Opens the compute: the cluster of each pool. Services of models run in the first one. */
export async function openCompute(
  given: Config & { readonly log: Logger },
  stores: Stores,
): Promise<{ readonly services: Cluster; readonly pools: readonly OpenPool[]; close(): Promise<void> }> {
  const { kubernetes, pools: settings, home } = given;
  const local = await openLocal(given, stores);
  const remote: Awaited<ReturnType<typeof systems.kubernetes>>[] = [];
  const open = async (setting: PoolSetting): Promise<Cluster> => {
    if (setting.kind === 'local') return local;
    if (!kubernetes) throw failure('InvalidInput', `pool ${setting.name}: Kubernetes is not configured`);
    const onWarn = (message: string): void => given.log.warn(`pool ${setting.name}: ${message}`);
    const cluster = await systems.kubernetes(kubernetesOf(kubernetes, setting), stores.records, onWarn);
    remote.push(cluster);
    return cluster;
  };
  const rows = poolRows(settings, { name: `${hostname()} ${home}`, gpus: graphicsCards() });
  const clusters = await Promise.all(settings.map(open));
  const lockArchives = remote.length > 0 ? await openLockArchives(given, stores) : undefined;
  return {
    services: clusters[0] ?? local,
    pools: rows.flatMap((pool, index) => {
      const cluster = clusters[index];
      return cluster ? [{ pool, cluster, lockArchives: cluster === local ? undefined : lockArchives }] : [];
    }),
    async close() {
      await lockArchives?.close();
      for (const jobs of remote) await jobs.close();
      await local.close();
    },
  };
}

/** Opens the archives of locks for the pools on Kubernetes, which have the same image; local processes install locks themselves. */
async function openLockArchives(
  given: Config & { readonly log: Logger },
  stores: Pick<Stores, 'areas' | 'records'>,
): Promise<LockArchives | undefined> {
  const { kubernetes, home, cache, python, environments, jobsWithoutSandbox, log } = given;
  if (!kubernetes) return undefined;
  const onWarn = (message: string): void => log.warn(message);
  const { createLockArchives } = await import('../activities/adapters/kubernetes/lock-archives.ts');
  return createLockArchives({
    ...{ home, python, ...environments, jobsWithoutSandbox, onWarn },
    cache: join(cache, 'environments'),
    imagePython: kubernetes.imagePython,
    store: keepingDigests(stores.areas, stores.records, onWarn),
    archives: openSources(given).archives,
    platformLock: await readFile(platformLockFile, 'utf8'),
  });
}

/** Copies stored bytes to a file and verifies their checksum. */
async function fetchFile(
  { areas, releases }: Pick<Stores, 'areas' | 'releases'>,
  artifact: Artifact,
  destination: string,
  signal: AbortSignal,
): Promise<void> {
  const store = owns(releases, artifact) ? releases : areas;
  const hash = createHash('sha256');
  const source = await store.read(artifact.uri, { signal });
  await pipeline(
    source,
    async function* (chunks: AsyncIterable<Uint8Array>) {
      for await (const chunk of chunks) {
        hash.update(chunk);
        yield chunk;
      }
    },
    createWriteStream(destination, { mode: 0o600 }),
    { signal },
  );
  const sha256 = hash.digest('hex');
  if (sha256 !== artifact.sha256)
    throw failure('DigestMismatch', digestMismatch(artifact.uri, sha256, artifact.sha256));
}

function owns(store: ArtifactStore, { uri }: Artifact): boolean {
  try {
    store.path(uri);
    return true;
  } catch {
    return false;
  }
}
