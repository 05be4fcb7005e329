// Starts a child workflow with what people find it by; one that an earlier run of the parent left behind is waited for.
import { WorkflowExecutionAlreadyStartedError } from '@temporalio/common';
import type { Workflow, WorkflowResultType } from '@temporalio/workflow';
import { executeChild, sleep } from '@temporalio/workflow';
import type { FoundBy } from './found-by.ts';
import { attributePairs } from './found-by.ts';

/** A parent that was terminated takes its children along: it takes the server a moment. */
const AGAIN_AFTER = '5 seconds';

/** Runs a child to its end. The child reads what is recorded: run again, it takes the results that are there. */
export async function runChild<W extends Workflow>(
  workflow: W,
  options: {
    readonly workflowId: string;
    readonly args: Parameters<W>;
    readonly staticSummary: string;
    readonly attributes: FoundBy;
  },
): Promise<WorkflowResultType<W>> {
  const { workflowId, args, staticSummary, attributes } = options;
  const typedSearchAttributes = attributePairs(attributes);
  for (;;)
    try {
      return (await executeChild<Workflow>(workflow, {
        ...{ workflowId, args: args as unknown[], staticSummary, typedSearchAttributes },
      })) as WorkflowResultType<W>;
    } catch (error) {
      if (!(error instanceof WorkflowExecutionAlreadyStartedError)) throw error;
      await sleep(AGAIN_AFTER);
    }
}
