// Starts and stops the stack's servers on a home, and reports their status.
import { renameSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ChildSpec } from '../local/child.ts';
import { ownerOf } from '../local/home-lock.ts';
import { preparePostgres } from '../local/postgres.ts';
import { endProcess, isAlive } from '../local/process-identity.ts';
import { endLeftovers, readRunRecords } from '../local/run-records.ts';
import { superviseHome, type Supervised, type Supervision } from '../local/supervisor.ts';
import { clientsOf } from './listeners.ts';
import { choosePorts, readPorts } from './ports.ts';
import { cachePath } from './programs.ts';
import { fetchPrograms, processTable, servers, type Servers } from './servers.ts';
import type { StackSettings } from './settings.ts';

export type StackOptions = {
  readonly settings: StackSettings;
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
  const { home } = options.settings;
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
      ],
      stopWithinMs,
      afterEnd: () => rmSync(envFileOf(home), { force: true }),
    },
    (supervision) => startServers(options, supervision),
  );
}

/** Stops the stack of a home, even during its start; returns what it did. */
export async function endStack(settings: StackSettings): Promise<string> {
  const { home } = settings;
  const owner = ownerOf(home);
  if (owner !== undefined) await endProcess(owner, 'SIGTERM', stopWithinMs + 10_000);
  // If the supervisor was killed, the watchdog stops its servers; the rest is stopped here.
  const left = await endLeftovers(join(home, 'run'));
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
  const others = clients.filter(({ pid }) => pid !== process.pid && pid !== owner?.pid && !own.includes(pid));
  if (others.length === 0) return undefined;
  const named = others.map(({ pid, program }) => `process ${pid} (${program})`).join(', ');
  return `the stack on ${home} is in use by ${named}`;
}

export type ServerStatus = {
  readonly name: string;
  readonly state: 'running' | 'not answering' | 'missing';
  readonly pid?: number;
  readonly port?: number;
  readonly log: string;
};

/** Reports for each server whether it is running and answers. */
export async function stackStatus(settings: StackSettings): Promise<readonly ServerStatus[]> {
  const { home, cache } = settings;
  const ports = readPorts(home);
  const records = readRunRecords(join(home, 'run')).filter((record) => isAlive(record.child));
  const probes = new Map<string, ChildSpec['isReady']>();
  if (ports !== undefined && records.length > 0) {
    // Only needed to build the specs; nothing is started.
    const of = (server: 'kafka' | 'hdfs' | 'alluxio') => ({ java: 'java', jars: cachePath(server, cache) });
    const programs = { kafka: of('kafka'), hdfs: of('hdfs'), alluxio: of('alluxio'), s3: '', temporal: '' };
    const { variables: _, ...specs } = servers(home, ports, programs);
    for (const spec of Object.values(specs)) probes.set(spec.name, spec.isReady);
    probes.set('postgres', () => postgresAnswers(ports.postgres));
  }
  return await Promise.all(
    Object.entries(processTable).map(async ([name, port]): Promise<ServerStatus> => {
      const place = { name, log: join(home, 'logs', `${name}.log`), ...(ports && { port: ports[port] }) };
      const pid = records.find((record) => record.name === name)?.child.pid;
      if (pid === undefined) return { ...place, state: 'missing' };
      const answer =
        probes
          .get(name)?.(pid)
          .catch(() => false) ?? false;
      // 10 s: a paused process accepts connections but never answers.
      const answered = await Promise.race([answer, sleep(10_000, false, { ref: false })]);
      return { ...place, pid, state: answered ? 'running' : 'not answering' };
    }),
  );
}

async function startServers(options: StackOptions, supervision: Supervision): Promise<Stack> {
  const { settings, say } = options;
  const { supervise, prepared, signal } = supervision;
  const { home, cache, env } = settings;
  const began = Date.now();
  const ports = await choosePorts(home, settings.ports, say);
  const programs = await prepared(fetchPrograms({ cache, env, onProgress: say, signal }));
  const stack = servers(home, ports, programs);
  const start = async (spec: ChildSpec): Promise<void> => {
    await supervise(spec).ready;
    say(`${spec.name} is running (${((Date.now() - began) / 1000).toFixed(1)} s)`);
  };
  const [databaseUrl] = await Promise.all([
    startPostgres(home, ports.postgres, start, prepared),
    startFileSystems(stack, start),
    ...[stack.kafka, stack.s3, stack.temporal].map(start),
  ]);
  return { envFile: writeEnvironment(home, { ...stack.variables, DATABASE_URL: databaseUrl }) };
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

/** Sends an SSLRequest, which every server of PostgreSQL's protocol answers with one letter. */
function postgresAnswers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ port, host: '127.0.0.1' });
    const end = (answered: boolean): void => {
      socket.destroy();
      resolve(answered);
    };
    // The message's length and its code (1234, 5679).
    socket.once('connect', () => socket.write(Buffer.from([0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f])));
    socket.once('data', (answer) => end(/^[SN]/.test(answer.toString('latin1'))));
    socket.once('error', () => end(false));
    socket.once('close', () => end(false));
  });
}
