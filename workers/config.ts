// Typed configuration from the environment, for every program. All mistakes are reported together, without values: some are secret.
import { readFileSync } from 'node:fs';
import { poolsSchema, type PoolSetting } from './pools.ts';
import { strangers } from './unknown-variables.ts';
import { isSecret, schema, variableNames, type VariableName, type Variables } from './variables.ts';

export type Environment = Readonly<Record<string, string | undefined>>;
export type Config = ReturnType<typeof platformConfig>;

/** The API's address for other programs on this machine. */
export function apiUrlOf(host: string, port: number): string {
  const reachable = host === '0.0.0.0' || host === '::' ? '127.0.0.1' : host;
  return `http://${reachable.includes(':') ? `[${reachable}]` : reachable}:${port}`;
}

/** Reads a worker's environment. Throws one error that names every invalid variable. */
export function workerConfig(environment: Environment = process.env): Config {
  return platformConfig(readVariables(environment, ['DATABASE_URL']).values);
}

/** The settings of one Kubernetes pool. */
export const kubernetesOf = (kubernetes: Exclude<Config['kubernetes'], false>, { context }: PoolSetting) => ({
  ...kubernetes,
  place: { ...kubernetes.place, context: context ?? kubernetes.place.context },
});

/** The pools on Kubernetes, each with its name in reports and its settings. */
export const kubernetesPools = ({ kubernetes, pools }: Config) =>
  pools.flatMap((pool) => {
    if (!kubernetes || pool.kind === 'local') return [];
    const name = pools.length > 1 ? `Kubernetes (${pool.name})` : 'Kubernetes';
    return [{ name, options: kubernetesOf(kubernetes, pool) }];
  });

