// The objects of a bucket as files of a store: keys, metadata, bytes and digests.
import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import {
  GetObjectCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  type HeadObjectCommandOutput,
} from '@aws-sdk/client-s3';
import { isDigest, type Digest, type StorePath } from '../../../workflows/domain/names.ts';
import { failure } from '../../failures.ts';
import { addresses, checkPath } from '../store-rules.ts';
import type { Connection } from './connection.ts';
import { nameOf, s3Error } from './errors.ts';

/** S3's longest key, in bytes; paths and prefixes are ASCII. */
const KEY_LIMIT = 1024;

export type Objects = ReturnType<typeof createObjects>;

/** The objects below `root`, which is empty or ends with a slash. */
export function createObjects({ client, reader, bucket, endpoint, silenceMs }: Connection, root: string) {
  const scheme = `s3://${bucket}/${root}`;
  const { uriOf, pathOf } = addresses(scheme, 'this S3 store');

  const keyOf = (path: StorePath): string => {
    const key = `${root}${checkPath(path)}`;
    if (key.length > KEY_LIMIT)
      throw failure(
        'InvalidInput',
        `${key.slice(0, 100)}… has ${key.length} characters; an S3 key can have at most ${KEY_LIMIT}: choose a shorter path`,
      );
    return key;
  };
  const notFound = (path: StorePath) => failure('NotFound', `no file ${path} in ${scheme}`);

  /** Metadata of the object at a path; `undefined` if there is none. */
  async function head(path: StorePath, abortSignal?: AbortSignal): Promise<HeadObjectCommandOutput | undefined> {
    try {
      return await client.send(new HeadObjectCommand({ Bucket: bucket, Key: keyOf(path) }), { abortSignal });
    } catch (error) {
      if (nameOf(error) !== 'NotFound') throw error;
      // A 404 of a HEAD may also mean a missing bucket, since it has no body: a listing tells which it is.
      await client.send(new ListObjectsV2Command({ Bucket: bucket, Prefix: keyOf(path), MaxKeys: 1 }), { abortSignal });
      return undefined;
    }
  }

  /** The bytes from `start` to `end`, which may be beyond the end of the file. */
  async function open(
    path: StorePath,
    start: number,
    end: number,
    signal?: AbortSignal,
  ): Promise<AsyncIterable<Uint8Array>> {
    if (start === end) {
      if (await head(path, signal)) return Readable.from([]);
      throw notFound(path);
    }
    const Range = start === 0 && end === Infinity ? undefined : `bytes=${start}-${end === Infinity ? '' : end - 1}`;
    const command = new GetObjectCommand({ Bucket: bucket, Key: keyOf(path), ...(Range !== undefined && { Range }) });
    try {
      const { Body } = await reader.send(command, { abortSignal: signal });
      if (!(Body instanceof Readable)) throw new TypeError(`S3 GetObject of ${scheme}${path} returned no stream`);
      // An error before the first read must not be unhandled; the later reader receives it.
      return bytesOf(
        path,
        Body.on('error', () => undefined),
        signal,
      );
    } catch (error) {
      signal?.throwIfAborted();
      if (nameOf(error) === 'InvalidRange') return Readable.from([]);
      if (nameOf(error) === 'NoSuchKey') throw notFound(path);
      throw error;
    }
  }

  async function* bytesOf(path: StorePath, body: Readable, signal?: AbortSignal): AsyncGenerator<Uint8Array> {
    const chunks: AsyncIterator<Uint8Array> = body[Symbol.asyncIterator]();
    try {
      for (let next = await heard(body, chunks.next()); !next.done; next = await heard(body, chunks.next())) {
        signal?.throwIfAborted();
        yield next.value;
      }
      signal?.throwIfAborted();
    } catch (error) {
      signal?.throwIfAborted();
      throw s3Error(error, { operation: 'GetObject', address: `${scheme}${path}`, endpoint });
    } finally {
      body.destroy();
    }
  }

  /** The server's next chunk, with a timeout for a silent server. A slow reader does not count. */
  function heard<T>(body: Readable, step: Promise<T>): Promise<T> {
    const silent = Object.assign(new Error(`silent for ${silenceMs} ms`), { name: 'TimeoutError' });
    const timer = setTimeout(() => body.destroy(silent), silenceMs);
    return step.finally(() => clearTimeout(timer));
  }

  /** SHA-256 of the bytes as they are stored now. */
  async function digestOf(path: StorePath, signal?: AbortSignal): Promise<Digest> {
    const hash = createHash('sha256');
    for await (const chunk of await open(path, 0, Infinity, signal)) hash.update(chunk);
    return hash.digest('hex') as Digest;
  }

  /** Metadata with the digest that was verified at creation, or computed from the bytes if another client created the object. */
  async function stored(path: StorePath, signal: AbortSignal) {
    const known = await head(path, signal);
    if (!known) return undefined;
    const noted = known.Metadata?.sha256;
    return { known, sha256: isDigest(noted) ? noted : await digestOf(path, signal) };
  }

  return { root, scheme, keyOf, uriOf, pathOf, head, open, digestOf, stored };
}
