// Runs one job of a workflow on the cluster: its token, limits and progress, and its end, classified once as final or passing.
import { setTimeout as sleep } from 'node:timers/promises';
import type { Location } from '../workflows/domain/names.ts';
import { systemName } from '../workflows/domain/names.ts';
import { failure, messageOf } from './failures.ts';
import { currentWorkflow } from './heartbeat.ts';
import { storePath } from './place.ts';
import type { Cluster, FinalJobReason, JobOutcome, JobSpec, PassingJobReason } from './ports.ts';
import type { AuditEntry, Records } from './records.ts';
import { newToken } from './tokens.ts';

/** Maximum resources of a job, until projects can set them. Fits a small machine. */
const RESOURCES = { cpus: 2, memoryBytes: 4 * 2 ** 30, diskBytes: 2 * 2 ** 30 } as const;
/** Maximum size of a job's output file: the limit of a model (model-format.ts). */
const OUTPUT_LIMIT = 512 * 2 ** 20;
/**
 * Tokens expire this long after the job's deadline, for fetching and uploading: longer than the wrapper retries an
 * unavailable API.
 */
const TOKEN_GRACE_SECONDS = 86_400;
/** A job that was killed this often was not killed by chance, and each kill may cost a whole training. */
const MOST_KILLS = 3;
/** Pauses between attempts to revoke a token: short for a database restart, long for an outage. */
const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 10 * 60_000;

/** A job's final result. */
export type JobEnd =
  | { readonly status: 'succeeded'; readonly log: string }
  | {
      readonly status: 'failed';
      readonly type: 'JobFailed' | 'JobTimedOut';
      /** The reason, for people, with the last lines of the log. */
      readonly message: string;
      readonly log: string;
    };

/** The job without the fields that the runner adds: name, limits and data access. */
export type Job = Omit<JobSpec, 'name' | 'outputs' | 'resources' | 'data'> & {
  readonly outputs: readonly { readonly name: string; readonly required: boolean; readonly location: Location }[];
};

export interface JobDeps {
  readonly records: Records;
  readonly cluster: Cluster;
  /** Address of the API for the jobs' wrappers. */
  readonly apiUrl: string;
  /** Receives warnings about problems that do not affect the job. */
  readonly onWarn?: (message: string) => void;
}

/**
 * Makes the function that runs a job to completion, with a token valid only for the job's own inputs and outputs. Final
 * failures are returned as an end; passing ones (an API or store that does not answer, a killed process) are thrown, so
 * that they are retried.
 */
export function createJobRunner({ records, cluster, apiUrl, onWarn = () => undefined }: JobDeps) {
  /**
   * How often this worker saw each job killed. A new worker starts at zero; Temporal limits the attempts across all
   * workers.
   */
  const kills = new Map<string, number>();
  return runJob;

  async function runJob(job: Job, watch: Parameters<Cluster['runJob']>[1]): Promise<JobEnd> {
    const name = jobName(currentWorkflow());
    await revokeFormer(name);
    const { tokenId, token } = await issueToken(name, job);
    try {
      const outcome = await cluster.runJob(
        {
          ...job,
          name,
          outputs: job.outputs.map((output) => ({ name: output.name, required: output.required })),
          resources: RESOURCES,
          data: { api: apiUrl, job: name, token },
        },
        watch,
      );
      return settle(name, job, outcome);
    } finally {
      await revoke(name, tokenId);
    }
  }

  function settle(name: string, job: Job, outcome: JobOutcome): JobEnd {
    const killed = outcome.status === 'failed' && outcome.reason === 'killed';
    const times = killed ? (kills.get(name) ?? 0) + 1 : 0;
    const end = sorted(job, outcome, times);
    if ('again' in end && killed) kills.set(name, times);
    else kills.delete(name);
    // A plain error: Temporal retries it and shows the reason meanwhile.
    if ('again' in end) throw new Error(end.again);
    return end;
  }

  async function issueToken(name: string, job: Job): Promise<{ tokenId: string; token: string }> {
    const { token, tokenId, sha256 } = newToken();
    const expiresAt = new Date(Date.now() + (job.deadlineSeconds + TOKEN_GRACE_SECONDS) * 1000).toISOString();
    const grant = {
      job: name,
      workflow: currentWorkflow(),
      inputs: job.inputs,
      outputs: job.outputs.map((output) => ({
        name: output.name,
        path: storePath(output.location),
        limit: OUTPUT_LIMIT,
      })),
    };
    await records.issueToken(
      { tokenId, sha256, kind: 'job', name, expiresAt, job: grant },
      entryOf(name, tokenId, 'token.issued'),
    );
    return { tokenId, token };
  }

  /** Revokes tokens left by earlier attempts of this job, because their worker died or the database was unavailable. */
  async function revokeFormer(name: string): Promise<void> {
    try {
      for (const { tokenId, revokedAt } of await records.tokens(name))
        if (revokedAt === null) await records.revokeToken(tokenId, entryOf(name, tokenId, 'token.revoked'));
    } catch (error) {
      onWarn(`the tokens of earlier tries of job ${name} were not revoked, they expire: ${messageOf(error)}`);
    }
  }

  /**
   * Revokes a token. A failure does not fail the job: revoking is retried in the background until the process ends. After
   * that, the job's next attempt revokes the token, or it expires.
   */
  async function revoke(name: string, tokenId: string): Promise<void> {
    const entry = entryOf(name, tokenId, 'token.revoked');
    const attempt = async (): Promise<boolean> => {
      try {
        await records.revokeToken(tokenId, entry);
        return true;
      } catch (error) {
        onWarn(`the token of job ${name} was not revoked, which will be retried: ${messageOf(error)}`);
        return false;
      }
    };
    if (await attempt()) return;
    void (async () => {
      for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(pause * 2, LONGEST_PAUSE_MS)) {
        await sleep(pause, undefined, { ref: false });
        if (await attempt()) return;
      }
    })();
  }
}

