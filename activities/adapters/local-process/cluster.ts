// The Cluster port on one machine: jobs and services as local processes, sandboxed if possible.
import { randomInt } from 'node:crypto';
import { mkdir, readdir, readFile } from 'node:fs/promises';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { failure } from '../../failures.ts';
import { isPassing, type Cluster, type JobOutcome, type JobSpec } from '../../ports.ts';
import { graphicsCards, SERVICE_LIMITS, type ServiceLimits } from './enclosure.ts';
import { oneAtATime } from '../one-at-a-time.ts';
import { removeFolder } from './folders.ts';
import { createHeldJobs, type HeldWatch } from './held-jobs.ts';
import { openJobProgress } from './job-progress.ts';
import { runJob, type MakeEnvironment, type Patience } from './job.ts';
import { processMarkSchema, type ProcessMark } from './process-tree.ts';
import { endRecorded } from './program.ts';
import { openProgramLog } from './program-log.ts';
import { detectSandbox, type Sandbox } from './sandbox.ts';
import { startModelService, type FetchFile, type RunningService } from './service.ts';

export interface LocalProcessOptions {
  /** The platform's folder: jobs are in `jobs/`, services in `services/`. Jobs cannot see it. */
  readonly home: string;
  /** Folder that contains the Python package `ocdl`. */
  readonly capsule: string;
  /** Root of the platform's own code: `node_modules`, `api`, `workflows`, `activities`. */
  readonly checkout: string;
  /** Program that serves one model. */
  readonly inferenceEntry: string;
  readonly environment: MakeEnvironment;
  readonly fetchFile: FetchFile;
  /**
   * `none`: no sandbox, deliberately. `if-possible`: no sandbox if bubblewrap does not work. `bubblewrap`: the cluster does not
   * open if bubblewrap does not work. Without the option, each job and service is refused in that case.
   */
  readonly sandbox?: 'bubblewrap' | 'if-possible' | 'none';
  /** Detects the sandbox; default: a test run. */
  readonly detect?: typeof detectSandbox;
  /** Called once if there is no sandbox. */
  readonly onWarn?: (message: string) => void;
  /** How long a job's wrapper retries an unresponsive API; default: 15 minutes for inputs, 12 hours for outputs. */
  readonly patience?: Patience;
  /** How long a service may take to be ready (20 s: a large model on a busy machine). */
  readonly readyWithinMs?: number;
  /** What one service may use; default: 8 GiB of memory. */
  readonly serviceLimits?: ServiceLimits;
}

export interface LocalProcessCluster extends Cluster {
  readonly sandbox: 'bubblewrap' | 'none';
  /** Stops every job and service. */
  close(): Promise<void>;
}

