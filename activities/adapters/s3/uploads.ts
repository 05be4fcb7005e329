// Writes objects: in one request, streamed in parts, or copied on the server; always all or nothing.
import { setTimeout as sleep } from 'node:timers/promises';
import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  HeadObjectCommand,
  ListMultipartUploadsCommand,
  ListPartsCommand,
  PutObjectCommand,
  UploadPartCommand,
  UploadPartCopyCommand,
  DeleteObjectCommand,
  type CompletedPart,
} from '@aws-sdk/client-s3';
import type { Digest } from '../../../workflows/domain/names.ts';
import { failure, SystemUnavailable } from '../../failures.ts';
import type { Connection } from './connection.ts';
import { nameOf } from './errors.ts';

export interface UploadOptions {
  /** Encryption at rest; an upload fails if the response does not confirm it. */
  readonly encryption?: 'AES256' | 'aws:kms';
  /** KMS key; default: the account's own. */
  readonly kmsKeyId?: string;
  /** Part size, at least 5 MiB. */
  readonly partBytes?: number;
  /** Number of concurrent part uploads. */
  readonly concurrency?: number;
  readonly onWarn: (message: string) => void;
}

/** Target and properties of a new object. */
export interface Target {
  readonly key: string;
  /** SHA-256 of all bytes, kept in the metadata, because S3's own checksum of a multipart object covers only the checksums of its parts. */
  readonly sha256?: Digest;
  /** Creates only if the key is free; otherwise `PreconditionFailed`. */
  readonly onlyNew: boolean;
  readonly signal: AbortSignal;
}

export type Uploads = ReturnType<typeof createUploads>;

const MIB = 1024 * 1024;
/** S3's minimum part size, except for the last part. */
const SMALLEST_PART = 5 * MIB;
/** S3's maximum number of parts. */
const MOST_PARTS = 10_000;
/** 4 parts of 8 MiB in memory: a third of the 96 MB allowed for a copy; the source and the garbage collector use the rest. */
const PART = 8 * MIB;
const CONCURRENCY = 4;
/** A server needs a moment to notice that the sender of a part has disconnected; 5 s in all. */
const ABORT_ATTEMPTS = 10;
const ABORT_PAUSE_MS = 500;
/** A part that a server copies in seconds; 10,000 of them hold 2.5 TB. */
const COPY_PART = 256 * MIB;

