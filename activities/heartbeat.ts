// Keeps Temporal informed while an activity works, and lets its cancellation reach the work.
import { Context } from '@temporalio/activity';

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
