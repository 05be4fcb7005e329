// Defines every environment variable: format, default, description. All programs and deploy/README.md use these definitions.
import { z } from 'zod';
import { kubernetesVariables } from './kubernetes-variables.ts';
import { poolsSchema } from './pools.ts';
import { file, folder, list, port, secret, text, webUrl, whole, yesOrNo } from './variable-formats.ts';

/** A name or an IPv4 address, or an IPv6 address in brackets; then the port. */
const broker = /^([^\s/:[\]]+|\[[0-9A-Fa-f:.]+\]):\d+$/;
/** The same, and the port is optional. */
const indexHost = /^([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:\d{1,5})?$/;

/** Groups of variables by heading. Defaults are written as in the environment. */
export const groups = {
  'The platform': {
    OCDL_HOME: folder.prefault('.ocdl').describe('Folder for keys and for the data of embedded systems.'),
    OCDL_CACHE: folder
      .prefault('~/.cache/ocdl')
      .describe(
        'Cache folder, safe to delete: Python environments, the workflow bundle, downloaded and built servers.',
      ),
    OCDL_PYTHON: text
      .optional()
      .describe('Python interpreter that creates environments; by default the first suitable one on PATH.'),
    OCDL_PIP_INDEX_URL: secret(
      z.url({ protocol: /^https?$/, error: 'must be a URL that begins with http:// or https://' }).optional(),
      "Package index for the environments of jobs; by default the one in this machine's pip configuration.",
    ),
    OCDL_PIP_INDEX_HOSTS: list
      .pipe(
        z.array(
          z
            .string()
            .regex(indexHost, 'must be `host` or `host:port`, separated by commas; an IPv6 address in brackets'),
        ),
      )
      .optional()
      .describe('Additional hosts that serve the files of the index, `host` or `host:port`, separated by commas.'),
    OCDL_ENVIRONMENT_LIMIT_BYTES: whole('a number of bytes', 1_000_000, 999_999_999_999_999)
      .prefault(String(10 * 1024 ** 3))
      .describe('Maximum download size, and maximum installed size, of one Python environment.'),
    OCDL_ENVIRONMENTS_TOTAL_BYTES: whole('a number of bytes', 1_000_000, 999_999_999_999_999)
      .prefault(String(20 * 1024 ** 3))
      .describe(
        'Maximum size of all Python environments together: after one was made, those used least recently are removed, but none that was used in the last six hours.',
      ),
    OCDL_JOBS_WITHOUT_SANDBOX: yesOrNo
      .prefault('false')
      .describe(
        "Run jobs and model services even if bubblewrap does not work, with all permissions of the worker's user: only for code that you trust.",
      ),
    OCDL_LOG_LEVEL: z
      .enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal'])
      .prefault('info')
      .describe('Minimum level of logged messages.'),
    OCDL_TEMPORAL_PORT: port.prefault('7233').describe('Port of the embedded Temporal.'),
    OCDL_UI_PORT: port.prefault('8233').describe("Port of the embedded Temporal's Web UI."),
  },
  API: {
    OCDL_API_HOST: text.prefault('127.0.0.1').describe('Address to listen on.'),
    OCDL_API_PORT: port
      .prefault('8470')
      .describe('Port to listen on; if it is not set, `ocdl start` uses the next free port.'),
    OCDL_API_HOSTS: text
      .regex(/^[A-Za-z0-9.[\]:,-]+$/, 'must be host names, separated by commas, without ports')
      .optional()
      .describe('Allowed host names of requests, besides the loopback names; needed behind a proxy.'),
    OCDL_API_URL: webUrl
      .prefault('http://127.0.0.1:8470')
      .describe('Address of the API for job wrappers; if it is not set, `ocdl start` sets it.'),
    OCDL_DATA_LISTEN: text
      .regex(/^([^\s/:[\]]+|\[[0-9A-Fa-f:.]+\]):\d{1,5}$/, 'must be ADDRESS:PORT; an IPv6 address in brackets')
      .refine((text) => Number(/\d+$/.exec(text)?.[0]) <= 65_535, 'must end with a port')
      .optional()
      .describe(
        'Second address to listen on, `ADDRESS:PORT`, which serves only the data path of jobs: for pods. OCDL_KUBERNETES_DATA_URL leads there.',
      ),
    OCDL_FILE_LIMIT_BYTES: whole('a number of bytes', 1, 999_999_999_999_999)
      .prefault(String(2 * 1024 ** 3))
      .describe('Maximum size of an uploaded file.'),
  },
  'Orchestration: Temporal': {
    TEMPORAL_ADDRESS: text
      .regex(/^[^\s/]+:\d+$/, 'must be HOST:PORT')
      .prefault('127.0.0.1:7233')
      .describe('Temporal frontend, HOST:PORT; if it is not set, `ocdl start` runs an embedded server.'),
    TEMPORAL_NAMESPACE: text.prefault('default').describe('Temporal namespace.'),
    TEMPORAL_TLS: yesOrNo.prefault('false').describe('Use TLS; implied if one of the next four variables is set.'),
    TEMPORAL_TLS_CA_FILE: file
      .optional()
      .describe("PEM of the CA of the server's certificate; by default the public CAs."),
    TEMPORAL_TLS_CERT_FILE: file.optional().describe('PEM of the client certificate (mTLS).'),
    TEMPORAL_TLS_KEY_FILE: file.optional().describe('PEM of its private key.'),
    TEMPORAL_API_KEY: secret(text.optional(), 'API key, for a Temporal server that requires one.'),
    TEMPORAL_UI_URL: webUrl.optional().describe('Address of the Temporal Web UI, shown to users.'),
  },
  'Records: PostgreSQL': {
    DATABASE_URL: secret(
      z
        .url({ protocol: /^postgres(ql)?$/, error: 'must be a URL such as postgresql://user:password@host/database' })
        .optional(),
      'PostgreSQL for the records; if it is not set, `ocdl start` runs an embedded server.',
    ),
    DATABASE_CA_FILE: file
      .optional()
      .describe(
        "PEM of the CA of the server's certificate; if set, the connection is encrypted and the certificate verified.",
      ),
    DATABASE_POOL_SIZE: whole('a number', 2, 1_000).prefault('10').describe('Maximum connections of one process.'),
  },
  'Areas: HDFS and Alluxio': {
    OCDL_HDFS_URL: list
      .pipe(z.array(webUrl))
      .transform((urls) => urls.join(','))
      .optional()
      .describe(
        'WebHDFS address of the NameNode, `http://namenode:9870`; with high availability both, separated by a comma. If not set, areas are on local disk.',
      ),
    OCDL_HDFS_USER: text
      .regex(/^[A-Za-z0-9._-]+$/, 'must be a user name')
      .prefault('ocdl')
      .describe('HDFS user that the platform acts as.'),
    OCDL_HDFS_ROOT: text
      .regex(/^(\/[A-Za-z0-9._-]+)+$/, 'must be an absolute path of HDFS below /')
      .prefault('/ocdl')
      .describe('HDFS folder that contains the areas.'),
    OCDL_ALLUXIO_URL: webUrl
      .refine((url) => url.startsWith('http://'), 'must be a URL that begins with http://')
      .optional()
      .describe(
        'Alluxio proxy, `http://proxy:39999`: training and evaluation data is read through it. If not set, it is read directly from HDFS.',
      ),
    OCDL_ALLUXIO_USER: text
      .regex(/^[A-Za-z0-9._-]+$/, 'must be a user name')
      .prefault('hdfs')
      .describe('User for requests to Alluxio; it needs read access to everything there.'),
  },
  'Releases: S3': {
    OCDL_S3_BUCKET: text
      .regex(/^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/, 'must be a bucket name')
      .optional()
      .describe('Bucket for the releases. If not set, releases are on local disk.'),
    OCDL_S3_PREFIX: text
      .regex(/^[A-Za-z0-9._/-]+$/, 'must be letters, digits, ".", "_", "-" and "/"')
      .optional()
      .describe('Prefix of all keys in the bucket.'),
    OCDL_S3_REGION: text.prefault('us-east-1').describe('Region; required if OCDL_S3_ENDPOINT is not set.'),
    OCDL_S3_ENDPOINT: webUrl.optional().describe('Address of an S3-compatible server; by default AWS.'),
    OCDL_S3_ACCESS_KEY_ID: text
      .optional()
      .describe("Access key; set it together with its secret, or set neither to use the SDK's default credentials."),
    OCDL_S3_SECRET_ACCESS_KEY: secret(text.optional(), 'Secret of the access key.'),
    OCDL_S3_ENCRYPTION: z
      .enum(['AES256', 'aws:kms'])
      .optional()
      .describe('Encryption at rest that each upload requests; an upload fails if the response does not confirm it.'),
    OCDL_S3_KMS_KEY_ID: text.optional().describe("Key for `aws:kms`; by default the bucket's key."),
  },
  'Events: Kafka': {
    OCDL_KAFKA_BROKERS: list
      .pipe(z.array(z.string().regex(broker, 'must be HOST:PORT, separated by commas; an IPv6 address in brackets')))
      .optional()
      .describe('Brokers, HOST:PORT, separated by commas. If not set, events go to a log on disk.'),
    OCDL_KAFKA_TLS: yesOrNo.prefault('false').describe('Use TLS.'),
    OCDL_KAFKA_CA_FILE: file
      .optional()
      .describe("PEM of the CA of the brokers' certificates; by default the public CAs."),
    OCDL_KAFKA_CERT_FILE: file.optional().describe('PEM of the client certificate (mTLS).'),
    OCDL_KAFKA_KEY_FILE: file.optional().describe('PEM of its private key.'),
    OCDL_KAFKA_SASL_MECHANISM: z
      .enum(['plain', 'scram-sha-256', 'scram-sha-512'])
      .optional()
      .describe('SASL mechanism for authentication with the brokers.'),
    OCDL_KAFKA_SASL_USERNAME: text.optional().describe('SASL user.'),
    OCDL_KAFKA_SASL_PASSWORD: secret(text.optional(), 'SASL password.'),
    OCDL_KAFKA_PARTITIONS: whole('a number', 1, 1_000)
      .prefault('3')
      .describe('Partitions of topics that the platform creates.'),
    OCDL_KAFKA_REPLICATION: whole('a number', 1, 100)
      .prefault('1')
      .describe('Replicas of topics that the platform creates; use 3 with three or more brokers.'),
    OCDL_KAFKA_RETENTION_HOURS: whole('a number of hours', 1, 1_000_000)
      .prefault('168')
      .describe('Retention of topics that the platform creates. Older releases are available from the API.'),
  },
  'Code: Git': {
    OCDL_GIT_REMOTE: text
      .regex(/\{(repository|name)\}/, 'must contain {repository} or {name}, which is replaced by the name')
      .optional()
      .describe(
        'Address of the repositories, such as `ssh://git@host/{repository}.git`; use `{name}` for `project.code` on hosts without nested groups. If not set, bare repositories are on local disk.',
      ),
    OCDL_GIT_SSH_KEY_FILE: file.optional().describe('Private key for an SSH remote.'),
    OCDL_GIT_KNOWN_HOSTS_FILE: file
      .optional()
      .describe("The remote's host keys in OpenSSH known_hosts format; no other keys are trusted."),
    OCDL_GIT_USERNAME: text.optional().describe('User for an HTTPS remote.'),
    OCDL_GIT_TOKEN_FILE: file.optional().describe('File with the token for an HTTPS remote.'),
    OCDL_GIT_CA_FILE: file
      .optional()
      .describe("PEM of the CA of an HTTPS remote's certificate; by default the public CAs."),
  },
  'Compute: pools': {
    OCDL_POOLS: poolsSchema
      .optional()
      .describe(
        'The pools that run jobs, in order, as JSON; by default one: the cluster of OCDL_KUBERNETES_KUBECONFIG, or else local processes.',
      ),
  },
  'Compute: Kubernetes': kubernetesVariables,
  'Data from outside': {
    OCDL_IMPORT_HOSTS: list
      .optional()
      .describe(
        'Web servers that every project may import from, `host` or `host:port`, separated by commas; by default none. Managers can add hosts per project.',
      ),
    OCDL_IMPORT_LIMIT_BYTES: whole('a number of bytes', 1, 999_999_999_999_999)
      .prefault(String(10 * 1024 ** 3))
      .describe('Maximum download size, and maximum unpacked size, of one import.'),
    OCDL_IMPORT_PRIVATE_ADDRESSES: list
      .optional()
      .describe(
        'Private addresses that HTTPS imports may connect to, `ADDRESS:PORT`, separated by commas, for example an internal mirror.',
      ),
    OCDL_IMPORT_CA_FILE: file.optional().describe('PEM of CAs trusted for imports besides the public ones.'),
    OCDL_GITHUB_API_URL: webUrl.prefault('https://api.github.com').describe('GitHub API.'),
    OCDL_GITHUB_TOKEN_FILE: file
      .optional()
      .describe('File with a GitHub token; raises the rate limit and gives access to private repositories.'),
    OCDL_GITHUB_DOWNLOAD_HOSTS: list
      .prefault('codeload.github.com,objects.githubusercontent.com,release-assets.githubusercontent.com')
      .describe('Hosts that the GitHub API may redirect downloads to.'),
    OCDL_MAVEN_URL: webUrl.prefault('https://repo1.maven.org/maven2').describe('Maven repository.'),
    OCDL_SFTP_HOSTS: list
      .optional()
      .describe(
        'Hosts that projects may register as private nodes, `host` or `host:port`, separated by commas; by default none. Their keys are in OCDL_HOME/secrets/PROJECT/.',
      ),
  },
} as const;

export const schema = z.object({
  ...groups['The platform'],
  ...groups.API,
  ...groups['Orchestration: Temporal'],
  ...groups['Records: PostgreSQL'],
  ...groups['Areas: HDFS and Alluxio'],
  ...groups['Releases: S3'],
  ...groups['Events: Kafka'],
  ...groups['Code: Git'],
  ...groups['Compute: pools'],
  ...groups['Compute: Kubernetes'],
  ...groups['Data from outside'],
});

export type Variables = z.infer<typeof schema>;
export type VariableName = keyof Variables;
export const variableNames = Object.keys(schema.shape) as VariableName[];

/** Variables that select or configure an external system. */
const { 'The platform': _platform, API: _api, ...systems } = groups;
export const systemVariables: readonly string[] = Object.values(systems).flatMap((group) => Object.keys(group));

/** Secrets are never printed and can also be read from the file that NAME_FILE names. */
export const isSecret = (name: VariableName): boolean => schema.shape[name].meta()?.['secret'] === true;
