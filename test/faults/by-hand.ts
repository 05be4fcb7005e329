// What an operator does to a workflow in Temporal by hand: terminate, cancel, reset.
import { randomUUID } from 'node:crypto';
import type { Client } from '@temporalio/client';

/** `reset-first`: to the first workflow task; `reset-last`: to the last one that was completed. */
export const operations = ['terminate', 'cancel', 'reset-first', 'reset-last'] as const;
export type Operation = (typeof operations)[number];

/** Applies it to the current run. */
export async function byHand(client: Client, namespace: string, operation: Operation, id: string): Promise<void> {
  const { runId } = await client.workflow.getHandle(id).describe();
  const handle = client.workflow.getHandle(id, runId);
  if (operation === 'terminate') return void (await handle.terminate('by hand'));
  if (operation === 'cancel') return void (await handle.cancel());
  const { events } = await handle.fetchHistory();
  const tasks = (events ?? []).flatMap(({ eventId, workflowTaskCompletedEventAttributes: completed }) =>
    completed ? [eventId] : [],
  );
  const task = operation === 'reset-first' ? tasks[0] : tasks.at(-1);
  if (!task) throw new Error(`${id} has completed no workflow task to reset to`);
  await client.workflowService.resetWorkflowExecution({
    ...{ namespace, workflowExecution: { workflowId: id, runId }, reason: 'by hand' },
    ...{ workflowTaskFinishEventId: task, requestId: randomUUID() },
  });
}