/** Opens the cluster. With `sandbox: 'bubblewrap'`, rejects if bubblewrap does not work. */
export async function createLocalProcessCluster(options: LocalProcessOptions): Promise<LocalProcessCluster> {
  const sandbox = await chooseSandbox(options);
  const mayRun = (what: string): void => {
    if (sandbox.kind === 'none' && options.sandbox === undefined)
      throw failure('JobFailed', `${what}: ${noSandbox(sandbox.why)}`);
  };
  const jobs = join(options.home, 'jobs');
  const services = join(options.home, 'services');
  for (const folder of [jobs, services]) await mkdir(folder, { recursive: true, mode: 0o700 });
  const names = oneAtATime();
  const served = new Map<string, RunningService>();
  const nextUser = userNumbers();

  const progress = openJobProgress({ jobs, outcomes: join(options.home, 'outcomes') });
  const folderOf = (name: string): string => join(jobs, name);

  const run = async (spec: JobSpec, token: string, watch: HeldWatch): Promise<JobOutcome> => {
    await progress.sweep(new Set(held.running()));
    await progress.forget(spec.name);
    const folder = folderOf(spec.name);
    const finished = await progress.isFinished(spec, folder);
    const interrupted = !finished && (await progress.isStarted(spec, folder));
    if (finished) await endLeftover(folder);
    else await freshFolder(jobs, spec.name, interrupted ? ['log'] : []);
    const log = openProgramLog({
      path: join(folder, 'log'),
      keep: finished || interrupted,
      onProgress: watch.onProgress,
    });
    watch.onLog(log.tail);
    const keep: { outcome?: JobOutcome } = {};
    try {
      if (interrupted) log.note('(interrupted: the worker that ran it has ended; it starts from the beginning)');
      await progress.markStarted(spec, folder);
      const own = { token, sandbox, folder, uid: nextUser(), onStart: recorder(folder), finished };
      const setting = { ...options, ...own, onFinished: () => progress.markFinished(spec, folder) };
      keep.outcome = await runJob(setting, spec, watch.signal, log);
      return keep.outcome;
    } finally {
      log.close();
      await leave(spec, folder, keep.outcome);
    }
  };

  /** After an end: keeps outputs that wait for upload, otherwise only the log of a job that did not succeed. */
  const leave = async (spec: JobSpec, folder: string, outcome: JobOutcome | undefined): Promise<void> => {
    if (outcome?.status === 'succeeded') return removeFolder(folder);
    if ((outcome === undefined || isPassing(outcome)) && (await progress.isFinished(spec, folder))) return;
    const kept = outcome === undefined ? ['log', 'started'] : ['log'];
    await emptyFolder(folder, kept);
  };

  const held = createHeldJobs({
    run,
    ends: progress.ends,
    async remove(name) {
      await removeLeftover(folderOf(name));
      await progress.forget(name);
    },
  });

  const stop = async (name: string): Promise<void> => {
    const service = served.get(name);
    served.delete(name);
    await service?.end();
    await removeLeftover(join(services, name));
  };

  return {
    sandbox: sandbox.kind === 'none' ? 'none' : 'bubblewrap',
    async startJob(spec, token) {
      checkJob(spec);
      mayRun(`job ${spec.name}`);
      await held.startJob(spec, token);
    },
    jobState: held.jobState,
    jobLog: held.jobLog,
    watchJobs: held.watchJobs,
    async removeJob(name) {
      checkName(name);
      await held.removeJob(name);
    },
    async startService(spec, signal) {
      checkName(spec.name);
      mayRun(`service ${spec.name}`);
      if (spec.compute === 'gpu') throw failure('InvalidInput', `service ${spec.name}: local services run on cpu`);
      return names.run(`service ${spec.name}`, signal, async (stopped) => {
        await stop(spec.name);
        const folder = await freshFolder(services, spec.name);
        const setting = { ...options, entry: options.inferenceEntry, sandbox, folder, uid: nextUser() };
        const { readyWithinMs = 20_000, serviceLimits: limits = SERVICE_LIMITS } = options;
        try {
          const service = await startModelService(
            { ...setting, readyWithinMs, limits, onStart: recorder(folder) },
            spec,
            stopped,
          );
          served.set(spec.name, service);
          return { address: service.address, ended: service.ended };
        } catch (error) {
          await removeFolder(folder);
          throw error;
        }
      });
    },
    async stopService(name) {
      checkName(name);
      await names.run(`service ${name}`, NEVER, () => stop(name));
    },
    async close() {
      await held.close();
      await names.close();
      await Promise.all([...served.keys()].map(stop));
    },
  };
}

const NEVER = new AbortController().signal;
/** User ids of jobs when the worker is root: a range of 65,536 that no distribution assigns. */
const FIRST_USER = 1_868_759_040;

