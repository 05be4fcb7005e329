// ArtifactStore on HDFS: the contract over a real NameNode and DataNode, and what only HDFS has.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { jest } from '@jest/globals';
import { createHdfsStore, type HdfsOptions, type HdfsStore } from '../../activities/adapters/hdfs.ts';
import { storePath, type StorePath } from '../../workflows/domain/names.ts';
import { artifactStoreContract } from '../contracts/artifact-store.ts';
import { CASE_TIMEOUT_MS, collect, eventually, freshName, patience, rejectsAs } from '../contracts/cases.ts';
import { describeWith, hdfsServer } from '../servers.ts';
import { startProgram } from './child-program.ts';
import { person, type Person } from './hdfs-people.ts';
import { refusalBy, wayTo } from './hdfs-way.ts';
import { watchHeldMemory } from './held-memory.ts';

const DAY_MS = 24 * 60 * 60 * 1000;

describeWith(['hdfs'], 'HDFS', () => {
  artifactStoreContract('the contract', async () => {
    const { url } = await hdfsServer();
    const store = await createHdfsStore({ url, user: 'ocdl', root: `/${freshName('contract')}`, name: 'areas' });
    return { store, close: () => store.close() };
  });

  const root = `/${freshName('hdfs')}`;
  let url = '';
  let store: HdfsStore;
  let hdfs: Person;
  const opened: HdfsStore[] = [];
  const open = async (options: Partial<HdfsOptions> = {}): Promise<HdfsStore> => {
    const one = await createHdfsStore({ url, user: 'ocdl', root, name: 'areas', ...options });
    opened.push(one);
    return one;
  };
  const at = (path: string): StorePath => storePath({ area: 'common', project: 'p', path });
  const put = (path: string, text: string, ifExists?: 'replace') => store.write(at(path), bytes(text), { ifExists });
  async function* bytes(text: string): AsyncGenerator<Uint8Array> {
    yield Buffer.from(text);
  }
  const textAt = async (path: string): Promise<string> =>
    (await collect(await store.read(store.uri(at(path))))).toString();
  const drafts = async (): Promise<string> => JSON.stringify(await hdfs.json(`${root}/.tmp`, 'LISTSTATUS'));

  beforeAll(async () => {
    ({ url } = await hdfsServer());
    hdfs = person(url, 'hdfs');
    store = await open();
  }, CASE_TIMEOUT_MS);
  afterAll(() => Promise.all(opened.map((one) => one.close())));

  it('returns the address of a file, and refuses addresses of other stores', async () => {
    const { uri } = await put('a', 'a');
    assert.equal(uri, 'hdfs:areas/common/p/a');
    await rejectsAs('InvalidInput', 'another store', (await open({ name: 'releases' })).read(uri));
  });

  it.each<[string, Partial<HdfsOptions>]>([
    ['an empty user', { user: '' }],
    ['two users in one name', { user: 'ocdl&user.name=hdfs' }],
    ['an upper-case user', { user: 'Hdfs' }],
    ['a relative root', { root: 'ocdl' }],
    ['the whole of HDFS as root', { root: '/' }],
    ['a root with a query', { root: '/ocdl?op=DELETE' }],
    ['a root with a parent segment', { root: '/ocdl/../x' }],
    ['a store name', { name: '../x' }],
    ['an HDFS RPC address', { url: 'hdfs://127.0.0.1:8020' }],
    ['an invalid address', { url: 'http://127.0.0.1:9870,' }],
  ])('refuses %s without a request to HDFS', async (_, options) => {
    await rejectsAs('InvalidInput', 'opening', open({ url: 'http://127.0.0.1:1', ...options }));
  });

  it('has all it needs here, and reports what another user lacks', async () => {
    await store.check();
    assert.equal(await hdfs.status('PUT', `${root}-carol`, 'MKDIRS'), 200);
    assert.equal(await hdfs.status('PUT', `${root}-carol`, 'SETOWNER&owner=carol'), 200);
    const hers = await open({ user: 'carol', root: `${root}-carol` });
    await rejectsAs('NotAuthorized', 'a user outside the supergroup', hers.check());
    await rejectsAs('InvalidInput', 'opening another’s store', open({ user: 'carol' }));
    await assert.rejects(hers.check(), /make it a member of dfs\.permissions\.superusergroup/);
  });

  it('keeps the permissions of an existing folder', async () => {
    const shared = `/${freshName('shared')}`;
    await hdfs.status('PUT', `${shared}/theirs`, 'MKDIRS');
    await hdfs.status('PUT', shared, 'SETACL&aclspec=user::rwx,user:alice:rwx,group::r-x,mask::rwx,other::r-x');
    const acl = async (): Promise<string> => JSON.stringify(await hdfs.json(shared, 'GETACLSTATUS'));
    const before = await acl();
    await rejectsAs('InvalidInput', 'a shared folder', open({ root: shared }));
    await assert.rejects(
      open({ root: shared }),
      /belongs to hdfs, .*: configure a folder that does not exist yet or that ocdl owns/,
    );
    assert.equal(await acl(), before);
    assert.match(before, /alice/);
  });

  it('uses port 443 for a NameNode over https without a port', async () => {
    await assert.rejects(open({ url: 'https://127.0.0.2' }), /connect \w+ 127\.0\.0\.2:443/);
  });

  it('skips files of people with invalid names when listing', async () => {
    await put('foreign/a', 'a');
    await put('foreign/z', 'z');
    const deep = Array.from({ length: 17 }, (_, n) => `d${n}`).join('/');
    const long = Array.from({ length: 10 }, () => 'l'.repeat(120)).join('/');
    for (const path of [deep, long]) assert.equal(await hdfs.write(`${root}/${at('foreign')}/${path}`, 'x'), 201);
    for (const limit of [1, 1000]) {
      const seen: string[] = [];
      for (let after: StorePath | undefined; ;) {
        const page = await store.list(at('foreign'), { limit, ...(after && { after }) });
        seen.push(...page.files.map(({ path }) => path));
        if (page.next === undefined) break;
        after = page.next;
      }
      assert.deepEqual(seen, [at('foreign/a'), at('foreign/z')]);
    }
  });

  it('removes leftovers of dead writers daily', async () => {
    const rounds = jest.spyOn(globalThis, 'setInterval');
    try {
      const swept = await open();
      const [round, day] = rounds.mock.calls.at(-1) ?? [];
      assert.equal(day, DAY_MS);
      await hdfs.write(`${root}/.tmp/old`, 'left');
      await hdfs.status('PUT', `${root}/.tmp/old`, `SETTIMES&modificationtime=${Date.now() - DAY_MS - 1000}`);
      round?.();
      for (const until = Date.now() + patience.ms; (await hdfs.read(`${root}/.tmp/old`)) !== 404; await sleep(20))
        assert.ok(Date.now() < until, 'it was not swept');
      await swept.close();
    } finally {
      rounds.mockRestore();
    }
  });

  it('leaves no temporary files, and does not list them', async () => {
    await put('clean/a', 'a');
    await put('clean/a', 'a');
    await put('clean/a', 'b', 'replace');
    await rejectsAs('Conflict', 'a taken path', put('clean/a', 'c'));
    assert.equal(await drafts(), '{"FileStatuses":{"FileStatus":[]}}');
    await hdfs.write(`${root}/.tmp/draft`, 'x');
    await hdfs.write(`${root}/common/p/clean/.hidden`, 'x');
    await hdfs.write(`${root}/common/p/clean/a._COPYING_`, 'x');
    const listed = (await store.list(at('clean'))).files.map(({ path }) => path);
    assert.deepEqual(listed, [at('clean/a'), at('clean/a._COPYING_')]);
  });

  it('removes leftovers of dead writers older than a day, and nothing newer', async () => {
    for (const name of ['old', 'young']) await hdfs.write(`${root}/.tmp/${name}`, 'left');
    const yesterday = Date.now() - 25 * 60 * 60 * 1000;
    await hdfs.status('PUT', `${root}/.tmp/old`, `SETTIMES&modificationtime=${yesterday}`);
    await open();
    assert.equal(await hdfs.read(`${root}/.tmp/old`), 404);
    assert.equal(await hdfs.read(`${root}/.tmp/young`), 'left');
    await hdfs.status('DELETE', `${root}/.tmp/young`, 'DELETE');
  });

  it('reports a file in place of a folder, and a folder in place of a file', async () => {
    await put('file', 'a');
    for (const path of ['file/b', 'file/b/c', 'file/b/c/d']) await rejectsAs('Conflict', path, put(path, 'b'));
    await put('folder/c', 'c');
    await rejectsAs('Conflict', 'in place of a folder', put('folder', 'x'));
    await rejectsAs('Conflict', 'in place of a folder', put('folder', 'x', 'replace'));
    await store.remove(store.uri(at('folder')));
    assert.equal(await textAt('folder/c'), 'c');
    assert.equal(await store.stat(store.uri(at('file/b'))), undefined);
    assert.deepEqual((await store.list(at('file'))).files, []);
    await rejectsAs('NotFound', 'below a file', textAt('file/b'));
  });

  it('computes the digest of the current content', async () => {
    const { uri, sha256 } = await put('digest', 'bytes');
    assert.equal(await hdfs.write(`${root}/common/p/digest`, 'bytez', '&overwrite=true'), 201);
    assert.equal(await store.digest(uri), createHash('sha256').update('bytez').digest('hex'));
    assert.notEqual(await store.digest(uri), sha256);
    await rejectsAs('Conflict', 'the former bytes', put('digest', 'bytes'));
  });

  it('lists 1,100 files in order over several pages of the NameNode', async () => {
    const folder = `${root}/common/many/files`;
    await hdfs.status('PUT', folder, 'MKDIRS');
    const names = Array.from({ length: 1100 }, (_, n) => `f-${(n * 7919) % 1100}.txt`);
    // Empty files need no DataNode; 20 at a time, since each is two requests.
    for (let n = 0; n < names.length; n += 20)
      await Promise.all(names.slice(n, n + 20).map((name) => hdfs.write(`${folder}/${name}`, '')));
    await hdfs.write(`${folder}/f/inner`, 'x');
    const wanted = [...names, 'f/inner'].map((name) => `common/many/files/${name}`).sort((a, b) => (a < b ? -1 : 1));
    for (const limit of [1000, 333]) {
      const seen: string[] = [];
      let after: StorePath | undefined;
      do {
        const page = await store.list('common/many/files' as StorePath, { limit, ...(after && { after }) });
        seen.push(...page.files.map(({ path }) => path));
        after = page.next;
      } while (after !== undefined && seen.length <= wanted.length);
      assert.deepEqual(seen, wanted);
    }
  }, 300_000);

  it('streams a file of two blocks in and out without buffering it', async () => {
    const chunk = Buffer.alloc(1024 * 1024, 7);
    // HDFS's blocks have 128 MB.
    const count = 130;
    const memory = watchHeldMemory();
    async function* source(): AsyncGenerator<Uint8Array> {
      for (let n = 0; n < count; n += 1) {
        memory.look();
        // Fresh memory each time: a store that kept the chunks would grow by all of them.
        yield Buffer.from(chunk);
      }
    }
    const { bytes: written, uri, sha256 } = await store.write(at('large'), source());
    assert.equal(written, count * chunk.byteLength);
    const hash = createHash('sha256');
    for await (const part of await store.read(uri)) {
      hash.update(part);
      memory.look();
    }
    assert.equal(hash.digest('hex'), sha256);
    const start = 127 * 1024 * 1024;
    const across = await collect(await store.read(uri, { range: { start, end: start + 2 * 1024 * 1024 } }));
    assert.ok(across.equals(Buffer.alloc(2 * 1024 * 1024, 7)), 'a range across the blocks');
    assert.ok(memory.growth() < 16, `memory grew by ${memory.growth()} MB`);
    await store.remove(uri);
  });

  it('shows no file of a killed writer', async () => {
    const child = startProgram('hdfs-writer.ts', [url, root, at('killed')]);
    try {
      await eventually('the writer writes', () => child.lines.length >= 20);
    } finally {
      child.kill();
      await child.ended;
    }
    assert.equal(await store.stat(store.uri(at('killed'))), undefined);
    assert.equal(await hdfs.read(`${root}/common/p/killed`), 404);
    await put('killed', 'whole');
    assert.equal(await textAt('killed'), 'whole');
  });

  it('finds the active NameNode among several', async () => {
    // What a standby answers to everything; a NameNode that is down refuses the connection.
    const message = 'Operation category READ is not supported in state standby';
    const standby = await wayTo(url, async () => refusalBy('StandbyException', message));
    const warnings: string[] = [];
    try {
      const onWarn = (message: string): void => void warnings.push(message);
      const several = await open({ url: `http://127.0.0.1:1, ${standby.url},${url}`, onWarn });
      await several.write(at('several'), bytes('found'));
      assert.equal(await textAt('several'), 'found');
      assert.deepEqual(warnings, [`HDFS: switched to the NameNode ${url}`]);
      for (const alone of [standby.url, `http://127.0.0.1:1,${standby.url}`])
        await assert.rejects(open({ url: alone }), {
          code: alone.includes(',') ? 'NAMENODE_UNAVAILABLE' : 'NAMENODE_STANDBY',
        });
    } finally {
      standby.close();
    }
  });
});
