// A world for imports: real Temporal, PostgreSQL and disk, a web server for every public name, and a private node.
import assert from 'node:assert/strict';
import { createHash, randomUUID } from 'node:crypto';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client, Connection } from '@temporalio/client';
import { DefaultLogger, Runtime } from '@temporalio/worker';
import tar from 'tar-stream';
import { createLocalDisk } from '../../activities/adapters/local-disk.ts';
import { createPostgresRecords } from '../../activities/adapters/postgres/records.ts';
import { auditEntry } from '../../api/audit-entry.ts';
import { createWorkflowGateway } from '../../api/temporal.ts';
import { workflowBundle } from '../../workers/bundle.ts';
import type { Import, Source } from '../../workflows/domain/import.ts';
import { newImport } from '../../workflows/domain/import.ts';
import { defaultPolicy } from '../../workflows/domain/model.ts';
import type { ArtifactUri, Digest, StorePath } from '../../workflows/domain/names.ts';
import type { DataImportInput } from '../../workflows/messages.ts';
import { workflowId } from '../../workflows/messages.ts';
import { haveSshd, startSshd } from '../adapters/sshd.ts';
import { openSite, serveFile } from '../adapters/web-server.ts';
import { collect } from '../contracts/cases.ts';
import { freshDatabase, temporalServer } from '../servers.ts';
import type { ImportSettings } from './import-worker.ts';
import { startImportWorker } from './import-worker.ts';
import { openNamespace } from './namespace.ts';
import { noteStarted, strayedReplays } from './replays.ts';

export type ImportWorld = Awaited<ReturnType<typeof openImportWorld>>;

/** Longer than a heartbeat timeout plus a few retries on a busy machine. */
export const PATIENCE_MS = 150_000;
export const project = 'p';
export const sha256 = (bytes: Buffer | string): Digest => createHash('sha256').update(bytes).digest('hex') as Digest;

