// Checks that all ArtifactStore adapters share: addresses, paths, ranges, pages, and the chunks of a source during a write.
import { digestMismatch } from '../../workflows/domain/digest-mismatch.ts';
import {
  locationOf,
  segmentProblem,
  type ArtifactUri,
  type Digest,
  type StorePath,
} from '../../workflows/domain/names.ts';
import { failure } from '../failures.ts';
import type { WriteOptions } from '../ports.ts';

/** Longest path in a store: the longest path in an area with its owner prefix has 904 characters; S3 keys end at 1,024. */
const STORE_PATH_LIMIT = 1000;
/** Default and maximum page size of a listing; the maximum of S3. */
export const PAGE = 1000;

/** Whether the text is a valid path segment. */
export const isSegment = (text: string): boolean => segmentProblem(text) === undefined;

/** Why the text is not a valid store path. Checks segments, because a store path may be longer and deeper than a path in an area. */
const storePathProblem = (path: string): string | undefined =>
  path.length > STORE_PATH_LIMIT
    ? `it has more than ${STORE_PATH_LIMIT} characters`
    : path.split('/').map(segmentProblem).find(Boolean);

/** The text as a store path. Throws `InvalidInput` if it could leave the store or has a special meaning in some system. */
export function checkPath(path: string): StorePath {
  const problem = storePathProblem(path);
  if (problem) throw failure('InvalidInput', `"${path.slice(0, 100)}" is not a valid store path: ${problem}`);
  return path as StorePath;
}

/** Whether a found file can be listed and addressed. People's own clients create names that are odd, too long or too deep. */
export const isStorePath = (path: string): path is StorePath =>
  storePathProblem(path) === undefined && (!/^(private|common|staging)\//.test(path) || locationOf(path) !== undefined);

/** Conversions between paths and URIs, each the inverse of the other. `scheme` starts every URI; `store` is the store's name in messages. */
export function addresses(scheme: string, store: string) {
  return {
    uriOf: (path: StorePath): ArtifactUri => `${scheme}${checkPath(path)}` as ArtifactUri,
    pathOf: (uri: ArtifactUri): StorePath => {
      if (!uri.startsWith(scheme))
        throw failure('InvalidInput', `"${uri}" is not an address of ${store}: its addresses start with ${scheme}`);
      return checkPath(uri.slice(scheme.length));
    },
  };
}

/** Throws `InvalidInput` for an invalid page size. */
export function checkLimit(folder: StorePath, limit: number): void {
  if (!Number.isInteger(limit) || limit < 1 || limit > PAGE)
    throw failure(
      'InvalidInput',
      `listing ${folder}: limit ${limit} is invalid: it must be a whole number from 1 to ${PAGE}`,
    );
}

/** Throws `DigestMismatch` when the given bytes differ from the expected ones. */
export function checkDigest(path: StorePath, expected: Digest | undefined, given: Digest): void {
  if (expected !== undefined && expected !== given)
    throw failure('DigestMismatch', digestMismatch(path, given, expected));
}

/** Repeated collisions of creation and removal. */
export const contended = (path: StorePath, cause?: unknown): Error =>
  new Error(`${path} is repeatedly created and removed by other writers; will be retried`, { cause });

/** The range as two numbers; an open `end` is `Infinity`. */
export function checkRange(path: StorePath, range?: { start: number; end?: number }): { start: number; end: number } {
  const { start = 0, end = Infinity } = range ?? {};
  const whole = Number.isSafeInteger(start) && (end === Infinity || Number.isSafeInteger(end));
  if (!whole || start < 0 || end < start)
    throw failure(
      'InvalidInput',
      `range ${start} to ${end} of ${path} is invalid: use whole numbers with 0 ≤ start ≤ end`,
    );
  return { start, end };
}

/**
 * The chunks of a source. Throws as soon as they exceed a limit or the signal is aborted, even while the source
 * hangs. Checks the expected number of bytes; the caller hashes the bytes and checks the digest.
 */
export async function* takeChunks(
  path: StorePath,
  source: AsyncIterable<Uint8Array>,
  options: WriteOptions,
): AsyncGenerator<Uint8Array> {
  const { signal, limit = Infinity } = options;
  const expected = options.expect?.bytes;
  const chunks = source[Symbol.asyncIterator]();
  let bytes = 0;
  let ended = false;
  try {
    for (;;) {
      // Catches an abort during the store's own work: a listener added to an aborted signal is never called.
      signal?.throwIfAborted();
      const next = await nextChunk(chunks, signal);
      signal?.throwIfAborted();
      if (next.done) break;
      if (!(next.value instanceof Uint8Array))
        throw failure('InvalidInput', `the source of ${path} returned a chunk that is not bytes`);
      bytes += next.value.byteLength;
      if (bytes > limit) throw failure('InvalidInput', `${path} has at least ${bytes} bytes; the limit is ${limit}`);
      if (expected !== undefined && bytes > expected)
        throw failure('DigestMismatch', `${path}: expected ${expected} bytes, received at least ${bytes}`);
      yield next.value;
    }
    ended = true;
    if (expected !== undefined && bytes !== expected)
      throw failure('DigestMismatch', `${path}: expected ${expected} bytes, received ${bytes}`);
  } finally {
    // Not awaited: a hanging source would block the caller forever.
    if (!ended) void Promise.resolve(chunks.return?.()).catch(() => undefined);
  }
}

/** The next chunk, or the signal's reason. One listener per chunk, because a single promise would retain all chunks. */
function nextChunk(
  chunks: AsyncIterator<Uint8Array>,
  signal: AbortSignal | undefined,
): Promise<IteratorResult<Uint8Array>> {
  if (!signal) return chunks.next();
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(signal.reason as Error);
    signal.addEventListener('abort', onAbort, { once: true });
    chunks
      .next()
      .then(resolve, reject)
      .finally(() => signal.removeEventListener('abort', onAbort));
  });
}
