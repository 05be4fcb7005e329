// Every variable of the environment, once: its form, its default, its meaning. All programs and deploy/README.md take it from here.
import { accessSync, constants, statSync } from 'node:fs';
import { homedir } from 'node:os';
import { resolve } from 'node:path';
import { z } from 'zod';

const text = z.string();
/** An absolute path; `~` is the person's home, also where no shell has replaced it. */
export const pathOf = (given: string): string => resolve(given.replace(/^~(?=\/|$)/, homedir()));
const folder = text.transform(pathOf);
const file = text.transform(pathOf).refine(isReadable, 'names no file that can be read here');
const webUrl = z
  .url({ protocol: /^https?$/, error: 'must be a URL that begins with http:// or https://', abort: true })
  .refine((url) => new URL(url).username === '', 'must hold no user and no password');
const yesOrNo = z.stringbool({ truthy: ['true'], falsy: ['false'], error: 'must be true or false' });
const list = text
  .transform((given) => given.split(',').map((part) => part.trim()))
  .pipe(z.array(z.string().min(1, 'has an empty part')));

/** A whole number within limits; `what` says of what. */
function whole(what: string, least: number, most: number) {
  const error = `must be ${what} from ${least} to ${most}`;
  return text
    .regex(/^\d{1,16}$/, error)
    .transform(Number)
    .pipe(z.int(error).min(least, error).max(most, error));
}
/** A name or an IPv4 address, or an IPv6 address in brackets; then the port. */
const broker = /^([^\s/:[\]]+|\[[0-9A-Fa-f:.]+\]):\d+$/;
const port = whole('a port', 0, 65_535);

