// Digests of stored bytes, and faults that were found in them.
import type { ArtifactUri, Digest } from '../../workflows/domain/names.ts';

/**
 * Size of the chunks whose digests are kept. Reading and hashing 1 MiB takes about as long as asking a store for it (some
 * milliseconds), and the digests of the largest model (512 MiB) are 16 KiB.
 */
export const CHUNK_BYTES = 2 ** 20;

/** Of SHA-256. */
export const DIGEST_BYTES = 32;

/** A file that no record names by its digest, as it was when the digest was computed. */
export interface FileDigest {
  readonly uri: ArtifactUri;
  readonly sha256: Digest;
  readonly bytes: number;
  /** By the store's clock: a file with another time or size is another one. */
  readonly modifiedAt: string;
}

/** Stored bytes that are not those that are on record, as they were found when they were read. */
export interface ByteFault {
  readonly uri: ArtifactUri;
  /** Digest of the file on record. */
  readonly expected: Digest;
  /** What is wrong, with the digests that were compared. */
  readonly found: string;
  /** ISO 8601 */
  readonly at: string;
}

/** The part of Records that is about stored bytes. */
export interface ByteRecords {
  /** Digests (32 bytes each) of so many chunks of a file, from the chunk `first` on; `undefined` when they are not kept. */
  chunkDigests(sha256: Digest, first: number, count: number): Promise<Uint8Array | undefined>;
  /** Keeps the digests of all chunks of a file. They follow from its digest, so the first ones stay. */
  keepChunkDigests(sha256: Digest, digests: Uint8Array): Promise<void>;
  fileDigest(uri: ArtifactUri): Promise<FileDigest | undefined>;
  /** Keeps the digest of a file in the place of an earlier one. */
  keepFileDigest(file: FileDigest): Promise<void>;
  /** Notes that a stored file is wrong or missing; again, it notes the time. */
  recordByteFault(fault: ByteFault): Promise<void>;
}
