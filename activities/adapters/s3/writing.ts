// Writes one file of the store: chooses the upload method and decides between concurrent writers.
import { createHash, randomUUID } from 'node:crypto';
import type { Artifact } from '../../../workflows/domain/model.ts';
import type { Digest, StorePath } from '../../../workflows/domain/names.ts';
import { failure } from '../../failures.ts';
import type { WriteOptions } from '../../ports.ts';
import { checkDigest, contended, takeChunks } from '../store-rules.ts';
import { nameOf } from './errors.ts';
import type { Objects } from './objects.ts';
import type { Target, Uploads } from './uploads.ts';

/** How many times to retry when creations and removals of the same key collide. */
const CLAIM_ATTEMPTS = 10;
/** Responses that mean that the key may be taken. The last occurs when a completion is repeated after a lost response. */
const TAKEN = ['PreconditionFailed', 'ConditionalRequestConflict', 'NoSuchUpload'];

/**
 * The store's `write`. The digest is in the metadata, which S3 needs before the bytes. So a file that fits into one part is
 * buffered and sent whole; a larger file is uploaded with the expected digest and completed only if that was correct; and
 * without an expected digest, the bytes go to a temporary key, from which the server copies them with their digest.
 * (Buffering on the local disk would need as much space as a model; releases always expect a digest.)
 */
export function createWrite(
  objects: Objects,
  uploads: Uploads,
  { temporary, closing, onWarn }: { temporary: string; closing: AbortSignal; onWarn: (message: string) => void },
) {
  /** Commits; if the key is taken, compares with the existing bytes. */
  async function claim(
    path: StorePath,
    target: Target & { sha256: Digest },
    commit: () => Promise<void>,
    most: number,
  ) {
    for (let attempt = 1; ; attempt += 1)
      try {
        return await commit();
      } catch (error) {
        if (!TAKEN.includes(nameOf(error))) throw error;
        const { sha256, signal } = target;
        const stored = await objects.stored(path, signal);
        // An earlier attempt may have ended before it checked the encryption.
        if (stored?.sha256 === sha256) return uploads.prove(target.key, stored.known);
        if (stored && target.onlyNew)
          throw failure(
            'Conflict',
            `${path} already exists with different bytes (stored sha256:${stored.sha256}, given sha256:${sha256})`,
          );
        if (attempt >= most) throw contended(path, error);
      }
  }

  async function viaTemporary(
    path: StorePath,
    target: Target,
    upload: (draft: Target) => Promise<void>,
    seen: { readonly bytes: number; readonly sha256?: Digest },
  ): Promise<void> {
    const draft = { ...target, key: `${temporary}${randomUUID()}`, onlyNew: false };
    try {
      await upload(draft);
      if (seen.sha256 === undefined) throw new Error(`${path}: the upload ended before its source`);
      const made = { ...target, sha256: seen.sha256 };
      await claim(path, made, () => uploads.copy(made, draft.key, seen.bytes), CLAIM_ATTEMPTS);
    } finally {
      await uploads
        .remove(draft.key)
        .catch((error: unknown) =>
          onWarn(`the temporary object ${draft.key} could not be removed; will be retried in a day: ${String(error)}`),
        );
    }
  }

  return async function write(
    path: StorePath,
    source: AsyncIterable<Uint8Array>,
    options: WriteOptions = {},
  ): Promise<Artifact> {
    const target: Target = {
      key: objects.keyOf(path),
      onlyNew: options.ifExists !== 'replace',
      signal: AbortSignal.any([closing, ...(options.signal ? [options.signal] : [])]),
    };
    target.signal.throwIfAborted();
    const stop = new AbortController();
    const { chunks, seen } = measured(path, source, {
      ...options,
      signal: AbortSignal.any([target.signal, stop.signal]),
    });
    try {
      const expected = options.expect?.sha256;
      const first = await upTo(uploads.partBytes, chunks);
      if (seen.sha256 !== undefined) {
        const whole = { ...target, sha256: seen.sha256 };
        await claim(path, whole, () => uploads.whole(whole, Buffer.concat(first)), CLAIM_ATTEMPTS);
        return { uri: objects.uriOf(path), sha256: whole.sha256, bytes: seen.bytes };
      }
      const all = joined(first, chunks);
      const upload = (to: Target) => uploads.stream(to, all, { bytes: options.expect?.bytes, stop });
      if (expected === undefined) await viaTemporary(path, target, upload, seen);
      else {
        const noted = { ...target, sha256: expected };
        // Only once: when the conflict is detected, the stream is already consumed.
        await claim(path, noted, () => upload(noted), 1);
      }
      if (seen.sha256 === undefined) throw new Error(`${path}: the upload ended before its source`);
      return { uri: objects.uriOf(path), sha256: seen.sha256, bytes: seen.bytes };
    } catch (error) {
      target.signal.throwIfAborted();
      throw error;
    } finally {
      // Not awaited: a hanging source would block the caller forever.
      void chunks.return(undefined).catch(() => undefined);
    }
  };
}

/** Passes chunks on and measures them; after the last one, a checksum mismatch throws before the commit. */
function measured(path: StorePath, source: AsyncIterable<Uint8Array>, options: WriteOptions) {
  const hash = createHash('sha256');
  const seen: { bytes: number; sha256?: Digest } = { bytes: 0 };
  async function* chunks(): AsyncGenerator<Uint8Array, undefined> {
    for await (const chunk of takeChunks(path, source, options)) {
      hash.update(chunk);
      seen.bytes += chunk.byteLength;
      yield chunk;
    }
    seen.sha256 = hash.digest('hex') as Digest;
    checkDigest(path, options.expect?.sha256, seen.sha256);
    return undefined;
  }
  return { chunks: chunks(), seen };
}

/** Reads chunks until they exceed `limit` bytes, or all. */
async function upTo(limit: number, chunks: AsyncGenerator<Uint8Array, undefined>): Promise<Uint8Array[]> {
  const taken: Uint8Array[] = [];
  for (let bytes = 0; bytes <= limit;) {
    const next = await chunks.next();
    if (next.done) break;
    taken.push(next.value);
    bytes += next.value.byteLength;
  }
  return taken;
}

/** The chunks already read, released one by one, followed by the rest. */
async function* joined(first: Uint8Array[], rest: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  for (let chunk = first.shift(); chunk; chunk = first.shift()) yield chunk;
  yield* rest;
}
