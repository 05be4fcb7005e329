// The composition root of the workers (and of the API's stores): the only place besides api/main.ts that knows which adapter is which port.
import { createWriteStream } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createHash } from 'node:crypto';
import type { Logger } from 'pino';
import { createGitHost } from '../activities/adapters/git.ts';
import { createLocalDisk } from '../activities/adapters/local-disk.ts';
import { createLocalLog } from '../activities/adapters/local-log.ts';
import { createLocalProcessCluster } from '../activities/adapters/local-process/cluster.ts';
import { createPostgresRecords } from '../activities/adapters/postgres/records.ts';
import { createDeliveryActivities } from '../activities/delivery.ts';
import { failure } from '../activities/failures.ts';
import { createFeedbackActivities } from '../activities/feedback.ts';
import { createLauncherActivities } from '../activities/launcher.ts';
import { createModelCenterActivities } from '../activities/model-center.ts';
import type { ArtifactStore, Cluster, CodeHost, EventBus } from '../activities/ports.ts';
import type { Records } from '../activities/records.ts';
import { createReadingActivities } from '../activities/reading.ts';
import { createReleaseActivities } from '../activities/release.ts';
import { createRoverActivities } from '../activities/rover.ts';
import { ensureEnvironment } from '../deploy/local/environments.ts';
import type { Artifact } from '../workflows/domain/model.ts';

/** The folder that package.json is in. */
export const checkout = resolve(import.meta.dirname, '..');

export interface Stores {
  readonly records: Records;
  readonly areas: ArtifactStore;
  readonly releases: ArtifactStore;
  readonly code: CodeHost;
}

/** Opens what both the API and the workers read and write. */
export async function openStores({ home, databaseUrl }: { home: string; databaseUrl: string }): Promise<Stores> {
  const [records, areas, releases, code] = await Promise.all([
    createPostgresRecords({ url: databaseUrl }),
    createLocalDisk({ root: join(home, 'areas'), name: 'areas' }),
    createLocalDisk({ root: join(home, 'releases'), name: 'releases' }),
    createGitHost({ root: join(home, 'git') }),
  ]);
  return { records, areas, releases, code };
}

export const openBus = ({ home }: { home: string }): Promise<EventBus> =>
  createLocalLog({ root: join(home, 'events') });

/** Opens the compute: local processes, in a sandbox where there is one. */
export function openCluster(
  { home, cache, python, log }: { home: string; cache: string; python?: string | undefined; log: Logger },
  { areas, releases }: Stores,
): ReturnType<typeof createLocalProcessCluster> {
  return createLocalProcessCluster({
    home,
    capsule: join(checkout, 'deploy', 'capsule'),
    checkout,
    inferenceEntry: join(checkout, 'api', 'inference', 'main.ts'),
    environment: ({ lock, onProgress }) =>
      ensureEnvironment({ lock, cache: join(cache, 'environments'), onProgress, python }),
    fetchFile: (artifact, destination, signal) => fetchFile({ areas, releases }, artifact, destination, signal),
    onWarn: (message) => log.warn(message),
  });
}

/** Copies stored bytes to a file, if they are what they should be. */
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
    throw failure('DigestMismatch', `${artifact.uri} has digest ${sha256}, not ${artifact.sha256}`);
}

function owns(store: ArtifactStore, { uri }: Artifact): boolean {
  try {
    store.path(uri);
    return true;
  } catch {
    return false;
  }
}

/** All activities, over given ports. */
export async function createActivities(ports: Stores & { bus: EventBus; cluster: Cluster; apiUrl: string }) {
  const platformLock = await readFile(join(checkout, 'deploy', 'capsule', 'requirements.lock'), 'utf8');
  return {
    ...createModelCenterActivities(ports),
    ...createReadingActivities(ports),
    ...createRoverActivities({ ...ports, platformLock }),
    ...createLauncherActivities(ports),
    ...createReleaseActivities(ports),
    ...createDeliveryActivities(ports),
    ...createFeedbackActivities(ports),
  };
}
