// The composition root of the workers and of the API's stores: besides api/main.ts the only place that maps adapters to ports.
import { readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ApplicationFailure } from '@temporalio/common';
import type { Logger } from 'pino';
import { createGitHost, createGitRemote } from '../activities/adapters/git.ts';
import { createLocalDisk } from '../activities/adapters/local-disk.ts';
import { createLocalLog } from '../activities/adapters/local-log.ts';
import { checkInstallation } from '../activities/adapters/postgres/check.ts';
import { createPostgresRecords } from '../activities/adapters/postgres/records.ts';
import { createArchives } from '../activities/adapters/sources/archives.ts';
import { createSources } from '../activities/adapters/sources/sources.ts';
import { createAcquisitionActivities } from '../activities/acquisition.ts';
import { keepingDigests } from '../activities/chunk-digests.ts';
import { createDeliveryActivities } from '../activities/delivery.ts';
import { createEarlierActivities } from '../activities/earlier.ts';
import { createFeedbackActivities } from '../activities/feedback.ts';
import { allBeating } from '../activities/heartbeat.ts';
import { issueServiceToken, revokeServiceTokens } from '../activities/jobs.ts';
import { createLauncherActivities } from '../activities/launcher.ts';
import { createModelCenterActivities } from '../activities/model-center.ts';
import type { ArtifactStore, Cluster, CodeHost, EventBus } from '../activities/ports.ts';
import type { Records } from '../activities/records.ts';
import { createReleaseActivities } from '../activities/release.ts';
import { createRoverActivities } from '../activities/rover.ts';
import type { Signer } from '../activities/signing.ts';
import type { Admission } from './admission.ts';
import type { Config } from './config.ts';
import { foreign } from './installation.ts';
import { databaseOf, markedHome } from './marked-systems.ts';
import { whilePlatformRuns } from './pause.ts';
import { createLog } from './process.ts';

/** The folder of package.json. */
export const checkout = resolve(import.meta.dirname, '..');
/** The lock of the platform's own environments. */
export const platformLockFile = join(checkout, 'deploy', 'capsule', 'requirements.lock');

export interface Stores {
  readonly records: Records;
  readonly areas: ArtifactStore;
  /** The areas, read through Alluxio if it is configured: for the data of jobs and people. */
  readonly cachedAreas: ArtifactStore;
  /** Counts of reads through Alluxio, and of reads that bypassed it although it is configured. */
  readonly counters: () => Readonly<Record<string, number>>;
  readonly releases: ArtifactStore;
  readonly code: CodeHost;
  /** Manages people's own permissions, if the system of the areas has users. */
  readonly admission?: Admission;
  close(): Promise<void>;
}

/** Opens each real system. A vendor's library is loaded only if it is needed: loading all doubles a process's start time. */
export const systems = {
  hdfs: async (options: Chosen<'hdfs'>, onWarn: OnWarn) =>
    (await import('../activities/adapters/hdfs.ts')).createHdfsStore({ ...options, name: 'areas', onWarn }),
  alluxio: async (options: Chosen<'alluxio'>, store: ArtifactStore, onWarn: OnWarn) =>
    (await import('../activities/adapters/alluxio.ts')).createAlluxioReads({ ...options, store, onWarn }),
  s3: async (options: Chosen<'s3'>, onWarn: OnWarn) =>
    (await import('../activities/adapters/s3.ts')).createS3Store({ ...options, onWarn }),
  kafka: async (options: Chosen<'kafka'>, onWarn: OnWarn) =>
    (await import('../activities/adapters/kafka.ts')).createKafkaBus({ ...options, onWarn }),
  kubernetes: async (options: Chosen<'kubernetes'>, records: Records, onWarn: OnWarn) =>
    (await import('../activities/adapters/kubernetes/cluster.ts')).createKubernetesCluster({
      ...options,
      platformLock: await readFile(platformLockFile, 'utf8'),
      serviceTokens: {
        issue: (spec) => issueServiceToken(records, spec),
        revoke: (name) => revokeServiceTokens(records, name),
      },
      onWarn,
    }),
  git: (options: Chosen<'git'>, home: string) => createGitRemote({ ...options, root: join(home, 'mirrors') }),
} as const;

type Chosen<Name extends keyof Config> = Exclude<Config[Name], undefined | '' | false>;
type OnWarn = (message: string) => void;

/** The part of the configuration that selects the stores. */
export type StoresConfig = Pick<Config, 'home' | 'databaseUrl'> &
  Partial<Pick<Config, 'database' | 'hdfs' | 'alluxio' | 's3' | 'git'>>;

/** Opens only the records. */
export function openRecords(
  { databaseUrl, database }: Pick<Config, 'databaseUrl'> & Partial<Pick<Config, 'database'>>,
  log: Logger,
): Promise<Records> {
  const onWarn = (message: string): void => log.warn(message);
  return patiently(() => createPostgresRecords({ url: databaseUrl, ...database, onWarn }), onWarn);
}