/** The configuration that the variables select. A system that is not configured (an empty `databaseUrl`) is the embedded one. */
export function platformConfig(v: Variables) {
  const isKubernetes = v.OCDL_KUBERNETES_KUBECONFIG !== undefined || v.OCDL_KUBERNETES_IN_CLUSTER;
  const pools: readonly PoolSetting[] = v.OCDL_POOLS ?? [
    isKubernetes ? { name: 'kubernetes', kind: 'kubernetes' } : { name: 'local', kind: 'local' },
  ];
  const tls = v.TEMPORAL_TLS || v.TEMPORAL_TLS_CA_FILE || v.TEMPORAL_TLS_CERT_FILE || v.TEMPORAL_API_KEY;
  return {
    home: v.OCDL_HOME,
    cache: v.OCDL_CACHE,
    python: v.OCDL_PYTHON,
    environments: {
      index: v.OCDL_PIP_INDEX_URL,
      indexHosts: v.OCDL_PIP_INDEX_HOSTS ?? [],
      limitBytes: v.OCDL_ENVIRONMENT_LIMIT_BYTES,
      totalBytes: v.OCDL_ENVIRONMENTS_TOTAL_BYTES,
    },
    jobsWithoutSandbox: v.OCDL_JOBS_WITHOUT_SANDBOX,
    apiUrl: v.OCDL_API_URL,
    logLevel: v.OCDL_LOG_LEVEL,
    temporal: {
      address: v.TEMPORAL_ADDRESS,
      namespace: v.TEMPORAL_NAMESPACE,
      /** Options for both of Temporal's connection types. */
      connection: {
        address: v.TEMPORAL_ADDRESS,
        ...(tls && {
          tls: {
            ...(v.TEMPORAL_TLS_CA_FILE && { serverRootCACertificate: readFileSync(v.TEMPORAL_TLS_CA_FILE) }),
            ...(v.TEMPORAL_TLS_CERT_FILE &&
              v.TEMPORAL_TLS_KEY_FILE && {
                clientCertPair: {
                  crt: readFileSync(v.TEMPORAL_TLS_CERT_FILE),
                  key: readFileSync(v.TEMPORAL_TLS_KEY_FILE),
                },
              }),
          },
        }),
        ...(v.TEMPORAL_API_KEY && { apiKey: v.TEMPORAL_API_KEY }),
      },
    },
    databaseUrl: v.DATABASE_URL ?? '',
    database: {
      ca: contentOf(v.DATABASE_CA_FILE),
      poolSize: v.DATABASE_POOL_SIZE,
    },
    hdfs: v.OCDL_HDFS_URL && { url: v.OCDL_HDFS_URL, user: v.OCDL_HDFS_USER, root: v.OCDL_HDFS_ROOT },
    alluxio: v.OCDL_ALLUXIO_URL && { url: v.OCDL_ALLUXIO_URL, root: v.OCDL_HDFS_ROOT, user: v.OCDL_ALLUXIO_USER },
    s3: v.OCDL_S3_BUCKET && {
      bucket: v.OCDL_S3_BUCKET,
      prefix: v.OCDL_S3_PREFIX,
      region: v.OCDL_S3_REGION,
      endpoint: v.OCDL_S3_ENDPOINT,
      credentials:
        v.OCDL_S3_ACCESS_KEY_ID && v.OCDL_S3_SECRET_ACCESS_KEY
          ? { accessKeyId: v.OCDL_S3_ACCESS_KEY_ID, secretAccessKey: v.OCDL_S3_SECRET_ACCESS_KEY }
          : undefined,
      encryption: v.OCDL_S3_ENCRYPTION,
      kmsKeyId: v.OCDL_S3_KMS_KEY_ID,
    },
    kafka: v.OCDL_KAFKA_BROKERS && {
      brokers: v.OCDL_KAFKA_BROKERS,
      ssl: v.OCDL_KAFKA_TLS
        ? {
            ca: contentOf(v.OCDL_KAFKA_CA_FILE),
            cert: contentOf(v.OCDL_KAFKA_CERT_FILE),
            key: contentOf(v.OCDL_KAFKA_KEY_FILE),
          }
        : undefined,
      sasl: v.OCDL_KAFKA_SASL_MECHANISM && {
        mechanism: v.OCDL_KAFKA_SASL_MECHANISM,
        username: v.OCDL_KAFKA_SASL_USERNAME ?? '',
        password: v.OCDL_KAFKA_SASL_PASSWORD ?? '',
      },
      topics: {
        partitions: v.OCDL_KAFKA_PARTITIONS,
        replication: v.OCDL_KAFKA_REPLICATION,
        retentionMs: v.OCDL_KAFKA_RETENTION_HOURS * 3_600_000,
      },
    },
    git: v.OCDL_GIT_REMOTE && {
      remote: v.OCDL_GIT_REMOTE,
      ssh:
        v.OCDL_GIT_SSH_KEY_FILE && v.OCDL_GIT_KNOWN_HOSTS_FILE
          ? { keyFile: v.OCDL_GIT_SSH_KEY_FILE, knownHostsFile: v.OCDL_GIT_KNOWN_HOSTS_FILE }
          : undefined,
      https:
        v.OCDL_GIT_USERNAME && v.OCDL_GIT_TOKEN_FILE
          ? { username: v.OCDL_GIT_USERNAME, tokenFile: v.OCDL_GIT_TOKEN_FILE, caFile: v.OCDL_GIT_CA_FILE }
          : undefined,
    },
    pools,
    kubernetes: isKubernetes && {
      place: { kubeconfig: v.OCDL_KUBERNETES_KUBECONFIG, context: v.OCDL_KUBERNETES_CONTEXT },
      installation: v.OCDL_KUBERNETES_NAMESPACE_PREFIX,
      // Both must be set (`needs`).
      image: v.OCDL_KUBERNETES_IMAGE ?? '',
      platformImage: v.OCDL_KUBERNETES_PLATFORM_IMAGE ?? '',
      callerRanges: v.OCDL_KUBERNETES_CONTROL_PLANE_RANGES ?? [],
      imagePython: v.OCDL_KUBERNETES_IMAGE_PYTHON,
      dataUrl: v.OCDL_KUBERNETES_DATA_URL ?? '',
      dataRanges: v.OCDL_KUBERNETES_DATA_RANGES ?? [],
      gpuResource: v.OCDL_KUBERNETES_GPU_RESOURCE,
      quota: {
        cpus: v.OCDL_KUBERNETES_PROJECT_CPUS,
        memoryBytes: v.OCDL_KUBERNETES_PROJECT_MEMORY_BYTES,
        diskBytes: v.OCDL_KUBERNETES_PROJECT_DISK_BYTES,
        gpus: v.OCDL_KUBERNETES_PROJECT_GPUS,
      },
    },
    imports: {
      hosts: v.OCDL_IMPORT_HOSTS ?? [],
      limitBytes: v.OCDL_IMPORT_LIMIT_BYTES,
      guard: { allowAddresses: v.OCDL_IMPORT_PRIVATE_ADDRESSES ?? [], ca: contentOf(v.OCDL_IMPORT_CA_FILE) },
      github: {
        apiUrl: v.OCDL_GITHUB_API_URL.replace(/\/$/, ''),
        tokenFile: v.OCDL_GITHUB_TOKEN_FILE,
        downloadHosts: v.OCDL_GITHUB_DOWNLOAD_HOSTS,
      },
      maven: { url: v.OCDL_MAVEN_URL.replace(/\/$/, '') },
      sftpHosts: v.OCDL_SFTP_HOSTS ?? [],
    },
  } as const;
}

