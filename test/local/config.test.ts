// The configuration: all mistakes at once and no secret in them, secrets by file, what is chosen, and the reference in deploy/README.md.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { apiConfig } from '../../api/config.ts';
import { readSettings, withoutSystems } from '../../deploy/local/settings.ts';
import { workerConfig, type Environment } from '../../workers/config.ts';
import { readReference } from '../../workers/reference.ts';
import { isSecret, schema, variableNames } from '../../workers/variables.ts';

const database = { DATABASE_URL: 'postgresql://ocdl:hunter2@db.example/ocdl' };
let folder: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'ocdl-config-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function holding(name: string, content: string): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
}

/** The mistakes, one a line, as each kind of program tells them. */
function mistakes(environment: Environment): readonly string[] {
  const told = [workerConfig, apiConfig, readSettings].map((read) => {
    try {
      read({ ...database, ...environment });
      return [];
    } catch (error) {
      return (error as Error).message
        .split('\n')
        .slice(1)
        .map((line) => line.trim());
    }
  });
  // A mistake for one program is told by all, or a worker would die after the API has begun.
  expect(told[1]).toEqual(told[0]);
  expect(told[2]).toEqual(told[0]);
  return told[0] ?? [];
}

test('without a variable all is embedded, but the database must be known to a worker and the API', () => {
  expect(workerConfig(database)).toMatchObject({
    ...{
      home: join(process.cwd(), '.ocdl'),
      cache: join(homedir(), '.cache', 'ocdl'),
      apiUrl: 'http://127.0.0.1:8470',
    },
    temporal: { namespace: 'default', connection: { address: '127.0.0.1:7233' } },
    ...{ hdfs: undefined, alluxio: undefined, s3: undefined, kafka: undefined, git: undefined },
  });
  expect(() => workerConfig({})).toThrow(/DATABASE_URL: must be given/);
  expect(() => apiConfig({ DATABASE_URL: '' })).toThrow(/DATABASE_URL: must be given/);
  expect(readSettings({})).toMatchObject({ databaseUrl: undefined, temporalAddress: undefined, apiPort: undefined });
});

test('each system is chosen by its own variables, with what it needs', () => {
  const ca = holding('ca.pem', 'the authority');
  const key = holding('key.pem', 'the key');
  const config = workerConfig({
    ...database,
    ...{ OCDL_HDFS_URL: 'http://one:9870, http://two:9870', OCDL_ALLUXIO_URL: 'http://proxy:39999' },
    ...{ OCDL_S3_BUCKET: 'releases', OCDL_S3_REGION: 'eu-central-1', OCDL_S3_ENCRYPTION: 'aws:kms' },
    ...{ OCDL_KAFKA_BROKERS: 'a:9092,b:9092', OCDL_KAFKA_TLS: 'true', OCDL_KAFKA_CA_FILE: ca },
    ...{
      OCDL_GIT_REMOTE: 'ssh://git@host/{repository}.git',
      OCDL_GIT_SSH_KEY_FILE: key,
      OCDL_GIT_KNOWN_HOSTS_FILE: ca,
    },
    ...{ TEMPORAL_ADDRESS: 't:7233', TEMPORAL_TLS_CERT_FILE: ca, TEMPORAL_TLS_KEY_FILE: key },
  });
  expect(config).toMatchObject({
    hdfs: { url: 'http://one:9870,http://two:9870', user: 'ocdl', root: '/ocdl' },
    alluxio: { url: 'http://proxy:39999', root: '/ocdl' },
    s3: { bucket: 'releases', region: 'eu-central-1', encryption: 'aws:kms', credentials: undefined },
    kafka: {
      ...{ brokers: ['a:9092', 'b:9092'], ssl: { ca: 'the authority' }, sasl: undefined },
      topics: { partitions: 3, replication: 1, retentionMs: 604_800_000 },
    },
    git: { remote: 'ssh://git@host/{repository}.git', ssh: { keyFile: key, knownHostsFile: ca }, https: undefined },
  });
  expect(config.temporal.connection).toEqual({
    address: 't:7233',
    tls: { clientCertPair: { crt: Buffer.from('the authority'), key: Buffer.from('the key') } },
  });
  expect(
    workerConfig({ ...database, TEMPORAL_ADDRESS: 't:7233', TEMPORAL_TLS: 'true' }).temporal.connection.tls,
  ).toEqual({});
});

