// What every workflow does when it ends: it gets a last state, and a cancellation is recorded even if it came too late.
import type { WorkflowInterceptors } from '@temporalio/workflow';
import {
  CancellationScope,
  isCancellation,
  patched,
  TemporalFailure,
  upsertSearchAttributes,
} from '@temporalio/workflow';
import { center } from './activities.ts';
import { explain } from './explain.ts';
import { attributePairs } from './found-by.ts';

export const interceptors = (): WorkflowInterceptors => ({
  inbound: [
    {
      async execute(input, next) {
        const root = CancellationScope.current();
        try {
          const result = await next(input);
          await recordCancellation(root);
          return result;
        } catch (error) {
          // Anything else fails the workflow task, which is tried again, or continues as new.
          if (!(error instanceof TemporalFailure)) throw error;
          if (patched('found-by-last-state')) upsertSearchAttributes(attributePairs({ State: lastState(error) }));
          await recordCancellation(root);
          throw error;
        }
      },
    },
  ],
});

/** `refused`: it may not run. */
function lastState(error: TemporalFailure): 'cancelled' | 'refused' | 'failed' {
  if (isCancellation(error)) return 'cancelled';
  return explain(error).type === 'NotAuthorized' ? 'refused' : 'failed';
}

/** A step that ends by itself after the cancellation lets the workflow go on, so its end does not show the cancellation. */
async function recordCancellation(root: CancellationScope): Promise<void> {
  if (!root.consideredCancelled || !patched('records-its-cancellation')) return;
  try {
    await CancellationScope.nonCancellable(() => center.recordInterruption());
  } catch (error) {
    // A workflow that may not run has its refusal in the audit.
    if (explain(error).type !== 'NotAuthorized') throw error;
  }
}
