// Imports on a real Temporal server: what ends well is a data set with its sheet, what does not leaves nothing; interruptions are gone on from.
import { spawn } from 'node:child_process';
import { createHash, randomBytes, randomUUID } from 'node:crypto';
import { copyFile, mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { Client, Connection } from '@temporalio/client';
import { DefaultLogger, Runtime, Worker } from '@temporalio/worker';
import { jest } from '@jest/globals';
import tar from 'tar-stream';
import { createLocalDisk } from '../../activities/adapters/local-disk.ts';
import { createPostgresRecords } from '../../activities/adapters/postgres/records.ts';
import { auditEntry } from '../../api/audit-entry.ts';
import { createWorkflowGateway } from '../../api/temporal.ts';
import { checkout } from '../../workers/wiring.ts';
import { dataConverter, workflowBundle } from '../../workers/bundle.ts';
import type { DataSheet, Import, Source } from '../../workflows/domain/import.ts';
import { newImport } from '../../workflows/domain/import.ts';
import { defaultPolicy } from '../../workflows/domain/model.ts';
import type { ArtifactUri, Digest, StorePath } from '../../workflows/domain/names.ts';
import type { DataImportInput } from '../../workflows/messages.ts';
import { workflowId } from '../../workflows/messages.ts';
import { API, COMMIT, layRelease, layRepository, limited } from '../adapters/github-api.ts';
import { haveSshd, startSshd } from '../adapters/sshd.ts';
import { openSite, serveFile } from '../adapters/web-server.ts';
import { collect } from '../contracts/cases.ts';
import { freshDatabase, temporalServer } from '../servers.ts';
import type { ImportSettings } from './import-worker.ts';
import { startImportWorker } from './import-worker.ts';
import { openNamespace } from './namespace.ts';
import { until } from './until.ts';

/** Beyond what a heartbeat's timeout, a few retries and a loaded machine take together. */
const PATIENCE_MS = 150_000;
jest.setTimeout(2 * PATIENCE_MS);

const sftp = haveSshd() ? it : it.skip;
const project = 'p';
const sha256 = (bytes: Buffer | string): Digest => createHash('sha256').update(bytes).digest('hex') as Digest;

const state: { world?: Awaited<ReturnType<typeof openWorld>> } = {};
const world = () => {
  if (!state.world) throw new Error('no world');
  return state.world;
};
beforeAll(async () => {
  state.world = await openWorld();
}, PATIENCE_MS);
afterAll(() => state.world?.close(), PATIENCE_MS);
beforeEach(() => {
  world().site.pages.clear();
  world().site.asked.length = 0;
});

async function openWorld() {
  const [{ address }, databaseUrl] = await Promise.all([temporalServer(), freshDatabase()]);
  const namespace = `test-${randomUUID()}`;
  const connection = await Connection.connect({ address });
  await openNamespace(connection, namespace);
  const home = await mkdtemp(join(tmpdir(), 'ocdl-imports-'));
  const site = await openSite(home);
  const sshd = haveSshd() ? await startSshd(join(home, 'sshd')) : undefined;
  Runtime.install({ logger: new DefaultLogger('ERROR') });
  const settings: ImportSettings = {
    ...{ address, namespace, databaseUrl, home, site: { port: site.port, ca: site.ca } },
    bundle: await workflowBundle(join(tmpdir(), 'ocdl-test-bundle')),
    sftpHosts: sshd ? [`127.0.0.1:${sshd.port}`] : [],
  };
  const records = await createPostgresRecords({ url: databaseUrl });
  const areas = await createLocalDisk({ root: join(home, 'areas'), name: 'areas' });
  const audit = auditEntry({ key: 'project', kind: 'project.created', actor: 'admin', subject: project });
  await records.createProject({ project, types: ['kind'], policy: defaultPolicy }, audit);
  const client = new Client({ connection, namespace });
  const workers = [await startImportWorker(settings)];
  const stopWorker = async (): Promise<void> => {
    await workers.pop()?.close();
  };
  return {
    ...{ records, areas, site, sshd, home, settings, client, gateway: createWorkflowGateway(client), stopWorker },
    async startWorker(): Promise<void> {
      workers.push(await startImportWorker(settings));
    },
    /** Closes everything. Before that each workflow is replayed from its history. */
    async close(): Promise<void> {
      await stopWorker();
      const replays = Worker.runReplayHistories(
        { workflowBundle: { codePath: settings.bundle }, dataConverter, ...{ isolateExecutionTimeout: '2 minutes' } },
        client.workflow.list().intoHistories(),
      );
      const strayed: string[] = [];
      for await (const { workflowId: id, error } of replays) if (error) strayed.push(`${id}: ${error.message}`);
      await sshd?.stop();
      await connection.close();
      await records.close();
      await site.close();
      await rm(home, { recursive: true, force: true });
      expect(strayed).toEqual([]);
    },
  };
}

/** Starts an import as the API does: its row first, then the workflow. */
async function start(id: string, source: Source, more: Partial<DataImportInput> = {}) {
  const input = {
    ...{ project, import: id, dataset: `set-${id}`, source, unpack: false, sha256: null, actor: 'sam' },
    ...more,
  };
  await world().records.recordImport(newImport(input, 'resolving', new Date().toISOString()), null);
  await world().gateway.startImport(input);
  return world().client.workflow.getHandle(workflowId.dataImport(input));
}
const ended = async (id: string, source: Source, more: Partial<DataImportInput> = {}): Promise<Import> =>
  (await (await start(id, source, more)).result()) as Import;
const rowOf = async (id: string): Promise<Import> => {
  const row = await world().records.import(project, id);
  if (!row) throw new Error(`no row of ${id}`);
  return row;
};
const bytesAt = async (uri: ArtifactUri): Promise<Buffer> => collect(await world().areas.read(uri));
const textOf = async (path: string): Promise<string> =>
  (await bytesAt(world().areas.uri(path as StorePath))).toString();
const filesOf = async (id: string): Promise<string[]> => {
  const { files } = await world().areas.list(`common/p/datasets/set-${id}.${id}` as StorePath);
  return files.map(({ path }) => path.split('/').slice(4).join('/'));
};
/** Nothing of it is left: no file in the area, no part on the disk, no data set. */
async function leftNothing(id: string): Promise<void> {
  expect(await filesOf(id)).toEqual([]);
  expect(await readdir(join(world().home, 'imports'))).not.toContain(`p.${id}`);
  expect(await world().records.dataSet(project, `set-${id}`)).toBeUndefined();
}
const https = (path: string): Source => ({ kind: 'https', url: world().site.url('data.example.org', path) });
const lay = (path: string, ...given: Parameters<typeof serveFile>) => {
  const served = serveFile(...given);
  world().site.pages.set(`data.example.org${path}`, served.handler);
  return served;
};
async function tarOf(files: Readonly<Record<string, string>>): Promise<Buffer> {
  const pack = tar.pack();
  for (const [name, text] of Object.entries(files)) pack.entry({ name }, text);
  pack.finalize();
  return collect(pack as AsyncIterable<Uint8Array>);
}

describe('an import that ends well', () => {
  it('of a repository is a folder of its commit, with a data sheet for programs and one for people', async () => {
    const tree = {
      'octo-rows-6dcb09b/rows/a.csv': 'a',
      'octo-rows-6dcb09b/LICENSE': 'Apache',
      'octo-rows-6dcb09b/.github': 'x',
    };
    const archive = gzipSync(await tarOf(tree));
    layRepository(world().site, serveFile(() => archive).handler);
    const source: Source = { kind: 'github', repository: 'octo/rows', ref: 'main' };
    const row = await ended('repo', source, { unpack: true });
    expect(row).toMatchObject({ state: 'done', bytes: archive.length });
    expect(await rowOf('repo')).toEqual(row);
    const set = await world().records.dataSet(project, 'set-repo');
    expect(set).toMatchObject({ kind: 'training', registeredBy: 'sam' });
    // Laid out for jobs as the folder "set-repo".
    expect(set?.files).toMatchObject([{ name: 'set-repo.tar', unpack: true }]);
    const [file] = set?.files ?? [];
    if (!file) throw new Error('no file');
    const tarred = await bytesAt(file.uri);
    expect([tarred.length, sha256(tarred)]).toEqual([file.bytes, file.sha256]);
    expect(tarred.equals(await tarOfPlatform({ LICENSE: 'Apache', 'rows/a.csv': 'a' }))).toBe(true);

    const sheet = JSON.parse(await textOf('common/p/datasets/set-repo.repo/datasheet.json')) as DataSheet;
    expect(sheet).toMatchObject({
      ...{ v: 1, dataset: 'set-repo', source, revision: COMMIT, licence: 'Apache-2.0', importedBy: 'sam' },
      files: [
        {
          sha256: file.sha256,
          entries: 2,
          leftOut: { count: 1 },
          origin: { sha256: sha256(archive), bytes: archive.length },
        },
      ],
    });
    const text = await textOf('common/p/datasets/set-repo.repo/datasheet.md');
    for (const said of [COMMIT, 'Apache-2.0', file.sha256, sha256(archive), '.github', 'imported by sam'])
      expect(text).toContain(said);
    const { rows } = await world().records.audit({ project });
    expect(rows.map(({ entry }) => entry.kind)).toEqual(expect.arrayContaining(['dataset.registered', 'import.done']));
  });

  it('once is once: the same id starts nothing more, and its parts are gone', async () => {
    lay('/rows.csv', () => Buffer.from('a,b\n'));
    const row = await ended('once', https('/rows.csv'), { sha256: sha256('a,b\n') });
    const input = {
      project,
      import: 'once',
      dataset: 'set-once',
      source: row.source,
      unpack: false,
      sha256: null,
      actor: 'sam',
    };
    expect(await world().gateway.startImport(input)).toEqual({ started: false });
    expect((await world().records.dataSet(project, 'set-once'))?.files).toMatchObject([
      { name: 'rows.csv', sha256: sha256('a,b\n') },
    ]);
    expect(row.files[0]?.origin.checked).toEqual({ algorithm: 'sha256', digest: sha256('a,b\n') });
    expect(await readdir(join(world().home, 'imports'))).not.toContain('p.once');
  });

  it('of a release has its assets as files, each held to its digest, and waits while GitHub takes no requests', async () => {
    const files = { 'a.csv': randomBytes(5_000), 'b.csv': randomBytes(6_000), 'c.csv': randomBytes(7_000) };
    layRepository(world().site, serveFile(() => Buffer.alloc(0)).handler);
    const assets = Object.entries(files).map(
      ([name, bytes]) =>
        [name, { handler: serveFile(() => bytes).handler, bytes: bytes.length, digest: sha256(bytes) }] as const,
    );
    layRelease(world().site, 'v1.0', Object.fromEntries(assets), 2);
    // Enough for what is asked of the release and for its first asset.
    const budget = { left: 6, reset: Math.floor(Date.now() / 1000) + 8 };
    for (const [page, handler] of [...world().site.pages])
      if (page.startsWith(API)) world().site.pages.set(page, limited(handler, budget));
    const handle = await start('release', { kind: 'github-release', repository: 'octo/rows', tag: 'v1.0' });
    const waiting = await until('the limit', async () => {
      const row = await rowOf('release');
      return row.detail.includes('takes no more requests until') && row;
    });
    expect(waiting.detail).toContain(new Date(budget.reset * 1000).toISOString());
    budget.left = 60;
    expect(await handle.result()).toMatchObject({ state: 'done', bytes: 18_000 });
    const set = await world().records.dataSet(project, 'set-release');
    expect(set?.files.map(({ name, sha256: digest }) => [name, digest])).toEqual(
      Object.entries(files).map(([name, bytes]) => [name, sha256(bytes)]),
    );
    // What had come before the limit was not fetched again.
    const asked = world().site.asked.filter(({ what }) => what.includes('/releases/assets/1'));
    expect(asked.length).toBe(1);
  });

  it('goes on by itself after the line is cut', async () => {
    const bytes = randomBytes(3_000_000);
    const served = lay('/cut.bin', () => bytes);
    served.cutNext(2_000_000);
    const row = await ended('cut', https('/cut.bin'));
    expect(row).toMatchObject({ state: 'done', files: [{ sha256: sha256(bytes) }] });
    const again = Number(/\d+/.exec(world().site.asked.at(-1)?.headers.range ?? '')?.[0]);
    expect(again).toBeGreaterThan(0);
    expect(served.sent()).toBe(2_000_000 + bytes.length - again);
  });

  sftp('of a private node’s folder is that folder', async () => {
    const { sshd, home } = world();
    if (!sshd) throw new Error('no sshd');
    await mkdir(join(home, 'secrets/p'), { recursive: true });
    await copyFile(sshd.goodKey, join(home, 'secrets/p/lab'));
    await mkdir(join(home, 'node/deep'), { recursive: true });
    await writeFile(join(home, 'node/rows.csv'), 'a,b\n');
    await writeFile(join(home, 'node/deep/more.csv'), 'c,d\n');
    const registered = { project, node: 'lab', host: '127.0.0.1', port: sshd.port, user: sshd.user };
    const audit = auditEntry({ key: 'node', kind: 'node.set', actor: 'mia', subject: 'p/nodes/lab' });
    await world().records.setNode({ ...registered, kind: 'sftp', hostKey: sshd.hostKey, secret: 'lab' }, audit);
    const row = await ended('node', { kind: 'sftp', node: 'lab', path: join(home, 'node') });
    expect(row).toMatchObject({ state: 'done', files: [{ name: 'set-node.tar', unpack: true, entries: 2 }] });
    const [file] = row.files;
    const made = file && (await bytesAt(file.uri));
    expect(made?.equals(await tarOfPlatform({ 'deep/more.csv': 'c,d\n', 'rows.csv': 'a,b\n' }))).toBe(true);
  });
});

describe('an import that fails leaves nothing, and says why', () => {
  it.each<[string, (id: string) => Promise<Import>, RegExp]>([
    [
      'other bytes',
      (id) => ended(id, https('/rows.csv'), { sha256: 'f'.repeat(64) as Digest }),
      /rows\.csv has sha256/,
    ],
    ['no such file', (id) => ended(id, https('/none.csv')), /has no \/none\.csv/],
    [
      'a host that is not listed',
      (id) => ended(id, { kind: 'https', url: 'https://elsewhere.example.org/a' }),
      /not on the allow-list/,
    ],
    ['no archive', (id) => ended(id, https('/rows.csv'), { unpack: true }), /no tar, tar\.gz or zip/],
    ['a bomb', (id) => ended(id, https('/bomb.tar.gz'), { unpack: true }), /200 times its size/],
    ['an archive that climbs', (id) => ended(id, https('/evil.tar'), { unpack: true }), /leaves its folder: "\.\.\/x"/],
    ['too much', (id) => ended(id, https('/huge.bin')), /larger than the/],
    [
      'a node nobody registered',
      (id) => ended(id, { kind: 'sftp', node: 'nowhere', path: '/a' }),
      /no SFTP node nowhere/,
    ],
    [
      'a source nobody checked',
      (id) => ended(id, { kind: 'https', url: 'file:///etc/passwd' }),
      /url: a URL begins with https/,
    ],
    ['a data set that is there', (id) => ended(id, https('/rows.csv'), { dataset: 'taken' }), /data set taken exists/],
  ])('%s', async (what, run, why) => {
    lay('/rows.csv', () => Buffer.from('a,b\n'));
    const [bomb, evil] = [
      gzipSync(await tarOf({ zeros: '\0'.repeat(40 * 2 ** 20) })),
      await tarOf({ fine: 'f', '../x': 'evil' }),
    ];
    lay('/bomb.tar.gz', () => bomb);
    lay('/evil.tar', () => evil);
    lay('/huge.bin', () => Buffer.alloc(65 * 2 ** 20));
    const audit = auditEntry({ key: 'taken', kind: 'dataset.registered', actor: 'mia', subject: 'p/datasets/taken' });
    const taken = {
      project,
      dataset: 'taken',
      kind: 'training' as const,
      files: [],
      registeredBy: 'mia',
      registeredAt: '2026-01-02T03:04:05.000Z',
    };
    await world().records.registerDataSet(taken, audit);
    const id = what.replaceAll(' ', '-');
    const row = await run(id);
    expect([row.state, row.detail]).toEqual(['failed', expect.stringMatching(why)]);
    expect(await rowOf(id)).toMatchObject({ state: 'failed', detail: row.detail });
    await leftNothing(id);
    const { rows } = await world().records.audit({ subject: `p/imports/${id}` });
    expect(rows.map(({ entry }) => entry.kind)).toEqual(['import.failed']);
  });
});

describe('interrupted in the middle', () => {
  /** Starts an import of a file that comes slowly, after another that has come whole; waits until it is under way. */
  async function underWay(id: string) {
    const bytes = randomBytes(4_000_000);
    layRepository(world().site, serveFile(() => Buffer.alloc(0)).handler);
    const first = serveFile(() => Buffer.from('first'));
    // Half a minute: word of a cancellation comes with a heartbeat, of which the SDK sends one in twelve seconds.
    const slow = serveFile(() => bytes, { paceMs: 500 });
    const assets = {
      'first.csv': { handler: first.handler, bytes: 5 },
      'slow.bin': { handler: slow.handler, bytes: bytes.length },
    };
    layRelease(world().site, 'v1.0', assets, 10);
    const handle = await start(id, { kind: 'github-release', repository: 'octo/rows', tag: 'v1.0' });
    await until('bytes', async () => (await rowOf(id)).bytes > 500_000);
    return { handle, bytes, first, slow };
  }

  it('by its importer, it ends and takes away what it had stored', async () => {
    const { handle, bytes, slow } = await underWay('cancelled');
    expect(await filesOf('cancelled')).toEqual(['files/first.csv']);
    await world().gateway.cancelImport(handle.workflowId);
    await expect(handle.result()).rejects.toThrow();
    expect((await handle.describe()).status.name).toBe('CANCELLED');
    expect(await rowOf('cancelled')).toMatchObject({
      state: 'cancelled',
      detail: expect.stringContaining('cancelled') as string,
    });
    await leftNothing('cancelled');
    expect(slow.sent()).toBeLessThan(bytes.length);
  });

  it('by the death of its worker, it goes on with the next one: nothing twice, nothing from the beginning', async () => {
    await world().stopWorker();
    const child = spawn(
      process.execPath,
      ['--import', 'tsx', join(import.meta.dirname, 'import-worker.ts'), JSON.stringify(world().settings)],
      { cwd: checkout, stdio: ['ignore', 'inherit', 'inherit', 'ipc'] },
    );
    const died = new Promise<string | null>((resolve) => child.once('exit', (_, signal) => resolve(signal)));
    const { handle, bytes, first, slow } = await underWay('killed').finally(() => child.kill('SIGKILL'));
    expect(await died).toBe('SIGKILL');
    const before = slow.sent();
    expect(before).toBeLessThan(bytes.length);
    expect(await filesOf('killed')).toEqual(['files/first.csv']);
    await world().startWorker();
    expect(await handle.result()).toMatchObject({ state: 'done', bytes: 5 + bytes.length });
    const set = await world().records.dataSet(project, 'set-killed');
    expect(set?.files.map(({ name, sha256: digest }) => [name, digest])).toEqual([
      ['first.csv', sha256('first')],
      ['slow.bin', sha256(bytes)],
    ]);
    expect(await filesOf('killed')).toEqual(['datasheet.json', 'datasheet.md', 'files/first.csv', 'files/slow.bin']);
    // The first file was there; of the second only the rest was asked for.
    expect(first.sent()).toBe(5);
    const resumed = Number(/\d+/.exec(world().site.asked.at(-1)?.headers.range ?? '')?.[0]);
    expect(resumed).toBeGreaterThan(0);
    const { rows } = await world().records.audit({ subject: 'p/imports/killed' });
    expect(rows.map(({ entry }) => entry.kind)).toEqual(['import.done']);
  });
});

/** The tar that the platform makes of these files. */
async function tarOfPlatform(files: Readonly<Record<string, string>>): Promise<Buffer> {
  const pack = tar.pack();
  for (const [name, text] of Object.entries(files))
    pack.entry({ name, mode: 0o644, mtime: new Date(0), type: 'file' }, text);
  pack.finalize();
  return collect(pack as AsyncIterable<Uint8Array>);
}
