// Imports with names, paths and addresses of maximum length, from every kind of source; and one that is cancelled.
import { copyFile, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { jest } from '@jest/globals';
import type { Import, Source } from '../../workflows/domain/import.ts';
import { sourceProblem } from '../../workflows/domain/import.ts';
import { defaultPolicy } from '../../workflows/domain/model.ts';
import { NAME_LIMIT, storePath } from '../../workflows/domain/names.ts';
import { COMMIT, layRelease, layRepository } from '../adapters/github-api.ts';
import { haveSshd } from '../adapters/sshd.ts';
import { serveFile } from '../adapters/web-server.ts';
import { PATIENCE_MS, sha256, tarOf, useImportWorld } from './import-world.ts';
import { auditEntry } from './passage.ts';
import { until } from './until.ts';

jest.setTimeout(2 * PATIENCE_MS);

const name = (letter: string): string => letter.repeat(NAME_LIMIT);
const [project, type, scientist] = [name('p'), name('t'), name('u')];
/** The longest path of a file in an archive: 512 characters in 12 segments. */
const path = [...Array<string>(3).fill('p'.repeat(125)), ...'abcdefgh'.split(''), 'rows.csv'.padStart(118, 's')].join(
  '/',
);

const world = useImportWorld();
const id = name('i');
const files = Buffer.from('a,b\n');
const longest = (source: Source): Source => {
  expect(sourceProblem(source)).toBeUndefined();
  return source;
};
const more = (letter: string, given: object = {}) => ({ project, dataset: name(letter), actor: scientist, ...given });

beforeAll(async () => {
  const policy = { project, types: [type], policy: defaultPolicy };
  await world().records.createProject(policy, auditEntry('project.created'));
  await world().records.createUser(scientist, false, auditEntry('user.created'));
});

/** Imports, and reads what was stored. */
async function imported(letter: string, source: Source, given: object = {}): Promise<Import> {
  const row = await world().ended(name(letter), longest(source), more(letter, given));
  if (row.state !== 'done') throw new Error(`it is ${row.state}: ${row.detail}`);
  const set = await world().records.dataSet(project, name(letter));
  expect(set?.files.map(({ name: one }) => one)).toEqual(row.files.map(({ name: one }) => one));
  for (const { uri, sha256: digest } of set?.files ?? []) expect(sha256(await world().bytesAt(uri))).toBe(digest);
  expect(row.sheet?.uri).toContain(`datasets/${name(letter)}.${name(letter)}/datasheet.json`);
  return row;
}

it('of a URL', async () => {
  const start = world().site.url('data.example.org', '/');
  const last = `${'n'.repeat(124)}.csv`;
  const page = `/${'q'.repeat(1_900 - start.length - last.length)}/${last}?${'v'.repeat(98)}`;
  world().lay(page, () => files);
  const row = await imported('h', world().https(page), { sha256: sha256(files) });
  expect(row.source).toMatchObject({ url: expect.stringMatching(/^.{2000}$/) as unknown });
  expect(row.files).toMatchObject([{ name: last }]);
});

it('of a Maven coordinate, as a file and as a folder', async () => {
  const [group, artifact, version, classifier, extension] = ['g', 'a', '1', 'c', 'e'].map((c) => c.repeat(128));
  const file = `${artifact}-${version}-${classifier}.${extension}`;
  const archive = gzipSync(await tarOf({ [path]: 'a,b\n' }));
  world().lay(`/maven2/${group}/${artifact}/${version}/${file}`, () => archive);
  const coordinate = `${group}:${artifact}:${version}:${classifier}@${extension}`;
  const row = await imported('m', { kind: 'maven', coordinate });
  expect(row.files[0]?.name).toMatch(/^.{63}\.e{128}$/);
  const folder = await imported('n', { kind: 'maven', coordinate }, { unpack: true });
  expect(folder.files).toMatchObject([{ name: `${name('n')}.tar`, entries: 1, leftOut: { count: 0 } }]);
});

it('of a repository and of a release', async () => {
  const repository = `${'o'.repeat(39)}/${'r'.repeat(100)}`;
  const ref = 'f'.repeat(200);
  const [archive, asset] = await Promise.all(
    [`top/${path}`, path].map(async (one) => gzipSync(await tarOf({ [one]: 'a,b\n' }))),
  );
  if (!archive || !asset) throw new Error('no archives');
  layRepository(world().site, serveFile(() => archive).handler, repository, ref);
  world().site.pages.set(`codeload.github.test/octo/rows/legacy.tar.gz/${COMMIT}`, serveFile(() => archive).handler);
  const tree = await imported('r', { kind: 'github', repository, ref }, { unpack: true });
  expect(tree.files).toMatchObject([{ name: `${name('r')}.tar`, entries: 1 }]);
  const assetName = 'b'.repeat(128);
  const served = { handler: serveFile(() => asset).handler, bytes: asset.length, digest: sha256(asset) };
  layRelease(world().site, ref, { [assetName]: served, [`${assetName.slice(1)}c`]: served }, 10, repository);
  const release = await imported('l', { kind: 'github-release', repository, tag: ref }, { unpack: true });
  expect(release.files.map(({ name: one }) => one)).toEqual([`${assetName}.tar`, `${assetName.slice(1)}c.tar`]);
});

(haveSshd() ? it : it.skip)('of a private node', async () => {
  const { sshd, home, records } = world();
  if (!sshd) throw new Error('no sshd');
  const secret = 's'.repeat(64);
  await mkdir(join(home, 'secrets', project), { recursive: true });
  await copyFile(sshd.goodKey, join(home, 'secrets', project, secret));
  const folder = [home, 'node', ...Array<string>(20).fill('d'.repeat(120))].join('/').slice(0, 1_024 - 129);
  const at = `${folder.replace(/\/$/, 'd')}/${'n'.repeat(128)}`;
  await mkdir(at, { recursive: true });
  await writeFile(join(at, 'rows.csv'), files);
  const [node, host] = [name('x'), '127.0.0.1'];
  const registered = { project, node, host, port: sshd.port, user: sshd.user, hostKey: sshd.hostKey, secret };
  await records.setNode({ ...registered, kind: 'sftp' }, auditEntry('node.set'));
  const row = await imported('s', { kind: 'sftp', node, path: at });
  expect(at).toHaveLength(1_024);
  expect(row.files).toMatchObject([{ name: `${name('s')}.tar`, unpack: true, entries: 1 }]);
});

it('that is cancelled leaves nothing', async () => {
  world().lay('/slow.csv', () => Buffer.alloc(1 << 20), { paceMs: () => 200 });
  const handle = await world().start(id, world().https('/slow.csv'), more('y'));
  const rowOf = () => world().records.import(project, id);
  await until('the import to fetch', async () => (await rowOf())?.state === 'fetching');
  await handle.cancel();
  await handle.result().catch(() => undefined);
  expect(await rowOf()).toMatchObject({ state: 'cancelled' });
  const folder = storePath({ area: 'common', project, path: `datasets/${name('y')}.${id}` });
  expect((await world().areas.list(folder)).files).toEqual([]);
});
