// `npm run stack` from the command line: up, status, kill, up again with all data, down without leftovers.
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CreateBucketCommand, GetObjectCommand, PutObjectCommand, S3Client } from '@aws-sdk/client-s3';
import { Kafka, logLevel } from 'kafkajs';
import pg from 'pg';
import { ownerOf } from '../../deploy/local/home-lock.ts';
import { sendSignal } from '../../activities/adapters/process-start.ts';
import { isAlive, type ProcessRecord } from '../../deploy/local/process-identity.ts';
import { endLeftovers, readRunRecords } from '../../deploy/local/run-records.ts';
import { isLoopback, listeners, socketsOf } from '../../deploy/stack/listeners.ts';
import { portTable } from '../../deploy/stack/ports.ts';
import { processTable } from '../../deploy/stack/servers.ts';
import { eventually } from '../local/homes.ts';
import { describeWith, freePort, programs } from '../servers.ts';

/** Nine servers start on two cores while other suites run. */
const patience = 600_000;
const names = Object.keys(processTable);

describeWith(['kafka', 'hdfs', 'alluxio', 's3'], 'npm run stack', () => {
  const home = mkdtempSync(join(tmpdir(), 'ocdl-stack-'));
  const env: Record<string, string | undefined> = { ...process.env, OCDL_STACK_HOME: home, OCDL_CACHE: programs.cache };

  beforeAll(async () => {
    for (const { variable } of Object.values(portTable)) env[variable] = String(await freePort());
  });

  afterAll(async () => {
    await stack('down', '--yes');
    await endLeftovers(join(home, 'run'));
    rmSync(home, { recursive: true, force: true, maxRetries: 5 });
  }, patience);

  const stack = (...args: readonly string[]): Promise<{ readonly code: number | null; readonly said: string }> =>
    new Promise((resolve, reject) => {
      const child = spawn(process.execPath, ['--import', 'tsx', 'deploy/stack/main.ts', ...args], {
        env,
        stdio: ['ignore', 'pipe', 'pipe'],
      });
      const said = { text: '' };
      for (const stream of [child.stdout, child.stderr])
        stream.on('data', (data: Buffer) => (said.text += data.toString()));
      child.once('error', reject);
      child.once('close', (code) => resolve({ code, said: said.text }));
    });
  const running = (): readonly ProcessRecord[] => readRunRecords(join(home, 'run')).map((record) => record.child);
  const variables = (): Readonly<Record<string, string>> =>
    Object.fromEntries(
      readFileSync(join(home, 'stack.env'), 'utf8')
        .trim()
        .split('\n')
        .map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
    );

  test(
    'starts detached, and gives the platform the addresses of all servers',
    async () => {
      const { code, said } = await stack('up', '--detach');
      expect([code, said]).toEqual([0, expect.stringContaining('stack.env')]);
      expect(statSync(join(home, 'stack.env')).mode & 0o777).toBe(0o600);
      const { OCDL_S3_ACCESS_KEY_ID, OCDL_S3_SECRET_ACCESS_KEY, DATABASE_URL, ...addresses } = variables();
      expect(OCDL_S3_ACCESS_KEY_ID).toMatch(/^[0-9a-f]{20}$/);
      expect(OCDL_S3_SECRET_ACCESS_KEY).toMatch(/^[\w-]{40}$/);
      expect(DATABASE_URL).toMatch(
        new RegExp(`^postgresql://ocdl:[\\w-]{32}@127.0.0.1:${env.OCDL_STACK_POSTGRES_PORT}/ocdl$`),
      );
      expect(addresses).toEqual({
        OCDL_HDFS_URL: `http://127.0.0.1:${env.OCDL_STACK_HDFS_PORT}`,
        OCDL_HDFS_USER: 'ocdl',
        OCDL_ALLUXIO_URL: `http://127.0.0.1:${env.OCDL_STACK_ALLUXIO_PORT}`,
        OCDL_S3_ENDPOINT: `http://127.0.0.1:${env.OCDL_STACK_S3_PORT}`,
        OCDL_S3_REGION: 'us-east-1',
        OCDL_S3_BUCKET: 'ocdl-releases',
        OCDL_KAFKA_BROKERS: `127.0.0.1:${env.OCDL_STACK_KAFKA_PORT}`,
        TEMPORAL_ADDRESS: `127.0.0.1:${env.OCDL_STACK_TEMPORAL_PORT}`,
        TEMPORAL_UI_URL: `http://127.0.0.1:${env.OCDL_STACK_TEMPORAL_UI_PORT}`,
      });
    },
    patience,
  );

  test(
    'shows every server in its status, also a paused one',
    async () => {
      const healthy = await stack('status');
      expect([healthy.code, healthy.said.match(/ running /g)?.length]).toEqual([0, names.length]);
      const s3 = readRunRecords(join(home, 'run')).find((record) => record.name === 's3');
      sendSignal(s3?.child.pid ?? 0, 'SIGSTOP');
      try {
        const paused = await stack('status');
        expect([paused.code, paused.said]).toEqual([1, expect.stringMatching(/^s3 +not answering /m)]);
      } finally {
        sendSignal(s3?.child.pid ?? 0, 'SIGCONT');
      }
    },
    patience,
  );

  test('listens only on the loopback; its watchdog and supervisor do not listen', () => {
    const supervisor = ownerOf(home)?.pid ?? 0;
    expect(running()).toHaveLength(names.length);
    const open = listeners();
    for (const pid of [supervisor, ...running().map((record) => record.pid)]) {
      const inodes = socketsOf(pid);
      expect(inodes.size).toBeGreaterThan(0);
      const own = open.filter(({ inode }) => inodes.has(inode));
      expect(own.filter((listener) => !isLoopback(listener))).toEqual([]);
      expect(own.length > 0).toBe(pid !== supervisor);
    }
  });

  test(
    'refuses to start twice on one home',
    async () => {
      const second = await stack('up');
      expect(second.code).toBe(1);
      expect(second.said).toMatch(`A stack is already running on ${home} as process ${ownerOf(home)?.pid}.`);
      expect(second.said).toMatch('npm run stack -- down');
    },
    patience,
  );

  test(
    'leaves no process running when its supervisor is killed, and starts again with all data',
    async () => {
      await write(variables());
      const before = running();
      const supervisor = ownerOf(home)?.pid ?? 0;
      sendSignal(supervisor, 'SIGKILL');
      await eventually('everything ended', () => before.every((record) => !isAlive(record)), patience);
      expect(before).toHaveLength(names.length);
      expect((await stack('status')).code).toBe(1);

      const again = await stack('up', '--detach');
      expect([again.code, again.said]).toEqual([0, expect.stringContaining('stack.env')]);
      expect(await read(variables())).toEqual(['kept', 'kept', 'kept', 'kept', 'kept']);
    },
    patience,
  );

  test(
    'stops without leftovers',
    async () => {
      const before = running();
      // A program that uses a server as a platform does; this test's clients may still hold connections too.
      const database = new pg.Client({ connectionString: variables().DATABASE_URL });
      database.on('error', () => undefined);
      await database.connect();
      const refused = await stack('down');
      expect([refused.code, refused.said]).toEqual([1, expect.stringContaining(`process ${process.pid} (`)]);
      expect(refused.said).toContain('Nothing was stopped. Stop the platform first, or confirm with --yes');
      expect(running()).toHaveLength(names.length);
      const { code, said } = await stack('down', '--yes');
      await database.end().catch(() => undefined);
      expect([code, said]).toEqual([0, expect.stringContaining('has stopped')]);
      expect(before).toHaveLength(names.length);
      expect(before.filter((record) => isAlive(record))).toEqual([]);
      expect(running()).toEqual([]);
      expect(existsSync(join(home, 'stack.env'))).toBe(false);
      const status = await stack('status');
      expect([status.code, status.said.match(/ missing /g)?.length]).toEqual([1, names.length]);
      expect((await stack('down')).said).toContain('No stack is running');
    },
    patience,
  );
});

