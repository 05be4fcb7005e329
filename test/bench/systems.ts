// The systems of the started stack as the platform opens them, for contenders and for preparing them.
import { createAlluxioReads, type AlluxioReads } from '../../activities/adapters/alluxio.ts';
import { createHdfsStore, type HdfsStore } from '../../activities/adapters/hdfs.ts';
import { createS3Store, type S3Options, type S3Store } from '../../activities/adapters/s3.ts';
import { storePath } from '../../workflows/domain/names.ts';
import type { Given } from './rounds.ts';

export const root = '/ocdl';
/** Where the artifact of the copies and reads lies. */
export const artifactPath = storePath({ area: 'staging', project: 'bench', path: 'models/artifact/s1/model.onnx' });

type Told = Pick<Given, 'variables'>;

export function variable({ variables }: Told, name: string): string {
  const value = variables[name];
  if (value === undefined) throw new Error(`the stack gives no ${name}`);
  return value;
}

export const openHdfs = (given: Told): Promise<HdfsStore> =>
  createHdfsStore({
    url: variable(given, 'OCDL_HDFS_URL'),
    user: variable(given, 'OCDL_HDFS_USER'),
    root,
    name: 'areas',
  });

export const openAlluxio = (given: Told, store: HdfsStore): AlluxioReads =>
  createAlluxioReads({
    store,
    url: variable(given, 'OCDL_ALLUXIO_URL'),
    root,
    // A figure of anything else would be no figure of Alluxio.
    onWarn: (message) => {
      throw new Error(message);
    },
  });

export const s3Settings = (given: Told) =>
  ({
    bucket: variable(given, 'OCDL_S3_BUCKET'),
    region: variable(given, 'OCDL_S3_REGION'),
    endpoint: variable(given, 'OCDL_S3_ENDPOINT'),
    credentials: {
      accessKeyId: variable(given, 'OCDL_S3_ACCESS_KEY_ID'),
      secretAccessKey: variable(given, 'OCDL_S3_SECRET_ACCESS_KEY'),
    },
  }) satisfies S3Options;

export const openS3 = (given: Told): Promise<S3Store> => createS3Store(s3Settings(given));
