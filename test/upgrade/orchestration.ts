// The state of the workflows in Temporal: which run, by which code, and whether any is stuck.
import { Client, Connection } from '@temporalio/client';
import type { Scene } from './scene.ts';
import { PATIENCE_MS } from './scene.ts';

export type Orchestration = Awaited<ReturnType<typeof openOrchestration>>;

/** PENDING_ACTIVITY_STATE_STARTED of Temporal's API. */
const STARTED = 2;
/** WORKFLOW_TASK_FAILED_CAUSE_UNHANDLED_COMMAND: a signal came while a task was being answered; the server gives the task again. */
const SIGNAL_CAME = 1;
/** What a workflow's history holds once Records decide for it. */
const PATCH = 'the-record-decides';
/** A training whose version was withdrawn before it could begin: it is refused, and has done nothing. */
const TOO_LATE = 'it has ended before, and its record is closed';
/** What may run on when all is done: it waits for people, or for the next release. */
const MAY_RUN = ['modelLifecycle', 'application', 'feedback'];

/** A client of the embedded Temporal. */
export async function openOrchestration(address: string) {
  const connection = await Connection.connect({ address });
  const client = new Client({ connection });

  /** Waits until a worker runs an activity of the workflow. */
  async function whenRuns(workflowId: string, scene: Scene): Promise<void> {
    const ask = async (): Promise<boolean> => {
      const described = await client.workflow
        .getHandle(workflowId)
        .describe()
        .catch(() => undefined);
      return described?.raw.pendingActivities?.some(({ state }) => Number(state) === STARTED) ?? false;
    };
    await scene.as('mia').until(`${workflowId} to run`, ask, (runs) => runs, PATIENCE_MS);
  }

  /** Everything that is wrong with a workflow since `since`, each in one line; empty where nothing is. */
  async function problems(since: Date): Promise<{ readonly problems: readonly string[]; readonly runs: number }> {
    const found: string[] = [];
    let runs = 0;
    for await (const { workflowId, runId, type, status } of client.workflow.list()) {
      runs += 1;
      const handle = client.workflow.getHandle(workflowId, runId);
      const { events = [] } = await handle.fetchHistory();
      const name = `${type} ${workflowId}`;
      for (const { eventTime, workflowTaskFailedEventAttributes: failed } of events ?? []) {
        if (!failed || Number(eventTime?.seconds ?? 0) * 1_000 < since.getTime()) continue;
        if (Number(failed.cause) !== SIGNAL_CAME)
          found.push(`${name}: a workflow task failed (cause ${failed.cause}): ${failed.failure?.message ?? ''}`);
      }
      const why = JSON.stringify(events?.at(-1)?.workflowExecutionFailedEventAttributes?.failure ?? '');
      if (['FAILED', 'TIMED_OUT', 'TERMINATED'].includes(status.name) && !why.includes(TOO_LATE))
        found.push(`${name}: ${status.name} ${why}`);
      if (status.name !== 'RUNNING') continue;
      const { raw } = await handle.describe();
      if ((raw.pendingWorkflowTask?.attempt ?? 0) > 1)
        found.push(`${name}: its workflow task is tried again (attempt ${raw.pendingWorkflowTask?.attempt})`);
      for (const { activityType, lastFailure } of raw.pendingActivities ?? [])
        found.push(`${name}: waits for ${activityType?.name}: ${lastFailure?.message ?? 'it has not failed yet'}`);
      if (!MAY_RUN.includes(type)) found.push(`${name}: still runs`);
      const decides = (events ?? []).some(({ markerRecordedEventAttributes: marker }) =>
        Object.values(marker?.details ?? {}).some(({ payloads }) =>
          payloads?.some(({ data }) => Buffer.from(data ?? []).includes(PATCH)),
        ),
      );
      if (!decides) found.push(`${name}: has not gone over, it still runs by its own account`);
    }
    return { problems: found, runs };
  }

  return { whenRuns, problems, close: () => connection.close() };
}
