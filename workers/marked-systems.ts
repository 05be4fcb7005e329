// The configured systems as marked systems: the home, the Temporal namespace, and the systems behind the ports.
import { mkdir, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Connection } from '@temporalio/client';
import { FOLDER_MODE, markerFile, replaceFile, unless } from '../activities/adapters/durable-file.ts';
import { readCheckpoint, writeCheckpoint, type Checkpoint, type MarkedSystem } from '../activities/installation.ts';
import { markedBus, markedCode, markedStore } from '../activities/marked-systems.ts';
import type { ArtifactStore, CodeHost, EventBus } from '../activities/ports.ts';
import type { Config } from './config.ts';
import type { Stores } from './wiring.ts';

export interface MarkedHome extends MarkedSystem {
  /** The file that marks a home as part of the installation; copy it with the keys to other machines. */
  readonly marker: string;
  /** Ids of the signing keys in this home. */
  keys(): Promise<readonly string[]>;
}

/** The platform's own folder. Its checkpoint describes the records; a home on another machine may have an older one. */
export function markedHome(home: string): MarkedHome {
  const folder = join(home, 'keys');
  const marker = join(folder, 'installation');
  const checkpoint = join(home, 'checkpoint.json');
  return {
    name: 'home',
    where: `the home ${home}`,
    marker,
    ...markerFile(marker),
    async keys() {
      const files = (await unless(['ENOENT'], readdir(folder))) ?? [];
      return files.flatMap((name) => /^([0-9a-f]{16})\.json$/.exec(name)?.[1] ?? []).sort();
    },
    checkpoints: {
      seldom: false,
      newest: async () => readCheckpoint((await unless(['ENOENT'], readFile(checkpoint, 'utf8'))) ?? ''),
      async keep(given) {
        await mkdir(home, { recursive: true, mode: FOLDER_MODE });
        await replaceFile(checkpoint, writeCheckpoint(given));
      },
    },
  };
}

/** Keys in a namespace's data. Each installation claims with its own key, since Temporal merges keys and replaces values. */
const CLAIM = 'ocdl.installation.';
const CHECKPOINT = 'ocdl.checkpoint';
/** As long as a person waits; an unavailable server is asked again later. */
const CALL_MS = 10_000;

/** A Temporal namespace. The marker is stored in the namespace's data, without a workflow. */
export function markedNamespace(
  connection: Pick<Connection, 'workflowService' | 'withDeadline'>,
  { address, namespace }: Pick<Config['temporal'], 'address' | 'namespace'>,
): MarkedSystem {
  const call = <T>(work: () => Promise<T>): Promise<T> => connection.withDeadline(Date.now() + CALL_MS, work);
  const where = `the Temporal namespace ${namespace} at ${address}`;
  const read = async (): Promise<Readonly<Record<string, string>>> =>
    (await call(() => connection.workflowService.describeNamespace({ namespace }))).namespaceInfo?.data ?? {};
  const write = async (data: Record<string, string>): Promise<void> => {
    try {
      await call(() => connection.workflowService.updateNamespace({ namespace, updateInfo: { data } }));
    } catch (error) {
      const [[key, value] = []] = Object.entries(data);
      throw new Error(
        `${where} cannot be marked (${String(error)}): allow the platform's account to update the namespace, or run ` +
          `"temporal operator namespace update --namespace ${namespace} --data ${key}=${value}"`,
        { cause: error },
      );
    }
  };
  const newest = async (): Promise<Checkpoint | undefined> => readCheckpoint((await read())[CHECKPOINT] ?? '');
  const owner = async (): Promise<string | undefined> => {
    const claims = Object.entries(await read()).flatMap(([key, at]) =>
      // An empty value is a withdrawn claim.
      key.startsWith(CLAIM) && at !== '' ? [`${at} ${key.slice(CLAIM.length)}`] : [],
    );
    // The earliest claim wins.
    return claims.sort()[0]?.split(' ')[1];
  };
  return {
    name: 'temporal',
    where,
    owner,
    async claim(installation) {
      const known = await owner();
      if (known !== undefined) return known;
      await write({ [`${CLAIM}${installation}`]: new Date().toISOString() });
      const first = (await owner()) ?? installation;
      if (first !== installation) await write({ [`${CLAIM}${installation}`]: '' });
      return first;
    },
    checkpoints: {
      seldom: true,
      newest,
      async keep(given) {
        // Of two writers, the slower one must not replace the newer checkpoint.
        if (((await newest())?.tick ?? 0) < given.tick) await write({ [CHECKPOINT]: writeCheckpoint(given).trim() });
      },
    },
  };
}

type Places = Pick<Config, 'home'> & Partial<Pick<Config, 'hdfs' | 's3' | 'kafka' | 'git'>>;

/** Each system behind a port, with its location for messages. */
export const markedAreas = ({ home, hdfs }: Places, areas: ArtifactStore): MarkedSystem =>
  markedStore('areas', hdfs ? `HDFS at ${hdfs.url}, folder ${hdfs.root}` : `the folder ${home}/areas`, areas);
export const markedReleases = ({ home, s3 }: Places, releases: ArtifactStore): MarkedSystem =>
  markedStore('releases', s3 ? `the bucket ${s3.bucket}` : `the folder ${home}/releases`, releases);
export const markedRepositories = ({ home, git }: Places, code: CodeHost): MarkedSystem =>
  markedCode(git ? `the Git remote ${git.remote}` : `the folder ${home}/git`, code);
export const markedEvents = ({ home, kafka }: Places, bus: EventBus): MarkedSystem =>
  markedBus(kafka ? `Kafka at ${kafka.brokers.join(', ')}` : `the folder ${home}/events`, bus);

/** All stores that a process has opened. */
export function markedStores(
  places: Places,
  { areas, releases, code, bus }: Pick<Stores, 'areas' | 'releases' | 'code'> & { readonly bus?: EventBus },
): readonly MarkedSystem[] {
  return [
    markedAreas(places, areas),
    markedReleases(places, releases),
    markedRepositories(places, code),
    ...(bus ? [markedEvents(places, bus)] : []),
  ];
}

/** The database's location for messages, without user and password. */
export function databaseOf(url: string): string {
  const { hostname, port, pathname } = new URL(url);
  return `PostgreSQL at ${hostname || 'localhost'}:${port || '5432'}${pathname}`;
}
