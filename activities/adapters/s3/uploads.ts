// How bytes get into a bucket: whole in one request, streamed in parts, or put together from what lies there; each all or nothing.
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
  /** What the bytes are encrypted with at rest; an answer that does not prove it fails the upload. */
  readonly encryption?: 'AES256' | 'aws:kms';
  /** Which key of the KMS; without it the account's own. */
  readonly kmsKeyId?: string;
  /** Size of a part, at least 5 MiB. */
  readonly partBytes?: number;
  /** Parts on their way at once. */
  readonly concurrency?: number;
  readonly onWarn: (message: string) => void;
}

/** Where and as what an object is made. */
export interface Target {
  readonly key: string;
  /** SHA-256 of all bytes, kept in the metadata: S3's own checksum of a multipart object is one of its parts' checksums. */
  readonly sha256?: Digest;
  /** Only if the key is free; `PreconditionFailed` where it is not. */
  readonly onlyNew: boolean;
  readonly signal: AbortSignal;
}

export type Uploads = ReturnType<typeof createUploads>;

const MIB = 1024 * 1024;
/** S3 takes no smaller part but the last. */
const SMALLEST_PART = 5 * MIB;
/** S3 takes no more parts. */
const MOST_PARTS = 10_000;
/** 4 parts of 8 MiB in memory: a third of the 96 MB that a copy may take, the rest being the source's and the collector's. */
const PART = 8 * MIB;
const CONCURRENCY = 4;
/** A server needs moments to notice that the sender of a part has left; in all 5 s. */
const ABORT_ATTEMPTS = 10;
const ABORT_PAUSE_MS = 500;
/** A part that a server copies in seconds; 10,000 of them hold 2.5 TB. */
const COPY_PART = 256 * MIB;

/** Uploads into the bucket of a connection. */
export function createUploads({ client, bucket, endpoint }: Connection, options: UploadOptions) {
  const { encryption, kmsKeyId, partBytes = PART, concurrency = CONCURRENCY, onWarn } = options;
  if (!Number.isInteger(partBytes) || partBytes < SMALLEST_PART)
    throw failure('InvalidInput', `S3 parts of ${partBytes} bytes: a part has at least ${SMALLEST_PART} bytes`);
  if (!Number.isInteger(concurrency) || concurrency < 1)
    throw failure('InvalidInput', `${concurrency} S3 parts at once: at least 1`);

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

  /** Throws unless the answer says that the object is encrypted as configured. */
  function prove(key: string, answer: object): void {
    const proof = 'ServerSideEncryption' in answer ? answer.ServerSideEncryption : undefined;
    if (encryption === undefined || proof === encryption) return;
    const said = typeof proof === 'string' ? proof : 'nothing of it';
    throw new SystemUnavailable({
      system: 'S3',
      reason: 'it does not encrypt as configured',
      message:
        `s3://${bucket}/${key}: server-side encryption ${encryption} is configured, but ${endpoint} answers ${said}. Nothing is ` +
        `stored. Let the server encrypt (and remove what lies there unencrypted), or take the encryption out of the S3 ` +
        `configuration; it is tried again`,
    });
  }

  /** What was promised before any byte was sent must hold for what now lies there. */
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
   * Without the caller's signal: this is what has to happen when it was aborted. A part that the server was still taking in
   * can outlive the end of its upload, so it is ended until the server knows no part of it.
   */
  async function abort(Key: string, UploadId: string): Promise<void> {
    const upload = { Bucket: bucket, Key, UploadId };
    try {
      for (let attempt = 1; attempt <= ABORT_ATTEMPTS; attempt += 1) {
        await client.send(new AbortMultipartUploadCommand(upload));
        await client.send(new ListPartsCommand(upload));
        await sleep(ABORT_PAUSE_MS);
      }
      onWarn(`an upload of ${Key} has parts that still arrive; it is swept in a day`);
    } catch (error) {
      if (nameOf(error) !== 'NoSuchUpload')
        onWarn(`an upload of ${Key} could not be ended and is swept in a day: ${String(error)}`);
    }
  }

  /** One object from parts that `fill` sends or names. The key changes when all are there, or not at all. */
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

    /** Begins an upload and clears it up: may this key do all of that, and does the server promise the encryption? */
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

    /** Bytes that are held already, at most one part of them. */
    async whole(target: Target, bytes: Uint8Array): Promise<void> {
      const abortSignal = target.signal;
      if (encryption === undefined) {
        await client.send(new PutObjectCommand({ ...params(target), ...condition(target), Body: bytes }), {
          abortSignal,
        });
        return;
      }
      // In one request the proof would come when the bytes can be seen already: so as an upload of one part.
      await assemble(target, 'SHA256', async (upload) => {
        const part = { ...upload, PartNumber: 1, Body: bytes, ChecksumAlgorithm: 'SHA256' as const };
        const { ETag, ChecksumSHA256 } = await client.send(new UploadPartCommand(part), { abortSignal });
        return [{ PartNumber: 1, ETag, ChecksumSHA256 }];
      });
    },

    /**
     * Chunks as they come, in parts. An error of the source ends it, also after the last chunk, before anything can be seen.
     * `stop` is aborted as soon as a part fails, so that the source need not be waited for.
     * (lib-storage's `Upload` gives each part new memory, 110 MB over idle for 1 GB in parts of 8 MiB where this takes 70;
     * it takes no signal for its requests, and shows the answer that must prove the encryption only after the last byte.)
     */
    async stream(
      target: Target,
      chunks: AsyncIterable<Uint8Array>,
      { bytes = 0, stop }: { readonly bytes?: number; readonly stop: AbortController },
    ): Promise<void> {
      const size = Math.max(partBytes, Math.ceil(bytes / MOST_PARTS));
      // Not until `stop`: parts on their way then end by themselves, and leave nothing behind the end of their upload.
      const abortSignal = target.signal;
      await assemble(target, 'SHA256', async (upload) => {
        const parts: CompletedPart[] = [];
        // Each lane has one buffer, filled again when its part has been taken.
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
        // What failed first, not what was ended because of it.
        stop.signal.throwIfAborted();
        return parts;
      });
    },

    /**
     * An object from the bytes of another, copied by the server. In parts, since `CopyObject` does not hold to
     * `If-None-Match` on every server (versitygw 1.8.0 overwrites), and ends at 5 GB. The checksum is the server's own choice
     * here: versitygw gives a copied part that of its whole source, which it then refuses.
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

/** The chunks laid into buffers of `size` bytes, one after the other; the last may be shorter. `next` gives the buffer to fill. */
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
    `${key} has more than the ${MOST_PARTS} parts of ${size} bytes that S3 takes: say its size before`,
  );