type Variables = Readonly<Record<string, string>>;

async function write(variables: Variables): Promise<void> {
  const admin = kafkaOf(variables).admin();
  await admin.connect();
  await admin.createTopics({ topics: [{ topic: 'kept', numPartitions: 1 }], waitForLeaders: true });
  await admin.disconnect();
  const producer = kafkaOf(variables).producer();
  await producer.connect();
  await producer.send({ topic: 'kept', acks: -1, messages: [{ value: 'kept' }] });
  await producer.disconnect();

  // Write to HDFS through Alluxio.
  const stream = await alluxioPost(variables, 'paths//kept/create-file', '{}', 'application/json');
  await alluxioPost(variables, `streams/${stream}/write`, 'kept', 'application/octet-stream');
  await alluxioPost(variables, `streams/${stream}/close`, '{}', 'application/json');

  const client = s3Of(variables);
  await client.send(new PutObjectCommand({ Bucket: variables.OCDL_S3_BUCKET, Key: 'kept', Body: 'kept' }));
  // The keys belong to the owner and can create buckets.
  await client.send(new CreateBucketCommand({ Bucket: 'another' }));

  await inDatabase(variables, (database) => database.query(`create table kept as select 'kept' as value`));
}

/** The data read back from Kafka, HDFS, Alluxio, S3 and PostgreSQL. */
async function read(variables: Variables): Promise<readonly unknown[]> {
  // Do not wait long for more messages at the end.
  const consumer = kafkaOf(variables).consumer({ groupId: 'kept', maxWaitTimeInMs: 200 });
  await consumer.connect();
  await consumer.subscribe({ topic: 'kept', fromBeginning: true });
  const message = await new Promise((resolve, reject) => {
    consumer
      .run({ eachMessage: ({ message: { value } }) => Promise.resolve(resolve(value?.toString())) })
      .catch(reject);
  });
  await consumer.disconnect();

  const file = `${variables.OCDL_HDFS_URL}/webhdfs/v1/kept?user.name=${variables.OCDL_HDFS_USER}&op=OPEN`;
  const fromHdfs = await (await fetch(file)).text();
  const stream = await alluxioPost(variables, 'paths//kept/open-file', '{}', 'application/json');
  const fromAlluxio = await alluxioPost(variables, `streams/${stream}/read`, '{}', 'application/json');

  const object = await s3Of(variables).send(new GetObjectCommand({ Bucket: variables.OCDL_S3_BUCKET, Key: 'kept' }));
  const fromS3 = await object.Body?.transformToString();

  const { rows } = await inDatabase(variables, (database) =>
    database.query<{ value: string }>('select value from kept'),
  );
  return [message, fromHdfs, fromAlluxio, fromS3, rows[0]?.value];
}

