// A workflow interceptor for fault tests: tasks of a killed worker time out after 6 s instead of 15.
import type { ActivityOptions, WorkflowInterceptors } from '@temporalio/workflow';

/** Of the limits, only the one that waits for a dead worker; above the 5 s between two heartbeats. */
const cut = <Limit>(limit: Limit): Limit | '6 seconds' => (limit === '15 seconds' ? '6 seconds' : limit);

/** The SDK calls it for each workflow of the bundle that this file is built into. */
export const interceptors = (): WorkflowInterceptors => ({
  outbound: [{ scheduleActivity: (input, next) => next({ ...input, options: hurried(input.options) }) }],
});

function hurried({ startToCloseTimeout, heartbeatTimeout, ...options }: ActivityOptions): ActivityOptions {
  return {
    ...options,
    ...(startToCloseTimeout !== undefined && { startToCloseTimeout: cut(startToCloseTimeout) }),
    ...(heartbeatTimeout !== undefined && { heartbeatTimeout: cut(heartbeatTimeout) }),
  };
}
