// Runs one job: its environment, its inputs fetched, its program in the sandbox, its outputs uploaded.
import { lstatSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { chmod, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { isFailure } from '../../failures.ts';
import type { Cluster, JobOutcome, JobSpec } from '../../ports.ts';
import { giveTo } from './folders.ts';
import { jobPaths, prepareJob, type JobPaths } from './enclosure.ts';
import { openProgramLog, type ProgramLog } from './program-log.ts';
import { startProgram, type Ended } from './program.ts';
import { NOBODY, type Sandbox } from './sandbox.ts';
import type { ProcessMark } from './process-tree.ts';

export type JobWatch = Parameters<Cluster['runJob']>[1];

/** Gives the Python environment of a lock's text, made in the sandbox: an InvalidInput where that lock can never be one. */
export type MakeEnvironment = (request: {
  lock: string;
  owner: 'platform' | 'project';
  sandbox: Sandbox;
  signal: AbortSignal;
  onProgress: (line: string) => void;
}) => Promise<JobEnvironment>;

export interface JobEnvironment {
  /** The interpreter that has the lock's packages: never run outside the sandbox. */
  readonly python: string;
  /** The interpreter that has none of them: for the wrapper, which holds the job's token. */
  readonly base: string;
  /** Folders that `python` needs to see. */
  readonly folders: readonly string[];
}

export interface JobSetting {
  readonly sandbox: Sandbox;
  /** The job's own folder, empty. */
  readonly folder: string;
  /** The platform's folder, which no job may see. */
  readonly home: string;
  /** Folder of the Python package `ocdl`. */
  readonly capsule: string;
  readonly environment: MakeEnvironment;
  /** The user of its own that the job runs as when the worker is root. */
  readonly uid: number;
  readonly onStart: (mark: ProcessMark) => void;
}

/** Runs the job to its end; rejects with the signal's reason when aborted, after everything of it has ended. */
export async function runJob(setting: JobSetting, spec: JobSpec, watch: JobWatch): Promise<JobOutcome> {
  const paths = jobPaths(setting.folder);
  const log = openProgramLog({
    path: join(paths.root, 'log'),
    onLine: watch.onLog,
    onProgress: watch.onProgress,
  });
  try {
    return await passThrough(setting, spec, watch.signal, paths, log);
  } finally {
    log.close();
  }
}

async function passThrough(
  setting: JobSetting,
  spec: JobSpec,
  abort: AbortSignal,
  paths: JobPaths,
  log: ProgramLog,
): Promise<JobOutcome> {
  const began = Date.now();
  const failed = (reason: Failed['reason'], exitCode: number | null): JobOutcome => {
    return { status: 'failed', reason, exitCode, log: log.tail() };
  };
  writeFolder(paths, spec, setting.sandbox);
  const environment = await makeEnvironment(setting, spec, paths, abort, log);
  if (environment === undefined) return failed('environment', null);

  // Making an environment may take minutes the first time; a job's own time begins with its data.
  const deadline = AbortSignal.timeout(Math.min(spec.deadlineSeconds * 1000, LONGEST_TIMER_MS));
  const signal = AbortSignal.any([abort, deadline]);
  const late = (): JobOutcome | undefined => {
    abort.throwIfAborted();
    if (!deadline.aborted) return undefined;
    log.note(`ended: it was not done within its ${spec.deadlineSeconds} seconds (deadlineSeconds)`);
    return { status: 'timed-out', log: log.tail() };
  };
  const wrap = (step: 'fetch' | 'upload'): Promise<Ended> =>
    startProgram({
      program: environment.base,
      args: ['-S', '-s', '-m', 'ocdl.job', step, paths.root],
      env: {
        PATH: '/usr/bin:/bin',
        LANG: 'C.UTF-8',
        PYTHONPATH: setting.capsule,
        ...WRAPPER,
        OCDL_JOB_TOKEN: spec.data.token,
      },
      cwd: paths.root,
      sandboxed: false,
      ...{ log, signal, onStart: setting.onStart },
    }).ended;

  const fetched = await wrap('fetch');
  const lateFetch = late();
  if (lateFetch) return lateFetch;
  if (fetched.code !== 0) return failed('fetch', fetched.code);

  if (setting.sandbox.kind === 'own-user')
    for (const path of [paths.in, paths.out, paths.scratch]) await giveTo(setting.uid, path);
  const prepared = prepareJob({ ...setting, spec, paths, environment });
  const { memoryBytes, diskBytes } = spec.resources;
  const ran = await startProgram({
    ...prepared,
    ...{ log, signal, onStart: setting.onStart },
    watch: { memoryBytes, diskBytes, folders: [paths.out, paths.scratch] },
  }).ended;
  const lateRun = late();
  if (lateRun) return lateRun;
  if (ran.exceeded === 'memory' || (ran.code !== 0 && diedOfMemory(log.tail()))) return failed('memory', ran.code);
  if (ran.code !== 0) return failed('exit', ran.code);

  const problem = outputProblem(paths.out, spec);
  if (problem !== undefined) {
    log.note(problem);
    return failed('upload', ran.code);
  }
  const uploaded = await wrap('upload');
  const lateUpload = late();
  if (lateUpload) return lateUpload;
  if (uploaded.code !== 0) return failed('upload', uploaded.code);
  return { status: 'succeeded', seconds: (Date.now() - began) / 1000, log: log.tail() };
}

type Failed = Extract<JobOutcome, { status: 'failed' }>;

/** Node's timers hold 31 bits of milliseconds. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** Reproducible, and nothing written into the checkout. */
const WRAPPER = { PYTHONHASHSEED: '0', PYTHONDONTWRITEBYTECODE: '1', PYTHONUNBUFFERED: '1' } as const;

/** What Python, C++ and the system say last when a limit of memory stopped them. */
const OUT_OF_MEMORY = /MemoryError|std::bad_alloc|Cannot allocate memory|out of memory/i;

function diedOfMemory(tail: string): boolean {
  // The last lines only: a program may well have spoken of memory before and died of something else.
  return OUT_OF_MEMORY.test(tail.slice(-2_000));
}

function writeFolder(paths: JobPaths, spec: JobSpec, sandbox: Sandbox): void {
  for (const folder of [paths.in, paths.out, paths.scratch]) mkdirSync(folder, { mode: 0o700 });
  const manifest = {
    job: spec.data.job,
    api: spec.data.api,
    inputs: spec.inputs.map(({ name, sha256, bytes, unpack }) => ({ name, sha256, bytes, unpack: unpack ?? false })),
    outputs: spec.outputs,
  };
  // The token is not among it: it is handed to the wrapper alone, and never lies on disk.
  writeFileSync(join(paths.root, 'job.json'), JSON.stringify(manifest));
  writeFileSync(paths.parameters, JSON.stringify(spec.parameters), { mode: 0o644 });
  // Seen from the working folder, inputs and outputs lie in `in` and `out`: mounts in the sandbox, links without one.
  if (sandbox.kind === 'none') {
    symlinkSync('../in', join(paths.scratch, 'in'));
    symlinkSync('../out', join(paths.scratch, 'out'));
    return;
  }
  for (const name of ['in', 'out']) mkdirSync(join(paths.scratch, name));
  writeFileSync(join(paths.scratch, 'parameters.json'), '');
}

/** The account file of a sandbox: programs ask for the name of their user. */
export async function writeAccounts(path: string, sandbox: Sandbox, uid: number): Promise<void> {
  const id = sandbox.kind === 'own-user' ? uid : NOBODY;
  await writeFile(path, `ocdl:x:${id}:${id}::/tmp:/bin/false\n`);
  // Whatever the worker's umask: the program reads it as another user.
  await chmod(path, 0o644);
}

async function makeEnvironment(
  setting: JobSetting,
  spec: JobSpec,
  paths: JobPaths,
  abort: AbortSignal,
  log: ProgramLog,
): Promise<JobEnvironment | undefined> {
  abort.throwIfAborted();
  await writeAccounts(paths.passwd, setting.sandbox, setting.uid);
  await chmod(paths.parameters, 0o644);
  const { sandbox } = setting;
  const owner = spec.lockOwner ?? 'project';
  try {
    // Aborted, it rejects once nothing of it runs any more.
    return await setting.environment({
      lock: spec.lock,
      owner,
      sandbox,
      signal: abort,
      onProgress: (line) => log.note(line),
    });
  } catch (error) {
    abort.throwIfAborted();
    if (isFailure(error, 'InvalidInput')) throw error;
    log.note(error instanceof Error ? error.message : String(error));
    return undefined;
  }
}

/** Only regular files leave: a link would name something outside, a device or pipe never ends. */
function outputProblem(out: string, spec: JobSpec): string | undefined {
  for (const { name } of spec.outputs) {
    const status = lstatSync(join(out, name), { throwIfNoEntry: false });
    if (status && !status.isFile()) return `output ${name} is no regular file: write the file itself to OCDL_OUTPUTS`;
  }
  return undefined;
}
