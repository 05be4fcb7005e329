// Imports through the API: started once, read, cancelled with permission; invalid sources and nodes are refused with a reason.
import { createHash } from 'node:crypto';
import { describe, expect, test } from '@jest/globals';
import { newImport } from '../../workflows/domain/import.ts';
import type { Import } from '../../workflows/domain/import.ts';
import { sourceProblem } from '../../workflows/domain/import.ts';
import { json, PROJECT } from './world.ts';
import { worldOfThisFile } from './world-of.ts';

const { world } = worldOfThisFile();

const imports = `/v1/projects/${PROJECT}/imports`;
const nodes = `/v1/projects/${PROJECT}/nodes`;
const maven = { kind: 'maven', coordinate: 'org.example:rows:1.0' };
const start = (body: object, who = 'sam') => world().ask(who, 'POST', imports, body);

describe('an import', () => {
  test('starts once, however often it is requested; a different one under its id is a conflict', async () => {
    const body = { import: 'once', dataset: 'rows-a', source: maven };
    const first = await start(body);
    expect([first.status, await json(first)]).toMatchObject([201, { state: 'resolving', actor: 'sam', unpack: false }]);
    expect((await start(body)).status).toBe(200);
    expect((await start({ ...body, unpack: true })).status).toBe(409);
    expect((await start(body, 'mia')).status).toBe(409);
    expect(world().deps.workflows.started.get(`import/${PROJECT}/once`)).toEqual({
      ...{ project: PROJECT, import: 'once', dataset: 'rows-a', source: maven, unpack: false, sha256: null },
      actor: 'sam',
    });
    const listed = await json(world().ask('dev', 'GET', imports));
    expect((listed['rows'] as Import[]).map((row) => row.import)).toContain('once');
  });

  test('into an existing data set is refused before anything is fetched', async () => {
    const refused = await start({ import: 'twice', dataset: 'training-1', source: maven });
    expect([refused.status, await json(refused)]).toMatchObject([
      409,
      { detail: expect.stringContaining('training-1') as unknown },
    ]);
    expect((await world().ask('sam', 'GET', `${imports}/twice`)).status).toBe(404);
  });

  test('is cancelled only by its importer or a manager, and only while it runs', async () => {
    await start({ import: 'long', dataset: 'rows-b', source: maven });
    const cancel = (who: string, id = 'long') => world().ask(who, 'DELETE', `${imports}/${id}`);
    expect((await cancel('sid')).status).toBe(403);
    expect((await cancel('sam')).status).toBe(202);
    expect((await cancel('mia')).status).toBe(202);
    expect(world().deps.workflows.cancelled).toEqual(Array(2).fill(`import/${PROJECT}/long`));
    expect((await cancel('sam', 'im-1')).status).toBe(200);
    expect(world().deps.workflows.cancelled.length).toBe(2);
    const audit = await json(
      world().ask('mia', 'GET', `/v1/projects/${PROJECT}/audit?subject=${PROJECT}/imports/long`),
    );
    const kinds = (audit['rows'] as { entry: { kind: string; actor: string } }[]).map(
      ({ entry }) => `${entry.kind} ${entry.actor}`,
    );
    expect(kinds).toEqual(expect.arrayContaining(['import.started sam', 'import.cancel sam', 'import.cancel mia']));
  });

  test('shows its data sheet once it is done', async () => {
    const sheet = await world().ask('eng', 'GET', `${imports}/im-1/datasheet`);
    expect([sheet.headers.get('content-type'), await sheet.json()]).toEqual(['application/json', { v: 1 }]);
    expect((await world().ask('eng', 'GET', `${imports}/once/datasheet`)).status).toBe(404);
  });

  test('only moves forward in the record: late reports on an ended import change nothing', async () => {
    const { records } = world().deps;
    const row = newImport(
      {
        project: PROJECT,
        import: 'late',
        dataset: 'x',
        source: { kind: 'maven', coordinate: 'a:b:1' },
        unpack: false,
        actor: 'sam',
      },
      'done',
      '2026-01-02T00:00:00.000Z',
    );
    await records.recordImport(row, null);
    await records.recordImport({ ...row, state: 'fetching', updatedAt: '2026-01-03T00:00:00.000Z' }, null);
    await records.recordImport({ ...row, state: 'failed', updatedAt: '2026-01-03T00:00:00.000Z' }, null);
    expect(await records.import(PROJECT, 'late')).toEqual(row);
    const pages: string[] = [];
    for (let after: string | undefined, more = true; more;) {
      const page = await records.imports({ project: PROJECT, limit: 2, ...(after !== undefined && { after }) });
      pages.push(...page.rows.map((one) => one.import));
      after = page.next;
      more = after !== undefined;
    }
    expect(pages).toEqual([...new Set(pages)]);
    expect(pages).toEqual(expect.arrayContaining(['im-1', 'late']));
  });
});