test('all mistakes are told at once, whatever their kind, and none tells a value', () => {
  const wrong = {
    ...{ OCDL_API_PORT: '99999', DATABASE_URL: 'mysql://root:hunter2@x', TEMPORAL_ADDRESS: 'hunter2' },
    ...{ OCDL_HDFS_URL: 'hunter2:9870', OCDL_ALLUXIO_URL: 'http://user:hunter2@proxy', OCDL_S3_BUCKET: 'hunter2_' },
    ...{ OCDL_S3_SECRET_ACCESS_KEY: 'hunter2', OCDL_KAFKA_BROKERS: 'a:1,,hunter2', OCDL_KAFKA_TLS: 'hunter2' },
    ...{ OCDL_KAFKA_SASL_PASSWORD: 'hunter2', OCDL_GIT_REMOTE: 'hunter2', OCDL_GIT_TOKEN_FILE: '/nowhere/hunter2' },
    ...{ TEMPORAL_API_KEY_FILE: '/nowhere/hunter2', OCDL_KAFKA_PARTITIONS: 'hunter2', OCDL_LOG_LEVEL: 'hunter2' },
    OCDL_S3_BUCKETS: 'hunter2',
  };
  const told = mistakes(wrong);
  const missing = ['OCDL_S3_ACCESS_KEY_ID', 'OCDL_S3_REGION', 'OCDL_KAFKA_SASL_USERNAME', 'OCDL_GIT_USERNAME'];
  const innocent = ['OCDL_S3_SECRET_ACCESS_KEY', 'OCDL_KAFKA_SASL_PASSWORD'];
  for (const name of [...Object.keys(wrong).filter((one) => !innocent.includes(one)), ...missing])
    expect(told.filter((line) => line.startsWith(`${name}: `))).toHaveLength(1);
  expect(told.join('\n')).not.toContain('hunter2');
});

test.each<[what: string, environment: Environment, ...lines: string[]]>([
  ['Alluxio without the HDFS it reads', { OCDL_ALLUXIO_URL: 'http://a' }, 'OCDL_HDFS_URL: is missing'],
  ['a bucket of AWS without its region', { OCDL_S3_BUCKET: 'abc' }, 'OCDL_S3_REGION: is missing'],
  [
    'half a pair of keys',
    { OCDL_S3_BUCKET: 'abc', OCDL_S3_ENDPOINT: 'http://s', OCDL_S3_ACCESS_KEY_ID: 'k' },
    'OCDL_S3_SECRET_ACCESS_KEY: is missing',
  ],
  ['settings of a bucket that is not named', { OCDL_S3_PREFIX: 'models' }, 'OCDL_S3_BUCKET: is missing'],
  [
    'SASL without a password',
    { OCDL_KAFKA_BROKERS: 'k:1', OCDL_KAFKA_SASL_MECHANISM: 'plain', OCDL_KAFKA_SASL_USERNAME: 'u' },
    'OCDL_KAFKA_SASL_PASSWORD: is missing',
  ],
  ['TLS for a Temporal that is not named', { TEMPORAL_TLS: 'true' }, 'TEMPORAL_ADDRESS: is missing'],
  [
    'a KMS key without its encryption',
    { OCDL_S3_BUCKET: 'abc', OCDL_S3_REGION: 'r', OCDL_S3_KMS_KEY_ID: 'k' },
    'OCDL_S3_ENCRYPTION: must be aws:kms',
  ],
  [
    'a typing error',
    { OCDL_KAFKA_BROKER: 'k:1' },
    'OCDL_KAFKA_BROKER: is no variable of the platform: did you mean OCDL_KAFKA_BROKERS?',
  ],
  [
    'an authority for a Git remote without a user there',
    { OCDL_GIT_REMOTE: 'https://g/{repository}', OCDL_GIT_CA_FILE: import.meta.filename },
    'OCDL_GIT_USERNAME: is missing: OCDL_GIT_CA_FILE is given',
    'OCDL_GIT_TOKEN_FILE: is missing: OCDL_GIT_CA_FILE is given',
  ],
  [
    'a key for SSH at an HTTPS remote',
    {
      ...{ OCDL_GIT_REMOTE: 'https://g/{repository}', OCDL_GIT_SSH_KEY_FILE: import.meta.filename },
      OCDL_GIT_KNOWN_HOSTS_FILE: import.meta.filename,
    },
    'OCDL_GIT_SSH_KEY_FILE: is for an SSH remote, and OCDL_GIT_REMOTE names another',
  ],
  [
    'a token for HTTPS at an SSH remote',
    {
      ...{ OCDL_GIT_REMOTE: 'ssh://git@g/{repository}.git', OCDL_GIT_USERNAME: 'ocdl' },
      OCDL_GIT_TOKEN_FILE: import.meta.filename,
    },
    'OCDL_GIT_USERNAME: is for an HTTPS remote, and OCDL_GIT_REMOTE names another',
  ],
  [
    'an Alluxio over TLS, which the platform does not speak to it',
    { OCDL_HDFS_URL: 'http://n:9870', OCDL_ALLUXIO_URL: 'https://proxy:39999' },
    'OCDL_ALLUXIO_URL: must be a URL that begins with http://',
  ],
  ['a name of its own invention', { OCDL_QUICKLY_PLEASE: '1' }, 'OCDL_QUICKLY_PLEASE: is no variable of the platform'],
])('%s is a mistake', (_, environment, ...lines) => {
  const told = mistakes(environment);
  expect(told).toEqual(
    lines.map((line) => expect.stringMatching(new RegExp(`^${line.replace(/[?.]/g, '\\$&')}`)) as unknown),
  );
});