/** Creates uploads into the bucket of a connection. */
export function createUploads({ client, bucket, endpoint }: Connection, options: UploadOptions) {
  const { encryption, kmsKeyId, partBytes = PART, concurrency = CONCURRENCY, onWarn } = options;
  if (!Number.isInteger(partBytes) || partBytes < SMALLEST_PART)
    throw failure('InvalidInput', `S3 part size ${partBytes} is too small: use at least ${SMALLEST_PART} bytes`);
  if (!Number.isInteger(concurrency) || concurrency < 1)
    throw failure('InvalidInput', `S3 concurrency ${concurrency} is too small: use at least 1`);

  const encrypted = {
    ...(encryption && { ServerSideEncryption: encryption }),
    ...(encryption === 'aws:kms' && kmsKeyId !== undefined && { SSEKMSKeyId: kmsKeyId }),
  };
  const params = ({ key, sha256 }: Target) => ({
    Bucket: bucket,
    Key: key,
    ChecksumAlgorithm: 'SHA256' as const,
    ...(sha256 !== undefined && { Metadata: { sha256 } }),
    ...encrypted,
  });
  const condition = ({ onlyNew }: Target) => (onlyNew ? { IfNoneMatch: '*' } : {});

  /** Throws unless the response confirms the configured encryption. */
  function prove(key: string, answer: object): void {
    const proof = 'ServerSideEncryption' in answer ? answer.ServerSideEncryption : undefined;
    if (encryption === undefined || proof === encryption) return;
    const said = typeof proof === 'string' ? proof : 'no encryption';
    throw new SystemUnavailable({
      system: 'S3',
      reason: 'it does not encrypt uploads as configured',
      message:
        `s3://${bucket}/${key}: server-side encryption ${encryption} is configured, but ${endpoint} reports ${said}. Nothing was ` +
        `stored. Enable encryption on the server (and remove unencrypted objects), or remove the encryption from the S3 ` +
        `configuration; will be retried`,
    });
  }

  // The encryption confirmed before the upload must also hold for the stored object.
  async function proveStored({ key, signal }: Target): Promise<void> {
    if (encryption === undefined) return;
    const stored = await client.send(new HeadObjectCommand({ Bucket: bucket, Key: key }), { abortSignal: signal });
    try {
      prove(key, stored);
    } catch (error) {
      await remove(key);
      throw error;
    }
  }

  async function remove(key: string): Promise<void> {
    await client.send(new DeleteObjectCommand({ Bucket: bucket, Key: key }));
  }

  /**
   * Runs without the caller's signal, because it must also run after an abort. A part that the server is still receiving can
   * outlive the abort of its upload, so the abort is repeated until the server lists no part of it.
   */
  async function abort(Key: string, UploadId: string): Promise<void> {
    const upload = { Bucket: bucket, Key, UploadId };
    try {
      for (let attempt = 1; attempt <= ABORT_ATTEMPTS; attempt += 1) {
        await client.send(new AbortMultipartUploadCommand(upload));
        await client.send(new ListPartsCommand(upload));
        await sleep(ABORT_PAUSE_MS);
      }
      onWarn(`parts of the aborted upload of ${Key} still arrive; it will be removed in a day`);
    } catch (error) {
      if (nameOf(error) !== 'NoSuchUpload')
        onWarn(`the upload of ${Key} could not be aborted; it will be removed in a day: ${String(error)}`);
    }
  }

  /** One object from parts that `fill` sends or names. The key changes when all parts are complete, or not at all. */
  async function assemble(
    target: Target,
    ChecksumAlgorithm: 'SHA256' | undefined,
    fill: (upload: { Bucket: string; Key: string; UploadId: string }) => Promise<CompletedPart[]>,
  ): Promise<void> {
    const abortSignal = target.signal;
    const begun = await client.send(new CreateMultipartUploadCommand({ ...params(target), ChecksumAlgorithm }), {
      abortSignal,
    });
    const upload = { Bucket: bucket, Key: target.key, UploadId: begun.UploadId ?? '' };
    try {
      prove(target.key, begun);
      const MultipartUpload = { Parts: await fill(upload) };
      await client.send(new CompleteMultipartUploadCommand({ ...upload, MultipartUpload, ...condition(target) }), {
        abortSignal,
      });
    } catch (error) {
      await abort(target.key, upload.UploadId);
      throw error;
    }
    await proveStored(target);
  }

  return {
    partBytes,
    prove,
    remove,
    abort,

    /** Starts and aborts an upload, to check the permissions for both and the server's encryption. */
    async rehearse(key: string): Promise<void> {
      const begun = await client.send(new CreateMultipartUploadCommand({ Bucket: bucket, Key: key, ...encrypted }));
      const upload = { Bucket: bucket, Key: key, UploadId: begun.UploadId ?? '' };
      await client.send(new AbortMultipartUploadCommand(upload));
      await client.send(new ListPartsCommand(upload)).catch((error: unknown) => {
        if (nameOf(error) !== 'NoSuchUpload') throw error;
      });
      await client.send(new ListMultipartUploadsCommand({ Bucket: bucket, Prefix: key, MaxUploads: 1 }));
      await remove(key);
      prove(key, begun);
    },

    /** Writes bytes that are in memory, at most one part. */
    async whole(target: Target, bytes: Uint8Array): Promise<void> {
      const abortSignal = target.signal;
      if (encryption === undefined) {
        await client.send(new PutObjectCommand({ ...params(target), ...condition(target), Body: bytes }), {
          abortSignal,
        });
        return;
      }
      // A single request would confirm the encryption only after the bytes are visible: so it is an upload of one part.
      await assemble(target, 'SHA256', async (upload) => {
        const part = { ...upload, PartNumber: 1, Body: bytes, ChecksumAlgorithm: 'SHA256' as const };
        const { ETag, ChecksumSHA256 } = await client.send(new UploadPartCommand(part), { abortSignal });
        return [{ PartNumber: 1, ETag, ChecksumSHA256 }];
      });
    },

    /**
     * Writes a stream of chunks in parts. An error of the source aborts it, even after the last chunk, before anything is visible.
     * `stop` is aborted as soon as a part fails, so that the source need not be awaited.
     * (lib-storage's `Upload` allocates memory per part, 110 MB over idle for 1 GB in parts of 8 MiB where this takes 70;
     * it accepts no signal for its requests, and exposes the encryption response only after the last byte.)
     */
    async stream(
      target: Target,
      chunks: AsyncIterable<Uint8Array>,
      { bytes = 0, stop }: { readonly bytes?: number; readonly stop: AbortController },
    ): Promise<void> {
      const size = Math.max(partBytes, Math.ceil(bytes / MOST_PARTS));
      // Not aborted by `stop`: running parts end on their own and leave nothing after the abort of their upload.
      const abortSignal = target.signal;
      await assemble(target, 'SHA256', async (upload) => {
        const parts: CompletedPart[] = [];
        // Each lane has one buffer, reused when its part has been sent.
        const lanes: { buffer: Buffer; sent: Promise<void> }[] = [];
        const send = async (PartNumber: number, Body: Uint8Array): Promise<void> => {
          try {
            const part = { ...upload, PartNumber, Body, ChecksumAlgorithm: 'SHA256' as const };
            const { ETag, ChecksumSHA256 } = await client.send(new UploadPartCommand(part), { abortSignal });
            parts[PartNumber - 1] = { PartNumber, ETag, ChecksumSHA256 };
          } catch (error) {
            stop.abort(error);
          }
        };
        try {
          let number = 0;
          for await (const body of filled(chunks, size, async () => {
            if (number === MOST_PARTS) throw tooLarge(target.key, size);
            const lane = (lanes[number % concurrency] ??= {
              buffer: Buffer.allocUnsafeSlow(size),
              sent: Promise.resolve(),
            });
            await lane.sent;
            return lane.buffer;
          })) {
            const lane = lanes[number % concurrency];
            number += 1;
            if (lane) lane.sent = send(number, body);
          }
        } catch (error) {
          stop.abort(error);
        }
        await Promise.all(lanes.map(({ sent }) => sent));
        // Report the first failure, not the failures that it caused.
        stop.signal.throwIfAborted();
        return parts;
      });
    },

    /**
     * Writes an object as a server-side copy. In parts, because `CopyObject` ignores `If-None-Match` on some servers
     * (versitygw 1.8.0 overwrites) and is limited to 5 GB. The server chooses the checksum: versitygw gives a copied part the
     * checksum of its whole source, which it then refuses.
     */
    async copy(target: Target, from: string, bytes: number): Promise<void> {
      await assemble(target, undefined, async (upload) => {
        const parts: CompletedPart[] = [];
        for (let start = 0; start < bytes; start += COPY_PART) {
          const PartNumber = parts.length + 1;
          const end = Math.min(start + COPY_PART, bytes);
          const part = {
            ...upload,
            PartNumber,
            CopySource: `${bucket}/${from}`,
            CopySourceRange: `bytes=${start}-${end - 1}`,
          };
          const { CopyPartResult } = await client.send(new UploadPartCopyCommand(part), { abortSignal: target.signal });
          parts.push({ PartNumber, ETag: CopyPartResult?.ETag });
        }
        return parts;
      });
    },
  };
}

/** Fills buffers of `size` bytes with the chunks; the last may be shorter. `next` returns the buffer to fill. */
async function* filled(
  chunks: AsyncIterable<Uint8Array>,
  size: number,
  next: () => Promise<Buffer>,
): AsyncGenerator<Uint8Array> {
  let buffer: Buffer | undefined;
  let used = 0;
  for await (const chunk of chunks)
    for (let from = 0; from < chunk.byteLength;) {
      buffer ??= await next();
      const taken = chunk.subarray(from, from + size - used);
      buffer.set(taken, used);
      used += taken.byteLength;
      from += taken.byteLength;
      if (used < size) continue;
      yield buffer;
      buffer = undefined;
      used = 0;
    }
  if (buffer) yield buffer.subarray(0, used);
}

const tooLarge = (key: string, size: number): Error =>
  failure(
    'InvalidInput',
    `${key} needs more than ${MOST_PARTS} parts of ${size} bytes, the limit of S3: declare its size before the upload`,
  );
