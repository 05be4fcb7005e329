// Lets activities run only for workflows with a recorded start: access to Temporal's port suffices to start workflows, but not to act through them.
import type { Context } from '@temporalio/activity';
import { defaultPayloadConverter } from '@temporalio/common';
import { failure } from './failures.ts';
import type { AdmissionAnswer, Records } from './records.ts';

/** Header in which a workflow sends the digest of its input (workflows/start-digest.ts). */
const START_DIGEST = 'ocdl-start-digest';
/** Maximum number of refused attempts that the audit stores per day; further ones reuse the same keys. */
const KEPT_PER_DAY = 100;

const why: Record<Exclude<AdmissionAnswer, 'admitted'>, string> = {
  unknown: 'its start is not recorded: workflows are started through the API',
  'other-input': 'its input is not the recorded one',
  closed: 'it has ended before, and its record is closed',
};

/** The interceptor for a worker's activities. */
export const admitActivities = (records: Records) => (context: Context) => ({
  inbound: {
    async execute<I extends { readonly headers: Record<string, unknown> }, R>(
      input: I,
      next: (input: I) => Promise<R>,
    ): Promise<R> {
      const { workflowExecution, workflowType } = context.info;
      const workflowId = workflowExecution?.workflowId ?? '';
      const header = input.headers[START_DIGEST] as
        Parameters<typeof defaultPayloadConverter.fromPayload>[0] | undefined;
      const digest = header ? defaultPayloadConverter.fromPayload<string>(header) : null;
      const run = { workflowId, type: workflowType ?? '', digest, runId: workflowExecution?.runId ?? '' };
      const answer = await records.admit(run);
      if (answer === 'admitted') return next(input);
      await noteRefused(records, run, why[answer]);
      throw failure('NotAuthorized', `workflow ${workflowId} (${run.type}) does nothing: ${why[answer]}`);
    },
  },
});

/** Writes one audit entry; at most {@link KEPT_PER_DAY} exist per day. */
async function noteRefused(
  records: Records,
  { workflowId, type, runId }: { workflowId: string; type: string; runId: string },
  reason: string,
): Promise<void> {
  const at = new Date().toISOString();
  const slot = [...runId].reduce((sum, character) => (sum * 31 + character.charCodeAt(0)) % KEPT_PER_DAY, 0);
  const entry = {
    ...{ key: `workflow.refused/${at.slice(0, 10)}/${slot}`, project: null, kind: 'workflow.refused' },
    ...{ actor: 'unproven', subject: 'platform', digest: null, report: null, reason, at },
    detail: { workflowId: workflowId.slice(0, 200), type: type.slice(0, 200), runId },
  };
  await records.record([entry], []);
}