/**
 * Parses every variable, for every program, so that all programs report the same mistakes. An empty variable counts as unset; a
 * secret may be given as NAME_FILE, the path of a file that holds it. Throws one error that names every invalid variable, no value.
 */
export function readVariables(
  environment: Environment = process.env,
  mustHave: readonly VariableName[] = [],
): { readonly values: Variables; readonly isGiven: (name: VariableName) => boolean } {
  const { given, mistakes } = withSecretFiles(environment);
  const parsed = schema.safeParse(given);
  for (const issue of parsed.error?.issues ?? []) mistakes.push([String(issue.path[0]), issue.message]);
  for (const name of mustHave) if (given[name] === undefined) mistakes.push([name, 'must be set']);
  mistakes.push(...contradictions(given), ...strangers(environment));
  if (!parsed.success || mistakes.length > 0) {
    const lines = [...new Set(mistakes.map(([name, what]) => `  ${name}: ${what}`))];
    throw new Error(`invalid configuration:\n${lines.join('\n')}`);
  }
  return { values: parsed.data, isGiven: (name) => given[name] !== undefined };
}

type Given = Readonly<Record<string, string | undefined>>;
type Mistake = [name: string, what: string];

function withSecretFiles(environment: Environment): { given: Given; mistakes: Mistake[] } {
  const given = Object.fromEntries(Object.entries(environment).filter(([, value]) => value !== ''));
  const mistakes: Mistake[] = [];
  for (const name of variableNames.filter(isSecret)) {
    const path = given[`${name}_FILE`];
    if (path === undefined) continue;
    if (given[name] !== undefined) mistakes.push([name, `is set twice, also by ${name}_FILE: remove one`]);
    else
      try {
        given[name] = readFileSync(path, 'utf8').trim();
        // If an empty file counted as unset, something else would be used: no password, another key, no TLS.
        if (given[name] === '') mistakes.push([`${name}_FILE`, 'is an empty file']);
      } catch {
        mistakes.push([`${name}_FILE`, 'is not a readable file']);
      }
  }
  return { given, mistakes };
}

const kubernetesNeeds = [
  'OCDL_KUBERNETES_IMAGE',
  'OCDL_KUBERNETES_PLATFORM_IMAGE',
  'OCDL_KUBERNETES_DATA_URL',
] as const;

/** Variables that have no effect without another one, which must then be set too. */
const needs: readonly (readonly [names: RegExp, needed: readonly VariableName[]])[] = [
  [/^OCDL_(HDFS|ALLUXIO)_/, ['OCDL_HDFS_URL']],
  [/^OCDL_ALLUXIO_/, ['OCDL_ALLUXIO_URL']],
  [/^OCDL_S3_/, ['OCDL_S3_BUCKET']],
  [/^OCDL_S3_(ACCESS_KEY_ID|SECRET_ACCESS_KEY)$/, ['OCDL_S3_ACCESS_KEY_ID', 'OCDL_S3_SECRET_ACCESS_KEY']],
  [/^OCDL_KAFKA_/, ['OCDL_KAFKA_BROKERS']],
  [/^OCDL_KAFKA_SASL_/, ['OCDL_KAFKA_SASL_MECHANISM', 'OCDL_KAFKA_SASL_USERNAME', 'OCDL_KAFKA_SASL_PASSWORD']],
  [/^OCDL_KAFKA_(CERT|KEY)_FILE$/, ['OCDL_KAFKA_CERT_FILE', 'OCDL_KAFKA_KEY_FILE']],
  [/^OCDL_GIT_/, ['OCDL_GIT_REMOTE']],
  [/^OCDL_GIT_(SSH_KEY|KNOWN_HOSTS)_FILE$/, ['OCDL_GIT_SSH_KEY_FILE', 'OCDL_GIT_KNOWN_HOSTS_FILE']],
  [/^OCDL_GIT_(USERNAME|TOKEN_FILE|CA_FILE)$/, ['OCDL_GIT_USERNAME', 'OCDL_GIT_TOKEN_FILE']],
  [/^OCDL_KUBERNETES_CONTEXT$/, ['OCDL_KUBERNETES_KUBECONFIG']],
  [/^OCDL_KUBERNETES_KUBECONFIG$/, [...kubernetesNeeds, 'OCDL_KUBERNETES_CONTROL_PLANE_RANGES']],
  [/^TEMPORAL_TLS_(CERT|KEY)_FILE$/, ['TEMPORAL_TLS_CERT_FILE', 'TEMPORAL_TLS_KEY_FILE']],
  [/^TEMPORAL_(TLS|API_KEY)/, ['TEMPORAL_ADDRESS']],
  [/^DATABASE_CA_FILE$/, ['DATABASE_URL']],
];

