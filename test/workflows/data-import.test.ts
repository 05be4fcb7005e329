// Imports on a real Temporal server: a successful one becomes a data set with a sheet; a failed one leaves nothing but the reason.
import { randomBytes } from 'node:crypto';
import { copyFile, mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { jest } from '@jest/globals';
import { once } from '../../activities/model-center.ts';
import { auditEntry } from '../../api/audit-entry.ts';
import type { DataSheet, Import, Source } from '../../workflows/domain/import.ts';
import type { Digest, StorePath } from '../../workflows/domain/names.ts';
import { workflowId } from '../../workflows/messages.ts';
import { API, COMMIT, layRelease, layRepository, limited } from '../adapters/github-api.ts';
import { haveSshd } from '../adapters/sshd.ts';
import { serveFile } from '../adapters/web-server.ts';
import { PATIENCE_MS, project, sha256, tarOf, tarOfPlatform, useImportWorld } from './import-world.ts';
import { until } from './until.ts';

jest.setTimeout(2 * PATIENCE_MS);
const sftp = haveSshd() ? it : it.skip;

const world = useImportWorld();

describe('a successful import', () => {
  it('of a repository is a folder of its commit, with data sheets for programs and for people', async () => {
    const tree = {
      'octo-rows-6dcb09b/rows/a.csv': 'a',
      'octo-rows-6dcb09b/LICENSE': 'Apache',
      'octo-rows-6dcb09b/.github': 'x',
    };
    const archive = gzipSync(await tarOf(tree));
    layRepository(world().site, serveFile(() => archive).handler);
    const source: Source = { kind: 'github', repository: 'octo/rows', ref: 'main' };
    const row = await world().ended('repo', source, { unpack: true });
    expect(row).toMatchObject({ state: 'done', bytes: archive.length });
    expect(await world().rowOf('repo')).toEqual(row);
    const set = await world().records.dataSet(project, 'set-repo');
    expect(set).toMatchObject({ kind: 'training', registeredBy: 'sam' });
    // Jobs get it as the folder "set-repo".
    expect(set?.files).toMatchObject([{ name: 'set-repo.tar', unpack: true }]);
    const [file] = set?.files ?? [];
    if (!file) throw new Error('no file');
    const tarred = await world().bytesAt(file.uri);
    expect([tarred.length, sha256(tarred)]).toEqual([file.bytes, file.sha256]);
    expect(tarred.equals(await tarOfPlatform({ LICENSE: 'Apache', 'rows/a.csv': 'a' }))).toBe(true);

    const sheet = JSON.parse(await world().textOf('common/p/datasets/set-repo.repo/datasheet.json')) as DataSheet;
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
    const text = await world().textOf('common/p/datasets/set-repo.repo/datasheet.md');
    for (const said of [COMMIT, 'Apache-2.0', file.sha256, sha256(archive), '.github', 'imported by sam'])
      expect(text).toContain(said);
    const { rows } = await world().records.audit({ project });
    expect(rows.map(({ entry }) => entry.kind)).toEqual(expect.arrayContaining(['dataset.registered', 'import.done']));
  });

  it('runs once: the same id starts nothing more, and its parts are removed', async () => {
    world().lay('/rows.csv', () => Buffer.from('a,b\n'));
    const sum = sha256('a,b\n');
    const row = await world().ended('once', world().https('/rows.csv'), { sha256: sum });
    const asked = { project, import: 'once', dataset: 'set-once', source: row.source, unpack: false, actor: 'sam' };
    const { length: before } = world().site.asked;
    // The same import again, and another one with its id: a workflow may start, but does nothing.
    for (const sha of [sum, null]) {
      expect(await world().gateway.startImport({ ...asked, sha256: sha })).toEqual({ started: true });
      const again = world().client.workflow.getHandle(workflowId.dataImport(asked));
      await expect(again.result()).rejects.toThrow();
      expect((await again.describe()).status.name).toBe('FAILED');
    }
    expect(world().site.asked).toHaveLength(before);
    expect(await world().rowOf('once')).toEqual(row);
    expect((await world().records.dataSet(project, 'set-once'))?.files).toMatchObject([
      { name: 'rows.csv', sha256: sha256('a,b\n') },
    ]);
    expect(row.files[0]?.origin.checked).toEqual({ algorithm: 'sha256', digest: sha256('a,b\n') });
    expect(await readdir(join(world().home, 'imports'))).not.toContain('p.once');
  });

  it('of a release has its assets as files with verified digests, and waits for GitHub’s rate limit', async () => {
    const files = { 'a.csv': randomBytes(5_000), 'b.csv': randomBytes(6_000), 'c.csv': randomBytes(7_000) };
    layRepository(world().site, serveFile(() => Buffer.alloc(0)).handler);
    const assets = Object.entries(files).map(
      ([name, bytes]) =>
        [name, { handler: serveFile(() => bytes).handler, bytes: bytes.length, digest: sha256(bytes) }] as const,
    );
    layRelease(world().site, 'v1.0', Object.fromEntries(assets), 2);
    // Enough requests for the release and its first asset.
    const budget = { left: 6, reset: Math.floor(Date.now() / 1000) + 8 };
    for (const [page, handler] of [...world().site.pages])
      if (page.startsWith(API)) world().site.pages.set(page, limited(handler, budget));
    const handle = await world().start('release', { kind: 'github-release', repository: 'octo/rows', tag: 'v1.0' });
    const waiting = await until('the limit', async () => {
      const row = await world().rowOf('release');
      return row.detail.includes('rate limit is reached until') && row;
    });
    expect(waiting.detail).toContain(new Date(budget.reset * 1000).toISOString());
    budget.left = 60;
    expect(await handle.result()).toMatchObject({ state: 'done', bytes: 18_000 });
    const set = await world().records.dataSet(project, 'set-release');
    expect(set?.files.map(({ name, sha256: digest }) => [name, digest])).toEqual(
      Object.entries(files).map(([name, bytes]) => [name, sha256(bytes)]),
    );
    // Files fetched before the limit are not fetched again.
    const asked = world().site.asked.filter(({ what }) => what.includes('/releases/assets/1'));
    expect(asked.length).toBe(1);
  });

  it('of a release may have archives that differ only in their extensions, each unpacked into a folder', async () => {
    const plain = await tarOf({ 'a.csv': 'plain' });
    const packed = gzipSync(await tarOf({ 'a.csv': 'packed' }));
    layRepository(world().site, serveFile(() => Buffer.alloc(0)).handler);
    const assets = Object.entries({ 'x.tar': plain, 'x.tar.gz': packed }).map(
      ([name, bytes]) =>
        [name, { handler: serveFile(() => bytes).handler, bytes: bytes.length, digest: sha256(bytes) }] as const,
    );
    layRelease(world().site, 'v1.0', Object.fromEntries(assets), 20);
    const source: Source = { kind: 'github-release', repository: 'octo/rows', tag: 'v1.0' };
    const row = await world().ended('alike', source, { unpack: true });
    expect(row).toMatchObject({ state: 'done', detail: 'data set set-alike' });
    expect(row.files.map(({ name, unpack }) => [name, unpack])).toEqual([
      ['x.tar.tar', true],
      ['x.tar.gz.tar', true],
    ]);
  });

  it('resumes after a broken connection', async () => {
    const bytes = randomBytes(3_000_000);
    const served = world().lay('/cut.bin', () => bytes);
    served.cutNext(2_000_000);
    const row = await world().ended('cut', world().https('/cut.bin'));
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
    const row = await world().ended('node', { kind: 'sftp', node: 'lab', path: join(home, 'node') });
    expect(row).toMatchObject({ state: 'done', files: [{ name: 'set-node.tar', unpack: true, entries: 2 }] });
    const [file] = row.files;
    const made = file && (await world().bytesAt(file.uri));
    expect(made?.equals(await tarOfPlatform({ 'deep/more.csv': 'c,d\n', 'rows.csv': 'a,b\n' }))).toBe(true);
  });
});

describe('a failed import leaves only its reason', () => {
  it.each<[string, (id: string) => Promise<Import>, RegExp]>([
    [
      'other bytes',
      (id) => world().ended(id, world().https('/rows.csv'), { sha256: 'f'.repeat(64) as Digest }),
      /rows\.csv has sha256/,
    ],
    ['a missing file', (id) => world().ended(id, world().https('/none.csv')), /has no \/none\.csv/],
    [
      'a host that is not allowed',
      (id) => world().ended(id, { kind: 'https', url: 'https://elsewhere.example.org/a' }),
      /not on the allow-list/,
    ],
    [
      'a file that is not an archive',
      (id) => world().ended(id, world().https('/rows.csv'), { unpack: true }),
      /not a tar, tar\.gz or zip/,
    ],
    [
      'an archive bomb',
      (id) => world().ended(id, world().https('/bomb.tar.gz'), { unpack: true }),
      /200 times its size/,
    ],
    [
      'an archive with a path outside its folder',
      (id) => world().ended(id, world().https('/evil.tar'), { unpack: true }),
      /outside its folder: "\.\.\/x"/,
    ],
    ['too many bytes', (id) => world().ended(id, world().https('/huge.bin')), /larger than the/],
    [
      'an unregistered node',
      (id) => world().ended(id, { kind: 'sftp', node: 'nowhere', path: '/a' }),
      /no SFTP node nowhere/,
    ],
    [
      'an unchecked source',
      (id) => world().ended(id, { kind: 'https', url: 'file:///etc/passwd' }),
      /url: a URL begins with https/,
    ],
    [
      'a data set that already exists',
      (id) => world().ended(id, world().https('/rows.csv'), { dataset: 'taken' }),
      /data set taken already exists/,
    ],
  ])('%s', async (what, run, why) => {
    world().lay('/rows.csv', () => Buffer.from('a,b\n'));
    const [bomb, evil] = [
      gzipSync(await tarOf({ zeros: '\0'.repeat(40 * 2 ** 20) })),
      await tarOf({ fine: 'f', '../x': 'evil' }),
    ];
    world().lay('/bomb.tar.gz', () => bomb);
    world().lay('/evil.tar', () => evil);
    world().lay('/huge.bin', () => Buffer.alloc(65 * 2 ** 20));
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
    expect(await world().rowOf(id)).toMatchObject({ state: 'failed', detail: row.detail });
    await world().leftNothing(id);
    const { rows } = await world().records.audit({ subject: `p/imports/${id}` });
    expect(rows.map(({ entry }) => entry.kind)).toEqual(['import.started', 'import.failed']);
  });

  it('keeps the bytes of a data set that was registered', async () => {
    const { records, areas } = world();
    const path = 'common/p/datasets/set-answered.answered/files/rows.csv' as StorePath;
    const rows = await areas.write(path, once(Buffer.from('a,b\n')));
    const set = { project, dataset: 'set-answered', kind: 'training', files: [{ ...rows, name: 'rows.csv' }] } as const;
    const registered = { registeredBy: 'sam', registeredAt: '2026-01-02T03:04:05.000Z' };
    const audit = auditEntry({ key: 'answered', kind: 'dataset.registered', actor: 'sam', subject: 'p/datasets/x' });
    await records.registerDataSet({ ...set, ...registered }, audit);
    const row = await world().ended('answered', world().https('/rows.csv'));
    expect([row.state, row.detail]).toEqual([
      'failed',
      expect.stringMatching(/^data set set-answered was registered and is kept/),
    ]);
    expect(await world().filesOf('answered')).toEqual(['files/rows.csv']);
  });
});
