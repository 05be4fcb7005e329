// An S3 server (versitygw) over a folder: a bucket is a folder, an object a file, its metadata the file's attributes.
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import type { ChildSpec } from '../local/child.ts';
import { serverEnvironment } from '../local/settings.ts';
import { answersHttp } from './java.ts';

export type S3Options = {
  /** The path of `versitygw`. */
  readonly binary: string;
  /** The folder with all data of this server. Its file system must support extended attributes (ext4, xfs, btrfs). */
  readonly folder: string;
  readonly port: number;
  /** Buckets that are created before the start. */
  readonly buckets?: readonly string[];
};

const keysSchema = z.object({ accessKeyId: z.string().min(1), secretAccessKey: z.string().min(1) });
export type S3Keys = z.infer<typeof keysSchema>;
export type S3 = S3Keys & { readonly spec: ChildSpec; readonly endpoint: string; readonly region: string };

const host = '127.0.0.1';
const region = 'us-east-1';
/** Cannot collide with a bucket: bucket names begin with a letter or a digit. */
const healthPath = '/_health';

/** Returns the S3 server's process, its address and its keys, which are random and stored in its folder. */
export function s3(options: S3Options): S3 {
  const { binary, folder, port, buckets = [] } = options;
  const [data, versions, iam] = [join(folder, 'data'), join(folder, 'versions'), join(folder, 'iam')];
  for (const path of [folder, data, versions, iam]) mkdirSync(path, { recursive: true, mode: 0o700 });
  const keys = keptKeys(folder);
  const endpoint = `http://${host}:${port}`;
  const spec: ChildSpec = {
    name: 's3',
    command: binary,
    args: [
      ...['--port', `${host}:${port}`, '--region', region, '--health', healthPath, '--iam-dir', iam, '--quiet'],
      // Without --keep-alive, with which version 1.8.0 answers 400 to the request after a streaming upload.
      ...['posix', '--versioning-dir', versions, data],
    ],
    // In the environment: every user of the machine can read arguments.
    env: {
      ...serverEnvironment(),
      ROOT_ACCESS_KEY_ID: keys.accessKeyId,
      ROOT_SECRET_ACCESS_KEY: keys.secretAccessKey,
    },
    stopSignal: 'SIGTERM',
    graceMs: 5_000,
    before: () => {
      // versitygw treats every folder here as a bucket of the key's owner.
      for (const bucket of buckets) mkdirSync(join(data, bucket), { recursive: true });
      return Promise.resolve();
    },
    isReady: () => answersHttp(`${endpoint}${healthPath}`),
  };
  return { spec, endpoint, region, ...keys };
}

function keptKeys(folder: string): S3Keys {
  const path = join(folder, 'keys.json');
  if (existsSync(path)) return keysSchema.parse(JSON.parse(readFileSync(path, 'utf8')));
  const keys = { accessKeyId: randomBytes(10).toString('hex'), secretAccessKey: randomBytes(30).toString('base64url') };
  writeFileSync(path, JSON.stringify(keys), { mode: 0o600 });
  return keys;
}