/** Credentials for a Git remote, and the remotes that do not use them. */
const gitMeans: readonly (readonly [names: RegExp, other: RegExp, what: string])[] = [
  [/^OCDL_GIT_(SSH_KEY|KNOWN_HOSTS)_FILE$/, /^https?:/i, 'an SSH'],
  [/^OCDL_GIT_(USERNAME|TOKEN_FILE|CA_FILE)$/, /^ssh:/i, 'an HTTPS'],
];

function contradictions(given: Given): Mistake[] {
  const found = needs.flatMap(([names, needed]) => {
    const first = variableNames.find((name) => given[name] !== undefined && names.test(name));
    if (first === undefined) return [];
    return needed
      .filter((name) => given[name] === undefined)
      .map((name): Mistake => [name, `must be set: ${first} has no effect without it`]);
  });
  if (given['OCDL_S3_BUCKET'] !== undefined && given['OCDL_S3_ENDPOINT'] === undefined && !given['OCDL_S3_REGION'])
    found.push(['OCDL_S3_REGION', "must be set to the bucket's region, because OCDL_S3_ENDPOINT is not set"]);
  if (given['OCDL_S3_KMS_KEY_ID'] !== undefined && given['OCDL_S3_ENCRYPTION'] !== 'aws:kms')
    found.push(['OCDL_S3_ENCRYPTION', 'must be aws:kms because OCDL_S3_KMS_KEY_ID is set']);
  for (const [names, other, what] of gitMeans) {
    const name = variableNames.find((one) => given[one] !== undefined && names.test(one));
    if (name !== undefined && other.test(given['OCDL_GIT_REMOTE'] ?? ''))
      found.push([name, `is for ${what} remote, but OCDL_GIT_REMOTE is not one`]);
  }
  const isInCluster = given['OCDL_KUBERNETES_IN_CLUSTER'] === 'true';
  if (isInCluster && given['OCDL_KUBERNETES_KUBECONFIG'] !== undefined)
    found.push(['OCDL_KUBERNETES_KUBECONFIG', 'must not be set together with OCDL_KUBERNETES_IN_CLUSTER: remove one']);
  if (isInCluster)
    for (const name of kubernetesNeeds)
      if (given[name] === undefined)
        found.push([name, 'must be set: OCDL_KUBERNETES_IN_CLUSTER has no effect without it']);
  const ofKubernetes = variableNames.find(
    (name) => /^OCDL_KUBERNETES_(?!IN_CLUSTER)/.test(name) && given[name] !== undefined,
  );
  if (ofKubernetes !== undefined && !isInCluster && given['OCDL_KUBERNETES_KUBECONFIG'] === undefined)
    found.push([
      'OCDL_KUBERNETES_KUBECONFIG',
      `must be set, or OCDL_KUBERNETES_IN_CLUSTER: ${ofKubernetes} has no effect without one of them`,
    ]);
  const usesKubernetes = poolsSchema.safeParse(given['OCDL_POOLS']).data?.some(({ kind }) => kind === 'kubernetes');
  if (usesKubernetes && !isInCluster && given['OCDL_KUBERNETES_KUBECONFIG'] === undefined)
    found.push(['OCDL_KUBERNETES_KUBECONFIG', 'must be set: OCDL_POOLS has a pool on Kubernetes']);
  const forTls = ['OCDL_KAFKA_CA_FILE', 'OCDL_KAFKA_CERT_FILE'].find((name) => given[name] !== undefined);
  if (forTls !== undefined && given['OCDL_KAFKA_TLS'] !== 'true')
    found.push(['OCDL_KAFKA_TLS', `must be true because ${forTls} is set`]);
  return found;
}

const contentOf = (path: string | undefined): string | undefined => path && readFileSync(path, 'utf8');
