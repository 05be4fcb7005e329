// Serves a store's reads from Alluxio's cache, with fallback to HDFS; all other operations go to the store.
import { lookup } from 'node:dns/promises';
import { request, type IncomingMessage, type RequestOptions } from 'node:http';
import { BlockList } from 'node:net';
import { addAbortSignal } from 'node:stream';
import { text } from 'node:stream/consumers';
import { failure, SystemUnavailable } from '../failures.ts';
import type { ArtifactStore, StoredFile } from '../ports.ts';
import { checkRange } from './store-rules.ts';

export interface AlluxioReads extends ArtifactStore {
  /** `reads`: reads meant for Alluxio; `fallbacks`: how many of them HDFS served, in whole or in part. */
  metrics(): { readonly reads: number; readonly fallbacks: number };
  /** Rejects with the required action unless the proxy is on a private network and serves the root. */
  check(): Promise<void>;
}

export interface AlluxioOptions {
  /** The HDFS store: serves writes, listings and digests, and reads when Alluxio fails. */
  readonly store: ArtifactStore;
  /** Alluxio's proxy, such as `http://127.0.0.1:39999`. */
  readonly url: string;
  /** The path of the store in Alluxio's namespace, such as `/ocdl`. */
  readonly root: string;
  /** A user who may read everything: the superuser of HDFS. Alluxio verifies no signature; it only needs a user name. */
  readonly user?: string;
  /** Called once when Alluxio starts to fail, and again only after it has recovered and failed again. */
  readonly onWarn: (message: string) => void;
  /** Called for each read that HDFS served instead. */
  readonly onFallback?: () => void;
  /** Alluxio counts as failed when no byte arrives for this long. */
  readonly silenceMs?: number;
  /** After a failure, Alluxio is skipped for this long. */
  readonly retryAfterMs?: number;
}

type ReadOptions = NonNullable<Parameters<ArtifactStore['read']>[1]>;

/** A cold first byte takes well under a second; beyond this limit, HDFS is faster. */
const SILENCE_MS = 10_000;
/** Long compared to the timeout of a dead proxy, which one read per period pays; short compared to a repair by an operator. */
const RETRY_AFTER_MS = 30_000;
/** The first bytes held back until the whole read is verified: smaller files are consistent even if they are replaced during the read. */
const HELD_BYTES = 4 * 2 ** 20;

/**
 * Wraps a store so that reads come from Alluxio's cache. The cache is not a security boundary: it knows neither
 * users nor HDFS ACLs, so only the platform may reach it.
 *
 * Bytes come from Alluxio's S3 endpoint. Unlike its REST streams it supports ranges, and its response names the version
 * that it sends (length and modification time in the ETag). It must be the version in HDFS before and after the read.
 */
