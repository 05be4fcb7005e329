// A job of a workflow: its token, its limits, and its end, classified once as final or passing.
import type { ComputeProfile, Placement } from '../workflows/domain/compute.ts';
import { profileBefore } from '../workflows/domain/compute.ts';
import type { NamedArtifact } from '../workflows/domain/model.ts';
import { systemName } from '../workflows/domain/names.ts';
import { failure } from './failures.ts';
import { storePath } from './place.ts';
import type { FinalJobReason, JobOutcome, JobSpec, PassingJobReason, ServiceSpec } from './ports.ts';
import type { AuditEntry, JobRow, Records } from './records.ts';
import { newToken } from './tokens.ts';

/** Maximum size of a job's output file: the limit of a model (model-format.ts). */
const OUTPUT_LIMIT = 512 * 2 ** 20;
/**
 * Tokens expire this long after the job's deadline, for fetching and uploading: longer than the wrapper retries an
 * unavailable API.
 */
const TOKEN_GRACE_SECONDS = 86_400;
/** A job that was killed this often was not killed by chance, and each kill may cost a whole training. */
const MOST_KILLS = 3;

/** A job's final result. */
export type JobEnd = (
  | { readonly status: 'succeeded'; readonly log: string }
  | {
      readonly status: 'failed';
      readonly type: 'JobFailed' | 'JobTimedOut';
      /** The reason, for people, with the last lines of the log. */
      readonly message: string;
      readonly log: string;
    }
) & {
  /** The pool that it ran in last, and why there. Missing if it did not run, or ended before this field. */
  readonly ran?: Pick<Placement, 'pool' | 'reason'>;
};

/** How often a job is started, for whatever reason: one that takes its machine down each time must not do so for ever. */
export const MOST_STARTS = 20;

/** What the cluster is given of a job; `packages` is the archive of its lock, if the cluster needs one. */
export function specOf({ name, project, job }: JobRow, apiUrl: string, packages: NamedArtifact | null): JobSpec {
  const { cpus, memoryBytes, diskBytes, gpus, image, nodeSelector, tolerations } = profileOf(job);
  return {
    ...{
      name,
      project,
      argv: job.argv,
      inputs: job.inputs,
      lock: job.lock,
      parameters: job.parameters,
      compute: job.compute,
    },
    ...(job.lockOwner && { lockOwner: job.lockOwner }),
    ...(packages && { packages }),
    outputs: job.outputs.map(({ name, required }) => ({ name, required })),
    resources: { cpus, memoryBytes, diskBytes, gpus },
    ...(image !== undefined && { image }),
    ...(nodeSelector && { nodeSelector }),
    ...(tolerations && { tolerations }),
    deadlineSeconds: job.deadlineSeconds,
    data: { api: apiUrl, job: name },
  };
}

const profileOf = (job: Pick<JobRow['job'], 'profile' | 'compute'>): ComputeProfile =>
  job.profile ?? profileBefore(job.compute);

/** The part of a job that follows from its profile. */
export const limitsOf = (profile: ComputeProfile | undefined, deadlineSeconds: number) => ({
  ...(profile && { profile }),
  deadlineSeconds: Math.min(deadlineSeconds, profile?.deadlineSeconds ?? deadlineSeconds),
});

/** Where a job ran, for the record of its work; `undefined` if that is not known. */
export const placementOf = (profile: ComputeProfile | undefined, { ran }: JobEnd): Placement | undefined =>
  profile && ran && { profile, ...ran };

type TokenOwner = Pick<JobRow, 'name' | 'workflowId' | 'job'>;

/** Issues a token valid only for the job's own inputs and outputs. The tokens of its earlier starts are revoked. */
export async function issueJobToken(
  records: Records,
  row: TokenOwner,
  packages: NamedArtifact | null = null,
): Promise<string> {
  const { name, workflowId, job } = row;
  await revokeJobTokens(records, row);
  const { token, tokenId, sha256 } = newToken();
  const expiresAt = new Date(Date.now() + (job.deadlineSeconds + TOKEN_GRACE_SECONDS) * 1000).toISOString();
  const grant = {
    job: name,
    workflow: workflowId,
    inputs: [...job.inputs, ...(packages ? [packages] : [])],
    outputs: job.outputs.map((output) => ({
      name: output.name,
      path: storePath(output.location),
      limit: OUTPUT_LIMIT,
    })),
  };
  await records.issueToken(
    { tokenId, sha256, kind: 'job', name, expiresAt, job: grant },
    entryOf(row, tokenId, 'token.issued'),
  );
  return token;
}

