// HDFS faults: each has its own error, no partial file is visible, and work continues afterwards.
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { createHdfsStore, type HdfsStore } from '../../activities/adapters/hdfs.ts';
import type { Artifact } from '../../workflows/domain/model.ts';
import { storePath, type StorePath } from '../../workflows/domain/names.ts';
import { collect } from '../contracts/cases.ts';
import { describeWith } from '../servers.ts';
import { ownHdfs, type OwnHdfs } from './hdfs-cluster.ts';
import { person } from './hdfs-people.ts';

/** Servers restart in these tests, on a machine that may be slow. */
const LONG_MS = 300_000;
/** A DataNode reports again within seconds; a starved one takes longer. */
const AGAIN_MS = 120_000;
/** Short, for tests that expect a timeout; elsewhere the store's own minute applies. */
const SILENCE_MS = 6_000;

describeWith(['hdfs'], 'HDFS faults', () => {
  let own: OwnHdfs | undefined;
  let store: HdfsStore;
  /** The same store with a shorter timeout. */
  let impatient: HdfsStore;
  const server = (): OwnHdfs => own ?? assert.fail('no HDFS');
  const at = (path: string): StorePath => storePath({ area: 'common', project: 'p', path });
  const admin = (op: string, path: string) => person(server().url, 'hdfs').status('PUT', path, op);
  const chunk = Buffer.alloc(256 * 1024, 7);
  async function* chunks(count: number, at?: number, then?: () => unknown): AsyncGenerator<Uint8Array> {
    for (let n = 0; n < count; n += 1) {
      if (n === at) await then?.();
      yield Buffer.from(chunk);
    }
  }
  const put = (path: string, count = 1) => store.write(at(path), chunks(count));
  const nothingAt = async (path: string): Promise<void> =>
    assert.equal(await store.stat(store.uri(at(path))), undefined);
  /** Retries until it succeeds, as the platform does: a restarted server needs some time. */
  async function goesAgain(path: string, count = 8): Promise<Artifact> {
    for (const until = Date.now() + AGAIN_MS; ; await sleep(500))
      try {
        const written = await put(path, count);
        assert.equal(await store.digest(written.uri), written.sha256);
        return written;
      } catch (error) {
        if (Date.now() > until) throw error;
        assert.match(String(error), /will be retried/);
      }
  }
  const fails = async (work: Promise<unknown>, code: string, words: RegExp): Promise<void> => {
    const error: unknown = await work.then(
      () => assert.fail(`should have failed with ${code}`),
      (reason: unknown) => reason,
    );
    assert.match(String(error), words);
    assert.equal((error as { code?: string }).code, code, String(error));
    assert.equal('nonRetryable' in (error as object), false, 'the failure is retryable');
  };

  beforeAll(async () => {
    own = await ownHdfs();
    const options = { url: own.url, user: 'ocdl', root: '/ocdl', name: 'areas' };
    store = await createHdfsStore(options);
    impatient = await createHdfsStore({ ...options, silenceMs: SILENCE_MS });
    await put('there', 8);
  }, LONG_MS);
  afterAll(async () => {
    await Promise.all([store?.close(), impatient?.close()]);
    await own?.close();
  }, LONG_MS);
  const test = (name: string, run: () => Promise<void>): void => it(name, run, LONG_MS);

  test('file quota used up', async () => {
    await put('quota/a');
    await admin('SETQUOTA&namespacequota=2', '/ocdl/common/p/quota');
    await fails(put('quota/b'), 'NAMESPACE_QUOTA', /writing common\/p\/quota\/b .*number of files .*setQuota/);
    await nothingAt('quota/b');
    await admin('SETQUOTA&namespacequota=-1', '/ocdl/common/p/quota');
    await goesAgain('quota/b');
  });

  test('disk quota used up, at the rename and while streaming', async () => {
    await put('space/a');
    await admin('SETQUOTA&namespacequota=1000&storagespacequota=300000', '/ocdl/common/p/space');
    await fails(put('space/b'), 'SPACE_QUOTA', /disk space .*setSpaceQuota/);
    await nothingAt('space/b');
    await admin('SETQUOTA&namespacequota=-1&storagespacequota=-1', '/ocdl/common/p/space');
    // Refused while bytes are still flowing, many more than any buffer holds.
    await admin('SETQUOTA&namespacequota=1000&storagespacequota=300000', '/ocdl/.tmp');
    for (let n = 0; n < 5; n += 1) await fails(put('space/b', 100), 'SPACE_QUOTA', /disk space .*setSpaceQuota/);
    await admin('SETQUOTA&namespacequota=-1&storagespacequota=-1', '/ocdl/.tmp');
    await nothingAt('space/b');
    await goesAgain('space/b');
  });

  test('safe mode', async () => {
    await server().dfsAdmin('-safemode', 'enter');
    try {
      for (let n = 0; n < 3; n += 1) await fails(put('safe', 100), 'SAFE_MODE', /safe mode/);
      await fails(store.remove(store.uri(at('there'))), 'SAFE_MODE', /safe mode/);
      await fails(store.admit('common/p' as StorePath, { readers: [], writers: [] }), 'SAFE_MODE', /safe mode/);
      assert.equal((await collect(await store.read(store.uri(at('there'))))).byteLength, 8 * chunk.byteLength);
    } finally {
      await server().dfsAdmin('-safemode', 'leave');
    }
    await nothingAt('safe');
    await goesAgain('safe');
  });

  test('a DataNode that is killed during a write, leaving none', async () => {
    const writing = store.write(
      at('lost'),
      chunks(400, 40, () => server().dataNode.kill()),
    );
    await fails(writing, 'DATANODE_LOST', /DataNode/);
    await nothingAt('lost');
    await fails(collect(await store.read(store.uri(at('there')))), 'DATANODE_LOST', /DataNode/);
    // Until the NameNode has missed enough heartbeats it still names the dead one.
    const code = (error: unknown): unknown => (error as { code?: string }).code;
    for (const until = Date.now() + AGAIN_MS; (await put('none').catch(code)) === 'DATANODE_LOST'; await sleep(500))
      assert.ok(Date.now() < until, 'the NameNode still names the dead DataNode');
    await fails(put('none', 100), 'NO_DATANODE', /start DataNodes/);
    await fails(collect(await store.read(store.uri(at('there')))), 'NO_DATANODE', /start DataNodes/);
    await nothingAt('none');
    await server().dataNode.start();
    await goesAgain('lost');
    assert.equal((await collect(await store.read(store.uri(at('there'))))).byteLength, 8 * chunk.byteLength);
  });

  test('a DataNode that stops responding during a write and a read', async () => {
    const large = await goesAgain('large', 400);
    const paused = { writing: false, reading: false };
    const pause = (what: keyof typeof paused): void => {
      server().dataNode.pause();
      paused[what] = true;
    };
    try {
      const writing = impatient.write(
        at('silent'),
        chunks(400, 40, () => pause('writing')),
      );
      await fails(writing, 'DATANODE_LOST', /silent for/);
    } finally {
      server().dataNode.resume();
    }
    await nothingAt('silent');
    await goesAgain('silent');
    try {
      const reading = (async () => {
        for await (const part of await impatient.read(large.uri)) if (part.byteLength > 0) pause('reading');
      })();
      await fails(reading, 'DATANODE_LOST', /silent for/);
    } finally {
      server().dataNode.resume();
    }
    // Neither fell silent of itself.
    assert.deepEqual(paused, { writing: true, reading: true });
    assert.equal(await store.digest(large.uri), large.sha256);
  });

  test('a slow source or reader does not count as a silent DataNode', async () => {
    const wait = (): Promise<void> => sleep(SILENCE_MS + 3000);
    const reading = async (): Promise<number> => {
      let read = 0;
      for await (const part of await impatient.read(store.uri(at('large')))) {
        if (read === 0) await wait();
        read += part.byteLength;
      }
      return read;
    };
    const [, read] = await Promise.all([impatient.write(at('slow'), chunks(4, 2, wait)), reading()]);
    assert.equal(read, 400 * chunk.byteLength);
  });

  test('a NameNode that stops responding: the call times out, or ends immediately when aborted', async () => {
    server().nameNode.pause();
    try {
      const controller = new AbortController();
      const aborted = store.digest(store.uri(at('there')), controller.signal);
      controller.abort(new Error('enough'));
      await assert.rejects(aborted, { message: 'enough' });
      const unanswered = /no NameNode answers/;
      await Promise.all([
        fails(impatient.stat(store.uri(at('there'))), 'NAMENODE_UNAVAILABLE', unanswered),
        fails(impatient.write(at('paused'), chunks(1)), 'NAMENODE_UNAVAILABLE', unanswered),
        fails(impatient.list('common/p' as StorePath), 'NAMENODE_UNAVAILABLE', /silent for/),
      ]);
    } finally {
      server().nameNode.resume();
    }
    await nothingAt('paused');
    await goesAgain('paused');
  });

  test('a NameNode that is killed during a write, and restarted', async () => {
    const writing = store.write(
      at('headless'),
      chunks(400, 40, () => server().nameNode.kill()),
    );
    await fails(writing, 'NAMENODE_UNAVAILABLE', /NameNode/);
    await server().nameNode.start();
    await goesAgain('headless');
    assert.equal((await collect(await store.read(store.uri(at('there'))))).byteLength, 8 * chunk.byteLength);
    const { files } = await store.list('common/p' as StorePath);
    assert.deepEqual(
      files.map(({ path, bytes }) => [path.slice('common/p/'.length), bytes / chunk.byteLength]),
      [
        ['headless', 8],
        ['large', 400],
        ['lost', 8],
        ['paused', 8],
        ['quota/a', 1],
        ['quota/b', 8],
        ['safe', 8],
        ['silent', 8],
        ['slow', 4],
        ['space/a', 1],
        ['space/b', 8],
        ['there', 8],
      ],
    );
  });
});