/** Opens a world with a running worker. */
export async function openImportWorld() {
  const [{ address }, databaseUrl] = await Promise.all([temporalServer(), freshDatabase()]);
  const namespace = `test-${randomUUID()}`;
  const connection = await Connection.connect({ address });
  await openNamespace(connection, namespace);
  const home = await mkdtemp(join(tmpdir(), 'ocdl-imports-'));
  const site = await openSite(home);
  const sshd = haveSshd() ? await startSshd(join(home, 'sshd')) : undefined;
  quieten();
  const settings: ImportSettings = {
    ...{ address, namespace, databaseUrl, home, site: { port: site.port, ca: site.ca } },
    bundle: await workflowBundle(join(tmpdir(), 'ocdl-test-bundle')),
    sftpHosts: sshd ? [`127.0.0.1:${sshd.port}`] : [],
  };
  const records = await createPostgresRecords({ url: databaseUrl });
  const areas = await createLocalDisk({ root: join(home, 'areas'), name: 'areas' });
  const audit = auditEntry({ key: 'project', kind: 'project.created', actor: 'admin', subject: project });
  await records.createProject({ project, types: ['kind'], policy: defaultPolicy }, audit);
  const started = new Set<string>();
  const client = new Client({ connection, namespace, interceptors: { workflow: [noteStarted(started)] } });
  const gateway = createWorkflowGateway(client);
  const workers = [await startImportWorker(settings)];
  const stopWorker = async (): Promise<void> => {
    await workers.pop()?.close();
  };

  /** Starts an import as the API does: its row first, then the workflow. */
  async function start(id: string, source: Source, more: Partial<DataImportInput> = {}) {
    const input = {
      ...{ project, import: id, dataset: `set-${id}`, source, unpack: false, sha256: null, actor: 'sam' },
      ...more,
    };
    const entry = { key: `import.started/${id}`, kind: 'import.started', actor: 'sam', subject: `p/imports/${id}` };
    await records.recordStart(
      {
        ...{ workflowId: workflowId.dataImport(input), type: 'dataImport', input, askedBy: 'sam' },
        ...{ roles: ['scientist'], project: input.project },
      },
      auditEntry(entry),
      [],
    );
    await records.recordImport(newImport(input, 'resolving', new Date().toISOString()), null);
    await gateway.startImport(input);
    return client.workflow.getHandle(workflowId.dataImport(input));
  }
  const ended = async (id: string, source: Source, more: Partial<DataImportInput> = {}): Promise<Import> =>
    (await (await start(id, source, more)).result()) as Import;
  const rowOf = async (id: string): Promise<Import> => {
    const row = await records.import(project, id);
    if (!row) throw new Error(`no row of ${id}`);
    return row;
  };
  const bytesAt = async (uri: ArtifactUri): Promise<Buffer> => collect(await areas.read(uri));
  const textOf = async (path: string): Promise<string> => (await bytesAt(areas.uri(path as StorePath))).toString();
  const filesOf = async (id: string): Promise<string[]> => {
    const { files } = await areas.list(`common/p/datasets/set-${id}.${id}` as StorePath);
    return files.map(({ path }) => path.split('/').slice(4).join('/'));
  };
  /** Checks that nothing of an import is left: no file in the area, no part on the disk, no data set. */
  async function leftNothing(id: string): Promise<void> {
    assert.deepEqual(await filesOf(id), []);
    assert.ok(!(await readdir(join(home, 'imports'))).includes(`p.${id}`), `parts of ${id} are left`);
    assert.equal(await records.dataSet(project, `set-${id}`), undefined);
  }
  const https = (path: string): Source => ({ kind: 'https', url: site.url('data.example.org', path) });
  const lay = (path: string, ...given: Parameters<typeof serveFile>) => {
    const served = serveFile(...given);
    site.pages.set(`data.example.org${path}`, served.handler);
    return served;
  };

  return {
    ...{ records, areas, site, sshd, home, settings, client, gateway, stopWorker },
    async startWorker(): Promise<void> {
      workers.push(await startImportWorker(settings));
    },
    /** Replays each workflow from its history, then closes everything. */
    async close(): Promise<void> {
      await stopWorker();
      const strayed = await strayedReplays(client, settings.bundle, started);
      await sshd?.stop();
      await connection.close();
      await records.close();
      await site.close();
      await rm(home, { recursive: true, force: true });
      assert.deepEqual(strayed, []);
    },
    ...{ start, ended, rowOf, bytesAt, textOf, filesOf, leftNothing, https, lay },
  };
}

/** The runtime's logger can be set only once per process. */
function quieten(): void {
  try {
    Runtime.install({ logger: new DefaultLogger('ERROR') });
  } catch {
    // Another world of this process has already set it.
  }
}

/** An ordinary tar archive. */
export async function tarOf(files: Readonly<Record<string, string>>): Promise<Buffer> {
  const pack = tar.pack();
  for (const [name, text] of Object.entries(files)) pack.entry({ name }, text);
  pack.finalize();
  return collect(pack as AsyncIterable<Uint8Array>);
}

/** The tar that the platform creates from these files. */
export async function tarOfPlatform(files: Readonly<Record<string, string>>): Promise<Buffer> {
  const pack = tar.pack();
  for (const [name, text] of Object.entries(files))
    pack.entry({ name, mode: 0o644, mtime: new Date(0), type: 'file' }, text);
  pack.finalize();
  return collect(pack as AsyncIterable<Uint8Array>);
}

/** Opens a world for the tests of a file, each with an empty site, and closes it after them. */
export function useImportWorld(): () => ImportWorld {
  const state: { world?: ImportWorld } = {};
  const world = (): ImportWorld => {
    if (!state.world) throw new Error('no world');
    return state.world;
  };
  beforeAll(async () => {
    state.world = await openImportWorld();
  }, PATIENCE_MS);
  afterAll(() => state.world?.close(), PATIENCE_MS);
  beforeEach(() => {
    world().site.pages.clear();
    world().site.asked.length = 0;
  });
  return world;
}