async function chooseSandbox(options: LocalProcessOptions): Promise<Sandbox> {
  const found: Sandbox =
    options.sandbox === 'none' ? { kind: 'none', why: 'it is disabled' } : await (options.detect ?? detectSandbox)();
  if (found.kind !== 'none') return found;
  if (options.sandbox === 'bubblewrap')
    throw new Error(
      `bubblewrap is required but does not work here: ${found.why}. Install it with util-linux (Debian, Ubuntu: apt-get install bubblewrap)`,
    );
  if (options.sandbox === undefined) {
    options.onWarn?.(noSandbox(found.why));
    return found;
  }
  options.onWarn?.(
    `Jobs and services run WITHOUT a sandbox (${found.why}): their code can read this user's files, use the network and outlive its end. ` +
      'Install bubblewrap (Debian, Ubuntu: apt-get install bubblewrap), or run only code that you trust.',
  );
  return found;
}

const noSandbox = (why: string): string =>
  `this machine runs no jobs or model services, because bubblewrap does not work here (${why}). Install it with util-linux ` +
  '(Debian, Ubuntu: apt-get install bubblewrap) and restart the worker, or, if you trust the code of all users with the rights of this ' +
  'user, set OCDL_JOBS_WITHOUT_SANDBOX=true';

function userNumbers(): () => number {
  // Starts at a random id, so that two workers on one machine rarely use the same ids.
  const state = { next: randomInt(65_536) };
  return () => FIRST_USER + (state.next++ % 65_536);
}

function checkName(name: string): void {
  if (!/^[a-z0-9-]{1,63}$/.test(name))
    throw failure(
      'InvalidInput',
      `${JSON.stringify(name)} is not a valid name of a job or service: use 1 to 63 of a-z, 0-9 and "-"`,
    );
}

function checkJob(spec: JobSpec): void {
  checkName(spec.name);
  const { cpus, memoryBytes, diskBytes, gpus = 0 } = spec.resources;
  if (![cpus, memoryBytes, diskBytes, spec.deadlineSeconds].every((number) => Number.isFinite(number) && number > 0))
    throw failure('InvalidInput', `job ${spec.name}: cpus, memoryBytes, diskBytes and deadlineSeconds must be above 0`);
  if (!spec.argv[0]) throw failure('InvalidInput', `job ${spec.name}: argv names no program`);
  const cards = graphicsCards();
  if (gpus > cards)
    throw failure(
      'InvalidInput',
      `job ${spec.name} needs ${gpus} GPUs, but this machine has ${cards || 'no GPU'} (/dev/nvidia*): choose another compute profile`,
    );
  if (spec.image !== undefined || spec.nodeSelector)
    throw failure('InvalidInput', `job ${spec.name}: local processes have no images and no nodes to select`);
}

/** A folder with this name, empty but for `kept`; processes that an earlier worker left there are stopped first. */
async function freshFolder(parent: string, name: string, kept: readonly string[] = []): Promise<string> {
  const folder = join(parent, name);
  await endLeftover(folder);
  await mkdir(folder, { recursive: true, mode: 0o700 });
  await emptyFolder(folder, kept);
  return folder;
}

async function emptyFolder(folder: string, kept: readonly string[]): Promise<void> {
  for (const name of await readdir(folder)) if (!kept.includes(name)) await removeFolder(join(folder, name));
}

async function removeLeftover(folder: string): Promise<void> {
  await endLeftover(folder);
  await removeFolder(folder);
}

/** Stops the processes that an earlier worker left in a folder. */
async function endLeftover(folder: string): Promise<void> {
  const text = await readFile(join(folder, 'pid'), 'utf8').catch(() => undefined);
  const mark = text === undefined ? undefined : parseMark(text);
  if (mark) await endRecorded(mark);
}

function parseMark(text: string): ProcessMark | undefined {
  try {
    return processMarkSchema.safeParse(JSON.parse(text)).data;
  } catch {
    return undefined;
  }
}

/** Written before the program starts its work, so that a later worker can stop orphaned processes. */
function recorder(folder: string): (mark: ProcessMark) => void {
  return (mark) => writeFileSync(join(folder, 'pid'), JSON.stringify(mark), { mode: 0o600 });
}
