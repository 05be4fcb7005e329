// Messages between workflows are only wake-ups: the receiver reads the records.
import { getExternalWorkflowHandle } from '@temporalio/workflow';
import { wake } from './messages.ts';

/** Wakes workflows; one that is gone does not mind: who starts it again reads the records anyway. */
export async function wakeUp(ids: readonly string[]): Promise<void> {
  for (const id of ids)
    await getExternalWorkflowHandle(id)
      .signal(wake)
      .catch(() => undefined);
}