/** Refuses a database of another installation before its schema is migrated. */
async function mustNotBeForeign({ home, databaseUrl, database }: StoresConfig): Promise<void> {
  const own = await markedHome(home).owner();
  if (own === undefined || databaseUrl === '') return;
  const known = await checkInstallation({ url: databaseUrl, ca: database?.ca }, (records) => records.known()).catch(
    // It does not answer yet, and opening it waits for it.
    () => undefined,
  );
  const theirs = known?.installation;
  if (theirs !== undefined && theirs !== own) throw foreign(databaseOf(databaseUrl), theirs, own, markedHome(home));
}

/** Opens what both the API and the workers use. Each port independently uses the real system if one is configured. */
export async function openStores(config: StoresConfig, log: Logger = createLog('stores', 'warn')): Promise<Stores> {
  const { home, hdfs, alluxio, s3, git } = config;
  const onWarn = (message: string): void => log.warn(message);
  await mustNotBeForeign(config);
  const [records, inHdfs, releases, code] = await Promise.all([
    openRecords(config, log),
    hdfs ? patiently(() => systems.hdfs(hdfs, onWarn), onWarn) : undefined,
    s3 ? systems.s3(s3, onWarn) : createLocalDisk({ root: join(home, 'releases'), name: 'releases' }),
    git ? systems.git(git, home) : createGitHost({ root: join(home, 'git') }),
  ]);
  const areas = inHdfs ?? (await createLocalDisk({ root: join(home, 'areas'), name: 'areas' }));
  const cache = alluxio && (await systems.alluxio(alluxio, areas, onWarn));
  const counters = (): Readonly<Record<string, number>> => {
    if (!cache) return {};
    const { reads, fallbacks } = cache.metrics();
    return { alluxio_reads: reads, alluxio_fallbacks: fallbacks };
  };
  const close = async (): Promise<void> => {
    for (const store of [inHdfs, releases, records]) if (store && 'close' in store) await store.close();
  };
  return {
    records,
    areas,
    cachedAreas: cache || areas,
    counters,
    releases,
    code,
    ...(inHdfs && { admission: inHdfs }),
    close,
  };
}

/** Opens the event bus: Kafka if it is configured, otherwise a log on disk. */
export async function openBus(
  { home, kafka }: Pick<Config, 'home'> & Partial<Pick<Config, 'kafka'>>,
  log: Logger = createLog('events', 'warn'),
): Promise<EventBus> {
  return kafka ? systems.kafka(kafka, (message) => log.warn(message)) : createLocalLog({ root: join(home, 'events') });
}

/** Between attempts to open an unavailable system: short enough for people, long enough not to flood the logs. */
const AGAIN_AFTER_MS = 5_000;

/** Opens a system that may be temporarily unavailable: retries and logs the reason until the system is up. */
export async function patiently<T>(open: () => Promise<T>, onWarn: OnWarn): Promise<T> {
  for (;;)
    try {
      return await open();
    } catch (error) {
      if (error instanceof ApplicationFailure && error.nonRetryable) throw error;
      onWarn(`${error instanceof Error ? error.message : String(error)}; retrying`);
      await sleep(AGAIN_AFTER_MS);
    }
}

/** Maximum entries of an archive, and maximum files of a folder on a private node: enough for a data set of small files. */
const MOST_FILES = 100_000;
/** Text compresses about twentyfold; an archive above this ratio is treated as a decompression bomb. */
const UNPACK_RATIO = 200;

/** Opens the sources of imports. */
export const openSources = ({ home, imports }: Pick<Config, 'home' | 'imports'>) => ({
  sources: createSources({
    guard: imports.guard,
    github: imports.github,
    maven: imports.maven,
    https: { hosts: imports.hosts },
    sftp: { hosts: imports.sftpHosts, secrets: join(home, 'secrets'), entries: MOST_FILES },
  }),
  archives: createArchives({ entries: MOST_FILES, bytes: imports.limitBytes, ratio: UNPACK_RATIO }),
  scratch: join(home, 'imports'),
  importBytes: imports.limitBytes,
});

/** All activities over the given ports; without sources, import activities are omitted. Digests of written data are recorded. */
export async function createActivities(
  given: Stores & {
    bus: EventBus;
    cluster: Cluster;
    signer: Pick<Signer, 'seal'>;
    outside?: ReturnType<typeof openSources>;
    onWarn?: OnWarn;
  },
) {
  const { onWarn = () => undefined } = given;
  const ports = {
    ...given,
    areas: keepingDigests(given.areas, given.records, onWarn),
    releases: keepingDigests(given.releases, given.records, onWarn),
  };
  const platformLock = await readFile(platformLockFile, 'utf8');
  const activities = {
    ...createModelCenterActivities(ports),
    ...createEarlierActivities(ports),
    ...createRoverActivities({ ...ports, platformLock }),
    ...createLauncherActivities(ports),
    ...createReleaseActivities(ports),
    ...createDeliveryActivities(ports),
    ...createFeedbackActivities(ports),
    ...(ports.outside && createAcquisitionActivities({ ...ports, ...ports.outside })),
  };
  // Within the heartbeat: asking whether all is paused may take as long as the rest.
  return allBeating(whilePlatformRuns(ports.records, activities));
}
