// The objects of a bucket as files of a store: where they lie, what is known of them, their bytes and digests.
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

/** S3's longest key, in bytes; paths and prefixes have ASCII characters only. */
const KEY_LIMIT = 1024;

export type Objects = ReturnType<typeof createObjects>;

/** The objects below `root`, which is empty or ends with a slash. */
export function createObjects({ client, reader, bucket, endpoint, silenceMs }: Connection, root: string) {
  const scheme = `s3://${bucket}/${root}`;
  const { uriOf, pathOf } = addresses(scheme, 'this S3 store');

  const keyOf = (path: StorePath): string => {
    const key = `${root}${checkPath(path)}`;
    if (key.length > KEY_LIMIT)
      throw failure('InvalidInput', `${key.slice(0, 100)}… has more than the ${KEY_LIMIT} characters of an S3 key`);
    return key;
  };
  const notFound = (path: StorePath) => failure('NotFound', `no file ${path} in ${scheme}`);

  /** What is known of the object at a path; `undefined` for none. */
  async function head(path: StorePath, abortSignal?: AbortSignal): Promise<HeadObjectCommandOutput | undefined> {
    try {
      return await client.send(new HeadObjectCommand({ Bucket: bucket, Key: keyOf(path) }), { abortSignal });
    } catch (error) {
      if (nameOf(error) !== 'NotFound') throw error;
      // So it is told of a missing bucket as well: a HEAD has no body. A listing says which it is.
      await client.send(new ListObjectsV2Command({ Bucket: bucket, Prefix: keyOf(path), MaxKeys: 1 }), { abortSignal });
      return undefined;
    }
  }

  /** The bytes from `start` to `end`, which may lie behind the end of the file. */
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
      if (!(Body instanceof Readable)) throw new TypeError(`S3 GetObject of ${scheme}${path} gave no stream`);
      // A body that fails before anybody reads it must not end the process; who reads it then is told.
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

  /** The server's next step, unless it is silent for too long. A reader that takes its time is not its silence. */
  function heard<T>(body: Readable, step: Promise<T>): Promise<T> {
    const silent = Object.assign(new Error(`silent for ${silenceMs} ms`), { name: 'TimeoutError' });
    const timer = setTimeout(() => body.destroy(silent), silenceMs);
    return step.finally(() => clearTimeout(timer));
  }

  /** SHA-256 of the bytes as they lie there now. */
  async function digestOf(path: StorePath, signal?: AbortSignal): Promise<Digest> {
    const hash = createHash('sha256');
    for await (const chunk of await open(path, 0, Infinity, signal)) hash.update(chunk);
    return hash.digest('hex') as Digest;
  }

  /** What is known of the object, with the digest that was checked when it was made, or that of its bytes if somebody else made it. */
  async function stored(path: StorePath, signal: AbortSignal) {
    const known = await head(path, signal);
    if (!known) return undefined;
    const noted = known.Metadata?.sha256;
    return { known, sha256: isDigest(noted) ? noted : await digestOf(path, signal) };
  }

  return { root, scheme, keyOf, uriOf, pathOf, head, open, digestOf, stored };
}
