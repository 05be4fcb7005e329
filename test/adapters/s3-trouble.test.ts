// S3 errors: credentials, clocks, endpoints, full servers, unconfirmed encryption, leftovers. Faults of servers are in s3-faults.test.ts.
import assert from 'node:assert/strict';
import type { IncomingMessage } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { CreateMultipartUploadCommand, DeleteBucketCommand, PutObjectCommand } from '@aws-sdk/client-s3';
import { jest } from '@jest/globals';
import type { S3Options } from '../../activities/adapters/s3.ts';
import { anyFreePort } from '../../deploy/local/ports.ts';
import { storePath, type StorePath } from '../../workflows/domain/names.ts';
import { get, pattern, put, sha256, text } from '../contracts/artifact-store/material.ts';
import { describeWith, s3Server } from '../servers.ts';
import { freshBucket, rejectsRetryably, type Bucket, type Server } from './s3-bucket.ts';
import { s3Proxy, type Interference } from './s3-proxy.ts';

const MIB = 1024 * 1024;
/** Parts, time limits and retries on a loaded machine. */
const PATIENCE_MS = 300_000;
const HOUR_MS = 60 * 60 * 1000;
const at = (path: string): StorePath => storePath({ area: 'common', project: 'p', path });

describeWith(['s3'], 's3 errors', () => {
  let server: Server;
  let bucket: Bucket;
  const closing: (() => Promise<void>)[] = [];
  beforeAll(async () => {
    server = await s3Server();
  }, PATIENCE_MS);
  beforeEach(async () => {
    bucket = await freshBucket(server);
  });
  afterEach(async () => {
    jest.restoreAllMocks();
    await bucket.close();
    for (const close of closing.splice(0)) await close();
  });

  const proxied = async (does: Interference) => {
    const proxy = await s3Proxy(server.endpoint, does);
    closing.push(() => proxy.close());
    return proxy;
  };

  it(
    'reports configuration errors and that the call will be retried',
    async () => {
      const keys = { accessKeyId: server.accessKeyId, secretAccessKey: server.secretAccessKey };
      const wrong: readonly (readonly [Partial<S3Options>, RegExp])[] = [
        [{ credentials: { ...keys, secretAccessKey: 'wrong' } }, /credentials are rejected: check the access key/],
        [{ credentials: { ...keys, accessKeyId: 'nobody' } }, /credentials are rejected: check the access key/],
        [{ bucket: 'no-such-bucket' }, /no such bucket: create it, or correct/],
        [
          { endpoint: `http://127.0.0.1:${await anyFreePort('127.0.0.1')}` },
          /the connection was refused: check the endpoint/,
        ],
        [{ endpoint: 'http://no-such-host.invalid' }, /host name (is unknown|cannot be resolved)/],
        [{ endpoint: server.endpoint.replace('http:', 'https:') }, /TLS with the endpoint failed/],
        [{ region: 'eu-central-1' }, /is in another region: set that region/],
      ];
      for (const [options, message] of wrong) {
        const store = await bucket.open(options);
        await rejectsRetryably(store.check(), message);
        await rejectsRetryably(put(store, at('a'), text('a')), message);
        await rejectsRetryably(put(store, at('a'), pattern(6 * MIB)), message);
        await rejectsRetryably(store.list(at('a')), message);
        await rejectsRetryably(store.read(store.uri(at('a'))), message);
      }
      await (await bucket.open()).check();
      await bucket.assertOnly();
      const refused = await bucket.open({ credentials: { ...keys, secretAccessKey: 'wrong' } });
      // A HEAD response has no body that distinguishes the two.
      await rejectsRetryably(
        refused.stat(refused.uri(at('a'))),
        /credentials are rejected.*, or give its key the rights/,
      );
      // A HEAD response is the same for a missing bucket and a missing file.
      const nowhere = await bucket.open({ bucket: 'no-such-bucket' });
      await rejectsRetryably(nowhere.stat(nowhere.uri(at('a'))), /no such bucket: create it, or correct/);
    },
    PATIENCE_MS,
  );

  it('distinguishes a full store, throttling and a server that is not S3', async () => {
    // Answers that the test run's server never gives.
    const played = { status: 507, body: '<Error><Code>XMinioStorageFull</Code><Message>full</Message></Error>' };
    const proxy = await proxied({ instead: () => played });
    const store = await bucket.open({ endpoint: proxy.endpoint });
    await rejectsRetryably(put(store, at('a'), text('a')), /no space left: free space or raise the quota/);
    Object.assign(played, { status: 503, body: '<Error><Code>SlowDown</Code><Message>slow</Message></Error>' });
    await rejectsRetryably(put(store, at('a'), text('a')), /overloaded or fails temporarily/);
    Object.assign(played, { status: 418, body: '<html>teapot</html>' });
    await rejectsRetryably(put(store, at('a'), text('a')), /S3 PutObject of s3:.*: answered 418/);
  });

  it('works with a wrong clock if the server sends its time, and reports it otherwise', async () => {
    const store = await bucket.open();
    const now = Date.now.bind(Date);
    jest.spyOn(Date, 'now').mockImplementation(() => now() + HOUR_MS);
    await put(store, at('a'), text('a'));
    assert.equal((await fetch(await store.presign(store.uri(at('a')), { seconds: 60 }))).status, 200);
    // A server that keeps refusing, and whose time does not help.
    const body = '<Error><Code>RequestTimeTooSkewed</Code><Message>skewed</Message></Error>';
    const proxy = await proxied({ instead: () => ({ status: 403, body }) });
    const refused = await bucket.open({ endpoint: proxy.endpoint });
    await rejectsRetryably(
      put(refused, at('b'), text('b')),
      /clocks of this machine and of the server are too far apart/,
    );
  });

  it(
    'stores nothing if encryption is configured but not confirmed',
    async () => {
      const header = 'x-amz-server-side-encryption';
      const says: { on: (asked: IncomingMessage) => string | undefined } = { on: () => undefined };
      const asked: string[] = [];
      const proxy = await proxied({
        before: ({ method, headers }) => void (method !== 'GET' && asked.push(String(headers[header]))),
        answer: (request, headers) => void Object.assign(headers, says.on(request) && { [header]: says.on(request) }),
      });
      const store = await bucket.open({ endpoint: proxy.endpoint, encryption: 'AES256' });
      const large = pattern(6 * MIB);
      const writes = [
        [text('small'), {}],
        [large, { expect: { sha256: sha256(large) } }],
        [large, {}],
        [large, { ifExists: 'replace' }],
      ] as const;
      const refusals = [
        [
          () => undefined,
          /server-side encryption AES256 is configured, but .* reports no encryption. Nothing was stored/,
        ],
        [() => 'aws:kms', /aws:kms.*Nothing was stored/],
        // Promised when the upload is begun, but not so when it is stored.
        [({ url = '' }: IncomingMessage) => (url.includes('uploads') ? 'AES256' : undefined), /Nothing was stored/],
      ] as const;
      for (const [on, message] of refusals) {
        says.on = on;
        for (const [bytes, options] of writes) {
          await rejectsRetryably(put(store, at('a'), bytes, options), message);
          await bucket.assertOnly();
        }
      }
      says.on = () => undefined;
      await rejectsRetryably(store.check(), /encryption AES256 is configured/);
      assert.ok(asked.includes('AES256'), 'the encryption was asked for');
      says.on = () => 'AES256';
      await store.check();
      for (const [index, [bytes, options]] of writes.entries()) {
        await put(store, at(`a${index}`), bytes, options);
        assert.ok((await get(store, at(`a${index}`))).equals(bytes));
      }
      await put(store, at('empty'), text(''));
      assert.equal((await get(store, at('empty'))).byteLength, 0);
    },
    PATIENCE_MS,
  );

  it(
    'confirms the encryption of existing identical bytes too, as after a lost answer',
    async () => {
      const header = 'x-amz-server-side-encryption';
      const says = { on: (url: string): boolean => url.includes('uploads') };
      const proxy = await proxied({
        answer: ({ url = '' }, headers) => void (says.on(url) && (headers[header] = 'AES256')),
      });
      await put(await bucket.open(), at('a'), text('a'));
      const store = await bucket.open({ endpoint: proxy.endpoint, encryption: 'AES256' });
      // Promised when the upload is begun, but not so of what is stored.
      await rejectsRetryably(
        put(store, at('a'), text('a')),
        /encryption AES256 is configured, but .* reports no encryption.* remove unencrypted objects/,
      );
      // Others may need it: it is theirs to remove.
      assert.equal((await get(store, at('a'))).toString(), 'a');
      says.on = () => true;
      await put(store, at('a'), text('a'));
    },
    PATIENCE_MS,
  );

  it.each([
    ['may not abort uploads', 'DELETE', /uploadId=/i, 'AbortMultipartUpload'],
    ['may not list parts', 'GET', /uploadId=/i, 'ListParts'],
    ['may not list uploads', 'GET', /[?&]uploads/, 'ListMultipartUploads'],
    ['may not delete objects', 'DELETE', /^[^?]*(\?x-id=DeleteObject)?$/, 'DeleteObject'],
  ])(
    'its check reports an access key that %s',
    async (_, method, asked, operation) => {
      const body = '<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>';
      const proxy = await proxied({
        instead: ({ method: used, url = '' }) =>
          used === method && asked.test(url) ? { status: 403, body } : undefined,
      });
      const store = await bucket.open({ endpoint: proxy.endpoint });
      const expected = new RegExp(`S3 ${operation} of .*give its key the rights .*s3:AbortMultipartUpload`);
      await rejectsRetryably(store.check(), expected);
    },
    PATIENCE_MS,
  );

  it(
    'removes leftovers of dead writers older than a day, and nothing newer or of others',
    async () => {
      const left = async (Key: string): Promise<void> => {
        await bucket.client.send(new CreateMultipartUploadCommand({ Bucket: bucket.bucket, Key }));
      };
      for (const key of ['mine/common/p/a', 'mine/.tmp/draft', 'others/a']) await left(key);
      const draft = { Bucket: bucket.bucket, Key: 'mine/.tmp/draft', Body: 'left' };
      await bucket.client.send(new PutObjectCommand(draft));
      const rounds = jest.spyOn(globalThis, 'setInterval');
      const store = await bucket.open({ prefix: 'mine' });
      const [round, day] = rounds.mock.calls.at(-1) ?? [];
      assert.equal(day, 24 * HOUR_MS);
      await put(store, at('a'), text('a'));
      round?.();
      // It waits for the sweeps that are running.
      await store.close();
      assert.equal((await bucket.openUploads()).length, 3);
      assert.deepEqual(await bucket.keys(), ['mine/.tmp/draft', `mine/${at('a')}`]);
      const now = Date.now.bind(Date);
      jest.spyOn(Date, 'now').mockImplementation(() => now() + 25 * HOUR_MS);
      const swept = async (uploads: number): Promise<void> => {
        for (const until = now() + 60_000; (await bucket.keys()).length > 1; await sleep(50))
          assert.ok(now() < until, 'it was not swept');
        assert.equal((await bucket.openUploads()).length, uploads);
        assert.deepEqual(await bucket.keys(), [`mine/${at('a')}`]);
      };
      // At opening, and every day.
      await bucket.open({ prefix: 'mine' });
      await swept(1);
      await bucket.client.send(new PutObjectCommand(draft));
      rounds.mock.calls.at(-1)?.[0]();
      await swept(1);
      assert.deepEqual(await bucket.openUploads(), ['others/a']);
    },
    PATIENCE_MS,
  );

  it(
    'opens while the server is down, warns that nothing is cleaned up, and works once it is up',
    async () => {
      await bucket.client.send(new DeleteBucketCommand({ Bucket: bucket.bucket }));
      await bucket.open();
      for (const until = Date.now() + 60_000; bucket.warnings.length === 0; await sleep(50))
        assert.ok(Date.now() < until, 'no warning came');
      assert.match(bucket.warnings[0] ?? '', /old temporary objects in s3:.* could not be removed.*.*no such bucket/);
    },
    PATIENCE_MS,
  );
});
