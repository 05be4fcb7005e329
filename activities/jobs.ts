// One job of a workflow on the cluster: its token, its limits, its progress, and its end in words.
import { createHash } from 'node:crypto';
import type { Location } from '../workflows/domain/names.ts';
import { storePath } from '../workflows/domain/names.ts';
import { failure } from './failures.ts';
import { currentWorkflow } from './heartbeat.ts';
import type { Cluster, JobSpec } from './ports.ts';
import type { Records } from './records.ts';
import { newToken } from './tokens.ts';

/** What a job may use at most, until projects can say so themselves: fits a small machine. */
const RESOURCES = { cpus: 2, memoryBytes: 4 * 2 ** 30, diskBytes: 2 * 2 ** 30 } as const;
/** Largest file a job may leave: the limit of a model (model-format.ts). */
const OUTPUT_LIMIT = 512 * 2 ** 20;
/** Tokens outlive the job's deadline by this, for fetching and uploading. */
const TOKEN_GRACE_SECONDS = 3600;

export function createJobRunner(deps: { records: Records; cluster: Cluster; apiUrl: string }) {
  const { records, cluster } = deps;
  return runJob;

  /** Runs a job with a token that is good for its own inputs and outputs alone; returns the tail of its log. */
  async function runJob(
    job: Omit<JobSpec, 'name' | 'outputs' | 'resources' | 'data'> & {
      outputs: readonly { name: string; required: boolean; location: Location }[];
    },
    watch: Parameters<Cluster['runJob']>[1],
  ): Promise<string> {
    const { token, tokenId, sha256 } = newToken();
    const name = jobName(currentWorkflow());
    const expiresAt = new Date(Date.now() + (job.deadlineSeconds + TOKEN_GRACE_SECONDS) * 1000).toISOString();
    const entry = {
      project: null,
      actor: 'platform',
      subject: currentWorkflow(),
      digest: null,
      report: null,
      reason: '',
      at: new Date().toISOString(),
    };
    const grant = {
      job: name,
      inputs: job.inputs,
      outputs: job.outputs.map((output) => ({
        name: output.name,
        path: storePath(output.location),
        limit: OUTPUT_LIMIT,
      })),
    };
    await records.issueToken(
      { tokenId, sha256, kind: 'job', name, expiresAt, job: grant },
      { ...entry, key: `token/${tokenId}`, kind: 'token.issued', detail: { job: name } },
    );
    try {
      const outcome = await cluster.runJob(
        {
          ...job,
          name,
          outputs: job.outputs.map((output) => ({ name: output.name, required: output.required })),
          resources: RESOURCES,
          data: { api: deps.apiUrl, job: name, token },
        },
        watch,
      );
      if (outcome.status === 'succeeded') return outcome.log;
      const tail = outcome.log.trim().split('\n').slice(-15).join('\n');
      if (outcome.status === 'timed-out')
        throw failure('JobTimedOut', `the job ran longer than its ${job.deadlineSeconds} s\n${tail}`);
      throw failure('JobFailed', `${reasons[outcome.reason]} (exit code ${outcome.exitCode ?? 'none'})\n${tail}`, [
        { reason: outcome.reason },
      ]);
    } finally {
      await records.revokeToken(tokenId, {
        ...entry,
        key: `token/${tokenId}/revoked`,
        kind: 'token.revoked',
        detail: { job: name },
      });
    }
  }
}

const reasons = {
  exit: 'the job ended with an error',
  fetch: 'the inputs could not be fetched',
  upload: 'the outputs could not be taken: something is missing or is no plain file',
  environment: 'the environment could not be made from the lock',
  memory: 'the job needed more memory than it may use',
} as const;

/** A cluster name for a workflow's job: readable, within 63 characters, and distinct for distinct workflows. */
export function jobName(workflow: string): string {
  const slug = workflow.replace(/[^a-z0-9]+/g, '-').slice(0, 46);
  return `${slug}-${createHash('sha256').update(workflow).digest('hex').slice(0, 16)}`;
}
