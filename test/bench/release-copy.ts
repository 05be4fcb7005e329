// A release's copy from HDFS to S3 through the adapters, against a plain Node pipeline with the same hashes, checks and parts.
import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { get, type IncomingMessage } from 'node:http';
import {
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  DeleteObjectCommand,
  HeadObjectCommand,
  PutObjectCommand,
  S3Client,
  UploadPartCommand,
  type CompletedPart,
} from '@aws-sdk/client-s3';
import { getSignedUrl } from '@aws-sdk/s3-request-presigner';
import { releasePath, type Digest } from '../../workflows/domain/names.ts';
import type { Bench, Contender, Given } from './rounds.ts';
import { artifactPath, openHdfs, openS3, root, s3Settings, variable } from './systems.ts';

/** As the adapter has them by default. */
const PART = 8 * 1024 * 1024;
const CONCURRENCY = 4;

export const releaseCopy = (given: Given): Bench => ({
  title: `release copy, HDFS to S3, ${given.bytes / 1e6} MB`,
  module: 'release-copy',
  contenders: ['adapters', 'plain Node pipeline', 'curl to curl, nothing checked'],
  peer: 'plain Node pipeline',
  goals: { adapters: 0.9 },
  amount: given.bytes / 1e6,
  unit: 'MB',
  memory: { adapters: 96, 'plain Node pipeline': 96 },
});

export const contenders: Readonly<Record<string, Contender>> = {
  // What `publishRelease` does with each file.
  async adapters(given) {
    const [areas, releases] = await Promise.all([openHdfs(given), openS3(given)]);
    const uri = areas.uri(artifactPath);
    const path = releasePath('kind', given.sha256 as Digest, `${given.name}.onnx`);
    await areas.stat(uri);
    await releases.stat(releases.uri(path));
    const { signal } = new AbortController();
    return async () => {
      const expect = { sha256: given.sha256 as Digest, bytes: given.bytes };
      await releases.write(path, await areas.read(uri, { signal }), { expect, signal });
      return () => releases.remove(releases.uri(path));
    };
  },

  async 'plain Node pipeline'(given) {
    const { bucket: Bucket, ...connection } = s3Settings(given);
    const client = new S3Client({ ...connection, forcePathStyle: true });
    const Key = `plain/${given.name}.onnx`;
    await client.send(new HeadObjectCommand({ Bucket, Key })).catch(() => undefined);
    return async () => {
      const { UploadId } = await client.send(
        new CreateMultipartUploadCommand({
          ...{ Bucket, Key, ChecksumAlgorithm: 'SHA256' },
          Metadata: { sha256: given.sha256 },
        }),
      );
      const whole = createHash('sha256');
      const sending = new Set<Promise<void>>();
      const parts: CompletedPart[] = [];
      let number = 0;
      let bytes = 0;
      const send = async (Body: Buffer): Promise<void> => {
        const PartNumber = (number += 1);
        const ChecksumSHA256 = createHash('sha256').update(Body).digest('base64');
        const sent = client
          .send(new UploadPartCommand({ Bucket, Key, UploadId, PartNumber, Body, ChecksumSHA256 }))
          .then(({ ETag }) => {
            parts.push({ PartNumber, ETag, ChecksumSHA256 });
            sending.delete(sent);
          });
        sending.add(sent);
        if (sending.size >= CONCURRENCY) await Promise.race(sending);
      };
      let held: Buffer[] = [];
      let heldBytes = 0;
      for await (const chunk of (await openDownload(given)) as AsyncIterable<Buffer>) {
        whole.update(chunk);
        bytes += chunk.byteLength;
        held.push(chunk);
        heldBytes += chunk.byteLength;
        if (heldBytes < PART) continue;
        const all = Buffer.concat(held);
        await send(all.subarray(0, PART));
        held = [all.subarray(PART)];
        heldBytes -= PART;
      }
      if (heldBytes > 0) await send(Buffer.concat(held));
      await Promise.all(sending);
      assert.equal(bytes, given.bytes);
      assert.equal(whole.digest('hex'), given.sha256);
      const Parts = parts.sort((a, b) => (a.PartNumber ?? 0) - (b.PartNumber ?? 0));
      await client.send(
        new CompleteMultipartUploadCommand({ Bucket, Key, UploadId, MultipartUpload: { Parts }, IfNoneMatch: '*' }),
      );
      return async () => void (await client.send(new DeleteObjectCommand({ Bucket, Key })));
    };
  },

  async 'curl to curl, nothing checked'(given) {
    const { bucket: Bucket, ...connection } = s3Settings(given);
    const client = new S3Client({ ...connection, forcePathStyle: true, requestChecksumCalculation: 'WHEN_REQUIRED' });
    const object = { Bucket, Key: `curl/${given.name}.onnx` };
    const address = await getSignedUrl(client, new PutObjectCommand(object));
    return async () => {
      const down = spawn('curl', ['-sSfL', downloadUrl(given)], { stdio: ['ignore', 'pipe', 'inherit'] });
      // S3 takes no chunks of unknown number; and for the answer to `Expect: 100-continue` curl would wait a second.
      const headers = [`Content-Length: ${given.bytes}`, 'Transfer-Encoding:', 'Expect:'].flatMap((h) => [
        '--header',
        h,
      ]);
      const up = spawn('curl', ['-sSf', ...headers, '-T', '-', address], { stdio: [down.stdout, 'ignore', 'inherit'] });
      const succeeded = async (curl: ChildProcess): Promise<void> =>
        assert.equal((await once(curl, 'exit'))[0], 0, 'curl failed');
      try {
        await Promise.all([down, up].map(succeeded));
      } finally {
        down.kill();
        up.kill();
      }
      const { ContentLength } = await client.send(new HeadObjectCommand(object));
      assert.equal(ContentLength, given.bytes);
      return async () => void (await client.send(new DeleteObjectCommand(object)));
    };
  },
};

const downloadUrl = (given: Given): string =>
  `${variable(given, 'OCDL_HDFS_URL')}/webhdfs/v1${root}/${artifactPath}?op=OPEN&user.name=${variable(given, 'OCDL_HDFS_USER')}`;

/** The file's bytes from the DataNode that the NameNode names. */
async function openDownload(given: Given): Promise<IncomingMessage> {
  const redirect = await answerOf(downloadUrl(given));
  redirect.resume();
  const bytes = await answerOf(redirect.headers.location ?? '');
  assert.equal(bytes.statusCode, 200);
  return bytes;
}

const answerOf = async (url: string): Promise<IncomingMessage> => {
  const [answer] = (await once(get(url), 'response')) as [IncomingMessage];
  return answer;
};
