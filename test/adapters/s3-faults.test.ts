// S3 with servers that die, hang or lose answers, and a store that is closed: objects are complete or missing, and work continues.
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { storePath, type StorePath } from '../../workflows/domain/names.ts';
import { chunked, get, latch, pattern, put, sha256, text } from '../contracts/artifact-store/material.ts';
import { rejectsAs } from '../contracts/cases.ts';
import { describeWith, s3Server } from '../servers.ts';
import { freshBucket, ownServer, rejectsRetryably } from './s3-bucket.ts';
import { s3Proxy } from './s3-proxy.ts';

const MIB = 1024 * 1024;
/** Parts, time limits and retries on a loaded machine. */
const PATIENCE_MS = 300_000;
const at = (path: string): StorePath => storePath({ area: 'common', project: 'p', path });

describeWith(['s3'], 's3 faults', () => {
  const closing: (() => Promise<void>)[] = [];
  afterEach(async () => {
    for (const close of closing.splice(0)) await close();
  });
  const opened = async () => {
    const bucket = await freshBucket(await s3Server());
    closing.push(() => bucket.close());
    return bucket;
  };
  const own = async () => {
    const server = await ownServer();
    closing.push(() => server.end());
    return server;
  };

  it(
    'recognises its own bytes if the answer to storing them was lost',
    async () => {
      const bucket = await opened();
      const lost: string[] = [];
      const proxy = await s3Proxy((await s3Server()).endpoint, {
        answer: ({ method, url = '' }) => {
          const commit = method === 'PUT' ? !url.includes('partNumber') : /uploadId=/i.test(url) && method === 'POST';
          if (!commit || lost.includes(url)) return;
          lost.push(url);
          return 'lose';
        },
      });
      closing.push(() => proxy.close());
      const store = await bucket.open({ endpoint: proxy.endpoint });
      const large = pattern(6 * MIB);
      const expect = { sha256: sha256(large) };
      assert.equal((await put(store, at('small'), text('small'))).sha256, sha256(text('small')));
      assert.equal((await put(store, at('large'), large, { expect })).sha256, expect.sha256);
      assert.equal((await put(store, at('replaced'), large, { expect, ifExists: 'replace' })).sha256, expect.sha256);
      assert.equal(lost.length, 3);
      await bucket.assertOnly(['large', 'replaced', 'small'].map(at));
    },
    PATIENCE_MS,
  );

  it(
    'ends running writes when it is closed',
    async () => {
      const store = await (await opened()).open();
      const never = latch();
      const begun = latch();
      async function* hanging(): AsyncGenerator<Uint8Array> {
        yield* chunked(pattern(6 * MIB));
        begun.open();
        await never.promise;
      }
      const write = store.write(at('a'), hanging());
      await begun.promise;
      const refused = rejectsRetryably(write, /is closing/);
      await store.close();
      await refused;
      never.open();
    },
    PATIENCE_MS,
  );

  it(
    'waits on close until interrupted writes are cleaned up',
    async () => {
      const bucket = await opened();
      const proxy = await s3Proxy((await s3Server()).endpoint, {
        before: async ({ method }) => void (method === 'DELETE' && (await sleep(1_000))),
      });
      closing.push(() => proxy.close());
      const store = await bucket.open({ endpoint: proxy.endpoint });
      const never = latch();
      const begun = latch();
      async function* hanging(): AsyncGenerator<Uint8Array> {
        yield* chunked(pattern(11 * MIB));
        for (const until = Date.now() + 60_000; (await bucket.openUploads()).length === 0; await sleep(20))
          assert.ok(Date.now() < until, 'the upload did not begin');
        begun.open();
        await never.promise;
      }
      const expect = { sha256: sha256(text('never looked at')) };
      const write = store.write(at('a'), hanging(), { expect });
      write.catch(() => undefined);
      await begun.promise;
      await store.close();
      await bucket.assertOnly();
      assert.deepEqual(bucket.warnings, []);
      never.open();
      await rejectsRetryably(write, /is closing/);
    },
    PATIENCE_MS,
  );

  it(
    'ends a write whose part is refused while the next one waits, even if the source then hangs',
    async () => {
      const bucket = await opened();
      const taken = latch();
      const never = latch();
      const proxy = await s3Proxy((await s3Server()).endpoint, {
        before: ({ url = '' }) => (/partNumber=1&/.test(url) ? taken.promise : undefined),
        instead: ({ url = '' }) =>
          /partNumber=1&/.test(url)
            ? { status: 403, body: '<Error><Code>AccessDenied</Code><Message>no</Message></Error>' }
            : undefined,
      });
      closing.push(() => proxy.close());
      const store = await bucket.open({ endpoint: proxy.endpoint, concurrency: 1 });
      async function* source(): AsyncGenerator<Uint8Array> {
        // One byte more than the first part: it waits until that is taken.
        yield* chunked(pattern(5 * MIB + 1), MIB);
        await never.promise;
      }
      const write = store.write(at('a'), source(), { expect: { sha256: sha256(text('never looked at')) } });
      await sleep(1_000);
      taken.open();
      const ended = await Promise.race([write.then(() => 'it succeeded', String), sleep(30_000, 'it hangs')]);
      never.open();
      assert.match(ended, /UploadPart of .*access is denied/);
    },
    PATIENCE_MS,
  );

  it(
    'does not count a slow reader as a silent server, but detects a silent server',
    async () => {
      const server = await own();
      const store = await server.bucket.open({ silenceMs: 1_500 });
      // More than the buffers on the way hold.
      const bytes = pattern(32 * MIB);
      const { uri } = await put(await server.bucket.open(), at('a'), bytes, { expect: { sha256: sha256(bytes) } });
      let read = 0;
      for await (const chunk of await store.read(uri)) {
        if (read === 0) await sleep(5_000);
        read += chunk.byteLength;
      }
      assert.equal(read, bytes.byteLength);
      const reading = (async () => {
        for await (const chunk of await store.read(uri)) if (chunk.byteLength > 0) server.signal('SIGSTOP');
      })();
      try {
        await rejectsRetryably(reading, /S3 GetObject of .*does not answer/);
      } finally {
        server.signal('SIGCONT');
      }
    },
    PATIENCE_MS,
  );

  it(
    'continues after the server is killed during an upload and restarted',
    async () => {
      const server = await own();
      const bytes = pattern(12 * MIB);
      const expect = { sha256: sha256(bytes) };
      const store = await server.bucket.open({ silenceMs: 5_000 });
      async function* killing(): AsyncGenerator<Uint8Array> {
        yield* chunked(bytes.subarray(0, 11 * MIB));
        for (const until = Date.now() + 60_000; (await server.bucket.openUploads()).length === 0; await sleep(20))
          assert.ok(Date.now() < until, 'the upload did not begin');
        await server.kill();
        yield* chunked(bytes.subarray(11 * MIB));
      }
      const broken = /the connection was (refused|lost)/;
      await rejectsRetryably(store.write(at('a'), killing(), { expect }), broken);
      await server.start();
      assert.equal(await store.stat(store.uri(at('a'))), undefined);
      assert.equal((await put(store, at('a'), bytes, { expect })).bytes, bytes.byteLength);
      assert.ok((await get(store, at('a'))).equals(bytes));
      assert.match(server.bucket.warnings.join(), /could not be aborted; it will be removed in a day/);
    },
    PATIENCE_MS,
  );

  it(
    'fails a write and a read if the server hangs, and works again once it answers',
    async () => {
      const server = await own();
      const store = await server.bucket.open({ silenceMs: 1_000 });
      await put(store, at('a'), text('a'));
      server.signal('SIGSTOP');
      const silent = /does not answer: check the server/;
      const large = pattern(6 * MIB);
      await rejectsRetryably(put(store, at('small'), text('small')), silent);
      await rejectsRetryably(put(store, at('large'), large, { expect: { sha256: sha256(large) } }), silent);
      await rejectsRetryably(store.read(store.uri(at('a'))), silent);
      server.signal('SIGCONT');
      await put(store, at('small'), text('small'));
      await put(store, at('large'), large);
      assert.equal((await get(store, at('a'))).toString(), 'a');
      await rejectsAs('Conflict', 'different bytes', put(store, at('small'), text('other')));
    },
    PATIENCE_MS,
  );
});
