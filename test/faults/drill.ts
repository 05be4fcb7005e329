// The restore drill's platform: its systems can be copied, set back to the copy and emptied, one by one.
import assert from 'node:assert/strict';
import { createHash, randomUUID } from 'node:crypto';
import { cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Connection } from '@temporalio/client';
import pg from 'pg';
import { pino } from 'pino';
import { once } from '../../activities/model-center.ts';
import type { ArtifactStore, CloudEvent, EventBus } from '../../activities/ports.ts';
import { keepManifest } from '../../activities/release-manifest.ts';
import type { AuditEntry } from '../../activities/records.ts';
import { workerConfig } from '../../workers/config.ts';
import { belong, type Belonging } from '../../workers/installation.ts';
import type { Installation } from '../../workers/look.ts';
import { databaseOf, markedHome, markedNamespace, markedStores } from '../../workers/marked-systems.ts';
import { openBus, openStores, type Stores } from '../../workers/wiring.ts';
import { defaultPolicy } from '../../workflows/domain/model.ts';
import { releasePath, type Digest, type StorePath } from '../../workflows/domain/names.ts';
import { collect } from '../contracts/cases.ts';
import { linkAll } from '../contracts/records.ts';
import { bareClient } from '../adapters/kafka-broker.ts';
import { openNamespace } from '../workflows/namespace.ts';

export const setBackable = ['records', 'areas', 'releases', 'events', 'git'] as const;
export type SetBackable = (typeof setBackable)[number];

/** The servers to use; each drill gets its own database on the first one. */
export interface Servers {
  readonly postgres: string;
  readonly temporal: string;
  /** Variables of the stores' real systems; none where they are embedded. */
  readonly variables: Readonly<Record<string, string>>;
}

export interface Running {
  readonly stores: Stores & { readonly bus: EventBus };
  readonly installation: Installation;
  readonly belonging: Belonging;
  /** Stops it, with a last checkpoint unless it is killed. */
  stop(how?: 'killed'): Promise<void>;
}

const silent = pino({ level: 'silent' });
/** Checkpoint rounds run only at the start and the stop, so tests do not depend on a timer. */
const NEVER_MS = 2 ** 30;
/** Real systems on a busy machine take seconds for an answer and for a checkpoint. */
const SLOW_MS = 60_000;
const TOP_FOLDERS = ['ocdl', 'releases', 'manifests', 'private', 'common', 'staging'] as const;

export type Drill = Awaited<ReturnType<typeof openDrill>>;

