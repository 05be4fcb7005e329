// Lets an activity run only for a workflow whose start is recorded: whoever reaches Temporal's port can start workflows, but not act by them.
import type { Context } from '@temporalio/activity';
import { defaultPayloadConverter } from '@temporalio/common';
import { failure } from './failures.ts';
import type { AdmissionAnswer, Records } from './records.ts';

/** Header that a workflow sends the digest of its input in (workflows/start-digest.ts). */
const START_DIGEST = 'ocdl-start-digest';
/** Attempts that the audit keeps one by one each day; the others are the same row. */
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

/** One row of the audit, of which there are at most so many a day. */
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
