// Keeps Temporal informed while an activity works, and lets its cancellation reach the work.
import { Context } from '@temporalio/activity';
import type { WorkflowName } from '../workflows/domain/ids.ts';
import { parseWorkflowId, partsOf } from '../workflows/domain/ids.ts';
import { failure } from './failures.ts';

/** A third of the heartbeat timeout in workflows/activities.ts: two beats may be late before a worker counts as dead. */
const EVERY_MS = 5_000;

/**
 * Runs `work` with the activity's cancellation signal, beating on a timer with what it last reported.
 * The progress shows in the Temporal Web UI.
 */
export async function beating<R>(
  work: (signal: AbortSignal, report: (progress: unknown) => void) => Promise<R>,
): Promise<R> {
  const context = Context.current();
  let latest: unknown;
  const beat = setInterval(() => context.heartbeat(latest), EVERY_MS);
  try {
    return await work(context.cancellationSignal, (progress) => {
      latest = progress;
      context.heartbeat(progress);
    });
  } finally {
    clearInterval(beat);
  }
}

/** Id of the workflow that this activity works for: what it writes is keyed by it. */
export const currentWorkflow = (): string => Context.current().info.workflowExecution?.workflowId ?? '';

/** The run of that workflow: what is written once a run is keyed by it. */
export const currentRun = (): string => Context.current().info.workflowExecution?.runId ?? '';

/**
 * What of `names` the id of the workflow holds that this activity works for. What an activity acts on comes from here, or from
 * Records, never from an argument.
 */
export function ofWorkflow<const Name extends string>(
  workflow: WorkflowName,
  ...names: readonly Name[]
): { readonly [K in Name]: string } {
  const id = currentWorkflow();
  if (parseWorkflowId(id)?.workflow !== workflow)
    throw failure('NotAuthorized', `workflow "${id}" may not do what a workflow of type ${workflow} does`);
  return partsOf(id, workflow, ...names);
}
