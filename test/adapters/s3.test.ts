// ArtifactStore in S3 over a real server: the contract, and what only S3 promises. What goes wrong is in s3-trouble.test.ts.
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { DeleteObjectCommand, PutObjectCommand } from '@aws-sdk/client-s3';
import type { S3Store } from '../../activities/adapters/s3.ts';
import { isFailure } from '../../activities/failures.ts';
import { storePath, type ArtifactUri, type StorePath } from '../../workflows/domain/names.ts';
import { artifactStoreContract } from '../contracts/artifact-store.ts';
import { chunked, get, latch, pattern, put, sha256, text } from '../contracts/artifact-store/material.ts';
import { rejectsAs } from '../contracts/cases.ts';
import { describeWith, s3Server } from '../servers.ts';
import { freshBucket, type Bucket, type Server } from './s3-bucket.ts';
import { s3Proxy } from './s3-proxy.ts';

const MIB = 1024 * 1024;
/** Many parts on a loaded machine, some of it tried again. */
const PATIENCE_MS = 300_000;
const at = (path: string): StorePath => storePath({ area: 'common', project: 'p', path });

describeWith(['s3'], 's3', () => {
  artifactStoreContract('the contract', async () => {
    const bucket = await freshBucket(await s3Server());
    return { store: await bucket.open({ prefix: 'areas' }), close: () => bucket.close() };
  });

  let server: Server;
  let bucket: Bucket;
  let store: S3Store;
  beforeAll(async () => {
    server = await s3Server();
  }, PATIENCE_MS);
  beforeEach(async () => {
    bucket = await freshBucket(server);
    store = await bucket.open({ prefix: 'team/a' });
  });
  afterEach(async () => {
    assert.deepEqual(bucket.warnings, []);
    await bucket.close();
  });
  const key = (path: string): string => `team/a/${at(path)}`;

  it('returns the address of a file, and refuses addresses of another bucket or prefix', async () => {
    const { uri } = await put(store, at('a'), text('a'));
    assert.equal(uri, `s3://${bucket.bucket}/team/a/common/p/a`);
    for (const prefix of ['team/b', 'team/a/b'])
      await rejectsAs('InvalidInput', prefix, (await bucket.open({ prefix })).read(uri));
    await rejectsAs('InvalidInput', 'a prefix', bucket.open({ prefix: '../x' }));
    await rejectsAs('InvalidInput', 'parts that S3 refuses', bucket.open({ partBytes: MIB }));
  });

  it(
    'uploads in parts, with the digest of each as checksum and the total digest in the metadata',
    async () => {
      const bytes = pattern(40 * MIB + 7);
      const expect = { sha256: sha256(bytes), bytes: bytes.byteLength };
      // Known before: straight to the key. Not known: through a temporary one.
      for (const [path, options] of [
        [at('expected'), { expect }],
        [at('unknown'), {}],
      ] as const) {
        const artifact = await put(store, path, bytes, options);
        assert.deepEqual({ ...artifact }, { uri: store.uri(path), sha256: expect.sha256, bytes: expect.bytes });
        const { Metadata, ContentLength, ChecksumSHA256, ETag } = await bucket.head(`team/a/${path}`);
        assert.deepEqual({ ...Metadata }, { sha256: expect.sha256 });
        assert.equal(ContentLength, bytes.byteLength);
        // 9 parts, and the checksum of their checksums; the copy from the temporary key has parts of its own.
        assert.match(ETag ?? '', path === at('expected') ? /-9"$/ : /-1"$/);
        if (path === at('expected')) assert.match(ChecksumSHA256 ?? '', /^[A-Za-z0-9+/]{43}=-9$/);
        assert.ok((await get(store, path)).equals(bytes));
        assert.equal(await store.digest(store.uri(path)), expect.sha256);
      }
      await bucket.assertOnly([key('expected'), key('unknown')]);
    },
    PATIENCE_MS,
  );

  it(
    'leaves no object and no open upload after an interrupted write',
    async () => {
      const bytes = pattern(12 * MIB);
      async function* breaking(): AsyncGenerator<Uint8Array> {
        yield* chunked(bytes);
        for (const until = Date.now() + 60_000; (await bucket.openUploads()).length === 0; await sleep(20))
          assert.ok(Date.now() < until, 'the upload did not begin');
        throw new Error('planted: the source broke off');
      }
      const other = sha256(text('other'));
      for (const expect of [undefined, { sha256: sha256(bytes) }]) {
        await assert.rejects(store.write(at('a'), breaking(), { expect }), /planted/);
        await bucket.assertOnly();
      }
      for (const expect of [{ sha256: other }, { bytes: 13 * MIB }, { bytes: 11 * MIB, sha256: sha256(bytes) }]) {
        await rejectsAs('DigestMismatch', JSON.stringify(expect), put(store, at('a'), bytes, { expect }));
        await bucket.assertOnly();
      }
      await rejectsAs('InvalidInput', 'the limit', put(store, at('a'), bytes, { limit: 11 * MIB }));
      await bucket.assertOnly();
    },
    PATIENCE_MS,
  );

  it(
    'ends and cleans up an upload in parts when the signal is aborted, even while the source hangs',
    async () => {
      for (const expect of [undefined, { sha256: sha256(text('never looked at')) }]) {
        const controller = new AbortController();
        const never = latch();
        async function* hanging(): AsyncGenerator<Uint8Array> {
          yield* chunked(pattern(12 * MIB));
          controller.abort(new Error('planted: cancelled'));
          await never.promise;
        }
        const write = store.write(at('a'), hanging(), { expect, signal: controller.signal });
        await assert.rejects(write, /planted: cancelled/);
        never.open();
        await bucket.assertOnly();
      }
    },
    PATIENCE_MS,
  );

  it(
    'buffers no more than its parts while the server is slow',
    async () => {
      const gate = latch();
      const proxy = await s3Proxy(server.endpoint, {
        before: (asked) => (asked.url?.includes('partNumber=') ? gate.promise : undefined),
      });
      const slow = await bucket.open({ endpoint: proxy.endpoint, concurrency: 2 });
      const bytes = pattern(30 * MIB);
      let pulled = 0;
      async function* counted(): AsyncGenerator<Uint8Array> {
        for await (const chunk of chunked(bytes)) {
          pulled += chunk.byteLength;
          yield chunk;
        }
      }
      const write = slow.write(at('slow'), counted(), { expect: { sha256: sha256(bytes) } });
      // Until nothing more is pulled for a second.
      for (let before = -1; before !== pulled || pulled === 0; await sleep(1000)) before = pulled;
      assert.ok(pulled <= 4 * 5 * MIB, `two parts on their way, but ${pulled / MIB} MiB were taken`);
      gate.open();
      assert.equal((await write).bytes, bytes.byteLength);
      await proxy.close();
    },
    PATIENCE_MS,
  );

  it(
    'lets one of 16 concurrent uploads in parts succeed, or all if they have the same bytes',
    async () => {
      // Every second one says which bytes they must be, and so goes straight to the key; the others by a temporary one.
      const mark = pattern(5 * MIB + 1);
      const entrants = Array.from({ length: 16 }, (_, seed) => Buffer.concat([Buffer.from([seed]), mark]));
      const race = (all: readonly Buffer[], path: StorePath) =>
        Promise.allSettled(
          all.map((bytes, index) => put(store, path, bytes, index % 2 ? { expect: { sha256: sha256(bytes) } } : {})),
        );
      const outcomes = await race(entrants, at('raced'));
      const winners = entrants.filter((_, index) => outcomes[index]?.status === 'fulfilled');
      for (const outcome of outcomes)
        if (outcome.status === 'rejected') assert.ok(isFailure(outcome.reason, 'Conflict'), String(outcome.reason));
      assert.equal(winners.length, 1, `${winners.length} writers were told that theirs is stored`);
      assert.ok((await get(store, at('raced'))).equals(winners[0] ?? Buffer.alloc(0)));
      const same = await race(Array<Buffer>(8).fill(mark), at('same'));
      assert.deepEqual(
        same.filter(({ status }) => status === 'rejected'),
        [],
      );
      await bucket.assertOnly([key('raced'), key('same')]);
    },
    PATIENCE_MS,
  );

  it(
    'replaces large objects, and keeps the old one if the new one is interrupted',
    async () => {
      const [former, latter] = [pattern(6 * MIB, 1), pattern(7 * MIB, 2)];
      await put(store, at('a'), former);
      const expect = { sha256: sha256(former) };
      await rejectsAs('DigestMismatch', 'not those', put(store, at('a'), latter, { ifExists: 'replace', expect }));
      assert.ok((await get(store, at('a'))).equals(former));
      await put(store, at('a'), latter, { ifExists: 'replace', expect: { sha256: sha256(latter) } });
      assert.ok((await get(store, at('a'))).equals(latter));
      await put(store, at('a'), former, { ifExists: 'replace' });
      assert.ok((await get(store, at('a'))).equals(former));
      await bucket.assertOnly([key('a')]);
    },
    PATIENCE_MS,
  );

  it('compares the bytes of objects that others stored, and computes the digest of the current content', async () => {
    const others = { Bucket: bucket.bucket, Key: key('a') };
    await bucket.client.send(new PutObjectCommand({ ...others, Body: 'others' }));
    await rejectsAs('Conflict', 'different bytes', put(store, at('a'), text('mine')));
    assert.equal((await put(store, at('a'), text('others'))).sha256, sha256(text('others')));
    const Metadata = { sha256: sha256(text('others')) };
    await bucket.client.send(new PutObjectCommand({ ...others, Body: 'changed', Metadata }));
    assert.equal(await store.digest(store.uri(at('a'))), sha256(text('changed')));
  });

  it('lists only its own files', async () => {
    await put(store, at('f/a'), text('a'));
    await put(store, at('f/b'), text('b'));
    for (const Key of [
      ...['ä', '.hidden', 'a b'].map((name) => `${key('f')}/${name}`),
      'team/a/.tmp/draft',
      'team/ab/common/p/f/x',
      // Deeper, and longer, than any path that can be asked for.
      `${key('f')}/${Array.from({ length: 17 }, (_, n) => `d${n}`).join('/')}`,
      `${key('f')}/${Array.from({ length: 8 }, () => 'l'.repeat(120)).join('/')}/${'m'.repeat(20)}`,
    ])
      await bucket.client.send(new PutObjectCommand({ Bucket: bucket.bucket, Key, Body: 'x' }));
    const { files, next } = await store.list(at('f'));
    assert.deepEqual([files.map(({ path }) => path), next], [[at('f/a'), at('f/b')], undefined]);
    const pages: string[] = [];
    for (let after: StorePath | undefined; ;) {
      const page = await store.list(at('f'), { limit: 1, ...(after && { after }) });
      pages.push(...page.files.map(({ path }) => path));
      if (page.next === undefined) break;
      after = page.next;
    }
    assert.deepEqual(pages, [at('f/a'), at('f/b')]);
  });

  it('reports a file in place of a folder, and a folder in place of a file', async () => {
    await put(store, at('a'), text('a'));
    await put(store, at('folder/c'), text('c'));
    for (const [path, bytes] of [
      [at('a/b'), text('b')],
      [at('a/b'), pattern(6 * MIB)],
      [at('folder'), text('x')],
    ] as const)
      for (const ifExists of ['same', 'replace'] as const)
        await rejectsAs('Conflict', `${path} of ${bytes.byteLength} bytes`, put(store, path, bytes, { ifExists }));
    await store.remove(store.uri(at('folder')));
    await bucket.assertOnly([key('a'), key('folder/c')]);
  });

  it('lets an application download one file without an access key, for a limited time', async () => {
    const bytes = pattern(300_000);
    const { uri } = await put(store, at('model.onnx'), bytes);
    const { uri: other } = await put(store, at('secret.onnx'), text('secret'));
    const address = await store.presign(uri, { seconds: 60 });
    const answer = await fetch(address);
    assert.equal(answer.status, 200);
    assert.equal(sha256(Buffer.from(await answer.arrayBuffer())), sha256(bytes));
    const tampered = [
      address.replace('model.onnx', 'secret.onnx'),
      address.replace(/Signature=..../, 'Signature=0000'),
      address.replace('Expires=60', 'Expires=600'),
      address.replace(/\?.*/, ''),
    ];
    for (const each of tampered) assert.equal((await fetch(each)).status, 403, each);
    const brief = await store.presign(other, { seconds: 1 });
    for (const until = Date.now() + 60_000; (await fetch(brief)).status !== 403; await sleep(200))
      assert.ok(Date.now() < until, 'an address of one second still works');
    for (const seconds of [0, 0.5, 604_801])
      await rejectsAs('InvalidInput', `${seconds} seconds`, store.presign(uri, { seconds }));
    await rejectsAs('InvalidInput', 'another store', store.presign('local:x/a' as ArtifactUri, { seconds: 60 }));
    assert.match(await store.presign(uri, { seconds: 604_800 }), /Expires=604800/);
  });

  it('removes permanently: the path can be used again', async () => {
    const { uri } = await put(store, at('a'), text('a'));
    await store.remove(uri);
    await bucket.assertOnly();
    await put(store, at('a'), text('b'));
    await bucket.client.send(new DeleteObjectCommand({ Bucket: bucket.bucket, Key: key('a') }));
    assert.equal(await store.stat(uri), undefined);
  });
});
