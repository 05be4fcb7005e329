// What every ArtifactStore adapter checks alike: paths, ranges, and a source while its bytes stream by.
import { pathProblem, type StorePath } from '../../workflows/domain/names.ts';
import { failure } from '../failures.ts';
import type { WriteOptions } from '../ports.ts';

/** Longest whole path in a store: a 512-character path in an area with its owners before it; S3 keys end at 1,024. */
const STORE_PATH_LIMIT = 1000;

/** May this be one segment of a path? */
export const isSegment = (text: string): boolean => !text.includes('/') && pathProblem(text) === undefined;

/** The text as a path of a store. Throws `InvalidInput` for what could leave it or is treated specially somewhere. */
export function checkPath(path: string): StorePath {
  // Segment by segment: a whole store path is longer and deeper than a path inside an area may be.
  const problem =
    path.length > STORE_PATH_LIMIT
      ? `it has more than ${STORE_PATH_LIMIT} characters`
      : path.split('/').map(pathProblem).find(Boolean);
  if (problem) throw failure('InvalidInput', `"${path.slice(0, 100)}" is no path of a store: ${problem}`);
  return path as StorePath;
}

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