/** Groups of variables, each under its heading. A default is written as it would be in the environment. */
export const groups = {
  'The platform': {
    OCDL_HOME: folder.prefault('.ocdl').describe('Folder of the keys and of everything that is embedded.'),
    OCDL_CACHE: folder
      .prefault('~/.cache/ocdl')
      .describe(
        "Folder of what can be made again: Python environments, the workflows' bundle, servers that were built.",
      ),
    OCDL_PYTHON: text
      .optional()
      .describe('Python that environments are made with; the first fitting one on PATH unless given.'),
    OCDL_PIP_INDEX_URL: secret(
      z.url({ protocol: /^https?$/, error: 'must be a URL that begins with http:// or https://' }).optional(),
      "Package index that the environments of jobs are made from; what this machine's pip is set to unless given.",
    ),
    OCDL_PIP_INDEX_HOSTS: list
      .pipe(
        z.array(z.string().regex(/^[A-Za-z0-9.-]+(:\d{1,5})?$/, 'must be `host` or `host:port`, separated by commas')),
      )
      .optional()
      .describe(
        'Hosts that the index keeps its files at, besides its own, `host` or `host:port`, separated by commas.',
      ),
    OCDL_ENVIRONMENT_LIMIT_BYTES: whole('a number of bytes', 1_000_000, 999_999_999_999_999)
      .prefault(String(10 * 1024 ** 3))
      .describe('Most that one Python environment may download, and may hold.'),
    OCDL_JOBS_WITHOUT_SANDBOX: yesOrNo
      .prefault('false')
      .describe(
        "Run jobs and model services also where bubblewrap does not work, with all rights of the worker's user: for code that you trust.",
      ),
    OCDL_LOG_LEVEL: z
      .enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal'])
      .prefault('info')
      .describe('Least level that is logged.'),
    OCDL_TEMPORAL_PORT: port.prefault('7233').describe('Port of the embedded Temporal.'),
    OCDL_UI_PORT: port.prefault('8233').describe("Port of the embedded Temporal's Web UI."),
  },
  API: {
    OCDL_API_HOST: text.prefault('127.0.0.1').describe('Address to listen at.'),
    OCDL_API_PORT: port
      .prefault('8470')
      .describe('Port to listen at; `ocdl start` takes the next free one unless it is given.'),
    OCDL_API_HOSTS: text
      .regex(/^[A-Za-z0-9.[\]:,-]+$/, 'must be host names, separated by commas, without ports')
      .optional()
      .describe('Host names that requests may be addressed to, besides the loopback ones; needed behind a proxy.'),
    OCDL_API_URL: webUrl
      .prefault('http://127.0.0.1:8470')
      .describe('Address of the API, as the wrappers of jobs reach it; `ocdl start` sets it unless it is given.'),
    OCDL_FILE_LIMIT_BYTES: whole('a number of bytes', 1, 999_999_999_999_999)
      .prefault(String(2 * 1024 ** 3))
      .describe('Largest file that may be uploaded.'),
  },
  'Orchestration: Temporal': {
    TEMPORAL_ADDRESS: text
      .regex(/^[^\s/]+:\d+$/, 'must be HOST:PORT')
      .prefault('127.0.0.1:7233')
      .describe('Temporal frontend, HOST:PORT; `ocdl start` runs one of its own unless it is given.'),
    TEMPORAL_NAMESPACE: text.prefault('default').describe('Temporal namespace.'),
    TEMPORAL_TLS: yesOrNo.prefault('false').describe('Speak TLS; also done where one of the next four is given.'),
    TEMPORAL_TLS_CA_FILE: file
      .optional()
      .describe('PEM of the authority that signed the server; the public ones unless given.'),
    TEMPORAL_TLS_CERT_FILE: file.optional().describe('PEM of the client certificate (mTLS).'),
    TEMPORAL_TLS_KEY_FILE: file.optional().describe('PEM of its private key.'),
    TEMPORAL_API_KEY: secret(text.optional(), 'API key, for a Temporal that asks for one.'),
    TEMPORAL_UI_URL: webUrl.optional().describe('Address of the Temporal Web UI, to show to people.'),
  },
  'Records: PostgreSQL': {
    DATABASE_URL: secret(
      z
        .url({ protocol: /^postgres(ql)?$/, error: 'must be a URL such as postgresql://user:password@host/database' })
        .optional(),
      'PostgreSQL of the records; `ocdl start` runs one of its own unless it is given.',
    ),
    DATABASE_CA_FILE: file
      .optional()
      .describe(
        'PEM of the authority that signed the server; with it the connection is encrypted and the server checked.',
      ),
    DATABASE_POOL_SIZE: whole('a number', 2, 1_000).prefault('10').describe('Most connections of one process.'),
  },
  'Areas: HDFS and Alluxio': {
    OCDL_HDFS_URL: list
      .pipe(z.array(webUrl))
      .transform((urls) => urls.join(','))
      .optional()
      .describe(
        'WebHDFS of the NameNode, `http://namenode:9870`; with high availability both, separated by a comma. Local disk unless given.',
      ),
    OCDL_HDFS_USER: text
      .regex(/^[A-Za-z0-9._-]+$/, 'must be a user name')
      .prefault('ocdl')
      .describe('HDFS user that the platform acts as.'),
    OCDL_HDFS_ROOT: text
      .regex(/^(\/[A-Za-z0-9._-]+)+$/, 'must be an absolute path of HDFS below /')
      .prefault('/ocdl')
      .describe('HDFS folder below which the areas lie.'),
    OCDL_ALLUXIO_URL: webUrl
      .refine((url) => url.startsWith('http://'), 'must be a URL that begins with http://')
      .optional()
      .describe(
        'Alluxio proxy, `http://proxy:39999`: training and evaluation data is read through it. HDFS straight unless given.',
      ),
    OCDL_ALLUXIO_USER: text
      .regex(/^[A-Za-z0-9._-]+$/, 'must be a user name')
      .prefault('hdfs')
      .describe('User that Alluxio is asked as: one who may read everything there.'),
  },
  'Releases: S3': {
    OCDL_S3_BUCKET: text
      .regex(/^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/, 'must be a bucket name')
      .optional()
      .describe('Bucket of the releases. Local disk unless given.'),
    OCDL_S3_PREFIX: text
      .regex(/^[A-Za-z0-9._/-]+$/, 'must be letters, digits, ".", "_", "-" and "/"')
      .optional()
      .describe('Prefix of all keys in the bucket.'),
    OCDL_S3_REGION: text.prefault('us-east-1').describe('Region; must be given where there is no OCDL_S3_ENDPOINT.'),
    OCDL_S3_ENDPOINT: webUrl.optional().describe('Address of an S3-compatible server; AWS unless given.'),
    OCDL_S3_ACCESS_KEY_ID: text
      .optional()
      .describe('Access key; with its secret, or neither: then the SDK looks where it always does.'),
    OCDL_S3_SECRET_ACCESS_KEY: secret(text.optional(), 'Its secret.'),
    OCDL_S3_ENCRYPTION: z
      .enum(['AES256', 'aws:kms'])
      .optional()
      .describe('Encryption at rest that each upload asks for; the answer must prove it.'),
    OCDL_S3_KMS_KEY_ID: text.optional().describe("Key for `aws:kms`; the bucket's own unless given."),
  },
  'Events: Kafka': {
    OCDL_KAFKA_BROKERS: list
      .pipe(z.array(z.string().regex(broker, 'must be HOST:PORT, separated by commas; an IPv6 address in brackets')))
      .optional()
      .describe('Brokers, HOST:PORT, separated by commas. A log on disk unless given.'),
    OCDL_KAFKA_TLS: yesOrNo.prefault('false').describe('Speak TLS.'),
    OCDL_KAFKA_CA_FILE: file
      .optional()
      .describe('PEM of the authority that signed the brokers; the public ones unless given.'),
    OCDL_KAFKA_CERT_FILE: file.optional().describe('PEM of the client certificate (mTLS).'),
    OCDL_KAFKA_KEY_FILE: file.optional().describe('PEM of its private key.'),
    OCDL_KAFKA_SASL_MECHANISM: z
      .enum(['plain', 'scram-sha-256', 'scram-sha-512'])
      .optional()
      .describe('How the platform proves itself to the brokers.'),
    OCDL_KAFKA_SASL_USERNAME: text.optional().describe('User for that.'),
    OCDL_KAFKA_SASL_PASSWORD: secret(text.optional(), 'Password for that.'),
    OCDL_KAFKA_PARTITIONS: whole('a number', 1, 1_000)
      .prefault('3')
      .describe('Partitions of a topic that the platform makes.'),
    OCDL_KAFKA_REPLICATION: whole('a number', 1, 100)
      .prefault('1')
      .describe('Replicas of a topic that the platform makes; three where there are three brokers.'),
    OCDL_KAFKA_RETENTION_HOURS: whole('a number of hours', 1, 1_000_000)
      .prefault('168')
      .describe('How long such a topic keeps events. Older releases are asked of the API.'),
  },
  'Code: Git': {
    OCDL_GIT_REMOTE: text
      .regex(/\{(repository|name)\}/, 'must hold {repository} or {name}, for which the name is put')
      .optional()
      .describe(
        'Address of the repositories, such as `ssh://git@host/{repository}.git`; `{name}` instead gives `project.code`, for hosts without groups in groups. Bare repositories on disk unless given.',
      ),
    OCDL_GIT_SSH_KEY_FILE: file.optional().describe('Private key for an SSH remote.'),
    OCDL_GIT_KNOWN_HOSTS_FILE: file
      .optional()
      .describe("The remote's host keys, in the form of OpenSSH's known_hosts; no other is trusted."),
    OCDL_GIT_USERNAME: text.optional().describe('User for an HTTPS remote.'),
    OCDL_GIT_TOKEN_FILE: file.optional().describe('File that holds the token for an HTTPS remote.'),
    OCDL_GIT_CA_FILE: file
      .optional()
      .describe('PEM of the authority that signed an HTTPS remote; the public ones unless given.'),
  },
  'Data from outside': {
    OCDL_IMPORT_HOSTS: list
      .optional()
      .describe(
        'Web servers that every project may import from, `host` or `host:port`, separated by commas; none unless given. Managers add their own per project.',
      ),
    OCDL_IMPORT_LIMIT_BYTES: whole('a number of bytes', 1, 999_999_999_999_999)
      .prefault(String(10 * 1024 ** 3))
      .describe('Most that one import may fetch, and unpack.'),
    OCDL_IMPORT_PRIVATE_ADDRESSES: list
      .optional()
      .describe(
        "Private addresses that imports over HTTPS may connect to all the same, `ADDRESS:PORT`, separated by commas: a mirror of one's own.",
      ),
    OCDL_IMPORT_CA_FILE: file.optional().describe('PEM of authorities trusted for imports besides the public ones.'),
    OCDL_GITHUB_API_URL: webUrl.prefault('https://api.github.com').describe('GitHub API.'),
    OCDL_GITHUB_TOKEN_FILE: file
      .optional()
      .describe('File that holds a token for it: raises the rate limit, shows private repositories.'),
    OCDL_GITHUB_DOWNLOAD_HOSTS: list
      .prefault('codeload.github.com,objects.githubusercontent.com,release-assets.githubusercontent.com')
      .describe('Hosts that the GitHub API may send downloads to.'),
    OCDL_MAVEN_URL: webUrl.prefault('https://repo1.maven.org/maven2').describe('Maven repository.'),
    OCDL_SFTP_HOSTS: list
      .optional()
      .describe(
        'Hosts that projects may register as private nodes, `host` or `host:port`, separated by commas; none unless given. Their keys lie in OCDL_HOME/secrets/PROJECT/.',
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
  ...groups['Data from outside'],
});

export type Variables = z.infer<typeof schema>;
export type VariableName = keyof Variables;
export const variableNames = Object.keys(schema.shape) as VariableName[];

/** Those that name a system of somebody's own, or say how it is spoken to. */
const { 'The platform': _platform, API: _api, ...systems } = groups;
export const systemVariables: readonly string[] = Object.values(systems).flatMap((group) => Object.keys(group));

/** Secrets: never printed, and also taken from the file that NAME_FILE names. */
export const isSecret = (name: VariableName): boolean => schema.shape[name].meta()?.['secret'] === true;

function secret<T extends z.ZodType>(type: T, description: string): T {
  return type.meta({ description, secret: true });
}

function isReadable(path: string): boolean {
  try {
    accessSync(path, constants.R_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}
