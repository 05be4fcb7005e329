// The configuration: mistakes are reported together without secrets, secrets from files, selected systems, the reference in deploy/README.md.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { apiConfig } from '../../api/config.ts';
import { readSettings, withoutSystems } from '../../deploy/local/settings.ts';
import { kubernetesPools, workerConfig, type Environment } from '../../workers/config.ts';
import { places, poolRows } from '../../workers/pools.ts';
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

/** The mistakes, one per line; every kind of program must report the same. */
function mistakes(environment: Environment): readonly string[] {
  const reported = [workerConfig, apiConfig, readSettings].map((read) => {
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
  // Every program reports a mistake that concerns one of them; otherwise a worker would fail after the API has started.
  expect(reported[1]).toEqual(reported[0]);
  expect(reported[2]).toEqual(reported[0]);
  return reported[0] ?? [];
}

test('without variables every system is embedded; workers and the API require DATABASE_URL', () => {
  expect(workerConfig(database)).toMatchObject({
    ...{
      home: join(process.cwd(), '.ocdl'),
      cache: join(homedir(), '.cache', 'ocdl'),
      apiUrl: 'http://127.0.0.1:8470',
    },
    temporal: { namespace: 'default', connection: { address: '127.0.0.1:7233' } },
    ...{ hdfs: undefined, alluxio: undefined, s3: undefined, kafka: undefined, git: undefined },
  });
  expect(() => workerConfig({})).toThrow(/DATABASE_URL: must be set/);
  expect(() => apiConfig({ DATABASE_URL: '' })).toThrow(/DATABASE_URL: must be set/);
  expect(readSettings({})).toMatchObject({ databaseUrl: undefined, temporalAddress: undefined, apiPort: undefined });
});

test('the variables of each system select and configure it', () => {
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

test('IPv6 addresses of hosts of the package index are accepted in brackets', () => {
  const hostsOf = (hosts: string): unknown =>
    workerConfig({ ...database, OCDL_PIP_INDEX_HOSTS: hosts }).environments.indexHosts;
  expect(hostsOf('files.example.org,[::1]:8080,[2001:db8::1]')).toEqual([
    ...['files.example.org', '[::1]:8080', '[2001:db8::1]'],
  ]);
  for (const wrong of ['::1', '2001:db8::1:8080', '[::1', '[files.example.org]:80'])
    expect(mistakes({ OCDL_PIP_INDEX_HOSTS: wrong })).toEqual([expect.stringContaining('in brackets')]);
});

test('mistakes of every kind are reported together, without values', () => {
  const wrong = {
    ...{ OCDL_API_PORT: '99999', DATABASE_URL: 'mysql://root:hunter2@x', TEMPORAL_ADDRESS: 'hunter2' },
    ...{ OCDL_HDFS_URL: 'hunter2:9870', OCDL_ALLUXIO_URL: 'http://user:hunter2@proxy', OCDL_S3_BUCKET: 'hunter2_' },
    ...{ OCDL_S3_SECRET_ACCESS_KEY: 'hunter2', OCDL_KAFKA_BROKERS: 'a:1,,hunter2', OCDL_KAFKA_TLS: 'hunter2' },
    ...{ OCDL_KAFKA_SASL_PASSWORD: 'hunter2', OCDL_GIT_REMOTE: 'hunter2', OCDL_GIT_TOKEN_FILE: '/nowhere/hunter2' },
    ...{ TEMPORAL_API_KEY_FILE: '/nowhere/hunter2', OCDL_KAFKA_PARTITIONS: 'hunter2', OCDL_LOG_LEVEL: 'hunter2' },
    OCDL_S3_BUCKETS: 'hunter2',
  };
  const reported = mistakes(wrong);
  const missing = ['OCDL_S3_ACCESS_KEY_ID', 'OCDL_S3_REGION', 'OCDL_KAFKA_SASL_USERNAME', 'OCDL_GIT_USERNAME'];
  const innocent = ['OCDL_S3_SECRET_ACCESS_KEY', 'OCDL_KAFKA_SASL_PASSWORD'];
  for (const name of [...Object.keys(wrong).filter((one) => !innocent.includes(one)), ...missing])
    expect(reported.filter((line) => line.startsWith(`${name}: `))).toHaveLength(1);
  expect(reported.join('\n')).not.toContain('hunter2');
});

test.each<[what: string, environment: Environment, ...lines: string[]]>([
  ['Alluxio without HDFS', { OCDL_ALLUXIO_URL: 'http://a' }, 'OCDL_HDFS_URL: must be set'],
  ['an AWS bucket without its region', { OCDL_S3_BUCKET: 'abc' }, 'OCDL_S3_REGION: must be set'],
  [
    'an access key without its secret',
    { OCDL_S3_BUCKET: 'abc', OCDL_S3_ENDPOINT: 'http://s', OCDL_S3_ACCESS_KEY_ID: 'k' },
    'OCDL_S3_SECRET_ACCESS_KEY: must be set',
  ],
  ['S3 settings without a bucket', { OCDL_S3_PREFIX: 'models' }, 'OCDL_S3_BUCKET: must be set'],
  [
    'SASL without a password',
    { OCDL_KAFKA_BROKERS: 'k:1', OCDL_KAFKA_SASL_MECHANISM: 'plain', OCDL_KAFKA_SASL_USERNAME: 'u' },
    'OCDL_KAFKA_SASL_PASSWORD: must be set',
  ],
  ['TLS without a Temporal address', { TEMPORAL_TLS: 'true' }, 'TEMPORAL_ADDRESS: must be set'],
  [
    'a KMS key without aws:kms encryption',
    { OCDL_S3_BUCKET: 'abc', OCDL_S3_REGION: 'r', OCDL_S3_KMS_KEY_ID: 'k' },
    'OCDL_S3_ENCRYPTION: must be aws:kms',
  ],
  [
    'a typing error',
    { OCDL_KAFKA_BROKER: 'k:1' },
    'OCDL_KAFKA_BROKER: is not a variable of the platform: did you mean OCDL_KAFKA_BROKERS?',
  ],
  [
    'a CA for a Git remote without a user',
    { OCDL_GIT_REMOTE: 'https://g/{repository}', OCDL_GIT_CA_FILE: import.meta.filename },
    'OCDL_GIT_USERNAME: must be set: OCDL_GIT_CA_FILE has no effect without it',
    'OCDL_GIT_TOKEN_FILE: must be set: OCDL_GIT_CA_FILE has no effect without it',
  ],
  [
    'an SSH key for an HTTPS remote',
    {
      ...{ OCDL_GIT_REMOTE: 'https://g/{repository}', OCDL_GIT_SSH_KEY_FILE: import.meta.filename },
      OCDL_GIT_KNOWN_HOSTS_FILE: import.meta.filename,
    },
    'OCDL_GIT_SSH_KEY_FILE: is for an SSH remote, but OCDL_GIT_REMOTE is not one',
  ],
  [
    'an HTTPS token for an SSH remote',
    {
      ...{ OCDL_GIT_REMOTE: 'ssh://git@g/{repository}.git', OCDL_GIT_USERNAME: 'ocdl' },
      OCDL_GIT_TOKEN_FILE: import.meta.filename,
    },
    'OCDL_GIT_USERNAME: is for an HTTPS remote, but OCDL_GIT_REMOTE is not one',
  ],
  [
    'an Alluxio over TLS, which the platform does not support',
    { OCDL_HDFS_URL: 'http://n:9870', OCDL_ALLUXIO_URL: 'https://proxy:39999' },
    'OCDL_ALLUXIO_URL: must be a URL that begins with http://',
  ],
  ['an unknown name', { OCDL_QUICKLY_PLEASE: '1' }, 'OCDL_QUICKLY_PLEASE: is not a variable of the platform'],
])('%s is a mistake', (_, environment, ...lines) => {
  expect(mistakes(environment)).toEqual(
    lines.map((line) => expect.stringMatching(new RegExp(`^${line.replace(/[?.]/g, '\\$&')}`)) as unknown),
  );
});

test('variables of other programs of the project are not mistakes', () => {
  expect(mistakes({ OCDL_TOKEN: 'ocdl_x', OCDL_STACK_HOME: '/x', OCDL_HDFS_URL: '', OCDL_S3_PREFIX: '' })).toEqual([]);
});

test('every secret can be set by value or by file, but not by both', () => {
  const path = holding('password', 'postgresql://from@file/x\n');
  expect(workerConfig({ DATABASE_URL_FILE: path }).databaseUrl).toBe('postgresql://from@file/x');
  expect(mistakes({ DATABASE_URL_FILE: path })).toEqual([expect.stringMatching(/^DATABASE_URL: is set twice/)]);
  expect(variableNames.filter(isSecret)).toEqual([
    ...['OCDL_PIP_INDEX_URL', 'TEMPORAL_API_KEY', 'DATABASE_URL'],
    ...['OCDL_S3_SECRET_ACCESS_KEY', 'OCDL_KAFKA_SASL_PASSWORD'],
  ]);
  const empty = holding('empty', ' \n');
  const kafka = { OCDL_KAFKA_BROKERS: 'k:1', OCDL_KAFKA_SASL_MECHANISM: 'plain', OCDL_KAFKA_SASL_USERNAME: 'u' };
  expect(mistakes({ ...kafka, OCDL_KAFKA_SASL_PASSWORD_FILE: empty })).toEqual([
    'OCDL_KAFKA_SASL_PASSWORD_FILE: is an empty file',
  ]);
  expect(mistakes({ TEMPORAL_ADDRESS: 't:7233', TEMPORAL_API_KEY_FILE: empty })).toEqual([
    'TEMPORAL_API_KEY_FILE: is an empty file',
  ]);
  // The programs run in a different folder from the person who set the path, so paths become absolute.
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

test('Kubernetes is selected by a kubeconfig or by the platform’s own cluster, and needs an image and an address', () => {
  const kubeconfig = holding('kubeconfig', 'apiVersion: v1');
  const image = 'registry.example/ocdl-capsule:1';
  const platformImage = 'registry.example/ocdl-platform:1';
  const own = {
    OCDL_KUBERNETES_IMAGE: image,
    OCDL_KUBERNETES_PLATFORM_IMAGE: platformImage,
    OCDL_KUBERNETES_DATA_URL: 'https://10.1.2.3:8470',
  };
  const found = {
    image,
    imagePython: '3.12',
    platformImage,
    callerRanges: ['10.1.3.0/28'],
    installation: 'ocdl',
    gpuResource: 'nvidia.com/gpu',
    dataRanges: ['10.1.2.0/24'],
  };
  expect(workerConfig(database).kubernetes).toBe(false);
  expect(
    workerConfig({
      ...{ ...database, ...own, OCDL_KUBERNETES_KUBECONFIG: kubeconfig, OCDL_KUBERNETES_CONTEXT: 'lab' },
      OCDL_KUBERNETES_DATA_RANGES: '10.1.2.0/24',
      OCDL_KUBERNETES_CONTROL_PLANE_RANGES: '10.1.3.0/28',
    }).kubernetes,
  ).toMatchObject({ ...found, place: { kubeconfig, context: 'lab' } });
  expect(workerConfig({ ...database, ...own, OCDL_KUBERNETES_IN_CLUSTER: 'true' }).kubernetes).toMatchObject({ image });
  expect(mistakes({ OCDL_KUBERNETES_IN_CLUSTER: 'true', OCDL_KUBERNETES_IMAGE: 'Capsule' })).toEqual([
    'OCDL_KUBERNETES_IMAGE: must be an image with its registry',
    'OCDL_KUBERNETES_PLATFORM_IMAGE: must be set: OCDL_KUBERNETES_IN_CLUSTER has no effect without it',
    'OCDL_KUBERNETES_DATA_URL: must be set: OCDL_KUBERNETES_IN_CLUSTER has no effect without it',
  ]);
  expect(mistakes(own)).toEqual([
    'OCDL_KUBERNETES_KUBECONFIG: must be set, or OCDL_KUBERNETES_IN_CLUSTER: OCDL_KUBERNETES_IMAGE has no effect without one of them',
  ]);
  expect(
    mistakes({
      ...own,
      OCDL_KUBERNETES_KUBECONFIG: kubeconfig,
      OCDL_KUBERNETES_IN_CLUSTER: 'true',
      OCDL_KUBERNETES_DATA_RANGES: 'x',
    }),
  ).toEqual([
    'OCDL_KUBERNETES_DATA_RANGES: must be address ranges such as 10.1.2.0/24, separated by commas',
    'OCDL_KUBERNETES_CONTROL_PLANE_RANGES: must be set: OCDL_KUBERNETES_KUBECONFIG has no effect without it',
    'OCDL_KUBERNETES_KUBECONFIG: must not be set together with OCDL_KUBERNETES_IN_CLUSTER: remove one',
  ]);
});

test('pools have an order, and by default there is the one that is configured', () => {
  const kubeconfig = holding('kubeconfig', 'apiVersion: v1');
  const own = {
    ...{ OCDL_KUBERNETES_IMAGE: 'registry.example/ocdl-capsule:1', OCDL_KUBERNETES_DATA_URL: 'https://10.1.2.3:8470' },
    ...{ OCDL_KUBERNETES_KUBECONFIG: kubeconfig, OCDL_KUBERNETES_CONTEXT: 'lab' },
    OCDL_KUBERNETES_PLATFORM_IMAGE: 'registry.example/ocdl-platform:1',
    OCDL_KUBERNETES_CONTROL_PLANE_RANGES: '10.1.3.0/28',
  };
  const rows = (given: Record<string, string>) =>
    poolRows(workerConfig({ ...database, ...given }).pools, { name: 'host /home', gpus: 1 });
  const local = { id: 'local host /home', name: 'local', kind: 'local', rank: 0, gpus: 1, places: places.local };
  expect(rows({})).toEqual([local]);
  const cluster = { kind: 'kubernetes', places: places.kubernetes, gpus: 64 };
  expect(rows(own)).toEqual([{ ...cluster, id: 'kubernetes', name: 'kubernetes', rank: 0 }]);
  const pools = [
    { name: 'cloud', kind: 'kubernetes', context: 'eu', gpus: 8, places: { training: 3, evaluation: 0 } },
    { name: 'local', kind: 'local' },
    { name: 'onprem', kind: 'kubernetes' },
  ];
  const several = { ...own, OCDL_POOLS: JSON.stringify(pools) };
  expect(rows(several)).toEqual([
    { ...pools[0], context: undefined, id: 'cloud', rank: 0 },
    { ...local, rank: 1 },
    { ...cluster, id: 'onprem', name: 'onprem', rank: 2 },
  ]);
  const found = kubernetesPools(workerConfig({ ...database, ...several }));
  expect(found.map(({ name, options }) => [name, options.place.context])).toEqual([
    ['Kubernetes (cloud)', 'eu'],
    ['Kubernetes (onprem)', 'lab'],
  ]);
  const twice = (one: object) => JSON.stringify([one, { ...one, name: 'other' }]);
  for (const [OCDL_POOLS, what] of [
    ['[', 'must be a JSON list of pools'],
    [JSON.stringify([{ name: 'A', kind: 'local' }]), 'a name has lower-case letters'],
    [JSON.stringify([{ name: 'a', kind: 'local', context: 'x' }]), 'a local pool has no context'],
    [JSON.stringify([{ name: 'a', kind: 'local', privileged: true }]), 'Unrecognized key: "privileged"'],
    [twice({ name: 'a', kind: 'local' }), 'two pools are on the same cluster'],
    [twice({ name: 'a', kind: 'kubernetes', context: 'x' }), 'two pools are on the same cluster'],
  ] as const)
    expect([OCDL_POOLS, mistakes({ ...own, OCDL_POOLS })]).toEqual([
      OCDL_POOLS,
      [expect.stringContaining(`OCDL_POOLS: ${what}`)],
    ]);
  expect(mistakes({ OCDL_POOLS: JSON.stringify([{ name: 'a', kind: 'kubernetes' }]) })).toEqual([
    'OCDL_KUBERNETES_KUBECONFIG: must be set: OCDL_POOLS has a pool on Kubernetes',
  ]);
});

test('the environment without systems keeps the platform’s own variables', () => {
  const own = { OCDL_HOME: '/x', OCDL_UI_PORT: '1', OCDL_API_PORT: '2', PATH: '/bin' };
  const systems = { DATABASE_URL_FILE: '/y', OCDL_S3_BUCKET: 'b', TEMPORAL_ADDRESS: 't:1', OCDL_GIT_TOKEN_FILE: '/z' };
  expect(withoutSystems({ ...own, ...systems, ...database })).toEqual(own);
});

test('every variable has a description, and the reference in deploy/README.md is up to date', () => {
  for (const name of variableNames)
    expect([name, schema.shape[name].description]).toEqual([name, expect.stringMatching(/^.{5,}$/)]);
  const { text, renewed } = readReference();
  // To update it: node --import tsx workers/reference.ts
  expect(text).toBe(renewed);
  for (const name of variableNames) expect(text).toContain(`| \`${name}\` |`);
});
