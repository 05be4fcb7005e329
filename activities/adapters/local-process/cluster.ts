// The Cluster port on this machine alone: jobs and services as local processes, in a sandbox where there is one.
import { randomInt } from 'node:crypto';
import { mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { failure } from '../../failures.ts';
import type { Cluster, JobOutcome, JobSpec } from '../../ports.ts';
import { graphicsDevices } from './enclosure.ts';
import { removeFolder } from './folders.ts';
import { openJobProgress } from './job-progress.ts';
import { runJob, type JobWatch, type MakeEnvironment, type Patience } from './job.ts';
import { processMarkSchema, type ProcessMark } from './process-tree.ts';
import { endRecorded } from './program.ts';
import { detectSandbox, type Sandbox } from './sandbox.ts';
import { startModelService, type FetchFile, type RunningService } from './service.ts';

export interface LocalProcessOptions {
  /** The platform's folder: jobs lie in `jobs/`, services in `services/`. No job sees it. */
  readonly home: string;
  /** Folder that holds the Python package `ocdl`. */
  readonly capsule: string;
  /** Where the platform's own code lies: `node_modules`, `api`, `workflows`, `activities`. */
  readonly checkout: string;
  /** Program that serves one model. */
  readonly inferenceEntry: string;
  readonly environment: MakeEnvironment;
  readonly fetchFile: FetchFile;
  /**
   * `none` goes without on purpose. `if-possible` goes without where bubblewrap does not work. Otherwise nothing runs without
   * bubblewrap: with `bubblewrap` the cluster does not open, without the option each job and service is refused.
   */
  readonly sandbox?: 'bubblewrap' | 'if-possible' | 'none';
  /** How the sandbox is found; by trying unless given. */
  readonly detect?: typeof detectSandbox;
  /** Told once when there is no sandbox. */
  readonly onWarn?: (message: string) => void;
  /** How long a job's wrapper asks an API again that does not answer; 15 minutes for inputs, 12 hours for outputs unless given. */
  readonly patience?: Patience;
  /** How long a service may take to be ready (20 s: a large model on a busy machine). */
  readonly readyWithinMs?: number;
}

export interface LocalProcessCluster extends Cluster {
  readonly sandbox: 'bubblewrap' | 'none';
  /** Ends every job and service. */
  close(): Promise<void>;
}

/** Opens the cluster. With `sandbox: 'bubblewrap'` it throws where that does not work. */
export async function createLocalProcessCluster(options: LocalProcessOptions): Promise<LocalProcessCluster> {
  const sandbox = await chooseSandbox(options);
  const mayRun = (what: string): void => {
    if (sandbox.kind === 'none' && options.sandbox === undefined)
      throw failure('JobFailed', `${what}: ${noSandbox(sandbox.why)}`);
  };
  const jobs = join(options.home, 'jobs');
  const services = join(options.home, 'services');
  for (const folder of [jobs, services]) await mkdir(folder, { recursive: true, mode: 0o700 });
  const running = new Map<string, { readonly abort: AbortController; readonly ended: Promise<unknown> }>();
  const served = new Map<string, RunningService>();
  const nextUser = userNumbers();

  /** Runs `work` under a name that nothing else runs under meanwhile; a former one is ended first. */
  const alone = async <T>(key: string, signal: AbortSignal, work: (signal: AbortSignal) => Promise<T>): Promise<T> => {
    const abort = new AbortController();
    const former = running.get(key);
    former?.abort.abort(
      failure('Conflict', `${key} was ended: the same name was started again, or the cluster was closed`),
    );
    const stop = AbortSignal.any([signal, abort.signal]);
    const result = (former?.ended ?? Promise.resolve()).then(() => {
      stop.throwIfAborted();
      return work(stop);
    });
    const entry = { abort, ended: result.catch(() => undefined) };
    running.set(key, entry);
    try {
      return await result;
    } finally {
      if (running.get(key) === entry) running.delete(key);
    }
  };

  const progress = openJobProgress({ jobs, outcomes: join(options.home, 'outcomes') });
  const folderOf = (name: string): string => join(jobs, name);

  const job = async (spec: JobSpec, watch: JobWatch): Promise<JobOutcome> => {
    await progress.sweep(new Set([...running.keys()].map((key) => folderOf(key.replace(/^job /, '')))));
    const known = await progress.outcomeOf(spec);
    if (known) return known;
    await progress.forget(spec);
    const folder = folderOf(spec.name);
    const finished = await progress.isFinished(spec, folder);
    if (finished) await endLeftover(folder);
    else await freshFolder(jobs, spec.name);
    const keep: { outcome?: JobOutcome } = {};
    try {
      const own = { sandbox, folder, uid: nextUser(), onStart: recorder(folder), finished };
      const setting = { ...options, ...own, onFinished: () => progress.markFinished(spec, folder) };
      const outcome = await runJob(setting, spec, watch);
      if (outcome.status === 'succeeded') await progress.remember(spec, outcome);
      keep.outcome = outcome;
      return outcome;
    } finally {
      await leave(spec, folder, keep.outcome);
    }
  };

  /** Of a job that has ended: outputs that wait for their upload, the log of a failed one, or nothing. */
  const leave = async (spec: JobSpec, folder: string, outcome: JobOutcome | undefined): Promise<void> => {
    const passing = outcome === undefined || (outcome.status === 'failed' && outcome.reason === 'upload');
    const environment = outcome?.status === 'failed' && outcome.reason === 'environment';
    if ((passing || environment) && (await progress.isFinished(spec, folder))) return;
    await (outcome === undefined || outcome.status === 'succeeded' ? removeFolder(folder) : keepFailed(jobs, folder));
  };

  const stop = async (name: string): Promise<void> => {
    const service = served.get(name);
    served.delete(name);
    await service?.end();
    await removeLeftover(join(services, name));
  };

  return {
    sandbox: sandbox.kind === 'none' ? 'none' : 'bubblewrap',
    async runJob(spec, watch) {
      checkJob(spec);
      mayRun(`job ${spec.name}`);
      return alone(`job ${spec.name}`, watch.signal, (signal) => job(spec, { ...watch, signal }));
    },
    async startService(spec, signal) {
      checkName(spec.name);
      mayRun(`service ${spec.name}`);
      if (spec.compute === 'gpu') throw failure('InvalidInput', `service ${spec.name}: local services run on cpu`);
      return alone(`service ${spec.name}`, signal, async (stopped) => {
        await stop(spec.name);
        const folder = await freshFolder(services, spec.name);
        const setting = { ...options, entry: options.inferenceEntry, sandbox, folder, uid: nextUser() };
        const readyWithinMs = options.readyWithinMs ?? 20_000;
        try {
          const service = await startModelService(
            { ...setting, readyWithinMs, onStart: recorder(folder) },
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
      await alone(`service ${name}`, NEVER, () => stop(name));
    },
    async close() {
      for (const { abort } of running.values()) abort.abort(failure('Conflict', 'the cluster was closed'));
      await Promise.all([...running.values()].map(({ ended }) => ended));
      await Promise.all([...served.keys()].map(stop));
    },
  };
}

const NEVER = new AbortController().signal;
/** Folders of failed jobs (their log, no data) that are kept to look at. */
const KEPT_FAILURES = 20;
/** Users of jobs when the worker is root: 65,536 numbers that no distribution hands out. */
const FIRST_USER = 1_868_759_040;

async function chooseSandbox(options: LocalProcessOptions): Promise<Sandbox> {
  const found: Sandbox =
    options.sandbox === 'none'
      ? { kind: 'none', why: 'it is switched off' }
      : await (options.detect ?? detectSandbox)();
  if (found.kind !== 'none') return found;
  if (options.sandbox === 'bubblewrap')
    throw new Error(
      `bubblewrap was asked for and does not work here: ${found.why}. Install it with util-linux (Debian, Ubuntu: apt-get install bubblewrap)`,
    );
  if (options.sandbox === undefined) {
    options.onWarn?.(noSandbox(found.why));
    return found;
  }
  options.onWarn?.(
    `Jobs and services run WITHOUT a sandbox (${found.why}): their code can read this user's files, use the network and outlive its end. ` +
      'Install bubblewrap (Debian, Ubuntu: apt-get install bubblewrap), or run only code you trust.',
  );
  return found;
}

const noSandbox = (why: string): string =>
  `no job and no model service runs on this machine, because bubblewrap does not work here (${why}). Install it with util-linux ` +
  '(Debian, Ubuntu: apt-get install bubblewrap) and start again, or, if you trust all code of all users with the rights of this ' +
  'user, set OCDL_JOBS_WITHOUT_SANDBOX=true';

function userNumbers(): () => number {
  // Begins anywhere, so that two workers of one machine rarely use the same ones at a time.
  const state = { next: randomInt(65_536) };
  return () => FIRST_USER + (state.next++ % 65_536);
}

function checkName(name: string): void {
  if (!/^[a-z0-9-]{1,63}$/.test(name))
    throw failure(
      'InvalidInput',
      `${JSON.stringify(name)} is no name of a job or service: 1 to 63 of a-z, 0-9 and "-"`,
    );
}

function checkJob(spec: JobSpec): void {
  checkName(spec.name);
  const { cpus, memoryBytes, diskBytes } = spec.resources;
  if (![cpus, memoryBytes, diskBytes, spec.deadlineSeconds].every((number) => Number.isFinite(number) && number > 0))
    throw failure('InvalidInput', `job ${spec.name}: cpus, memoryBytes, diskBytes and deadlineSeconds must be above 0`);
  if (!spec.argv[0]) throw failure('InvalidInput', `job ${spec.name}: argv names no program`);
  if (spec.compute === 'gpu' && graphicsDevices().length === 0)
    throw failure('InvalidInput', `job ${spec.name}: this machine shows no GPU (/dev/nvidia*): choose compute "cpu"`);
}

/** An empty folder of this name; what an earlier worker left running there is ended first. */
async function freshFolder(parent: string, name: string): Promise<string> {
  const folder = join(parent, name);
  await removeLeftover(folder);
  await mkdir(folder, { mode: 0o700 });
  return folder;
}

async function removeLeftover(folder: string): Promise<void> {
  await endLeftover(folder);
  await removeFolder(folder);
}

/** Ends what an earlier worker left running in a folder. */
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

/** Written before the program can do anything, so that a later worker finds what this one left. */
function recorder(folder: string): (mark: ProcessMark) => void {
  return (mark) => writeFileSync(join(folder, 'pid'), JSON.stringify(mark), { mode: 0o600 });
}

/** Keeps a failed job's log and manifest, not its data, and only the latest failures. */
async function keepFailed(jobs: string, folder: string): Promise<void> {
  for (const name of ['in', 'out', 'scratch', 'pid', 'finished']) await removeFolder(join(folder, name));
  await writeFile(join(folder, 'failed'), new Date().toISOString());
  const failures: { path: string; at: number }[] = [];
  for (const name of await readdir(jobs)) {
    const marker = await stat(join(jobs, name, 'failed')).catch(() => undefined);
    if (marker) failures.push({ path: join(jobs, name), at: marker.mtimeMs });
  }
  failures.sort((a, b) => b.at - a.at);
  for (const { path } of failures.slice(KEPT_FAILURES)) await removeFolder(path);
}
