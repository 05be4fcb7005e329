// A new bucket on a real S3 server, seen by a client that is not the store's: its objects and its leftovers.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  CreateBucketCommand,
  HeadObjectCommand,
  ListMultipartUploadsCommand,
  ListObjectsV2Command,
  S3Client,
} from '@aws-sdk/client-s3';
import { ApplicationFailure } from '@temporalio/common';
import { createS3Store, type S3Options, type S3Store } from '../../activities/adapters/s3.ts';
import { anyFreePort } from '../../deploy/local/ports.ts';
import { fetchS3 } from '../../deploy/stack/programs.ts';
import { s3 } from '../../deploy/stack/s3.ts';
import { freshName } from '../contracts/cases.ts';
import { programs } from '../servers.ts';
import { scratchFolder } from './scratch-folder.ts';

export interface Server {
  readonly endpoint: string;
  readonly region: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
}

export type Bucket = Awaited<ReturnType<typeof freshBucket>>;

/** Makes a bucket. `open` opens a store in it, of the smallest parts, which `close` closes. */
export async function freshBucket({ endpoint, region, accessKeyId, secretAccessKey }: Server) {
  const bucket = freshName('s3');
  const credentials = { accessKeyId, secretAccessKey };
  const client = new S3Client({ endpoint, region, credentials, forcePathStyle: true });
  await client.send(new CreateBucketCommand({ Bucket: bucket }));
  const opened: S3Store[] = [];
  const warnings: string[] = [];
  return {
    bucket,
    client,
    warnings,
    async open(options: Partial<S3Options> = {}): Promise<S3Store> {
      const onWarn = (message: string): void => void warnings.push(message);
      const common = { bucket, region, endpoint, credentials, partBytes: 5 * 1024 * 1024, onWarn };
      const store = await createS3Store({ ...common, ...options });
      opened.push(store);
      return store;
    },
    async keys(): Promise<string[]> {
      const { Contents = [] } = await client.send(new ListObjectsV2Command({ Bucket: bucket }));
      return Contents.map(({ Key = '' }) => Key);
    },
    async openUploads(): Promise<string[]> {
      const { Uploads = [] } = await client.send(new ListMultipartUploadsCommand({ Bucket: bucket }));
      return Uploads.map(({ Key = '' }) => Key);
    },
    head: (Key: string) => client.send(new HeadObjectCommand({ Bucket: bucket, Key, ChecksumMode: 'ENABLED' })),
    /** Nothing in the bucket but these keys, and no upload begun. */
    async assertOnly(keys: readonly string[] = []): Promise<void> {
      assert.deepEqual(await this.keys(), [...keys]);
      assert.deepEqual(await this.openUploads(), []);
    },
    async close(): Promise<void> {
      for (const store of opened) await store.close();
      client.destroy();
    },
  };
}

/** Fails unless the work is rejected with such a message, and will be tried again. */
export async function rejectsRetryably(work: Promise<unknown>, message: RegExp): Promise<void> {
  const error = await work.then(
    () => assert.fail(`should have failed with ${message}`),
    (reason: unknown) => reason,
  );
  assert.match(String(error), message);
  assert.ok(!(error instanceof ApplicationFailure), 'it should be tried again');
}

/** An S3 server that a test may kill and pause, with a bucket on it. */
export async function ownServer() {
  const { path, remove } = await scratchFolder();
  const port = await anyFreePort('127.0.0.1');
  const { spec, ...address } = s3({ binary: await fetchS3(programs), folder: path, port });
  const started = async () => {
    await spec.before?.();
    const child = spawn(spec.command, [...spec.args], { env: { ...spec.env }, stdio: 'ignore' });
    for (const until = Date.now() + 60_000; !(await spec.isReady?.(child.pid ?? 0).catch(() => false)); await sleep(50))
      assert.ok(Date.now() < until && child.exitCode === null, 'the S3 server did not come up');
    return child;
  };
  const running = { child: await started() };
  const bucket = await freshBucket(address);
  const kill = async (): Promise<void> => {
    const { child } = running;
    if (child.exitCode !== null || child.signalCode !== null) return;
    child.kill('SIGKILL');
    await once(child, 'exit');
  };
  return {
    bucket,
    kill,
    signal: (name: 'SIGSTOP' | 'SIGCONT') => running.child.kill(name),
    async start(): Promise<void> {
      running.child = await started();
    },
    async end(): Promise<void> {
      await bucket.close();
      await kill();
      await remove();
    },
  };
}
