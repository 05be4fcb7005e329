// Checks every configured system and reports what works, or what is wrong and how to fix it; a program for `ocdl doctor`.
import { lookup } from 'node:dns/promises';
import { BlockList } from 'node:net';
import { Connection, isGrpcServiceError } from '@temporalio/client';
import { detectSandbox } from '../activities/adapters/local-process/sandbox.ts';
import { checkInstallation, checkPostgres } from '../activities/adapters/postgres/check.ts';
import { SystemUnavailable } from '../activities/failures.ts';
import { compare, pausedMessage } from '../activities/installation.ts';
import { atLeast, oldestServer } from './server-version.ts';
import { checkByteFaults } from './byte-faults.ts';
import { kubernetesPools, platformConfig, readVariables, type Config } from './config.ts';
import { foreignTo, look } from './look.ts';
import {
  markedAreas,
  markedEvents,
  markedHome,
  markedNamespace,
  markedReleases,
  markedRepositories,
} from './marked-systems.ts';
import { checkRestarts } from './restarts.ts';
import { systems } from './wiring.ts';

/**
 * The state of one configured system: what was found, with a warning if needed; what is wrong; or what is skipped and why.
 * Never contains a secret.
 */
export interface SystemState {
  readonly name: string;
  readonly found?: string;
  readonly warning?: string;
  readonly wrong?: string;
  readonly without?: string;
}

/** Longer than a working system needs, short enough for a waiting person. */
const LIMIT_MS = 20_000;

/** Checks all configured systems in parallel. A system that does not answer in time counts as wrong and does not delay the others. */
export async function checkSystems(
  config: Config,
  isTemporalGiven: boolean,
  limitMs = LIMIT_MS,
): Promise<readonly SystemState[]> {
  const { databaseUrl, database, hdfs, alluxio, s3, kafka, git, python } = config;
  // Warnings are dropped: a check that fails reports the reason.
  const onWarn = (): void => undefined;
  const probes: readonly (readonly [name: string, probe: false | Probe])[] = [
    ['Temporal', isTemporalGiven && (() => askTemporal(config.temporal, limitMs))],
    [
      'PostgreSQL',
      databaseUrl !== '' &&
        (async () => `${await checkPostgres({ url: databaseUrl, ca: database.ca })} at ${new URL(databaseUrl).host}`),
    ],
    [
      'Stored bytes',
      databaseUrl !== '' &&
        (() =>
          unlessAway(
            checkByteFaults(config, limitMs / 2),
            'not checked: PostgreSQL, which records checksum mismatches, does not answer',
          )),
    ],
    [
      'Workflows',
      databaseUrl !== '' &&
        (() => unlessAway(checkRestarts(config), 'not checked: PostgreSQL, which records restarts, does not answer')),
    ],
    [
      'HDFS',
      !!hdfs &&
        (async () => {
          await (await systems.hdfs(hdfs, onWarn)).check();
          return `${hdfs.url}, folder ${hdfs.root}, as ${hdfs.user}`;
        }),
    ],
    [
      'Alluxio',
      !!hdfs &&
        !!alluxio &&
        (async () => {
          await (await systems.alluxio(alluxio, await systems.hdfs(hdfs, onWarn), onWarn)).check();
          return alluxio.url;
        }),
    ],
    [
      'S3',
      !!s3 &&
        (async () => {
          await (await systems.s3(s3, onWarn)).check();
          return `bucket ${s3.bucket} at ${s3.endpoint ?? `AWS, ${s3.region}`}`;
        }),
    ],
    [
      'Kafka',
      !!kafka &&
        (async () => {
          await (await systems.kafka(kafka, onWarn)).check();
          return kafka.brokers.join(', ');
        }),
    ],
    ...kubernetesPools(config).map(({ name, options }) => [name, () => askKubernetes(options, python)] as const),
    [
      'Git remote',
      !!git &&
        (async () => {
          await (await systems.git(git, config.home)).check();
          return git.remote;
        }),
    ],
  ];
  return Promise.all(probes.flatMap(([name, probe]) => (probe ? [within(limitMs, name, probe)] : [])));
}

type KubernetesOptions = ReturnType<typeof kubernetesPools>[number]['options'];
const askKubernetes = async (options: KubernetesOptions, python: string | undefined) =>
  (await import('../activities/adapters/kubernetes/check.ts')).checkKubernetes(options, python);

