// Messages between workflows are only wake-ups: the receiver reads the records.
import { getExternalWorkflowHandle } from '@temporalio/workflow';
import { wake } from './messages.ts';

/** Wakes workflows. Closed workflows are ignored: when one is started again, it reads the records anyway. */
export async function wakeUp(ids: readonly string[]): Promise<void> {
  for (const id of ids)
    await getExternalWorkflowHandle(id)
      .signal(wake)
      .catch(() => undefined);
}
