// Digests of stored bytes, and faults found in them.
import type { ArtifactUri, Digest } from '../../workflows/domain/names.ts';

/**
 * Size of the chunks whose digests are stored. Reading and hashing 1 MiB takes about as long as one request to a store
 * (some milliseconds), and the digests of the largest model (512 MiB) take 16 KiB.
 */
export const CHUNK_BYTES = 2 ** 20;

/** Size of a SHA-256 digest. */
export const DIGEST_BYTES = 32;

/** A file that no record references by digest, as it was when its digest was computed. */
export interface FileDigest {
  readonly uri: ArtifactUri;
  readonly sha256: Digest;
  readonly bytes: number;
  /** By the store's clock. A different time or size means a different file. */
  readonly modifiedAt: string;
}

/** Stored bytes that differ from the record, as found when they were read. */
export interface ByteFault {
  readonly uri: ArtifactUri;
  /** The file's recorded digest. */
  readonly expected: Digest;
  /** What is wrong, with the compared digests. */
  readonly found: string;
  /** ISO 8601 */
  readonly at: string;
}

/** The stored-bytes part of Records. */
export interface ByteRecords {
  /** Digests (32 bytes each) of `count` chunks of a file, starting at chunk `first`; `undefined` if they are not stored. */
  chunkDigests(sha256: Digest, first: number, count: number): Promise<Uint8Array | undefined>;
  /** Stores the digests of all chunks of a file. Existing ones are kept: the file's digest determines them. */
  keepChunkDigests(sha256: Digest, digests: Uint8Array): Promise<void>;
  fileDigest(uri: ArtifactUri): Promise<FileDigest | undefined>;
  /** Stores a file's digest, replacing an earlier one. */
  keepFileDigest(file: FileDigest): Promise<void>;
  /** Records that a stored file is wrong or missing. Repeating it updates the time. */
  recordByteFault(fault: ByteFault): Promise<void>;
}
