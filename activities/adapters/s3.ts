// ArtifactStore in an S3 bucket (or a compatible server's): create-only keys, digests in the metadata, multipart uploads.
import { DeleteObjectCommand, GetObjectCommand, ListObjectsV2Command } from '@aws-sdk/client-s3';
import { getSignedUrl } from '@aws-sdk/s3-request-presigner';
import type { ArtifactUri, StorePath } from '../../workflows/domain/names.ts';
import { failure, SystemUnavailable } from '../failures.ts';
import type { ArtifactStore, StoredFile } from '../ports.ts';
import { everyDay } from './durable-file.ts';
import { connect, type ConnectionOptions } from './s3/connection.ts';
import { removeLeftovers } from './s3/leftovers.ts';
import { createObjects } from './s3/objects.ts';
import { createUploads, type UploadOptions } from './s3/uploads.ts';
import { createWrite } from './s3/writing.ts';
import { checkLimit, checkPath, checkRange, isStorePath, PAGE } from './store-rules.ts';

export interface S3Options extends ConnectionOptions, Omit<UploadOptions, 'onWarn'> {
  /** Key prefix of the store; without it, the store owns the whole bucket. */
  readonly prefix?: string;
  /** Receives problems that do no harm, such as leftovers that could not be removed today. */
  readonly onWarn?: (message: string) => void;
}

export interface S3Store extends ArtifactStore {
  /** A presigned download URL, valid for this many seconds (1 to 604,800: S3 signs for at most 7 days). */
  presign(uri: ArtifactUri, options: { readonly seconds: number }): Promise<string>;
  /** Tests everything that the store needs of the bucket, including cleanup. Rejects with cause and remedy. */
  check(): Promise<void>;
  /** Aborts running writes and closes the connections. */
  close(): Promise<void>;
}

/** The longest validity of an S3 signature. */
const WEEK_SECONDS = 7 * 24 * 60 * 60;

/**
 * Opens a store in a bucket, which must exist; its URIs are `s3://<bucket>/<prefix>/<path>`. Several processes may share one
 * bucket and prefix. Opening sends no request, so the platform can start while S3 is down.
 */
export async function createS3Store(options: S3Options): Promise<S3Store> {
  const { bucket, onWarn = () => undefined } = options;
  const root = options.prefix === undefined || options.prefix === '' ? '' : `${checkPath(options.prefix)}/`;
  // Store paths never start with a dot, so listings never reach this prefix.
  const temporary = `${root}.tmp/`;
  const connection = connect(options);
  const { client, reader } = connection;
  const objects = createObjects(connection, root);
  const { keyOf, uriOf, pathOf } = objects;
  const uploads = createUploads(connection, { ...options, onWarn });
  const closing = new AbortController();
  const write = createWrite(objects, uploads, { temporary, closing: closing.signal, onWarn });
  /** Operations that must end before the connections are closed. */
  const running = new Set<Promise<unknown>>();
  const ended = <T>(work: Promise<T>): Promise<T> => {
    running.add(work);
    const end = (): void => void running.delete(work);
    work.then(end, end);
    return work;
  };

  const sweep = (): Promise<void> =>
    ended(removeLeftovers(connection, uploads, { root, temporary, signal: closing.signal })).catch((error: unknown) => {
      if (!closing.signal.aborted)
        onWarn(
          `old temporary objects in ${objects.scheme} could not be removed; will be retried in a day: ${String(error)}`,
        );
    });
  void sweep();
  const endSweeping = everyDay(sweep);

  /** A page of the store's files below a folder, after a key. */
  async function page(folder: StorePath, after: string, limit: number) {
    const { Contents = [], IsTruncated = false } = await client.send(
      new ListObjectsV2Command({
        Bucket: bucket,
        Prefix: `${keyOf(folder)}/`,
        MaxKeys: limit,
        ...(after !== '' && { StartAfter: after }),
      }),
    );
    const files = Contents.flatMap(({ Key = '', Size = 0, LastModified = new Date(0) }): StoredFile[] => {
      const path = Key.slice(root.length);
      // Skips objects of other clients whose names are not valid store paths.
      if (!isStorePath(path)) return [];
      return [{ uri: uriOf(path), path, bytes: Size, modifiedAt: LastModified.toISOString() }];
    });
    return { files, last: IsTruncated ? Contents.at(-1)?.Key : undefined };
  }

  return {
    uri: uriOf,
    path: pathOf,
    write: (...given) => ended(write(...given)),
    async read(uri, { range, signal } = {}) {
      const path = pathOf(uri);
      const { start, end } = checkRange(path, range);
      signal?.throwIfAborted();
      return objects.open(path, start, end, signal);
    },
    async stat(uri) {
      const path = pathOf(uri);
      const found = await objects.head(path);
      if (!found) return undefined;
      const { ContentLength: bytes = 0, LastModified = new Date(0) } = found;
      return { uri, path, bytes, modifiedAt: LastModified.toISOString() };
    },
    digest: async (uri, signal) => objects.digestOf(pathOf(uri), signal),
    async list(folder, { after, limit = PAGE } = {}) {
      checkLimit(folder, limit);
      let from = after === undefined ? '' : `${root}${after}`;
      for (;;) {
        const { files, last } = await page(folder, from, limit);
        const next = files.at(-1)?.path;
        if (last === undefined) return { files };
        if (next !== undefined) return { files, next };
        from = last;
      }
    },
    async remove(uri) {
      await client.send(new DeleteObjectCommand({ Bucket: bucket, Key: keyOf(pathOf(uri)) }));
    },
    async presign(uri, { seconds }) {
      if (!Number.isInteger(seconds) || seconds < 1 || seconds > WEEK_SECONDS)
        throw failure(
          'InvalidInput',
          `a download URL of ${uri} cannot be valid for ${seconds} seconds: choose 1 to ${WEEK_SECONDS} (7 days)`,
        );
      const command = new GetObjectCommand({ Bucket: bucket, Key: keyOf(pathOf(uri)) });
      // Uses the server's clock as far as it is known, like every other request.
      const signingDate = new Date(Date.now() + client.config.systemClockOffset);
      return getSignedUrl(client, command, { expiresIn: seconds, signingDate });
    },
    async check() {
      await client.send(new ListObjectsV2Command({ Bucket: bucket, Prefix: root, MaxKeys: 1 }));
      await uploads.rehearse(`${temporary}check`);
    },
    async close() {
      endSweeping();
      const message = `the store ${objects.scheme} is closing; will be retried`;
      closing.abort(new SystemUnavailable({ system: 'S3', reason: 'the platform is shutting down', message }));
      await Promise.allSettled(running);
      for (const each of [client, reader]) each.destroy();
    },
  };
}
