// Alluxio killed, paused, stale or faulty: every read returns the bytes of HDFS, with one warning, and Alluxio is used again afterwards.
import assert from 'node:assert/strict';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createAlluxioReads, type AlluxioOptions } from '../../activities/adapters/alluxio.ts';
import { createHdfsStore, type HdfsStore } from '../../activities/adapters/hdfs.ts';
import { createLocalDisk } from '../../activities/adapters/local-disk.ts';
import type { SupervisedChild } from '../../deploy/local/child.ts';
import { storePath, type StorePath } from '../../workflows/domain/names.ts';
import { get, pattern, put, sha256 } from '../contracts/artifact-store/material.ts';
import { collect, freshName, rejects } from '../contracts/cases.ts';
import { eventually } from '../contracts/cluster.ts';
import { describeWith, hdfsServer } from '../servers.ts';
import { ownAlluxio, signal, type OwnAlluxio } from './alluxio-cluster.ts';
import { scratchFolder } from './scratch-folder.ts';

/** Java servers start, and silent ones are waited for several times. */
const TIMEOUT_MS = 300_000;
/** Longer than a healthy Alluxio is silent on a busy machine, but short enough for a test. */
const SILENCE_MS = 8_000;
const at = (path: string): StorePath => storePath({ area: 'common', project: 'p', path });

/** Reads a file and, once a tenth has come, does something to the server. */
async function getWhile(source: AsyncIterable<Uint8Array>, bytes: number, act: () => void): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  let came = 0;
  for await (const chunk of source) {
    chunks.push(chunk);
    if (came < bytes / 10 && came + chunk.byteLength >= bytes / 10) act();
    came += chunk.byteLength;
  }
  return Buffer.concat(chunks);
}

