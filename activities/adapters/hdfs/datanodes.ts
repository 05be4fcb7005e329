// Transfers bytes to and from HDFS: the NameNode names the DataNode, the bytes stream to or from it.
import { Readable } from 'node:stream';
import { z } from 'zod';
import { codeOf } from '../../failures.ts';
import { problem, refusal } from './errors.ts';
import { ConnectionError, type Http } from './http.ts';
import type { NameNode } from './namenode.ts';

const checksumAnswer = z.object({ FileChecksum: z.object({ algorithm: z.string(), bytes: z.string() }) });

export interface DataNodes {
  /** Creates a file with these bytes; after a failure, a part of it may remain. */
  readonly upload: (
    path: string,
    chunks: AsyncIterable<Uint8Array>,
    options: { readonly bytes?: number; readonly signal?: AbortSignal },
  ) => Promise<void>;
  readonly download: (
    path: string,
    part: { readonly offset?: number; readonly length?: number },
    signal?: AbortSignal,
  ) => AsyncGenerator<Uint8Array>;
  /** HDFS's checksum of a file: for two files with the same block size, different checksums mean different bytes. */
  readonly checksum: (path: string, signal?: AbortSignal) => Promise<string>;
}

/** Access to the DataNodes that this NameNode names. */
export function createDataNodes(nameNode: NameNode, http: Http): DataNodes {
  async function send(path: string, chunks: AsyncIterable<Uint8Array>, options: Parameters<DataNodes['upload']>[2]) {
    const url = await nameNode.whereToWrite(path, options.signal);
    const { status, body } = await reached(http.send(url, chunks, options));
    if (status !== 201) throw refusal(status, body);
  }

  /**
   * A DataNode that refuses in mid-stream (quota, safe mode, no space) answers and closes the connection immediately, and its
   * answer is often lost. A file of one byte is refused for the same reason, and its answer arrives.
   */
  async function tellRefusal(path: string, signal?: AbortSignal): Promise<void> {
    try {
      await send(path, Readable.from([Buffer.alloc(1)]), signal ? { signal } : {});
    } catch (error) {
      if (!isBroken(error)) throw error;
    } finally {
      await nameNode.remove(path).catch(() => undefined);
    }
  }

  return {
    async upload(path, chunks, options) {
      try {
        await send(path, chunks, options);
      } catch (error) {
        if (isBroken(error)) await tellRefusal(`${path}.probe`, options.signal);
        throw error;
      }
    },
    async *download(path, part, signal) {
      const url = await nameNode.whereToRead(path, part, signal);
      const answer = await reached(http.receive(url, signal));
      if (!('bytes' in answer)) throw refusal(answer.status, answer.body);
      const chunks = answer.bytes[Symbol.asyncIterator]();
      try {
        for (;;) {
          const next = await reached(chunks.next());
          if (next.done) return;
          yield next.value;
        }
      } finally {
        await chunks.return?.();
      }
    },
    async checksum(path, signal) {
      const url = await nameNode.whereToChecksum(path, signal);
      const { status, body } = await reached(http.ask('GET', url, signal));
      if (status !== 200) throw refusal(status, body);
      const { algorithm, bytes } = checksumAnswer.parse(body).FileChecksum;
      return `${algorithm}:${bytes}`;
    },
  };
}

/** Whether the other side closed the connection, in contrast to being silent or unreachable. */
function isBroken(error: unknown): boolean {
  if (['EPIPE', 'ECONNRESET'].includes(codeOf(error) ?? '')) return true;
  return error instanceof Error && isBroken(error.cause);
}

async function reached<T>(work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if (!(error instanceof ConnectionError)) throw error;
    throw problem(
      'DATANODE_LOST',
      `a DataNode does not answer (${error.message}): check it with hdfs dfsadmin -report`,
      error,
    );
  }
}
