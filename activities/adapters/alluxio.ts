// Reads of a store through Alluxio's cache: the bytes that HDFS holds now, or HDFS straight. All else is the store's own.
import { lookup } from 'node:dns/promises';
import { request, type IncomingMessage, type RequestOptions } from 'node:http';
import { BlockList } from 'node:net';
import { addAbortSignal } from 'node:stream';
import { text } from 'node:stream/consumers';
import { failure, SystemUnavailable } from '../failures.ts';
import type { ArtifactStore, StoredFile } from '../ports.ts';
import { checkRange } from './store-rules.ts';

export interface AlluxioReads extends ArtifactStore {
  /** `reads` were to go through Alluxio; of these HDFS had to serve `fallbacks`, in whole or in part. */
  metrics(): { readonly reads: number; readonly fallbacks: number };
  /** Rejects, with what to do, unless the proxy lies on a private network and shows the root. */
  check(): Promise<void>;
}

export interface AlluxioOptions {
  /** The HDFS store: writes, listings and digests are its own, and so are reads when Alluxio fails. */
  readonly store: ArtifactStore;
  /** Alluxio's proxy, such as `http://127.0.0.1:39999`. */
  readonly url: string;
  /** Where the store's paths lie in Alluxio's namespace, such as `/ocdl`. */
  readonly root: string;
  /** A user who may read all of it: the superuser of HDFS. Alluxio checks no signature, only that a user is named. */
  readonly user?: string;
  /** Told once when Alluxio begins to fail, and again only after it has served in between. */
  readonly onWarn: (message: string) => void;
  /** Told of each read that HDFS had to serve. */
  readonly onFallback?: () => void;
  /** Without a byte for so long Alluxio counts as failed. */
  readonly silenceMs?: number;
  /** For so long after a failure Alluxio is not asked. */
  readonly retryAfterMs?: number;
}

type ReadOptions = NonNullable<Parameters<ArtifactStore['read']>[1]>;

/** A cold first byte takes well under a second; what is slower than this is better read from HDFS. */
const SILENCE_MS = 10_000;
/** Long beside the wait for a dead proxy, which one read pays each time; short beside an operator's repair. */
const RETRY_AFTER_MS = 30_000;
/** So much of a file is held until its end, or given on: small files are right as a whole even if replaced while they are read. */
const HELD_BYTES = 4 * 2 ** 20;

/**
 * Wraps a store so that its reads are served from Alluxio's cache. A cache behind our authorization, never a boundary:
 * it knows neither users nor HDFS's ACLs, so nothing but the platform may reach it.
 *
 * Bytes come by Alluxio's S3 endpoint: unlike its REST streams it knows ranges, and the answer names the version that it
 * is about to send (length and modification time in the ETag). That must be the version HDFS shows before and after.
 */