describeWith(['hdfs', 'alluxio'], 'an Alluxio that fails', () => {
  let own: OwnAlluxio | undefined;
  let hdfs: HdfsStore | undefined;
  const root = `/${freshName('alluxio-faults')}`;
  // More than all buffers on the way hold, so that it is the middle of the read.
  const bytes = pattern(64_000_000);
  const digest = sha256(bytes);
  const path = at('large');
  const servers = (): OwnAlluxio => own ?? assert.fail('Alluxio was not started');
  beforeAll(async () => {
    own = await ownAlluxio();
    hdfs = await createHdfsStore({ url: (await hdfsServer()).url, user: 'ocdl', root, name: 'areas' });
    await put(hdfs, path, bytes);
  }, TIMEOUT_MS);
  afterAll(async () => {
    await own?.close();
    await hdfs?.close();
  }, TIMEOUT_MS);

  /** A new adapter that has served the file once, from a healthy Alluxio. */
  async function healthy(options: Partial<AlluxioOptions> = {}) {
    const warnings: string[] = [];
    const onWarn = (message: string): void => void warnings.push(message);
    const store = hdfs ?? assert.fail('HDFS was not opened');
    const reads = createAlluxioReads({
      ...{ store, url: servers().url, root, onWarn, silenceMs: SILENCE_MS, retryAfterMs: 200 },
      ...options,
    });
    /** Asks for a byte again and again, and for the whole file once that came from Alluxio. */
    const servedByAlluxio = async (): Promise<void> => {
      const fallbacksOf = async (read: Promise<unknown>): Promise<number> => {
        const before = reads.metrics().fallbacks;
        await read;
        return reads.metrics().fallbacks - before;
      };
      const first = async () => collect(await reads.read(reads.uri(path), { range: { start: 0, end: 1 } }));
      const whole = async () => assert.equal(sha256(await get(reads, path)), digest);
      await eventually(
        'Alluxio serves reads',
        async () => (await fallbacksOf(first())) === 0 && (await fallbacksOf(whole())) === 0,
        TIMEOUT_MS / 2,
      );
    };
    await servedByAlluxio();
    warnings.length = 0;
    return { reads, warnings, servedByAlluxio };
  }

  /** Both kinds of outage; the supervisor repairs a kill, the test ends a pause. */
  const ways: readonly (readonly [
    name: string,
    fail: (server: SupervisedChild) => void,
    repair: (server: SupervisedChild) => void,
  ])[] = [
    ['killed', (server) => signal(server, 'SIGKILL'), () => undefined],
    ['paused', (server) => signal(server, 'SIGSTOP'), (server) => signal(server, 'SIGCONT')],
  ];

  describe.each(ways)('%s', (name, fail, repair) => {
    it(
      'proxy during and before reads: HDFS continues the read at its position; then Alluxio serves again',
      async () => {
        const { proxy } = servers();
        const { reads, warnings, servedByAlluxio } = await healthy();
        const before = reads.metrics();
        const got = await getWhile(await reads.read(reads.uri(path)), bytes.byteLength, () => fail(proxy));
        assert.equal(sha256(got), digest);
        assert.equal(reads.metrics().fallbacks, before.fallbacks + 1);
        // Four at once, of which at most one asks Alluxio again.
        const more = await Promise.all([1, 2, 3, 4].map(() => get(reads, path)));
        for (const each of more) assert.equal(sha256(each), digest);
        // A killed one may be running again by now.
        if (name === 'paused') assert.equal(reads.metrics().fallbacks, before.fallbacks + 5);
        assert.equal(warnings.length, 1, warnings.join('\n'));
        assert.match(warnings[0] ?? '', /^Alluxio at http:.* fails \(.+\): reads fall back to HDFS/);
        repair(proxy);
        await servedByAlluxio();
        assert.equal(warnings.length, 1, warnings.join('\n'));
      },
      TIMEOUT_MS,
    );

    it.each(['worker', 'master'] as const)(
      '%s during and before reads: correct bytes, at most one warning; then Alluxio serves again',
      async (which) => {
        const server = servers()[which];
        const { reads, warnings, servedByAlluxio } = await healthy();
        const begun: Promise<Buffer>[] = [];
        const got = await getWhile(await reads.read(reads.uri(path)), bytes.byteLength, () => {
          fail(server);
          // Both wait for the timeout concurrently.
          begun.push(get(reads, path));
        });
        assert.equal(sha256(got), digest);
        assert.deepEqual((await Promise.all(begun)).map(sha256), [digest]);
        assert.ok(warnings.length <= 1, warnings.join('\n'));
        repair(server);
        await servedByAlluxio();
      },
      TIMEOUT_MS,
    );
  });
});

