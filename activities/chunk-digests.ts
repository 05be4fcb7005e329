// Digests of a file's chunks. With them a range can be verified without reading the rest of the file.
import { createHash } from 'node:crypto';
import { locationOf } from '../workflows/domain/names.ts';
import type { ArtifactStore } from './ports.ts';
import { CHUNK_BYTES, type Records } from './records.ts';

/** Hashes a stream in chunks, regardless of the size of its pieces. */
export function createChunkHasher() {
  const state = { hash: createHash('sha256'), filled: 0, bytes: 0, digests: [] as Buffer[] };
  const finish = (): void => {
    state.digests.push(state.hash.digest());
    state.hash = createHash('sha256');
    state.filled = 0;
  };
  return {
    update: (piece: Uint8Array): void => {
      for (let at = 0; at < piece.byteLength;) {
        const part = piece.subarray(at, at + CHUNK_BYTES - state.filled);
        state.hash.update(part);
        state.filled += part.byteLength;
        state.bytes += part.byteLength;
        at += part.byteLength;
        if (state.filled === CHUNK_BYTES) finish();
      }
    },
    /** Number of bytes so far. */
    bytes: (): number => state.bytes,
    /** The concatenated chunk digests, 32 bytes each. Call it after all bytes were given. */
    digests(): Uint8Array {
      if (state.filled > 0) finish();
      return Buffer.concat(state.digests);
    },
  };
}

type Kept = Pick<Records, 'keepChunkDigests' | 'keepFileDigest'>;

/**
 * Wraps a store so that the digests of written files are recorded in the same pass. If they cannot be recorded, the write
 * still succeeds, and they are computed when first needed.
 */
export function keepingDigests(store: ArtifactStore, records: Kept, onWarn: (message: string) => void): ArtifactStore {
  return {
    uri: (path) => store.uri(path),
    path: (uri) => store.path(uri),
    read: (uri, options) => store.read(uri, options),
    stat: (uri) => store.stat(uri),
    digest: (uri, signal) => store.digest(uri, signal),
    list: (folder, options) => store.list(folder, options),
    remove: (uri) => store.remove(uri),
    async write(path, source, options) {
      const hasher = createChunkHasher();
      const written = await store.write(path, watched(source, hasher.update), options);
      try {
        if (hasher.bytes() === written.bytes && written.bytes > CHUNK_BYTES)
          await records.keepChunkDigests(written.sha256, hasher.digests());
        if (isNamedByPath(path)) {
          const stored = await store.stat(written.uri);
          if (stored?.bytes === written.bytes)
            await records.keepFileDigest({ ...written, modifiedAt: stored.modifiedAt });
        }
      } catch (error) {
        onWarn(`the digests of ${written.uri} are not kept, and are computed at its first read: ${String(error)}`);
      }
      return written;
    },
  };
}

/** Files that people address by path: no record contains their digest. */
const isNamedByPath = (path: string): boolean => ['private', 'common'].includes(locationOf(path)?.area ?? '');

/** The same source, with each piece passed to `see`. An end or a return reaches the source itself. */
function watched(source: AsyncIterable<Uint8Array>, see: (piece: Uint8Array) => void): AsyncIterable<Uint8Array> {
  return {
    [Symbol.asyncIterator]() {
      const pieces = source[Symbol.asyncIterator]();
      return {
        async next() {
          const next = await pieces.next();
          // The store refuses anything other than bytes.
          if (!next.done && next.value instanceof Uint8Array) see(next.value);
          return next;
        },
        return: async (value?: unknown) =>
          pieces.return ? pieces.return(value) : { done: true as const, value: undefined },
      };
    },
  };
}
