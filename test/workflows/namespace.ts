// A separate Temporal namespace for each world, so that tests never see each other's workflows.
import type { Connection } from '@temporalio/client';
import { ensureSearchAttributes } from '../../workers/search-attributes.ts';
import { until } from './until.ts';

/** Registers a namespace with the workflows' search attributes and waits until it can be used. */
export async function openNamespace(connection: Connection, namespace: string): Promise<void> {
  await connection.workflowService.registerNamespace({
    namespace,
    workflowExecutionRetentionPeriod: { seconds: 86_400 as never },
  });
  await until(`namespace ${namespace}`, async () => {
    await connection.workflowService.describeNamespace({ namespace });
    await ensureSearchAttributes(connection, namespace);
    return true;
  });
}
