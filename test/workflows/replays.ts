// Every workflow of a world, replayed from its history when the world closes; none may be missing.
import type { Client, WorkflowClientInterceptor } from '@temporalio/client';
import { Worker } from '@temporalio/worker';
import { dataConverter, workflowTime } from '../../workers/bundle.ts';
import { until } from './until.ts';

/** Records which workflows a client starts. */
export function noteStarted(started: Set<string>): WorkflowClientInterceptor {
  return {
    async startWithDetails(input, next) {
      const output = await next(input);
      started.add(input.options.workflowId);
      return output;
    },
  };
}

/** Replays every history completely; reports non-deterministic ones and started workflows without a history. */
export async function strayedReplays(
  client: Client,
  codePath: string,
  started: ReadonlySet<string>,
): Promise<readonly string[]> {
  // A list may be slightly out of date.
  await until('every started workflow to be listed', async () => {
    const listed = new Set<string>();
    for await (const { workflowId } of client.workflow.list()) listed.add(workflowId);
    return [...started].every((id) => listed.has(id));
  });
  const replays = Worker.runReplayHistories(
    { workflowBundle: { codePath }, dataConverter, ...workflowTime },
    client.workflow.list().intoHistories(),
  );
  const replayed = new Set<string>();
  const strayed: string[] = [];
  for await (const { workflowId, error } of replays) {
    replayed.add(workflowId);
    if (error) strayed.push(`${workflowId}: ${error.message}`);
  }
  return [...strayed, ...[...started].filter((id) => !replayed.has(id)).map((id) => `${id}: was not replayed`)];
}