function entryOf(job: string, tokenId: string, kind: 'token.issued' | 'token.revoked'): AuditEntry {
  return {
    ...{ project: null, actor: 'platform', digest: null, report: null, reason: '', at: new Date().toISOString() },
    subject: currentWorkflow(),
    key: kind === 'token.issued' ? `token/${tokenId}` : `token/${tokenId}/revoked`,
    kind,
    detail: { job },
  };
}

const final: Readonly<Record<FinalJobReason, string>> = {
  exit: 'the job ended with an error',
  inputs: 'the inputs are not what was recorded, or the API does not have them',
  outputs: 'the outputs could not be taken: something is missing, is no plain file, or the API refused it',
  lock: 'no environment can be made from the lock',
  memory: 'the job needed more memory than it may use',
};
const passing: Readonly<Record<PassingJobReason, string>> = {
  fetch: 'the inputs could not be fetched',
  upload: 'the job is done, but its outputs could not be uploaded yet',
  environment: 'the environment could not be made',
  killed: 'the job was killed from outside',
};

/** Classifies the outcome as an end or as a reason to retry. `kills`: how often the job was killed, including this time. */
function sorted(job: Job, outcome: JobOutcome, kills: number): JobEnd | { readonly again: string } {
  if (outcome.status === 'succeeded') return { status: 'succeeded', log: outcome.log };
  const { log } = outcome;
  const tail = log.trim().split('\n').slice(-15).join('\n');
  const failed = (type: 'JobFailed' | 'JobTimedOut', why: string): JobEnd => ({
    ...{ status: 'failed', type, log },
    message: `${why}\n${tail}`,
  });
  if (outcome.status === 'timed-out')
    return failed('JobTimedOut', `the job ran longer than its ${job.deadlineSeconds} s`);
  const { reason } = outcome;
  const code = `(exit code ${outcome.exitCode ?? 'none'})`;
  if (isFinalReason(reason)) return failed('JobFailed', `${final[reason]} ${code}`);
  if (reason === 'killed' && kills >= MOST_KILLS)
    return failed('JobFailed', `${passing.killed} ${kills} times ${code}: find out by whom, then start it again`);
  return { again: `${passing[reason]} ${code}: it will be retried\n${tail}` };
}

const isFinalReason = (reason: FinalJobReason | PassingJobReason): reason is FinalJobReason => reason in final;

/** The failure for a job's end; `kept` says where its log is. */
export function failureOf(end: Extract<JobEnd, { status: 'failed' }>, kept: string) {
  return failure(end.type, kept ? `${end.message}\n${kept}` : end.message);
}

export const jobName = (workflow: string): string => systemName(workflow);