describe('a faulty proxy', () => {
  let close: (() => Promise<void>)[] = [];
  afterEach(async () => {
    for (const end of close.reverse()) await end();
    close = [];
  });

  /** Reads over a local disk, through a proxy of this test that answers as specified. */
  async function through(
    answer: (given: { request: IncomingMessage; response: ServerResponse; etag: string; bytes: Buffer }) => unknown,
    options: Partial<AlluxioOptions> = {},
  ) {
    const scratch = await scratchFolder();
    close.push(scratch.remove);
    const store = await createLocalDisk({ root: scratch.path, name: 'areas' });
    const bytes = pattern(6_000_000);
    await put(store, at('file'), bytes);
    const stat = (await store.stat(store.uri(at('file')))) ?? assert.fail('nothing was stored');
    const etag = `(len:${stat.bytes}, modtime:${Date.parse(stat.modifiedAt)})`;
    const asked: string[] = [];
    const proxy = createServer((request, response) => {
      asked.push(request.headers.range ?? '');
      answer({ request, response, etag, bytes });
    });
    await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
    close.push(async () => {
      proxy.closeAllConnections();
      await new Promise((resolve) => proxy.close(resolve));
    });
    const { port } = proxy.address() as AddressInfo;
    const warnings: string[] = [];
    const onWarn = (message: string): void => void warnings.push(message);
    const url = `http://127.0.0.1:${port}`;
    const reads = createAlluxioReads({ store, url, root: '/ocdl', onWarn, silenceMs: 30_000, ...options });
    return { reads, bytes, asked, warnings };
  }

  const wrongs: readonly (readonly [name: string, answer: Parameters<typeof through>[0], warned: RegExp])[] = [
    ['refuses', ({ response }) => response.writeHead(403).end('no'), /answered 403 no/],
    ['has lost the file', ({ response }) => response.writeHead(404).end(), /answered 404/],
    ['has no ETag', ({ response, bytes }) => response.writeHead(206).end(bytes), /a different version/],
    [
      'still has an older version of the same length',
      ({ response, bytes, etag }) =>
        response.writeHead(206, { etag: etag.replace(/\d+\)$/, '1)') }).end(Buffer.alloc(bytes.byteLength)),
      /a different version of common\/p\/file than HDFS: set alluxio.user.file.metadata.sync.interval/,
    ],
    [
      'sends a truncated body without an error',
      ({ response, bytes, etag }) => response.writeHead(206, { etag }).end(bytes.subarray(0, 5_500_000)),
      /received 5500000 of 6000000 bytes of common\/p\/file/,
    ],
    [
      'closes the connection',
      ({ response, bytes, etag }) =>
        response
          .writeHead(206, { etag, 'content-length': bytes.byteLength })
          .write(bytes.subarray(0, 5_500_000), () => response.destroy()),
      /aborted/,
    ],
    ['redirects', ({ response }) => response.writeHead(302, { location: 'http://127.0.0.1:9/' }).end(), /answered 302/],
  ];

  it.each(wrongs)('%s: HDFS serves', async (_, answer, warned) => {
    const { reads, bytes, warnings } = await through(answer);
    assert.ok((await get(reads, at('file'))).equals(bytes));
    const range = { start: 10, end: 5_999_000 };
    const part = await collect(await reads.read(reads.uri(at('file')), { range }));
    assert.ok(part.equals(bytes.subarray(10, 5_999_000)));
    assert.equal(warnings.length, 1, warnings.join('\n'));
    assert.match(warnings[0] ?? '', warned);
    assert.deepEqual(reads.metrics(), { reads: 2, fallbacks: 2 });
  });

  it('is not used while it fails, and is tried by a single read afterwards', async () => {
    // Takes connections and never answers, as a paused process does.
    const patient = await through(() => undefined, { silenceMs: 100, retryAfterMs: 600_000 });
    for (let i = 0; i < 5; i += 1) assert.ok((await get(patient.reads, at('file'))).equals(patient.bytes));
    assert.equal(patient.asked.length, 1);
    assert.deepEqual(patient.reads.metrics(), { reads: 5, fallbacks: 5 });
    const eager = await through(() => undefined, { silenceMs: 2_000, retryAfterMs: 0 });
    await get(eager.reads, at('file'));
    await Promise.all([1, 2, 3, 4, 5].map(() => get(eager.reads, at('file'))));
    assert.equal(eager.asked.length, 2);
    assert.equal(eager.warnings.length, 1);
  });

  it('never mixes versions: a file replaced during a read fails if bytes were delivered, and is read again otherwise', async () => {
    const replacement = pattern(6_000_000, 2);
    const { reads, warnings } = await through(({ response, bytes, etag }) => {
      // The old bytes until the reader has some of them, the new ones after that.
      response.writeHead(206, { etag }).write(bytes.subarray(0, 5_000_000));
      void put(reads, at('file'), replacement, { ifExists: 'replace' }).then(() =>
        response.end(replacement.subarray(5_000_000)),
      );
    });
    await rejects('reading both', get(reads, at('file')));
    const { reads: small } = await through(({ request, response, bytes, etag }) => {
      if (request.headers.range === 'bytes=0-999999')
        response.writeHead(206, { etag }).write(bytes.subarray(0, 500_000));
      void put(small, at('file'), replacement, { ifExists: 'replace' }).then(() =>
        response.end(replacement.subarray(500_000, 1_000_000)),
      );
    });
    const part = await collect(await small.read(small.uri(at('file')), { range: { start: 0, end: 1_000_000 } }));
    assert.ok(part.equals(replacement.subarray(0, 1_000_000)), 'a mixture came out');
    assert.deepEqual(warnings, []);
  });
});
