// Checks bytes from a store against the recorded digests before they are sent.
import { createHash } from 'node:crypto';
import { createChunkHasher } from '../activities/chunk-digests.ts';
import type { ArtifactStore } from '../activities/ports.ts';
import type { Records } from '../activities/records.ts';
import { CHUNK_BYTES, DIGEST_BYTES } from '../activities/records.ts';
import type { Artifact } from '../workflows/domain/model.ts';
import type { Digest } from '../workflows/domain/names.ts';

/** The stored bytes do not match the recorded digest. The message names the digest found. */
export class WrongBytes extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'WrongBytes';
  }
}

type Bytes = AsyncGenerator<Uint8Array, void, undefined>;

/**
 * A whole file. At least the last chunk is held back until the digest of all bytes is verified: a reader never gets a
 * complete wrong file, and no byte of a small one.
 */
export async function* wholeFile(pieces: AsyncIterable<Uint8Array>, { sha256, bytes }: Artifact): Bytes {
  const hash = createHash('sha256');
  const held: Uint8Array[] = [];
  let [seen, waiting] = [0, 0];
  for await (const piece of pieces) {
    seen += piece.byteLength;
    if (seen > bytes) throw new WrongBytes(`more than the recorded ${bytes} bytes`);
    hash.update(piece);
    held.push(piece);
    waiting += piece.byteLength;
    for (let first = held[0]; first && waiting - first.byteLength >= CHUNK_BYTES; first = held[0]) {
      held.shift();
      waiting -= first.byteLength;
      yield first;
    }
  }
  const found = hash.digest('hex');
  if (found !== sha256) throw new WrongBytes(`sha256:${found} (${seen} bytes) instead of sha256:${sha256} (${bytes})`);
  yield* held;
}

/**
 * Creates a function that reads parts of files. It reads only the chunks that a part touches, and checks each before it
 * yields any of it.
 */
export function createRanges(records: Records, onWarn: (message: string) => void) {
  /** Digest computations in progress, shared by concurrent requests. */
  const computing = new Map<Digest, Promise<Uint8Array>>();
  return range;

  async function* range(
    store: ArtifactStore,
    file: Artifact,
    { start, end }: { readonly start: number; readonly end: number },
    signal: AbortSignal,
  ): Bytes {
    const first = Math.floor(start / CHUNK_BYTES);
    const count = Math.ceil(end / CHUNK_BYTES) - first;
    const digests = await digestsOf(store, file, first, count);
    const from = first * CHUNK_BYTES;
    const to = Math.min(file.bytes, (first + count) * CHUNK_BYTES);
    const pieces = await store.read(file.uri, { range: { start: from, end: to }, signal });
    let [at, number] = [from, 0];
    for await (const chunk of inChunks(pieces)) {
      const found = createHash('sha256').update(chunk).digest();
      const expected = digests.subarray(number * DIGEST_BYTES, (number + 1) * DIGEST_BYTES);
      if (!found.equals(expected))
        throw new WrongBytes(
          `sha256:${found.toString('hex')} instead of sha256:${Buffer.from(expected).toString('hex')} ` +
            `in bytes ${at} to ${at + chunk.byteLength - 1}`,
        );
      yield chunk.subarray(Math.max(0, start - at), end - at);
      at += chunk.byteLength;
      number += 1;
    }
    if (at !== to) throw new WrongBytes(`they end after byte ${at} instead of ${to}`);
  }

  /** Digests of some chunks: from the records, or computed from the file, whose own digest must match. */
  async function digestsOf(store: ArtifactStore, file: Artifact, first: number, count: number): Promise<Uint8Array> {
    // A small file has one chunk, whose digest is the file's.
    if (file.bytes <= CHUNK_BYTES) return Buffer.from(file.sha256, 'hex');
    const kept = await records.chunkDigests(file.sha256, first, count);
    if (kept) return kept;
    const running = computing.get(file.sha256) ?? compute(store, file).finally(() => computing.delete(file.sha256));
    computing.set(file.sha256, running);
    return (await running).subarray(first * DIGEST_BYTES, (first + count) * DIGEST_BYTES);
  }

  /**
   * For a file that was stored before chunk digests were recorded. Takes no abort signal, because other requests may
   * share the result.
   */
  async function compute(store: ArtifactStore, file: Artifact): Promise<Uint8Array> {
    const hasher = createChunkHasher();
    for await (const piece of wholeFile(await store.read(file.uri), file)) hasher.update(piece);
    const digests = hasher.digests();
    await records
      .keepChunkDigests(file.sha256, digests)
      .catch((error: unknown) => onWarn(`the digests of ${file.uri} could not be stored: ${String(error)}`));
    return digests;
  }
}

/** Regroups the bytes into pieces of one chunk each; the last one may be shorter. */
async function* inChunks(pieces: AsyncIterable<Uint8Array>): Bytes {
  let held: Uint8Array[] = [];
  let bytes = 0;
  for await (const piece of pieces)
    for (let rest = piece; rest.byteLength > 0;) {
      const part = rest.subarray(0, CHUNK_BYTES - bytes);
      rest = rest.subarray(part.byteLength);
      held.push(part);
      bytes += part.byteLength;
      if (bytes < CHUNK_BYTES) continue;
      yield Buffer.concat(held);
      [held, bytes] = [[], 0];
    }
  if (bytes > 0) yield Buffer.concat(held);
}