export function createAlluxioReads(options: AlluxioOptions): AlluxioReads {
  const { store, url, root, user = 'hdfs', onWarn, onFallback } = options;
  const { silenceMs = SILENCE_MS, retryAfterMs = RETRY_AFTER_MS } = options;
  if (!/^(\/[\w.-]+)+$/.test(root)) throw failure('InvalidInput', `Alluxio's root "${root}" is no path such as /ocdl`);
  const count = { reads: 0, fallbacks: 0 };
  const health = { isFailing: false, retryAt: 0 };

  function mayAsk(): boolean {
    if (!health.isFailing) return true;
    const now = performance.now();
    if (now < health.retryAt) return false;
    // One read finds out; the others do not wait for its end.
    health.retryAt = now + silenceMs + retryAfterMs;
    return true;
  }

  function failed(error: unknown): void {
    if (!health.isFailing)
      onWarn(
        `Alluxio at ${url} fails (${reasonOf(error)}): data is read straight from HDFS, Alluxio is tried again every ${retryAfterMs / 1000} s`,
      );
    health.isFailing = true;
    health.retryAt = performance.now() + retryAfterMs;
  }

  function fellBack(): void {
    count.fallbacks += 1;
    onFallback?.();
  }

  async function isStill(file: StoredFile): Promise<boolean> {
    const now = await store.stat(file.uri);
    return now?.bytes === file.bytes && now.modifiedAt === file.modifiedAt;
  }

  async function* bytesOf(file: StoredFile, how: ReadOptions): AsyncGenerator<Uint8Array> {
    const { start, end } = within(file, how);
    let given = start;
    try {
      let held: Uint8Array[] | undefined = [];
      let bytes = 0;
      for await (const chunk of cachedBytes(file, start, end, how.signal)) {
        bytes += chunk.byteLength;
        held?.push(chunk);
        if (held && bytes <= HELD_BYTES) continue;
        for (const part of held ?? [chunk]) {
          how.signal?.throwIfAborted();
          given += part.byteLength;
          yield part;
        }
        held = undefined;
      }
      // Alluxio opens the path when it gets to it: what was replaced on the way may have been read from both.
      if (!(await isStill(file))) throw new Error('replaced while it was read');
      health.isFailing = false;
      for (const part of held ?? []) {
        how.signal?.throwIfAborted();
        yield part;
      }
      how.signal?.throwIfAborted();
      return;
    } catch (error) {
      how.signal?.throwIfAborted();
      // Replaced in the meantime: not Alluxio's fault.
      if (await isStill(file)) failed(error);
    }
    fellBack();
    if (given === start) {
      yield* await store.read(file.uri, how);
      return;
    }
    if (await isStill(file)) yield* await store.read(file.uri, { ...how, range: { start: given, end } });
    if (!(await isStill(file)))
      throw unavailable(
        'the file was replaced while it was read',
        `${file.path} was replaced while it was read: it is to be read again from its beginning`,
      );
  }

  /** The bytes as Alluxio has them; an error unless they are all there, of this very version. */
  async function* cachedBytes(
    file: StoredFile,
    start: number,
    end: number,
    signal?: AbortSignal,
  ): AsyncGenerator<Uint8Array> {
    const stop = new AbortController();
    const onAbort = (): void => stop.abort(signal?.reason);
    signal?.addEventListener('abort', onAbort, { once: true });
    const unlessSilent = async <T>(step: Promise<T>): Promise<T> => {
      const timer = setTimeout(() => stop.abort(new Error(`nothing came for ${silenceMs / 1000} s`)), silenceMs);
      return step.finally(() => clearTimeout(timer));
    };
    try {
      signal?.throwIfAborted();
      const headers = {
        // Names the user; the rest is form.
        authorization: `AWS4-HMAC-SHA256 Credential=${user}/20000101/none/s3/aws4_request, SignedHeaders=host, Signature=none`,
        range: `bytes=${start}-${end - 1}`,
      };
      const address = new URL(`/api/v1/s3${root}/${file.path}`, url);
      const answer = await unlessSilent(send(address, { headers, signal: stop.signal }));
      if (answer.statusCode !== 206) throw new Error(await unlessSilent(textOf(answer)));
      const [, length, modified] = /len:(\d+), ?modtime:(\d+)/.exec(answer.headers.etag ?? '') ?? [];
      if (Number(length) !== file.bytes || Number(modified) !== Date.parse(file.modifiedAt))
        throw new Error(
          `it shows another version of ${file.path} than HDFS: alluxio.user.file.metadata.sync.interval must be 0`,
        );
      const chunks: AsyncIterator<Uint8Array> = answer[Symbol.asyncIterator]();
      let bytes = 0;
      for (;;) {
        const next = await unlessSilent(chunks.next());
        if (next.done) break;
        bytes += next.value.byteLength;
        yield next.value;
      }
      if (bytes !== end - start) throw new Error(`${bytes} bytes of ${file.path} came instead of ${end - start}`);
    } finally {
      signal?.removeEventListener('abort', onAbort);
      stop.abort();
    }
  }

  return {
    uri: (path) => store.uri(path),
    path: (uri) => store.path(uri),
    write: (path, source, how) => store.write(path, source, how),
    stat: (uri) => store.stat(uri),
    // Integrity is asked of what is stored, not of what is cached.
    digest: (uri, signal) => store.digest(uri, signal),
    list: (folder, page) => store.list(folder, page),
    remove: (uri) => store.remove(uri),
    async read(uri, how = {}) {
      const file = await store.stat(uri);
      const asked = file && within(file, how);
      // Of no file, and of no bytes, the store speaks itself.
      if (!asked || asked.start >= asked.end) return store.read(uri, how);
      count.reads += 1;
      if (mayAsk()) return bytesOf(file, how);
      fellBack();
      return store.read(uri, how);
    },
    metrics: () => ({ ...count }),
    async check() {
      await mustBePrivate(new URL(url).hostname);
      const answer = await send(new URL(`/api/v1/paths/${root}/get-status`, url), {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        signal: AbortSignal.timeout(silenceMs),
      }).catch((error: unknown) => {
        throw unavailable(
          'its proxy cannot be reached',
          `Alluxio's proxy at ${url} cannot be reached (${reasonOf(error)}): is it running, is this its address?`,
        );
      });
      const said = await textOf(answer);
      if (answer.statusCode !== 200)
        throw unavailable(
          'it does not show the areas',
          `Alluxio at ${url} does not show ${root} (${said}): is the root of HDFS mounted at its /?`,
        );
    },
  };
}

