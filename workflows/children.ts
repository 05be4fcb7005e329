// Runs a child workflow with its search attributes. If an earlier run of the parent left the child running, it is waited for.
import { WorkflowExecutionAlreadyStartedError } from '@temporalio/common';
import type { Workflow, WorkflowResultType } from '@temporalio/workflow';
import { executeChild, sleep } from '@temporalio/workflow';
import type { FoundBy } from './found-by.ts';
import { attributePairs } from './found-by.ts';

/** When a parent is terminated, the server also ends its children, which takes a moment. */
const AGAIN_AFTER = '5 seconds';

/** Runs a child to its end. A child that runs again reuses the recorded results. */
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