/** Opens a drill with a project `p` of type `kind` and an application `scanner`. */
export async function openDrill({ postgres, temporal, variables }: Servers) {
  const home = await mkdtemp(join(tmpdir(), 'ocdl-drill-'));
  const connection = await Connection.connect({ address: temporal });
  const state = { database: '', copy: '', namespace: '' };
  /** What each release id was ever given to. */
  const given = new Map<string, string>();
  // One bucket and one HDFS serve many drills.
  const own = randomUUID().slice(0, 8);

  async function newNamespace(): Promise<void> {
    state.namespace = `drill-${randomUUID()}`;
    await openNamespace(connection, state.namespace);
  }
  const onServer = async (...statements: readonly string[]): Promise<void> => {
    const client = new pg.Client({ connectionString: postgres });
    await client.connect();
    try {
      for (const statement of statements) await client.query(statement);
    } finally {
      await client.end();
    }
  };
  const newName = (): string => `drill_${randomUUID().replaceAll('-', '')}`;
  const urlOf = (database: string): string => Object.assign(new URL(postgres), { pathname: `/${database}` }).href;
  async function newDatabase(template?: string): Promise<string> {
    const name = newName();
    await onServer(`create database ${name}${template === undefined ? '' : ` template ${template}`}`);
    return name;
  }

  const config = (at = home) =>
    workerConfig({
      ...variables,
      ...(variables['OCDL_S3_BUCKET'] && { OCDL_S3_PREFIX: own }),
      ...(variables['OCDL_HDFS_URL'] && { OCDL_HDFS_ROOT: `/drill-${own}` }),
      OCDL_HOME: at,
      DATABASE_URL: urlOf(state.database),
      TEMPORAL_ADDRESS: temporal,
      TEMPORAL_NAMESPACE: state.namespace,
    });

  async function open(at = home) {
    const chosen = config(at);
    // Alluxio only reads: a drill needs none.
    const stores = {
      ...(await openStores({ ...chosen, alluxio: undefined }, silent)),
      bus: await openBus(chosen, silent),
    };
    const installation: Installation = {
      ...stores,
      database: databaseOf(chosen.databaseUrl),
      home: markedHome(at),
      systems: [markedNamespace(connection, chosen.temporal), ...markedStores(chosen, stores)],
      signs: true,
    };
    const close = async (): Promise<void> => {
      await stores.bus.close();
      await stores.close();
    };
    return { stores, installation, close };
  }

  /** Starts as a process of the platform does. Rejects where it is refused. */
  async function start(at = home, everyMs = NEVER_MS): Promise<Running> {
    const { stores, installation, close } = await open(at);
    const onRefused = (error: Error): void => void process.stderr.write(`${error.message}\n`);
    try {
      const options = { log: silent, onRefused, checkpoints: true, everyMs, firstMs: SLOW_MS, lastMs: SLOW_MS };
      const belonging = await belong(installation, options);
      return {
        ...{ stores, installation, belonging },
        async stop(how) {
          // After a kill, only the checkpoints of earlier rounds exist.
          if (how === undefined) await belonging.stop();
          await close();
        },
      };
    } catch (error) {
      await close();
      throw error;
    }
  }

  /** The bytes of a store, to be put back. */
  async function bytesOf(store: ArtifactStore): Promise<ReadonlyMap<StorePath, Buffer>> {
    const all = new Map<StorePath, Buffer>();
    for (const folder of TOP_FOLDERS)
      for (const { path, uri } of (await store.list(folder as StorePath)).files)
        all.set(path, await collect(await store.read(uri)));
    return all;
  }
  async function putBack(store: ArtifactStore, bytes: ReadonlyMap<StorePath, Buffer>): Promise<void> {
    for (const path of (await bytesOf(store)).keys()) if (!bytes.has(path)) await store.remove(store.uri(path));
    for (const [path, content] of bytes) await store.write(path, once(content), { ifExists: 'replace' });
  }

  const copies = { areas: new Map(), releases: new Map() } as Record<
    'areas' | 'releases',
    ReadonlyMap<StorePath, Buffer>
  >;
  const backup = (system: string): string => join(home, 'backup', system);

  /** Copies every system as it is now. */
  async function copy(): Promise<void> {
    state.copy = await newDatabase(state.database);
    const { stores, close } = await open();
    for (const name of ['areas', 'releases'] as const) copies[name] = await bytesOf(stores[name]);
    await close();
    for (const folder of ['git', 'events'])
      await cp(join(home, folder), backup(folder), { recursive: true }).catch(() => undefined);
  }

  async function change(system: SetBackable, how: 'set back' | 'emptied'): Promise<void> {
    const empty = how === 'emptied';
    if (system === 'records') {
      state.database = await newDatabase(empty ? undefined : state.copy);
    } else if (system === 'areas' || system === 'releases') {
      const chosen = config();
      const { [system]: store, ...stores } = await openStores({ ...chosen, alluxio: undefined }, silent);
      await putBack(store, empty ? new Map() : copies[system]);
      await stores.close();
    } else if (system === 'events' && variables['OCDL_KAFKA_BROKERS']) {
      await emptyKafka(variables['OCDL_KAFKA_BROKERS']);
    } else {
      await rm(join(home, system), { recursive: true, force: true });
      if (!empty) await cp(backup(system), join(home, system), { recursive: true });
    }
  }

  if (variables['OCDL_KAFKA_BROKERS']) await emptyKafka(variables['OCDL_KAFKA_BROKERS']);
  state.database = await newDatabase();
  await newNamespace();
  return {
    home,
    state,
    given,
    open,
    start,
    copy,
    change,
    /** Puts the copy of the records under a platform that runs: its connections are lost, and reconnect to older records. */
    async setBackUnderneath(): Promise<void> {
      const { database, copy: older } = state;
      await onServer(
        `alter database ${database} allow_connections false`,
        `select pg_terminate_backend(pid) from pg_stat_activity where datname = '${database}'`,
        `alter database ${database} rename to ${newName()}`,
        `alter database ${older} rename to ${database}`,
      );
    },
    emptyTemporal: newNamespace,
    loseHome: () => rm(join(home, 'keys'), { recursive: true, force: true }),
    async populate({ stores: { records } }: Pick<Running, 'stores'>): Promise<void> {
      await records.createProject(
        { project: 'p', types: ['kind'], policy: defaultPolicy },
        entry('project.created', 'p'),
      );
      await records.createUser('admin', true, entry('user.created', 'admin'));
    },
    /** One day: a decision and a release with its bytes, event and lock. */
    async day({ stores }: Pick<Running, 'stores'>, command: string): Promise<string> {
      const { records, areas, releases, bus, code } = stores;
      await records.record([entry('version.approve', command)], []);
      await areas.write(`staging/p/${command}.txt` as StorePath, once(Buffer.from(command)));
      const digest = createHash('sha256').update(command).digest('hex') as Digest;
      const path = releasePath('kind', digest, 'model.onnx');
      const row = await records.allotRelease(command, {
        ...{ type: 'kind', project: 'p', model: 'm', submission: command, version: 1, digest, report: null },
        files: [{ name: 'model.onnx', sha256: digest, bytes: command.length, uri: releases.uri(path) }],
        ...{ approvedBy: ['mia'], releasedBy: 'mia', releasedAt: new Date().toISOString() },
      });
      await keepManifest({ records, releases }, row);
      await releases.write(path, once(Buffer.from(command)), { expect: { sha256: digest } });
      await bus.publish('kind', 'm', event(row.release));
      await records.announced(row.release);
      await code.ensure('p/app');
      const files = { 'model.lock': `${row.release} ${digest}\n` };
      await code.commit({ repository: 'p/app', branch: 'main', files, message: row.release, author: 'mia' });
      const before = given.get(row.release);
      if (before !== undefined && before !== digest)
        throw new Error(`${row.release} was given to ${before} and then to ${digest}`);
      given.set(row.release, digest);
      await linkAll(records);
      return row.release;
    },
    async close(): Promise<void> {
      await connection.close();
      await rm(home, { recursive: true, force: true });
    },
  };
}