type Found = Required<Pick<SystemState, 'found' | 'warning'>>;

/** Returns what was found, with a warning if needed, or what is skipped and why; rejects with what is wrong. */
type Probe = () => Promise<string | Found | { readonly without: string }>;

/** The result, or `without` if PostgreSQL does not answer: its own line reports the problem. */
async function unlessAway<T>(result: Promise<T>, without: string): Promise<T | { readonly without: string }> {
  return result.catch((error: unknown) => {
    if (error instanceof SystemUnavailable && error.system === 'PostgreSQL') return { without };
    throw error;
  });
}

async function within(limitMs: number, name: string, probe: Probe): Promise<SystemState> {
  const stop: { timer?: NodeJS.Timeout } = {};
  const tooLate = new Promise<never>((_, reject) => {
    const late = new Error(
      `no answer within ${limitMs / 1000} s: check that it is running and that its address is correct`,
    );
    stop.timer = setTimeout(() => reject(late), limitMs);
  });
  try {
    const found = await Promise.race([probe(), tooLate]);
    return { name, ...(typeof found === 'string' ? { found } : found) };
  } catch (error) {
    return { name, wrong: error instanceof Error ? error.message : String(error) };
  } finally {
    clearTimeout(stop.timer);
  }
}

/**
 * Checks that the configured systems belong to one installation and agree with each other. Claims and writes nothing; embedded
 * systems are compared when the platform starts.
 */
export async function installationState(config: Config, isTemporalGiven: boolean): Promise<SystemState> {
  const name = 'Installation';
  const { databaseUrl, database, hdfs, s3, kafka, git, temporal } = config;
  const onWarn = (): void => undefined;
  const connection = isTemporalGiven ? Connection.lazy(temporal.connection) : undefined;
  try {
    const marked = [
      ...(hdfs ? [markedAreas(config, await systems.hdfs(hdfs, onWarn))] : []),
      ...(s3 ? [markedReleases(config, await systems.s3(s3, onWarn))] : []),
      ...(kafka ? [markedEvents(config, await systems.kafka(kafka, onWarn))] : []),
      ...(git ? [markedRepositories(config, await systems.git(git, config.home))] : []),
      ...(connection ? [markedNamespace(connection, temporal)] : []),
    ];
    const home = markedHome(config.home);
    return await checkInstallation({ url: databaseUrl, ca: database.ca }, async (records, paused) => {
      const { seen } = await look({ records, home, systems: marked, signs: false }, LIMIT_MS);
      const id = seen.records.installation ?? (await home.owner());
      if (id === undefined) return { name, found: 'none yet: the first start claims the configured systems' };
      const other = foreignTo(id, seen);
      if (other)
        return {
          name,
          wrong: `${other.where} belongs to installation ${other.owner}, not to ${id}: configure a system of this installation`,
        };
      if (paused) return { name, wrong: pausedMessage(paused) };
      const findings = compare(seen);
      if (findings.length === 0) return { name, found: `${id}: the configured systems agree` };
      return { name, wrong: `${findings.map(({ text }) => text).join('. ')}. Run "ocdl restore list"` };
    });
  } catch (error) {
    return { name, without: `could not be compared: ${error instanceof Error ? error.message : String(error)}` };
  } finally {
    await connection?.close();
  }
}

/** Checks the sandbox of local jobs in the same way as the worker. */
export async function sandboxState(
  isWithoutAllowed: boolean,
  detect: typeof detectSandbox = detectSandbox,
): Promise<SystemState> {
  const sandbox = await detect();
  const name = 'bubblewrap';
  if (sandbox.kind !== 'none') return { name, found: 'local jobs run sandboxed' };
  const why = `${sandbox.why} (Debian, Ubuntu: apt-get install bubblewrap)`;
  return isWithoutAllowed
    ? { name, without: `local jobs run without a sandbox because OCDL_JOBS_WITHOUT_SANDBOX is true: ${why}` }
    : {
        name,
        wrong: `jobs and model services cannot run here: ${why}, or set OCDL_JOBS_WITHOUT_SANDBOX=true to run code that you trust`,
      };
}

/** Describes the problem with a Temporal server's version; undefined if it is supported. */
export function serverProblem(version: string): string | undefined {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  if (atLeast([major, minor], oldestServer)) return undefined;
  return `the server has version ${version}, but ${oldestServer.join('.')} or newer is required: upgrade it`;
}

