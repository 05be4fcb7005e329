// Runs services of one model each: fetches files, starts the server in the sandbox on a Unix socket, waits until it is ready.
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Artifact } from '../../../workflows/domain/model.ts';
import { pathProblem } from '../../../workflows/domain/names.ts';
import { failure, messageOf } from '../../failures.ts';
import { withSocketAt } from '../../inference/unix-socket.ts';
import { ServiceNotReady, type ServiceEnd, type ServiceSpec } from '../../ports.ts';
import { prepareService, type ServiceLimits } from './enclosure.ts';
import { giveTo } from './folders.ts';
import { wasKilled, writeAccounts } from './job.ts';
import type { ProcessMark } from './process-tree.ts';
import { openProgramLog, type ProgramLog } from './program-log.ts';
import { startProgram, type Ended, type Program } from './program.ts';
import type { Sandbox } from './sandbox.ts';

/** Copies an artifact's bytes to a path and verifies their digest. */
export type FetchFile = (artifact: Artifact, destination: string, signal: AbortSignal) => Promise<void>;

export interface ServiceSetting {
  readonly sandbox: Sandbox;
  /** The service's own, empty folder. */
  readonly folder: string;
  readonly home: string;
  /** Program that serves a model. */
  readonly entry: string;
  /** Root of the platform's own code. */
  readonly checkout: string;
  readonly fetchFile: FetchFile;
  readonly uid: number;
  readonly readyWithinMs: number;
  readonly limits: ServiceLimits;
  readonly onStart: (mark: ProcessMark) => void;
}

export interface RunningService {
  readonly address: `unix:${string}`;
  /** Resolves when the service ends without being stopped. */
  readonly ended: Promise<ServiceEnd>;
  end(): Promise<void>;
}

/** The kernel limits a socket's path to 107 bytes. */
const SOCKET_PATH_BYTES = 107;
const POLL_MS = 50;

/** Starts a service and waits until it is ready; a failure leaves no process behind. */
export async function startModelService(
  setting: ServiceSetting,
  spec: ServiceSpec,
  signal: AbortSignal,
): Promise<RunningService> {
  const model = join(setting.folder, 'model');
  await mkdir(model, { mode: 0o700 });
  const served = await fetchFiles(setting, spec, model, signal);
  const run = await socketFolder(setting.folder);
  const passwd = join(setting.folder, 'passwd');
  const begun: { log?: ProgramLog; program?: Program } = {};
  const end = async (): Promise<void> => {
    await begun.program?.end();
    await begun.program?.ended;
    begun.log?.close();
    await rm(run, { recursive: true, force: true });
  };
  try {
    await writeAccounts(passwd, setting.sandbox, setting.uid);
    if (setting.sandbox.kind === 'own-user') for (const path of [model, run]) await giveTo(setting.uid, path);
    const prepared = prepareService({ ...setting, model, run, passwd, version: spec.version, sha256: served.sha256 });
    const log = (begun.log = openServiceLog(spec, setting.folder));
    const watch = { ...setting.limits, folders: [run] };
    const program = (begun.program = startProgram({ ...prepared, log, watch, onStart: setting.onStart }));
    const socket = join(run, 'socket');
    await ready({ program, socket, spec, signal, withinMs: setting.readyWithinMs, tail: log.tail });
    const ended = program.ended.then((how) => endOf(spec, how, log.tail()));
    return { address: `unix:${socket}`, ended, end };
  } catch (error) {
    await end();
    throw error;
  }
}

function openServiceLog({ name }: ServiceSpec, folder: string): ProgramLog {
  try {
    return openProgramLog({ path: join(folder, 'log') });
  } catch (error) {
    throw new Error(`service ${name} was not started: ${messageOf(error)}`, { cause: error });
  }
}

async function fetchFiles(
  setting: ServiceSetting,
  spec: ServiceSpec,
  model: string,
  signal: AbortSignal,
): Promise<Artifact> {
  for (const file of spec.files) {
    const problem = pathProblem(file.name) ?? (file.name.includes('/') ? 'it must be one name' : undefined);
    if (problem)
      throw failure(
        'InvalidInput',
        `service ${spec.name}: the file name "${file.name.slice(0, 100)}" is invalid: ${problem}`,
      );
    await setting.fetchFile(file, join(model, file.name), signal);
  }
  const served = spec.files.find(({ name }) => name === 'model.onnx');
  if (!served || !spec.files.some(({ name }) => name === 'model.json'))
    throw failure('InvalidInput', `service ${spec.name} needs the files model.onnx and model.json`);
  return served;
}

/** A folder for the socket with a short enough path: the service's own, or one in the system's temporary folder. */
async function socketFolder(folder: string): Promise<string> {
  const own = join(folder, 'run');
  if (Buffer.byteLength(join(own, 'socket')) > SOCKET_PATH_BYTES) return mkdtemp(join(tmpdir(), 'ocdl-'));
  await mkdir(own, { mode: 0o700 });
  return own;
}

async function ready(options: {
  program: Program;
  socket: string;
  spec: ServiceSpec;
  signal: AbortSignal;
  withinMs: number;
  tail: () => string;
}): Promise<void> {
  const { spec } = options;
  const state: { ended?: Ended } = {};
  void options.program.ended.then((ended) => (state.ended = ended));
  const until = Date.now() + options.withinMs;
  while (Date.now() < until) {
    options.signal.throwIfAborted();
    if (state.ended) {
      const { failedStart } = state.ended;
      if (failedStart !== undefined) throw new Error(`service ${spec.name}: ${failedStart}`);
      const { killed, detail } = endOf(spec, state.ended, options.tail());
      // A killed service may succeed next time; a model that cannot be served never will.
      if (killed) throw new Error(`${detail}\nIt will be started again.`);
      throw failure('JobFailed', `not ready: ${detail}`);
    }
    if (await answers(options.socket)) return;
    await sleep(POLL_MS);
  }
  throw new ServiceNotReady(
    `service ${spec.name} was not ready within ${options.withinMs / 1000} seconds; last lines of its log:\n${options.tail().slice(-4_000)}`,
  );
}

/** How a service ended, and whether it was killed from outside, so that another attempt may succeed. */
export function endOf({ name }: Pick<ServiceSpec, 'name'>, ended: Ended, tail: string): ServiceEnd {
  // For lack of memory the kernel kills it too, but it would need as much memory again.
  const killed = ended.exceeded === undefined && wasKilled(ended);
  const how = howEnded(ended, killed);
  return {
    killed,
    detail: `service ${name} ${how} (status ${ended.code ?? 'none'}); last lines of its log:\n${tail.slice(-4_000)}`,
  };
}

function howEnded({ code, exceeded }: Ended, killed: boolean): string {
  if (exceeded !== undefined && code === null)
    return `was stopped: it exceeded the limit of ${exceeded === 'memory' ? 'memory' : 'disk space'} of a service`;
  if (exceeded === 'memory') return 'needed more memory than this machine has left and was killed by the kernel';
  return killed ? 'was killed from outside' : 'exited on its own';
}

function answers(socket: string): Promise<boolean> {
  const ask = (socketPath: string): Promise<boolean> =>
    new Promise((resolve) => {
      const asked = request({ socketPath, path: '/v2/health/ready', timeout: 1_000 }, (response) => {
        response.resume();
        resolve(response.statusCode === 200);
      });
      asked.once('timeout', () => asked.destroy());
      asked.once('error', () => resolve(false));
      asked.end();
    });
  return withSocketAt(socket, ask).catch(() => false);
}
