// Bytes on their way out of a store, checked against the digests on record before they are given on.
import { createHash } from 'node:crypto';
import { createChunkHasher } from '../activities/chunk-digests.ts';
import type { ArtifactStore } from '../activities/ports.ts';
import type { Records } from '../activities/records.ts';
import { CHUNK_BYTES, DIGEST_BYTES } from '../activities/records.ts';
import type { Artifact } from '../workflows/domain/model.ts';
import type { Digest } from '../workflows/domain/names.ts';

/** The stored bytes are not those of the digest; the message says which were found. */
export class WrongBytes extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'WrongBytes';
  }
}

type Bytes = AsyncGenerator<Uint8Array, void, undefined>;

/**
 * A whole file. What comes last, at least a chunk, is held back until the digest of all is right: a wrong file is never
 * complete for whoever reads it, and a small one shows not a byte.
 */
export async function* wholeFile(pieces: AsyncIterable<Uint8Array>, { sha256, bytes }: Artifact): Bytes {
  const hash = createHash('sha256');
  const held: Uint8Array[] = [];
  let [seen, waiting] = [0, 0];
  for await (const piece of pieces) {
    seen += piece.byteLength;
    if (seen > bytes) throw new WrongBytes(`more than the ${bytes} bytes on record`);
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

/** Makes what gives parts of files: it reads only the chunks that a part touches, and checks each before giving any of it on. */
export function createRanges(records: Records, onWarn: (message: string) => void) {
  /** Files of which digests are being computed: whoever asks meanwhile waits for the same. */
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

  /** Digests of some chunks: as kept, or computed from the file, which must then have its own digest. */
  async function digestsOf(store: ArtifactStore, file: Artifact, first: number, count: number): Promise<Uint8Array> {
    // The only chunk of a small file has the file's digest.
    if (file.bytes <= CHUNK_BYTES) return Buffer.from(file.sha256, 'hex');
    const kept = await records.chunkDigests(file.sha256, first, count);
    if (kept) return kept;
    const running = computing.get(file.sha256) ?? compute(store, file).finally(() => computing.delete(file.sha256));
    computing.set(file.sha256, running);
    return (await running).subarray(first * DIGEST_BYTES, (first + count) * DIGEST_BYTES);
  }

  /** Of a file that was stored before digests of chunks were kept. Others may wait for it too: whoever leaves does not end it. */
  async function compute(store: ArtifactStore, file: Artifact): Promise<Uint8Array> {
    const hasher = createChunkHasher();
    for await (const piece of wholeFile(await store.read(file.uri), file)) hasher.update(piece);
    const digests = hasher.digests();
    await records
      .keepChunkDigests(file.sha256, digests)
      .catch((error: unknown) => onWarn(`the digests of ${file.uri} are not kept: ${String(error)}`));
    return digests;
  }
}

/** The bytes in pieces of a chunk each, the last one as long as it is. */
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