/** Maximum time from the start of a model service to the fetching of its files, with a busy cluster. */
const SERVICE_TOKEN_SECONDS = 3_600;

/** Issues a token valid only for the files of a model service. The tokens of its earlier starts are revoked. */
export async function issueServiceToken(records: Records, { name, files }: Pick<ServiceSpec, 'name' | 'files'>) {
  await revokeServiceTokens(records, name);
  const { token, tokenId, sha256 } = newToken();
  const expiresAt = new Date(Date.now() + SERVICE_TOKEN_SECONDS * 1000).toISOString();
  await records.issueToken(
    { tokenId, sha256, kind: 'job', name, expiresAt, job: { job: name, inputs: files, outputs: [] } },
    entryOf({ name, workflowId: name }, tokenId, 'token.issued'),
  );
  return token;
}

export const revokeServiceTokens = (records: Records, name: string): Promise<void> =>
  revokeJobTokens(records, { name, workflowId: name });

export async function revokeJobTokens(records: Records, row: Omit<TokenOwner, 'job'>): Promise<void> {
  for (const { tokenId, revokedAt } of await records.tokens(row.name))
    if (revokedAt === null) await records.revokeToken(tokenId, entryOf(row, tokenId, 'token.revoked'));
}

function entryOf(
  { name, workflowId }: Omit<TokenOwner, 'job'>,
  tokenId: string,
  kind: 'token.issued' | 'token.revoked',
): AuditEntry {
  return {
    ...{ project: null, actor: 'platform', digest: null, report: null, reason: '', at: new Date().toISOString() },
    subject: workflowId,
    key: kind === 'token.issued' ? `token/${tokenId}` : `token/${tokenId}/revoked`,
    kind,
    detail: { job: name },
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

/** Why a job is started again, and how often in a row it was killed. */
export interface Again {
  readonly again: string;
  readonly kills: number;
}

/** Classifies an outcome as the end of a job or as a reason to start it again. */
export function sorted({ job, kills }: Pick<JobRow, 'job' | 'kills'>, outcome: JobOutcome): JobEnd | Again {
  if (outcome.status === 'succeeded') return { status: 'succeeded', log: outcome.log };
  if (outcome.status === 'timed-out')
    return failedEnd('JobTimedOut', `the job ran longer than its ${job.deadlineSeconds} s`, outcome.log);
  const { reason, log } = outcome;
  const code = `(exit code ${outcome.exitCode ?? 'none'})`;
  if (isFinalReason(reason)) return failedEnd('JobFailed', `${final[reason]} ${code}`, log);
  const times = reason === 'killed' ? kills + 1 : 0;
  if (times >= MOST_KILLS) {
    const why = `${passing.killed} ${times} times ${code}: find out by whom, then start it again`;
    return failedEnd('JobFailed', why, log);
  }
  return { again: `${passing[reason]} ${code}: it will be retried\n${tailOf(log)}`, kills: times };
}

/** The end of a job that failed: `why` and the last lines of its log. */
export const failedEnd = (type: 'JobFailed' | 'JobTimedOut', why: string, log: string): JobEnd => ({
  ...{ status: 'failed', type, log },
  message: log.trim() === '' ? why : `${why}\n${tailOf(log)}`,
});

const tailOf = (log: string): string => log.trim().split('\n').slice(-15).join('\n');

const isFinalReason = (reason: FinalJobReason | PassingJobReason): reason is FinalJobReason => reason in final;

/** The failure for a job's end; `kept` says where its log is. */
export function failureOf(end: Extract<JobEnd, { status: 'failed' }>, kept: string) {
  const where = end.ran && `it ran in ${end.ran.pool} (${end.ran.reason})`;
  return failure(end.type, [end.message, where, kept].filter(Boolean).join('\n'));
}

export const jobName = (workflow: string): string => systemName(workflow);
