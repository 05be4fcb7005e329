// Starts and stops the stack's servers on a home.
import { renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ChildSpec } from '../local/child.ts';
import { ownerOf } from '../local/home-lock.ts';
import { preparePostgres } from '../local/postgres.ts';
import { endProcess, isAlive } from '../local/process-identity.ts';
import { endLeftovers, readRunRecords } from '../local/run-records.ts';
import { superviseHome, type Supervised, type Supervision } from '../local/supervisor.ts';
import { restoreHost } from './kubernetes/host.ts';
import { dropClusterData, kubernetesEndLast, startKubernetes, whyNoKubernetes } from './kubernetes/kubernetes.ts';
import { clientsOf } from './listeners.ts';
import { choosePorts, readPorts } from './ports.ts';
import { fetchPrograms, servers, type Servers } from './servers.ts';
import { defaultSelection, writeSelection, type StackSelection } from './selection.ts';
import type { StackSettings } from './settings.ts';

export type StackOptions = {
  readonly settings: StackSettings;
  /** `defaultSelection` if not given. */
  readonly selection?: StackSelection;
  /** One line for the person at the terminal. */
  readonly say: (line: string) => void;
  readonly verbose: boolean;
  /** Aborting it stops the stack in order, even during the start. */
  readonly stop: AbortSignal;
  /** Aborting it kills every server immediately. */
  readonly force: AbortSignal;
};

/** A started stack: the file with the variables that connect the platform to it. */
export type Stack = { readonly envFile: string };

/** Twice the time measured on a busy machine: groups of Java servers stop one after another. */
const stopWithinMs = 40_000;

/** Starts every server; resolves when all answer. If one cannot be started, it throws, and no process is left running. */
export async function startStack(options: StackOptions): Promise<Supervised<Stack>> {
  const { settings, say, selection = defaultSelection } = options;
  const { home } = settings;
  if (selection.kubernetes.length > 0) {
    // Before the other servers start and programs are built.
    const why = whyNoKubernetes(selection.kubernetes, settings.kubernetes, settings.env);
    if (why !== undefined) throw new Error(why);
  }
  return await superviseHome(
    {
      ...options,
      home,
      what: 'stack',
      heldMessage: (pid) =>
        `A stack is already running on ${home} as process ${pid}. Stop it first (npm run stack -- down), or set OCDL_STACK_HOME to another folder.`,
      // Each server stops before the servers that it writes to.
      endLast: [
        ['alluxio-proxy', 'alluxio-worker', 'kafka', 's3', 'temporal', 'postgres'],
        ['alluxio-master'],
        ['hdfs-datanode', 'hdfs-namenode'],
        ...kubernetesEndLast,
      ],
      stopWithinMs,
      afterEnd: async () => {
        rmSync(envFileOf(home), { force: true });
        await restoreHost(home).catch((error: unknown) =>
          say(
            `The Kubernetes node was not removed completely: ${error instanceof Error ? error.message : String(error)} Run npm run stack -- down.`,
          ),
        );
      },
    },
    (supervision) => startSelected({ ...options, selection }, supervision),
  );
}

/**
 * Stops the stack of a home, even during its start; returns what it did. With `dropClusters`, it then deletes the data of the
 * home's Kubernetes clusters.
 */
export async function endStack(settings: StackSettings, dropClusters = false): Promise<string> {
  const { home } = settings;
  const owner = ownerOf(home);
  if (owner !== undefined) await endProcess(owner, 'SIGTERM', stopWithinMs + 10_000);
  // If the supervisor was killed, the watchdog stops its servers; the rest is stopped here.
  const left = await endLeftovers(join(home, 'run'));
  // Pods outlive a supervisor that was killed.
  await restoreHost(home);
  if (dropClusters) dropClusterData(home);
  if (owner !== undefined) return `The stack on ${home} (process ${owner.pid}) has stopped.`;
  return left.length > 0
    ? `Stopped orphaned processes of a stack on ${home}: ${left.join(', ')}.`
    : `No stack is running on ${home}.`;
}

