// ArtifactStore on a local disk: the contract, and what only a disk has.
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { access, chmod, lstat, mkdir, readdir, readFile, symlink, truncate, utimes, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { diskError } from '../../activities/adapters/durable-file.ts';
import { createLocalDisk } from '../../activities/adapters/local-disk.ts';
import type { ArtifactStore } from '../../activities/ports.ts';
import { storePath, type StorePath } from '../../workflows/domain/names.ts';
import { artifactStoreContract } from '../contracts/artifact-store.ts';
import { collect, rejects, rejectsAs } from '../contracts/cases.ts';
import { startProgram } from './child-program.ts';
import { watchHeldMemory } from './held-memory.ts';
import { scratchFolder } from './scratch-folder.ts';

artifactStoreContract('local disk', async () => {
  const { path, remove } = await scratchFolder();
  return { store: await createLocalDisk({ root: path, name: 'areas' }), close: remove };
});

describe('local disk', () => {
  let root = '';
  let remove = async (): Promise<void> => undefined;
  let store: ArtifactStore;
  const at = (path: string): StorePath => storePath({ area: 'common', project: 'p', path });
  const put = (path: string, text: string, ifExists?: 'replace') => store.write(at(path), bytes(text), { ifExists });
  async function* bytes(text: string): AsyncGenerator<Uint8Array> {
    yield Buffer.from(text);
  }
  const textAt = async (path: string): Promise<string> =>
    (await collect(await store.read(store.uri(at(path))))).toString();
  beforeEach(async () => {
    ({ path: root, remove } = await scratchFolder());
    store = await createLocalDisk({ root, name: 'areas' });
  });
  afterEach(() => remove());

  it('returns the address of a file, and refuses addresses of other stores', async () => {
    const { uri } = await put('a', 'a');
    assert.equal(uri, 'local:areas/common/p/a');
    const other = await createLocalDisk({ root, name: 'releases' });
    await rejectsAs('InvalidInput', 'another store', other.read(uri));
    await rejectsAs('InvalidInput', 'a store name', createLocalDisk({ root, name: '../x' }));
  });

  it('keeps its files private to its user and leaves no temporary files', async () => {
    await put('folder/a', 'a');
    await put('folder/a', 'b', 'replace');
    await rejects('a taken path', put('folder/a', 'c'));
    for (const folder of ['common', 'common/p/folder', '.tmp'])
      assert.equal((await lstat(join(root, folder))).mode & 0o777, 0o700, folder);
    const file = await lstat(join(root, 'common/p/folder/a'));
    assert.equal(file.mode & 0o777, 0o600);
    assert.equal(file.nlink, 1);
    assert.equal((await readdir(join(root, '.tmp'))).length, 0);
  });

  it('does not follow links out of its root', async () => {
    const outside = await scratchFolder();
    try {
      await writeFile(join(outside.path, 'secret'), 'secret');
      await put('real/a', 'a');
      await symlink(outside.path, join(root, 'common/p/folder'));
      await symlink(join(outside.path, 'secret'), join(root, 'common/p/real/file'));
      for (const path of ['folder/secret', 'real/file']) {
        const uri = store.uri(at(path));
        await rejectsAs('NotFound', `reading ${path}`, textAt(path));
        await rejectsAs('NotFound', `digest of ${path}`, store.digest(uri));
        assert.equal(await store.stat(uri), undefined);
        await store.remove(uri);
        await rejectsAs('Conflict', `writing ${path}`, put(path, 'changed'));
      }
      await rejectsAs('Conflict', 'writing a new file', put('folder/new', 'x'));
      await put('real/file', 'of our own', 'replace');
      assert.equal(await readFile(join(outside.path, 'secret'), 'utf8'), 'secret');
      assert.equal((await readdir(outside.path)).length, 1);
      assert.deepEqual((await store.list(at('folder'))).files, []);
      const files = (await store.list('common/p' as StorePath)).files.map(({ path }) => path);
      assert.deepEqual(files, [at('real/a'), at('real/file')]);
    } finally {
      await outside.remove();
    }
  });

  it('reports a file in place of a folder, and a folder in place of a file', async () => {
    await put('a', 'a');
    await rejectsAs('Conflict', 'below a file', put('a/b', 'b'));
    await put('folder/c', 'c');
    await rejectsAs('Conflict', 'in place of a folder', put('folder', 'x'));
    await rejectsAs('Conflict', 'in place of a folder', put('folder', 'x', 'replace'));
    await store.remove(store.uri(at('folder')));
    assert.equal(await textAt('folder/c'), 'c');
  });

  it('computes the digest of the current content', async () => {
    const { uri, sha256 } = await put('a', 'bytes');
    await writeFile(join(root, 'common/p/a'), 'bytez');
    assert.notEqual(await store.digest(uri), sha256);
    await rejectsAs('Conflict', 'the former bytes', put('a', 'bytes'));
  });

  it('skips files with invalid names when listing', async () => {
    await put('foreign/a', 'a');
    await put('foreign/z', 'z');
    const deep = Array.from({ length: 17 }, (_, n) => `d${n}`).join('/');
    const long = Array.from({ length: 10 }, () => 'l'.repeat(120)).join('/');
    for (const path of [deep, long]) {
      const file = join(root, at('foreign'), path);
      await mkdir(dirname(file), { recursive: true });
      await writeFile(file, 'x');
    }
    const first = await store.list(at('foreign'), { limit: 1 });
    assert.deepEqual([first.files.map(({ path }) => path), first.next], [[at('foreign/a')], at('foreign/a')]);
    const rest = await store.list(at('foreign'), { after: at('foreign/a') });
    assert.deepEqual([rest.files.map(({ path }) => path), rest.next], [[at('foreign/z')], undefined]);
  });

  it('stops comparing with existing bytes when the signal is aborted', async () => {
    await put('large', 'x');
    // Of holes alone: it takes no room, and seconds to read.
    await truncate(join(root, at('large')), 16 * 1024 ** 3);
    const controller = new AbortController();
    async function* source(): AsyncGenerator<Uint8Array> {
      yield Buffer.from('y');
      setTimeout(() => controller.abort(new Error('planted: enough')), 300);
    }
    await assert.rejects(store.write(at('large'), source(), { signal: controller.signal }), /planted: enough/);
  });

  it('removes leftovers of dead writers older than a day, and nothing newer', async () => {
    const yesterday = new Date(Date.now() - 25 * 60 * 60 * 1000);
    for (const name of ['old', 'young']) await writeFile(join(root, '.tmp', name), 'left');
    await utimes(join(root, '.tmp', 'old'), yesterday, yesterday);
    await createLocalDisk({ root, name: 'areas' });
    assert.deepEqual([...(await readdir(join(root, '.tmp')))], ['young']);
  });

  it('streams 64 MB in and out without buffering them', async () => {
    const chunk = Buffer.alloc(64 * 1024, 7);
    const count = 1024;
    const memory = watchHeldMemory();
    async function* source(): AsyncGenerator<Uint8Array> {
      for (let n = 0; n < count; n += 1) {
        memory.look();
        // Fresh memory each time: a store that kept the chunks would grow by all of them.
        yield Buffer.from(chunk);
      }
    }
    const signal = new AbortController().signal;
    const { bytes: written, uri } = await store.write(at('large'), source(), { signal });
    assert.equal(written, 64 * 1024 * 1024);
    let readBack = 0;
    for await (const part of await store.read(uri, { signal })) {
      readBack += part.byteLength;
      memory.look();
    }
    assert.equal(readBack, written);
    assert.ok(memory.growth() < 16, `memory grew by ${memory.growth()} MB`);
  });

  it('shows no file of a killed writer', async () => {
    const child = startProgram('disk-writer.ts', [root, at('killed')]);
    try {
      for (let n = 0; child.lines.length < 20 && n < 1000; n += 1) await new Promise((next) => setTimeout(next, 20));
      assert.ok(child.lines.length >= 20, 'the writer did not begin');
    } finally {
      child.kill();
      await child.ended;
    }
    assert.equal((await readdir(join(root, '.tmp'))).length, 1);
    assert.equal(await store.stat(store.uri(at('killed'))), undefined);
    await put('killed', 'whole');
    assert.equal(await textAt('killed'), 'whole');
  });

  const hasFullDisk = existsSync('/dev/full') || process.env.CI === 'true';
  if (!hasFullDisk) process.stderr.write('SKIPPED: the error of a full disk; only Linux has /dev/full.\n');
  (hasFullDisk ? it : it.skip)('names the remedy for a full disk and announces a retry', async () => {
    const error = await writeFile('/dev/full', 'x').catch((reason: unknown) => reason);
    const wrapped = diskError(error, 'writing a');
    assert.match(String(wrapped), /writing a: the disk is full: free some space.*will be retried/);
    assert.equal('nonRetryable' in (wrapped as Error), false);
  });

  it('says what to do if it has no write permission', async () => {
    await mkdir(join(root, 'common'), { mode: 0o500 });
    await chmod(join(root, 'common'), 0o555);
    for (const path of [root, join(root, '.tmp')]) await chmod(path, 0o777);
    // As a user to whom file modes apply, whoever runs the tests.
    const child = startProgram('disk-writer.ts', [root, at('denied'), '65534']);
    await assert.rejects(child.ended, /writing common\/p\/denied below .*: access is denied: give the user/);
    await assert.rejects(access(join(root, 'common/p')));
  });

  it('says what to do if it has no read permission', async () => {
    await put('closed', 'text');
    for (const path of [root, join(root, '.tmp'), join(root, 'common'), join(root, 'common/p')])
      await chmod(path, 0o755);
    await chmod(join(root, at('closed')), 0o000);
    const child = startProgram('disk-reader.ts', [root, at('closed'), '65534']);
    await assert.rejects(child.ended, /reading common\/p\/closed below .*: access is denied: give the user/);
  });
});
