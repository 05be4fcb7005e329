// Describes the stack: the processes of every server for a home and its ports, and the variables that connect the platform to them.
import { join } from 'node:path';
import type { ChildSpec } from '../local/child.ts';
import { temporalSpec } from '../local/temporal.ts';
import { findTemporal } from '../local/temporal-binary.ts';
import { alluxio } from './alluxio.ts';
import { hdfs } from './hdfs.ts';
import { kafka } from './kafka.ts';
import type { StackPorts } from './ports.ts';
import { fetchJava, fetchS3, type FetchOptions, type JavaProgram } from './programs.ts';
import { s3 } from './s3.ts';

/** Every process of the stack with its main port. deploy/local/postgres.ts prepares PostgreSQL's. */
export const processTable = {
  kafka: 'kafka',
  'hdfs-namenode': 'hdfsHttp',
  'hdfs-datanode': 'hdfsDataHttp',
  'alluxio-master': 'alluxioMaster',
  'alluxio-worker': 'alluxioWorker',
  'alluxio-proxy': 'alluxioProxy',
  s3: 's3',
  postgres: 'postgres',
  temporal: 'temporal',
} as const satisfies Readonly<Record<string, keyof StackPorts>>;

export const bucket = 'ocdl-releases';

export type Programs = {
  readonly kafka: JavaProgram;
  readonly hdfs: JavaProgram;
  readonly alluxio: JavaProgram;
  readonly s3: string;
  readonly temporal: string;
};

export type Servers = {
  readonly kafka: ChildSpec;
  readonly nameNode: ChildSpec;
  readonly dataNode: ChildSpec;
  readonly alluxioMaster: ChildSpec;
  readonly alluxioWorker: ChildSpec;
  readonly alluxioProxy: ChildSpec;
  readonly s3: ChildSpec;
  readonly temporal: ChildSpec;
  /** The platform's variables except DATABASE_URL. */
  readonly variables: Readonly<Record<string, string>>;
};

/** Fetches every program missing in the cache: Maven and Go in parallel, but only one run of each at a time. */
export async function fetchPrograms(options: FetchOptions): Promise<Programs> {
  const [built, jars] = await Promise.all([
    // A Go build uses every core, so builds run one after another.
    (async () => ({ temporal: await findTemporal(options), s3: await fetchS3(options) }))(),
    // Maven's download folder does not support concurrent runs.
    (async () => ({
      kafka: await fetchJava('kafka', options),
      hdfs: await fetchJava('hdfs', options),
      alluxio: await fetchJava('alluxio', options),
    }))(),
  ]);
  return { ...built, ...jars };
}

/** Returns the processes of a home without starting them. */
export function servers(home: string, ports: StackPorts, programs: Programs): Servers {
  const ofKafka = kafka({
    program: programs.kafka,
    folder: join(home, 'kafka'),
    port: ports.kafka,
    controllerPort: ports.kafkaController,
  });
  const ofHdfs = hdfs({
    program: programs.hdfs,
    folder: join(home, 'hdfs'),
    ports: {
      rpc: ports.hdfsRpc,
      http: ports.hdfsHttp,
      data: ports.hdfsData,
      dataHttp: ports.hdfsDataHttp,
      dataIpc: ports.hdfsDataIpc,
    },
  });
  const ofAlluxio = alluxio({
    program: programs.alluxio,
    folder: join(home, 'alluxio'),
    hdfs: ofHdfs,
    ports: {
      master: ports.alluxioMaster,
      masterWeb: ports.alluxioMasterWeb,
      worker: ports.alluxioWorker,
      workerWeb: ports.alluxioWorkerWeb,
      proxy: ports.alluxioProxy,
    },
  });
  const ofS3 = s3({ binary: programs.s3, folder: join(home, 's3'), port: ports.s3, buckets: [bucket] });
  const temporal = temporalSpec({
    binary: programs.temporal,
    folder: join(home, 'temporal'),
    port: ports.temporal,
    uiPort: ports.temporalUi,
    namespace: 'default',
  });
  return {
    kafka: ofKafka.spec,
    nameNode: ofHdfs.nameNode,
    dataNode: ofHdfs.dataNode,
    alluxioMaster: ofAlluxio.master,
    alluxioWorker: ofAlluxio.worker,
    alluxioProxy: ofAlluxio.proxy,
    s3: ofS3.spec,
    temporal,
    variables: {
      OCDL_HDFS_URL: ofHdfs.url,
      OCDL_HDFS_USER: 'ocdl',
      OCDL_ALLUXIO_URL: ofAlluxio.url,
      OCDL_S3_ENDPOINT: ofS3.endpoint,
      OCDL_S3_REGION: ofS3.region,
      OCDL_S3_BUCKET: bucket,
      OCDL_S3_ACCESS_KEY_ID: ofS3.accessKeyId,
      OCDL_S3_SECRET_ACCESS_KEY: ofS3.secretAccessKey,
      OCDL_KAFKA_BROKERS: ofKafka.brokers,
      TEMPORAL_ADDRESS: `127.0.0.1:${ports.temporal}`,
      TEMPORAL_UI_URL: `http://127.0.0.1:${ports.temporalUi}`,
    },
  };
}
