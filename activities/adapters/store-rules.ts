// What every ArtifactStore adapter checks alike: addresses, paths, ranges, pages, and a source while its bytes stream by.
import {
  locationOf,
  segmentProblem,
  type ArtifactUri,
  type Digest,
  type StorePath,
} from '../../workflows/domain/names.ts';
import { failure } from '../failures.ts';
import type { WriteOptions } from '../ports.ts';

/** Longest whole path in a store: the longest path in an area with its owners before it (904); S3 keys end at 1,024. */
const STORE_PATH_LIMIT = 1000;
/** A page of a listing when the caller names no size, and the most it may ask for; S3 gives no more. */
export const PAGE = 1000;

/** May this be one segment of a path? */
export const isSegment = (text: string): boolean => segmentProblem(text) === undefined;

/** Why the text is no path of a store. Segment by segment: it is longer and deeper than a path inside an area may be. */
const storePathProblem = (path: string): string | undefined =>
  path.length > STORE_PATH_LIMIT
    ? `it has more than ${STORE_PATH_LIMIT} characters`
    : path.split('/').map(segmentProblem).find(Boolean);

/** The text as a path of a store. Throws `InvalidInput` for what could leave it or is treated specially somewhere. */
export function checkPath(path: string): StorePath {
  const problem = storePathProblem(path);
  if (problem) throw failure('InvalidInput', `"${path.slice(0, 100)}" is no path of a store: ${problem}`);
  return path as StorePath;
}

/** May a file that was found be listed, and asked for by its path? People's own clients make odd, longer and deeper ones. */
export const isStorePath = (path: string): path is StorePath =>
  storePathProblem(path) === undefined && (!/^(private|common|staging)\//.test(path) || locationOf(path) !== undefined);

/** Paths and addresses of a store, each the other's inverse. `scheme` begins all its addresses, `store` names it. */
export function addresses(scheme: string, store: string) {
  return {
    uriOf: (path: StorePath): ArtifactUri => `${scheme}${checkPath(path)}` as ArtifactUri,
    pathOf: (uri: ArtifactUri): StorePath => {
      if (!uri.startsWith(scheme))
        throw failure('InvalidInput', `"${uri}" is no address of ${store} (they begin with ${scheme})`);
      return checkPath(uri.slice(scheme.length));
    },
  };
}

/** Throws `InvalidInput` for a limit that no page of a listing can have. */
export function checkLimit(folder: StorePath, limit: number): void {
  if (!Number.isInteger(limit) || limit < 1 || limit > PAGE)
    throw failure('InvalidInput', `listing ${folder}: the limit must be a whole number from 1 to ${PAGE}`);
}

/** Throws `DigestMismatch` where other bytes were given than expected. */
export function checkDigest(path: StorePath, expected: Digest | undefined, given: Digest): void {
  if (expected !== undefined && expected !== given)
    throw failure('DigestMismatch', `${path} should be sha256:${expected} but the bytes given are sha256:${given}`);
}

/** Creating and removing crossed again and again. */
export const contended = (path: StorePath, cause?: unknown): Error =>
  new Error(`${path} is made and removed by others all the time; it is tried again`, { cause });

/** A range as two numbers; `end` is `Infinity` when it is open. */
export function checkRange(path: StorePath, range?: { start: number; end?: number }): { start: number; end: number } {
  const { start = 0, end = Infinity } = range ?? {};
  const whole = Number.isSafeInteger(start) && (end === Infinity || Number.isSafeInteger(end));
  if (!whole || start < 0 || end < start)
    throw failure('InvalidInput', `range ${start} to ${end} of ${path}: whole numbers, 0 ≤ start ≤ end`);
  return { start, end };
}

/**
 * The chunks of a source, ended by an error as soon as they are too many, or the signal is aborted (also while the source
 * hangs). Checks the expected number of bytes; the digest is the caller's to check, who hashes anyway.
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
      // An abort while the store was at work is heard here: a listener on a signal that is aborted already is never called.
      signal?.throwIfAborted();
      const next = await nextChunk(chunks, signal);
      signal?.throwIfAborted();
      if (next.done) break;
      if (!(next.value instanceof Uint8Array))
        throw failure('InvalidInput', `the source of ${path} gave something that is not bytes`);
      bytes += next.value.byteLength;
      if (bytes > limit) throw failure('InvalidInput', `${path} is larger than the ${limit} bytes that are taken`);
      if (expected !== undefined && bytes > expected)
        throw failure('DigestMismatch', `${path} should have ${expected} bytes but more were given`);
      yield next.value;
    }
    ended = true;
    if (expected !== undefined && bytes !== expected)
      throw failure('DigestMismatch', `${path} should have ${expected} bytes but ${bytes} were given`);
  } finally {
    // Not awaited: a source that hangs would hold the caller for ever.
    if (!ended) void Promise.resolve(chunks.return?.()).catch(() => undefined);
  }
}

/** The next chunk, or the signal's reason. A listener per chunk: one promise for all would hold every chunk to the end. */
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