test('what other programs of the project read is no mistake', () => {
  expect(mistakes({ OCDL_TOKEN: 'ocdl_x', OCDL_STACK_HOME: '/x', OCDL_HDFS_URL: '', OCDL_S3_PREFIX: '' })).toEqual([]);
});

test('a secret comes from a file as well, but not twice, and every secret may', () => {
  const path = holding('password', 'postgresql://from@file/x\n');
  expect(workerConfig({ DATABASE_URL_FILE: path }).databaseUrl).toBe('postgresql://from@file/x');
  expect(mistakes({ DATABASE_URL_FILE: path })).toEqual([expect.stringMatching(/^DATABASE_URL: is given twice/)]);
  expect(variableNames.filter(isSecret)).toEqual([
    ...['OCDL_PIP_INDEX_URL', 'TEMPORAL_API_KEY', 'DATABASE_URL'],
    ...['OCDL_S3_SECRET_ACCESS_KEY', 'OCDL_KAFKA_SASL_PASSWORD'],
  ]);
  const empty = holding('empty', ' \n');
  const kafka = { OCDL_KAFKA_BROKERS: 'k:1', OCDL_KAFKA_SASL_MECHANISM: 'plain', OCDL_KAFKA_SASL_USERNAME: 'u' };
  expect(mistakes({ ...kafka, OCDL_KAFKA_SASL_PASSWORD_FILE: empty })).toEqual([
    'OCDL_KAFKA_SASL_PASSWORD_FILE: names an empty file',
  ]);
  expect(mistakes({ TEMPORAL_ADDRESS: 't:7233', TEMPORAL_API_KEY_FILE: empty })).toEqual([
    'TEMPORAL_API_KEY_FILE: names an empty file',
  ]);
  // The programs run in another folder than the person who named the file.
  const { env, databaseUrl } = readSettings({
    DATABASE_URL_FILE: relative(process.cwd(), path),
    OCDL_HDFS_URL: 'http://n:1',
  });
  expect([env, databaseUrl]).toEqual([{ OCDL_HDFS_URL: 'http://n:1' }, 'postgresql://from@file/x']);
  const git = {
    OCDL_GIT_REMOTE: 'https://h/{repository}',
    OCDL_GIT_USERNAME: 'u',
    OCDL_GIT_TOKEN_FILE: relative(process.cwd(), path),
  };
  expect(readSettings(git).env['OCDL_GIT_TOKEN_FILE']).toBe(path);
});

test('the environment without systems keeps what is the platform’s own', () => {
  const own = { OCDL_HOME: '/x', OCDL_UI_PORT: '1', OCDL_API_PORT: '2', PATH: '/bin' };
  const systems = { DATABASE_URL_FILE: '/y', OCDL_S3_BUCKET: 'b', TEMPORAL_ADDRESS: 't:1', OCDL_GIT_TOKEN_FILE: '/z' };
  expect(withoutSystems({ ...own, ...systems, ...database })).toEqual(own);
});

test('every variable has a description, and the reference in deploy/README.md is up to date', () => {
  for (const name of variableNames)
    expect([name, schema.shape[name].description]).toEqual([name, expect.stringMatching(/^.{5,}$/)]);
  const { text, renewed } = readReference();
  // When it is not: node --import tsx workers/reference.ts
  expect(text).toBe(renewed);
  for (const name of variableNames) expect(text).toContain(`| \`${name}\` |`);
});
