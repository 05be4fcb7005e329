// Digests for checking stored bytes (of chunks, and of files that people address by path), and the faults found.
import { sql } from 'kysely';
import type { ArtifactUri, Digest } from '../../../workflows/domain/names.ts';
import { CHUNK_BYTES, DIGEST_BYTES, type Records } from '../../records.ts';
import type { Database } from './connection.ts';

type ByteRecords = Pick<
  Records,
  'chunkDigests' | 'keepChunkDigests' | 'fileDigest' | 'keepFileDigest' | 'recordByteFault'
>;

/** The stored-bytes part of Records. Digests follow from the bytes, so writing them needs no audit row. */
export function byteRecords(db: Database): ByteRecords {
  return {
    async chunkDigests(sha256, first, count) {
      const found = await db
        .selectFrom('authoritative.chunk_digests')
        // `substring` counts from 1.
        .select(
          sql<Buffer>`substring(digests from ${first * DIGEST_BYTES + 1} for ${count * DIGEST_BYTES})`.as('digests'),
        )
        .where('sha256', '=', sha256)
        .where('chunk_bytes', '=', CHUNK_BYTES)
        .executeTakeFirst();
      return found?.digests.byteLength === count * DIGEST_BYTES ? found.digests : undefined;
    },

    async keepChunkDigests(sha256, digests) {
      await db
        .insertInto('authoritative.chunk_digests')
        .values({ sha256, chunk_bytes: CHUNK_BYTES, digests: Buffer.from(digests) })
        .onConflict((conflict) => conflict.doNothing())
        .execute();
    },

    async fileDigest(uri) {
      const found = await db
        .selectFrom('authoritative.file_digests')
        .selectAll()
        .where('uri', '=', uri)
        .executeTakeFirst();
      return (
        found && {
          uri: found.uri as ArtifactUri,
          sha256: found.sha256 as Digest,
          bytes: found.bytes,
          modifiedAt: found.modified_at,
        }
      );
    },

    async keepFileDigest({ uri, sha256, bytes, modifiedAt }) {
      const row = { sha256, bytes, modified_at: modifiedAt };
      await db
        .insertInto('authoritative.file_digests')
        .values({ uri, ...row })
        .onConflict((conflict) => conflict.column('uri').doUpdateSet(row))
        .execute();
    },

    async recordByteFault({ uri, expected, found, at }) {
      await db
        .insertInto('authoritative.byte_faults')
        .values({ uri, expected, found, first_at: at, last_at: at })
        .onConflict((conflict) => conflict.column('uri').doUpdateSet({ expected, found, last_at: at }))
        .execute();
    },
  };
}