/** A platform after two days, of which the systems were copied in between. */
export async function afterTwoDays(servers: Servers, secondEnds?: 'killed'): Promise<Drill> {
  const drill = await openDrill(servers);
  const first = await drill.start();
  await drill.populate(first);
  assert.equal(await drill.day(first, 'monday'), 'kind-1');
  await first.stop();
  await drill.copy();
  const second = await drill.start();
  assert.deepEqual([second.belonging.findings, await second.stores.records.paused()], [[], undefined]);
  assert.equal(await drill.day(second, 'tuesday'), 'kind-2');
  await second.stop(secondEnds);
  return drill;
}

const event = (release: string): CloudEvent => ({
  ...{ specversion: '1.0', id: release, source: '/drill', type: 'drill', time: new Date().toISOString() },
  ...{ datacontenttype: 'application/json', data: { release } },
});

const entry = (kind: string, subject: string): AuditEntry => ({
  ...{ key: `${kind}/${subject}`, project: null, kind, actor: 'mia', subject, digest: null, report: null },
  ...{ reason: '', detail: {}, at: new Date().toISOString() },
});

async function emptyKafka(brokers: string): Promise<void> {
  const admin = bareClient(brokers.split(',')).admin();
  await admin.connect();
  try {
    const topics = (await admin.listTopics()).filter((topic) => !topic.startsWith('__'));
    await admin.deleteTopics({ topics });
    // Brokers delete topics with a delay.
    for (const until = Date.now() + 30_000; Date.now() < until;) {
      const left = await admin.listTopics();
      if (!left.some((topic) => topics.includes(topic))) return;
    }
  } finally {
    await admin.disconnect();
  }
}