export function createAlluxioReads(options: AlluxioOptions): AlluxioReads {
  const { store, url, root, user = 'hdfs', onWarn, onFallback } = options;
  const { silenceMs = SILENCE_MS, retryAfterMs = RETRY_AFTER_MS } = options;
  if (!/^(\/[\w.-]+)+$/.test(root))
    throw failure('InvalidInput', `Alluxio's root "${root}" is not an absolute path such as /ocdl`);
  const count = { reads: 0, fallbacks: 0 };
  const health = { isFailing: false, retryAt: 0 };

  function mayAsk(): boolean {
    if (!health.isFailing) return true;
    const now = performance.now();
    if (now < health.retryAt) return false;
    // One read probes Alluxio; the others go to HDFS meanwhile.
    health.retryAt = now + silenceMs + retryAfterMs;
    return true;
  }

  function failed(error: unknown): void {
    if (!health.isFailing)
      onWarn(
        `Alluxio at ${url} fails (${reasonOf(error)}): reads fall back to HDFS, and Alluxio is retried every ${retryAfterMs / 1000} s`,
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
      // Alluxio opens the path late: after a replacement during the read, the bytes may come from both versions.
      if (!(await isStill(file))) throw new Error('the file was replaced while it was being read');
      health.isFailing = false;
      for (const part of held ?? []) {
        how.signal?.throwIfAborted();
        yield part;
      }
      how.signal?.throwIfAborted();
      return;
    } catch (error) {
      how.signal?.throwIfAborted();
      // A file that was replaced during the read is not a failure of Alluxio.
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
        'the file was replaced while it was being read',
        `${file.path} was replaced while it was being read: read it again from the start`,
      );
  }

  /** The cached bytes; throws unless they are complete and of exactly this version. */
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
      const timer = setTimeout(() => stop.abort(new Error(`no data arrived for ${silenceMs / 1000} s`)), silenceMs);
      return step.finally(() => clearTimeout(timer));
    };
    try {
      signal?.throwIfAborted();
      const headers = {
        // Only the user name matters; the rest has the required form.
        authorization: `AWS4-HMAC-SHA256 Credential=${user}/20000101/none/s3/aws4_request, SignedHeaders=host, Signature=none`,
        range: `bytes=${start}-${end - 1}`,
      };
      const address = new URL(`/api/v1/s3${root}/${file.path}`, url);
      const answer = await unlessSilent(send(address, { headers, signal: stop.signal }));
      if (answer.statusCode !== 206) throw new Error(await unlessSilent(textOf(answer)));
      const [, length, modified] = /len:(\d+), ?modtime:(\d+)/.exec(answer.headers.etag ?? '') ?? [];
      if (Number(length) !== file.bytes || Number(modified) !== Date.parse(file.modifiedAt))
        throw new Error(
          `it serves a different version of ${file.path} than HDFS: set alluxio.user.file.metadata.sync.interval to 0`,
        );
      const chunks: AsyncIterator<Uint8Array> = answer[Symbol.asyncIterator]();
      let bytes = 0;
      for (;;) {
        const next = await unlessSilent(chunks.next());
        if (next.done) break;
        bytes += next.value.byteLength;
        yield next.value;
      }
      if (bytes !== end - start) throw new Error(`received ${bytes} of ${end - start} bytes of ${file.path}`);
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
    // Integrity checks read the stored bytes, not the cached ones.
    digest: (uri, signal) => store.digest(uri, signal),
    list: (folder, page) => store.list(folder, page),
    remove: (uri) => store.remove(uri),
    async read(uri, how = {}) {
      const file = await store.stat(uri);
      const asked = file && within(file, how);
      // For a missing file or an empty range, the store gives the answer.
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
          `Alluxio's proxy at ${url} cannot be reached (${reasonOf(error)}): check that it runs and that the address is correct`,
        );
      });
      const said = await textOf(answer);
      if (answer.statusCode !== 200)
        throw unavailable(
          'it does not serve the areas',
          `Alluxio at ${url} does not serve ${root} (${said}): mount the root of HDFS at / in Alluxio`,
        );
    },
  };
}

const unavailable = (reason: string, message: string): SystemUnavailable =>
  new SystemUnavailable({ system: 'Alluxio', reason, message });

/** One HTTP exchange. Not with `fetch`: in Node 20 it can lose its abort signal in mid-body (collected with the request) and hang. */
function send(address: URL, options: RequestOptions & { readonly signal: AbortSignal }): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    // A new connection each time: the server may just be closing a kept-alive one.
    const asked = request(address, { ...options, agent: false }, (answer) =>
      resolve(addAbortSignal(options.signal, answer)),
    );
    asked.on('error', reject);
    asked.end(options.method === 'POST' ? '{}' : undefined);
  });
}

/** The requested part of the file. */
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
      `Alluxio's proxy ${hostname} has the public address ${open.address}: Alluxio serves every file to any client that reaches it, so bind it to loopback or a private network`,
    );
}

/** The error response, truncated to fit a log line. */
const textOf = async (answer: IncomingMessage): Promise<string> =>
  `it answered ${answer.statusCode} ${(await text(answer)).slice(0, 300)}`.trimEnd();

/** The reason of an aborted request is in its cause. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause instanceof Error ? error.cause.message : error.message;
}