async function askTemporal(temporal: Config['temporal'], limitMs: number): Promise<string | Found> {
  const { address, namespace, connection: options } = temporal;
  const connection = Connection.lazy(options);
  try {
    return await connection.withDeadline(Date.now() + limitMs / 2, async () => {
      const { serverVersion } = await connection.workflowService.getSystemInfo({});
      const problem = serverProblem(serverVersion);
      if (problem !== undefined) throw new Error(problem);
      await connection.workflowService.describeNamespace({ namespace });
      const found = `server ${serverVersion} at ${address}, namespace ${namespace}`;
      if (await isLoopback(address)) return found;
      const without = await answersWithout(temporal, limitMs / 4);
      if (without === undefined) return found;
      const warning =
        `anyone who reaches ${address} can use it ${without}, stop and delay work, and run their own worker on the ` +
        'platform’s task queues: require TLS and a client certificate or an API key';
      return { found, warning };
    });
  } catch (error) {
    const said = error instanceof Error ? error.message : String(error);
    const remedy = isGrpcServiceError(error) ? `${remedies[error.code] ?? 'the request failed'} (${said})` : said;
    throw new Error(`${address}, namespace ${namespace}: ${remedy}`, { cause: error });
  } finally {
    await connection.close();
  }
}

const loopback = new BlockList();
loopback.addSubnet('127.0.0.0', 8);
loopback.addAddress('::1', 'ipv6');

/** Whether an address resolves to loopback addresses only. */
export async function isLoopback(address: string): Promise<boolean> {
  const host = address.slice(0, address.lastIndexOf(':')).replace(/^\[|\]$/g, '');
  const found = await lookup(host, { all: true }).catch(() => []);
  return (
    found.length > 0 && found.every(({ address: one, family }) => loopback.check(one, family === 6 ? 'ipv6' : 'ipv4'))
  );
}

/** Tries to read the namespace without TLS and without credentials; undefined if both are refused. */
export async function answersWithout(
  { address, namespace, connection: { tls } }: Pick<Config['temporal'], 'address' | 'namespace' | 'connection'>,
  limitMs: number,
): Promise<'without TLS' | 'without credentials' | undefined> {
  const answers = async (options: Parameters<typeof Connection.lazy>[0]): Promise<boolean> => {
    const connection = Connection.lazy({ address, ...options });
    try {
      const asked = connection.withDeadline(Date.now() + limitMs, () =>
        connection.workflowService.describeNamespace({ namespace }),
      );
      return await asked.then(Boolean, () => false);
    } finally {
      await connection.close();
    }
  };
  if (await answers({ tls: false })) return 'without TLS';
  const authority = typeof tls === 'object' ? tls.serverRootCACertificate : undefined;
  const bare = authority ? { serverRootCACertificate: authority } : {};
  return tls && (await answers({ tls: bare })) ? 'without credentials' : undefined;
}

const unreachable =
  'it does not answer: check that it is running, TEMPORAL_ADDRESS, and whether it uses TLS as configured';
/** By gRPC status code. */
const remedies: Readonly<Record<number, string>> = {
  4: unreachable,
  5: 'the namespace does not exist: create it (temporal operator namespace create), or correct TEMPORAL_NAMESPACE',
  7: 'permission denied: correct TEMPORAL_API_KEY or the client certificate, or grant access to the namespace',
  14: unreachable,
  16: 'not authenticated: correct TEMPORAL_API_KEY or the client certificate',
};

if (import.meta.filename === process.argv[1]) {
  const { values, isGiven } = readVariables();
  const config = platformConfig(values);
  const isTemporalGiven = isGiven('TEMPORAL_ADDRESS');
  const states = [
    await sandboxState(values.OCDL_JOBS_WITHOUT_SANDBOX),
    ...(await checkSystems(config, isTemporalGiven)),
  ];
  // With a system that does not answer, the comparison cannot succeed, and the problem is already reported.
  if (config.databaseUrl !== '' && states.every(({ wrong }) => wrong === undefined))
    states.push(await installationState(config, isTemporalGiven));
  // Systems that did not answer still hold connections open.
  process.stdout.write(`${JSON.stringify(states)}\n`, () => process.exit());
}
