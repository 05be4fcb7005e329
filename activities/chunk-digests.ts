// Digests of the chunks of a file: with them a range is checked by itself, without reading the rest of the file.
import { createHash } from 'node:crypto';
import { locationOf } from '../workflows/domain/names.ts';
import type { ArtifactStore } from './ports.ts';
import { CHUNK_BYTES, type Records } from './records.ts';

/** Hashes a stream by chunks, whatever pieces it comes in. */
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
    /** Bytes so far. */
    bytes: (): number => state.bytes,
    /** The chunks' digests one after the other, 32 bytes each, once all bytes were given. */
    digests(): Uint8Array {
      if (state.filled > 0) finish();
      return Buffer.concat(state.digests);
    },
  };
}

type Kept = Pick<Records, 'keepChunkDigests' | 'keepFileDigest'>;

/**
 * The same store; what is written to it has its digests kept in the records, in the same pass. Where they cannot be kept the
 * write counts all the same: they are computed again when they are first needed.
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

/** Files that people name by their paths: no record says which digest they have. */
const isNamedByPath = (path: string): boolean => ['private', 'common'].includes(locationOf(path)?.area ?? '');

/** The same source, each piece shown on its way. An end or a return reaches the source itself. */
function watched(source: AsyncIterable<Uint8Array>, see: (piece: Uint8Array) => void): AsyncIterable<Uint8Array> {
  return {
    [Symbol.asyncIterator]() {
      const pieces = source[Symbol.asyncIterator]();
      return {
        async next() {
          const next = await pieces.next();
          // What is not bytes is refused by the store.
          if (!next.done && next.value instanceof Uint8Array) see(next.value);
          return next;
        },
        return: async (value?: unknown) =>
          pieces.return ? pieces.return(value) : { done: true as const, value: undefined },
      };
    },
  };
}