/** The ports that a platform connects to, without web pages that a browser may have open. */
const platformPorts = [
  'kafka',
  'hdfsRpc',
  'hdfsHttp',
  'hdfsDataHttp',
  'alluxioProxy',
  's3',
  'postgres',
  'temporal',
] as const;

/**
 * The reason to ask before the servers of a home are stopped: other programs use them, or that cannot be determined on this
 * system. Undefined if there is none.
 */
export function reasonToAsk({ home }: StackSettings): string | undefined {
  const ports = readPorts(home);
  const own = readRunRecords(join(home, 'run')).flatMap(({ child }) => (isAlive(child) ? [child.pid] : []));
  const owner = ownerOf(home);
  if (ports === undefined || (own.length === 0 && owner === undefined)) return undefined;
  const clients = clientsOf(new Set(platformPorts.map((name) => ports[name])));
  if (clients === undefined) return `this system does not show whether a platform uses the stack on ${home}`;
  const ours = new Set([process.pid, owner?.pid, ...own]);
  const others = clients.filter(({ pid }) => pid === undefined || !ours.has(pid));
  if (others.length === 0) return undefined;
  return `the stack on ${home} is in use by ${others.map(({ description }) => description).join(', ')}`;
}

async function startSelected(
  options: StackOptions & { readonly selection: StackSelection },
  supervision: Supervision,
): Promise<Stack> {
  const { settings, selection, say } = options;
  const { home, cache, env } = settings;
  writeSelection(home, { ...selection, node: settings.kubernetes.node, gpus: settings.kubernetes.gpus });
  const began = Date.now();
  const start = async (spec: ChildSpec): Promise<void> => {
    await supervision.supervise(spec).ready;
    say(`${spec.name} is running (${((Date.now() - began) / 1000).toFixed(1)} s)`);
  };
  const variables = selection.servers ? await startServers(options, supervision, start) : {};
  // After the other servers: Go builds use every core.
  const clusters =
    selection.kubernetes.length === 0
      ? {}
      : await supervision.prepared(
          startKubernetes(selection.kubernetes, {
            ...{ home, start, say, settings: settings.kubernetes },
            fetch: { cache, env, onProgress: say, signal: supervision.signal },
          }),
        );
  return { envFile: writeEnvironment(home, { ...variables, ...clusters }) };
}

async function startServers(
  { settings, say }: StackOptions,
  { prepared, signal }: Supervision,
  start: (spec: ChildSpec) => Promise<void>,
): Promise<Readonly<Record<string, string>>> {
  const { home, cache, env } = settings;
  const ports = await choosePorts(home, settings.ports, say);
  const programs = await prepared(fetchPrograms({ cache, env, onProgress: say, signal }));
  const stack = servers(home, ports, programs);
  const [databaseUrl] = await Promise.all([
    startPostgres(home, ports.postgres, start, prepared),
    startFileSystems(stack, start),
    ...[stack.kafka, stack.s3, stack.temporal].map(start),
  ]);
  return { ...stack.variables, DATABASE_URL: databaseUrl };
}

async function startFileSystems(stack: Servers, start: (spec: ChildSpec) => Promise<void>): Promise<void> {
  await Promise.all([stack.nameNode, stack.dataNode].map(start));
  await Promise.all([stack.alluxioMaster, stack.alluxioWorker, stack.alluxioProxy].map(start));
}

async function startPostgres(
  home: string,
  port: number,
  start: (spec: ChildSpec) => Promise<void>,
  prepared: Supervision['prepared'],
): Promise<string> {
  const folder = join(home, 'postgres');
  const { spec, url } = await prepared(preparePostgres({ folder, port }));
  await start(spec);
  return url;
}

function writeEnvironment(home: string, variables: Readonly<Record<string, string>>): string {
  const path = envFileOf(home);
  const lines = Object.entries(variables).map(([name, value]) => `${name}=${value}\n`);
  writeFileSync(`${path}.new`, lines.join(''), { mode: 0o600 });
  renameSync(`${path}.new`, path);
  return path;
}

function envFileOf(home: string): string {
  return join(home, 'stack.env');
}