const unavailable = (reason: string, message: string): SystemUnavailable =>
  new SystemUnavailable({ system: 'Alluxio', reason, message });

/** One exchange. Not by `fetch`: that of Node 20 can lose its signal in mid-body (with its collected request), and hangs. */
function send(address: URL, options: RequestOptions & { readonly signal: AbortSignal }): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    // A connection of its own: a kept one may be closed by the other side just now.
    const asked = request(address, { ...options, agent: false }, (answer) =>
      resolve(addAbortSignal(options.signal, answer)),
    );
    asked.on('error', reject);
    asked.end(options.method === 'POST' ? '{}' : undefined);
  });
}

/** What of the file is asked for. */
function within(file: StoredFile, { range }: ReadOptions): { start: number; end: number } {
  const { start, end } = checkRange(file.path, range);
  return { start, end: Math.min(end, file.bytes) };
}

/** Loopback, and the networks of RFC 1918, RFC 6598 and RFC 4193. */
const privateNetworks = new BlockList();
for (const [net, prefix] of [
  ['127.0.0.0', 8],
  ['10.0.0.0', 8],
  ['172.16.0.0', 12],
  ['192.168.0.0', 16],
  ['100.64.0.0', 10],
] as const)
  privateNetworks.addSubnet(net, prefix, 'ipv4');
privateNetworks.addAddress('::1', 'ipv6');
privateNetworks.addSubnet('fc00::', 7, 'ipv6');

async function mustBePrivate(hostname: string): Promise<void> {
  const found = await lookup(hostname.replace(/^\[|\]$/g, ''), { all: true });
  const open = found.find(({ address, family }) => !privateNetworks.check(address, family === 6 ? 'ipv6' : 'ipv4'));
  if (open)
    throw failure(
      'InvalidInput',
      `Alluxio's proxy ${hostname} has the public address ${open.address}: it shows every file to whoever reaches it, so it must lie on loopback or a private network`,
    );
}

/** What a refusal says, cut to what a log line takes. */
const textOf = async (answer: IncomingMessage): Promise<string> =>
  `it answered ${answer.statusCode} ${(await text(answer)).slice(0, 300)}`.trimEnd();

/** The reason of what was broken off stands in the cause. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause instanceof Error ? error.cause.message : error.message;
}