describe('a source', () => {
  test.each<[string, object]>([
    ['a missing kind', {}],
    ['an unknown kind', { kind: 'ftp', url: 'ftp://a/b' }],
    ['an unknown field', { kind: 'https', url: 'https://a.org/b', token: 'secret' }],
    ['http', { kind: 'https', url: 'http://a.org/b' }],
    ['a user in the URL', { kind: 'https', url: 'https://me:pass@a.org/b' }],
    ['a fragment', { kind: 'https', url: 'https://a.org/b#c' }],
    ['an upper-case host', { kind: 'https', url: 'https://A.org/b' }],
    ['a line break', { kind: 'https', url: 'https://a.org/b\nc' }],
    ['a long URL', { kind: 'https', url: `https://a.org/${'b'.repeat(2_000)}` }],
    ['an invalid repository', { kind: 'github', repository: 'apache', ref: 'main' }],
    ['a repository with a parent segment', { kind: 'github', repository: 'apache/..', ref: 'main' }],
    ['a ref with a parent segment', { kind: 'github', repository: 'apache/shiro', ref: 'a/../b' }],
    ['a ref that is an option', { kind: 'github', repository: 'apache/shiro', ref: '-x' }],
    ['an empty tag', { kind: 'github-release', repository: 'apache/shiro', tag: '' }],
    ['an incomplete coordinate', { kind: 'maven', coordinate: 'org.example:rows' }],
    ['a version that can change', { kind: 'maven', coordinate: 'org.example:rows:1.0-SNAPSHOT' }],
    ['a version with a parent segment', { kind: 'maven', coordinate: 'org.example:rows:..' }],
    ['a slash in a coordinate', { kind: 'maven', coordinate: 'org/example:rows:1' }],
    ['a remote path with a parent segment', { kind: 'sftp', node: 'lab', path: '/data/../etc' }],
    ['an invalid node name', { kind: 'sftp', node: '../lab', path: '/data' }],
  ])('with %s is refused, by the API and by the domain', async (_, source) => {
    expect(sourceProblem(source)).toEqual(expect.any(String));
    const response = await start({ import: 'bad', dataset: 'bad', source });
    expect([response.status, await json(response)]).toMatchObject([
      400,
      { detail: expect.stringContaining('source') as unknown },
    ]);
  });

  test.each([
    { kind: 'github', repository: 'apache/shiro', ref: 'release/1.x' },
    { kind: 'github', repository: 'a/.github', ref: 'v1.0.0+build' },
    { kind: 'github-release', repository: 'apache/shiro', tag: '@scope/name@1.0' },
    { kind: 'maven', coordinate: 'org.example:rows:1.0:sources@zip' },
    { kind: 'https', url: 'https://data.example.org:8443/a/b.csv?x=1&y=%20' },
    { kind: 'sftp', node: 'lab', path: '/data/Ünïcode rows' },
  ])('that is valid is accepted: %j', (source) => {
    expect(sourceProblem(source)).toBeUndefined();
  });

  test.each([undefined, null, 1, 'github', [], () => 1, Object.create(null)])(
    '%p is invalid, without an exception',
    (source) => {
      expect(sourceProblem(source)).toEqual(expect.any(String));
    },
  );
});

describe('a node', () => {
  const key = Buffer.from('not really a key, only its bytes');
  const print = `SHA256:${createHash('sha256').update(key).digest('base64').replace('=', '')}`;
  const lab = { kind: 'sftp', host: 'lab.example.org', user: 'reader', hostKey: print, secret: 'lab.key' };

  test('is registered, replaced and removed by managers, and visible to members', async () => {
    const set = await world().ask('mia', 'PUT', `${nodes}/lab`, lab);
    expect([set.status, await json(set)]).toEqual([200, { ...lab, project: PROJECT, node: 'lab', port: 22 }]);
    const line = `ssh-ed25519 ${key.toString('base64')} root@lab`;
    await world().ask('mia', 'PUT', `${nodes}/lab`, { ...lab, port: 2222, hostKey: line });
    const listed = await json(world().ask('sam', 'GET', nodes));
    expect(listed['rows']).toEqual([{ ...lab, project: PROJECT, node: 'lab', port: 2222 }]);
    expect((await world().ask('sam', 'PUT', `${nodes}/lab`, lab)).status).toBe(403);
    expect((await world().ask('olga', 'GET', nodes)).status).toBe(404);
    for (const _ of [1, 2]) expect((await world().ask('mia', 'DELETE', `${nodes}/lab`)).status).toBe(200);
    expect((await json(world().ask('sam', 'GET', nodes)))['rows']).toEqual([]);
  });

  test.each<[string, object]>([
    ['no pinned host key', { ...lab, hostKey: undefined }],
    ['an MD5 fingerprint', { ...lab, hostKey: 'MD5:aa:bb' }],
    ['a secret that is a path', { ...lab, secret: '../other/lab.key' }],
    ['a hidden secret', { ...lab, secret: '.ssh' }],
    ['the key itself', { ...lab, privateKey: 'BEGIN' }],
    ['an invalid port', { ...lab, port: 70_000 }],
    ['a host with a port', { kind: 'https', host: 'a.org:8443' }],
  ])('with %s is refused', async (_, body) => {
    expect((await world().ask('mia', 'PUT', `${nodes}/bad`, body)).status).toBe(400);
  });
});