async function alluxioPost(variables: Variables, rest: string, body: string, type: string): Promise<string> {
  const url = `${variables.OCDL_ALLUXIO_URL}/api/v1/${rest}`;
  const response = await fetch(url, { method: 'POST', headers: { 'content-type': type }, body });
  expect(response.status).toBe(200);
  return await response.text();
}

function kafkaOf(variables: Variables): Kafka {
  return new Kafka({ brokers: [variables.OCDL_KAFKA_BROKERS ?? ''], logLevel: logLevel.NOTHING });
}

function s3Of(variables: Variables): S3Client {
  return new S3Client({
    endpoint: variables.OCDL_S3_ENDPOINT ?? '',
    region: variables.OCDL_S3_REGION ?? '',
    forcePathStyle: true,
    credentials: {
      accessKeyId: variables.OCDL_S3_ACCESS_KEY_ID ?? '',
      secretAccessKey: variables.OCDL_S3_SECRET_ACCESS_KEY ?? '',
    },
  });
}

async function inDatabase<T>(variables: Variables, act: (database: pg.Client) => Promise<T>): Promise<T> {
  const database = new pg.Client({ connectionString: variables.DATABASE_URL });
  await database.connect();
  try {
    return await act(database);
  } finally {
    await database.end();
  }
}
