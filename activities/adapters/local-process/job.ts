// Runs one job: builds its environment, fetches its inputs, runs its program in the sandbox, uploads its outputs.
import { lstatSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { chmod, writeFile } from 'node:fs/promises';
import { constants } from 'node:os';
import { join } from 'node:path';

import type { JobOutcome, JobSpec } from '../../ports.ts';
import { isFinal } from '../../failures.ts';
import { giveTo } from './folders.ts';
import { jobPaths, prepareJob, type JobPaths } from './enclosure.ts';
import type { ProgramLog } from './program-log.ts';
import { startProgram, type Ended } from './program.ts';
import { NOBODY, type Sandbox } from './sandbox.ts';
import type { ProcessMark } from './process-tree.ts';

const { signals } = constants;

/** Builds the Python environment of a lock's text in the sandbox; throws `InvalidInput` for a lock that can never be built. */
export type MakeEnvironment = (request: {
  lock: string;
  owner: 'platform' | 'project';
  sandbox: Sandbox;
  signal: AbortSignal;
  onProgress: (line: string) => void;
}) => Promise<JobEnvironment>;

export interface JobEnvironment {
  /** The interpreter with the lock's packages: never run outside the sandbox. */
  readonly python: string;
  /** The interpreter without those packages: for the wrapper, which holds the job's token. */
  readonly base: string;
  /** Folders that `python` must be able to see. */
  readonly folders: readonly string[];
  /** Ends the use of the environment, which may then be removed. */
  readonly done?: () => void;
}

export interface JobSetting {
  readonly sandbox: Sandbox;
  /** Token for the job's data: only the wrapper receives it, and it is never on disk. */
  readonly token: string;
  /** The job's own folder: empty but for its log. */
  readonly folder: string;
  /** The platform's folder, which jobs must not see. */
  readonly home: string;
  /** Folder of the Python package `ocdl`. */
  readonly capsule: string;
  readonly environment: MakeEnvironment;
  /** The separate user of the job when the worker is root. */
  readonly uid: number;
  readonly onStart: (mark: ProcessMark) => void;
  /** An earlier attempt of this exact job succeeded here: only its outputs must be uploaded. */
  readonly finished: boolean;
  /** Called when the program has succeeded and its outputs are in the folder. */
  readonly onFinished: () => Promise<void>;
  /** How long the wrapper retries an unresponsive API. */
  readonly patience?: Patience | undefined;
}

export interface Patience {
  readonly fetchSeconds: number;
  readonly uploadSeconds: number;
}

/** A failed fetch loses nothing; an output may have cost a week, and its token stays valid for another day. */
const PATIENCE: Patience = { fetchSeconds: 900, uploadSeconds: 43_200 };

/** Runs the job to its end; after an abort, rejects with the signal's reason once all its processes have ended. */
export async function runJob(
  setting: JobSetting,
  spec: JobSpec,
  abort: AbortSignal,
  log: ProgramLog,
): Promise<JobOutcome> {
  const paths = jobPaths(setting.folder);
  const began = Date.now();
  if (setting.finished) writeManifest(paths, spec);
  else writeFolder(paths, spec, setting.sandbox);
  const made = await makeEnvironment(setting, spec, paths, abort, log);
  if ('failed' in made) return { status: 'failed', reason: made.failed, exitCode: null, log: log.tail() };
  try {
    return await runIn(made.environment, { setting, spec, abort, paths, log, began });
  } finally {
    made.environment.done?.();
  }
}

/** Fetches the inputs, runs the program and uploads its outputs. */
async function runIn(
  environment: JobEnvironment,
  running: { setting: JobSetting; spec: JobSpec; abort: AbortSignal; paths: JobPaths; log: ProgramLog; began: number },
): Promise<JobOutcome> {
  const { setting, spec, abort, paths, log, began } = running;
  const failed = (reason: Failed['reason'], exitCode: number | null): JobOutcome => {
    return { status: 'failed', reason, exitCode, log: log.tail() };
  };
  const patience = setting.patience ?? PATIENCE;
  const wrap = (step: 'fetch' | 'upload'): Promise<Ended> =>
    startProgram({
      program: environment.base,
      args: ['-S', '-s', '-m', 'ocdl.job', step, paths.root],
      env: {
        PATH: '/usr/bin:/bin',
        LANG: 'C.UTF-8',
        PYTHONPATH: setting.capsule,
        ...WRAPPER,
        OCDL_JOB_TOKEN: setting.token,
        OCDL_JOB_PATIENCE: String(step === 'fetch' ? patience.fetchSeconds : patience.uploadSeconds),
      },
      cwd: paths.root,
      sandboxed: false,
      ...{ log, signal: abort, onStart: setting.onStart },
    }).ended;

  if (!setting.finished) {
    const fetched = await wrap('fetch');
    abort.throwIfAborted();
    if (fetched.code !== 0) return failed(isFinalStatus(fetched) ? 'inputs' : 'fetch', fetched.code);
    const outcome = await runProgram({ setting, spec, abort, paths, log, environment });
    if (outcome) return outcome;
    await setting.onFinished();
  }
  const uploaded = await wrap('upload');
  abort.throwIfAborted();
  if (uploaded.code !== 0) return failed(isFinalStatus(uploaded) ? 'outputs' : 'upload', uploaded.code);
  return { status: 'succeeded', seconds: (Date.now() - began) / 1000, log: log.tail() };
}

/** Runs the job's own program; `undefined` if it succeeded and wrote its outputs. */
async function runProgram(running: {
  setting: JobSetting;
  spec: JobSpec;
  abort: AbortSignal;
  paths: JobPaths;
  log: ProgramLog;
  environment: JobEnvironment;
}): Promise<JobOutcome | undefined> {
  const { setting, spec, abort, paths, log, environment } = running;
  const failed = (reason: Failed['reason'], exitCode: number | null): JobOutcome => {
    return { status: 'failed', reason, exitCode, log: log.tail() };
  };
  if (setting.sandbox.kind === 'own-user')
    for (const path of [paths.in, paths.out, paths.scratch]) await giveTo(setting.uid, path);
  const prepared = prepareJob({ ...setting, spec, paths, environment });
  const { memoryBytes, diskBytes } = spec.resources;
  const deadline = AbortSignal.timeout(Math.min(spec.deadlineSeconds * 1000, LONGEST_TIMER_MS));
  const ran = await startProgram({
    ...prepared,
    ...{ log, signal: AbortSignal.any([abort, deadline]), onStart: setting.onStart },
    watch: { memoryBytes, diskBytes, setting: 'resources', folders: [paths.out, paths.scratch] },
  }).ended;
  abort.throwIfAborted();
  // A plain error is retried: the program is not to blame.
  if (ran.failedStart !== undefined) throw new Error(`job ${spec.name}: ${ran.failedStart}`);
  // A program that succeeded at the last moment counts as succeeded.
  if (deadline.aborted && ran.code !== 0) {
    log.note(`stopped: deadline of ${spec.deadlineSeconds} seconds exceeded (deadlineSeconds)`);
    return { status: 'timed-out', log: log.tail() };
  }
  if (ran.exceeded === 'memory' || (ran.code !== 0 && diedOfMemory(log.tail()))) return failed('memory', ran.code);
  if (wasKilled(ran)) {
    log.note(`stopped: killed from outside by signal ${(ran.code ?? 0) - 128}; it had reached none of its limits`);
    return failed('killed', ran.code);
  }
  if (ran.code !== 0) return failed('exit', ran.code);
  const problem = outputProblem(paths.out, spec);
  if (problem === undefined) return undefined;
  log.note(problem);
  return failed('outputs', ran.code);
}

type Failed = Extract<JobOutcome, { status: 'failed' }>;

/** Node's timers are limited to 31 bits of milliseconds. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** Deterministic, and writes nothing into the checkout. */
const WRAPPER = { PYTHONHASHSEED: '0', PYTHONDONTWRITEBYTECODE: '1', PYTHONUNBUFFERED: '1' } as const;

/** The wrapper's exit statuses for non-retryable failures (deploy/capsule/ocdl/failures.py); its own crash is retryable. */
const FINAL_STATUSES: ReadonlySet<number | null> = new Set([2, 3, 4, 6, 7]);
const isFinalStatus = ({ code }: Ended): boolean => FINAL_STATUSES.has(code);

/** Killed by a signal that programs do not send themselves. Kills by the platform have no status; out-of-memory kills are detected separately. */
const KILLED: ReadonlySet<number | null> = new Set([128 + signals.SIGKILL, 128 + signals.SIGTERM]);
/** Whether the program was killed from outside. */
export const wasKilled = ({ code }: Ended): boolean => KILLED.has(code);

/** Final messages of Python, C++ and the system when a memory limit stopped a program. */
const OUT_OF_MEMORY = /MemoryError|std::bad_alloc|Cannot allocate memory|out of memory/i;

function diedOfMemory(tail: string): boolean {
  // Only the last lines: the program may have printed such words earlier and failed for another reason.
  return OUT_OF_MEMORY.test(tail.slice(-2_000));
}

function writeFolder(paths: JobPaths, spec: JobSpec, sandbox: Sandbox): void {
  for (const folder of [paths.in, paths.out, paths.scratch]) mkdirSync(folder, { mode: 0o700 });
  writeManifest(paths, spec);
  writeFileSync(paths.parameters, JSON.stringify(spec.parameters), { mode: 0o644 });
  // Relative to the working folder, inputs and outputs are in `in` and `out`: mounts in the sandbox, links without one.
  if (sandbox.kind === 'none') {
    symlinkSync('../in', join(paths.scratch, 'in'));
    symlinkSync('../out', join(paths.scratch, 'out'));
    return;
  }
  for (const name of ['in', 'out']) mkdirSync(join(paths.scratch, name));
  writeFileSync(join(paths.scratch, 'parameters.json'), '');
}

function writeManifest(paths: JobPaths, spec: JobSpec): void {
  const manifest = {
    job: spec.data.job,
    api: spec.data.api,
    inputs: spec.inputs.map(({ name, sha256, bytes, unpack }) => ({ name, sha256, bytes, unpack: unpack ?? false })),
    outputs: spec.outputs,
  };
  writeFileSync(join(paths.root, 'job.json'), JSON.stringify(manifest));
}

/** The sandbox's passwd file: programs look up the name of their user. */
export async function writeAccounts(path: string, sandbox: Sandbox, uid: number): Promise<void> {
  const id = sandbox.kind === 'own-user' ? uid : NOBODY;
  await writeFile(path, `ocdl:x:${id}:${id}::/tmp:/bin/false\n`);
  // Independent of the worker's umask: the program reads it as another user.
  await chmod(path, 0o644);
}

async function makeEnvironment(
  setting: JobSetting,
  spec: JobSpec,
  paths: JobPaths,
  abort: AbortSignal,
  log: ProgramLog,
): Promise<{ environment: JobEnvironment } | { failed: 'lock' | 'environment' }> {
  abort.throwIfAborted();
  await writeAccounts(paths.passwd, setting.sandbox, setting.uid);
  if (!setting.finished) await chmod(paths.parameters, 0o644);
  const { sandbox } = setting;
  const owner = spec.lockOwner ?? 'project';
  const onProgress = (line: string): void => log.note(line);
  try {
    // After an abort, rejects once all its processes have ended.
    return { environment: await setting.environment({ lock: spec.lock, owner, sandbox, signal: abort, onProgress }) };
  } catch (error) {
    abort.throwIfAborted();
    log.note(error instanceof Error ? error.message : String(error));
    return { failed: isFinal(error) ? 'lock' : 'environment' };
  }
}

/** Only regular files are uploaded: a link could name a file outside, a device or pipe is endless. */
function outputProblem(out: string, spec: JobSpec): string | undefined {
  for (const { name } of spec.outputs) {
    const status = lstatSync(join(out, name), { throwIfNoEntry: false });
    if (status && !status.isFile()) return `output ${name} is not a regular file: write a regular file to OCDL_OUTPUTS`;
  }
  return undefined;
}
