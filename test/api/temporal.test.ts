// The workflow gateway against a real Temporal server: starts once, distinguishes ended from missing workflows, and tolerates silence.
import { Client, Connection } from '@temporalio/client';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { randomUUID } from 'node:crypto';
import type { WorkflowGateway } from '../../api/gateway.ts';
import { createWorkflowGateway } from '../../api/temporal.ts';
import type { SignedCommand } from '../../workflows/domain/command.ts';
import type { LifecycleInput } from '../../workflows/messages.ts';
import { taskQueues, workflowId } from '../../workflows/messages.ts';
import { temporalServer } from '../servers.ts';

const state: { connection?: Connection; client?: Client; gateway?: WorkflowGateway } = {};
const gateway = (): WorkflowGateway => {
  if (!state.gateway) throw new Error('no gateway');
  return state.gateway;
};
const client = (): Client => {
  if (!state.client) throw new Error('no client');
  return state.client;
};
beforeAll(async () => {
  state.connection = await Connection.connect({ address: (await temporalServer()).address });
  state.client = new Client({ connection: state.connection });
  state.gateway = createWorkflowGateway(state.client);
}, 600_000);
afterAll(() => state.connection?.close());

const input = (): LifecycleInput => ({
  ...{ project: 'vulnerability', model: 'random-forest', type: 'code-vulnerability', submission: `rf-${randomUUID()}` },
  ...{ author: 'sam', beginning: { directory: 'runs' } },
});
const body = { commandId: 'command-1', name: 'approve', actor: 'mia' };
const signed = { body, signature: 'x' } as unknown as SignedCommand;

describe('a lifecycle', () => {
  test('starts once, with search attributes and a summary for the Web UI', async () => {
    const given = input();
    const id = workflowId.modelLifecycle(given);
    expect(await gateway().startLifecycle(given)).toEqual({ started: true });
    expect(await gateway().startLifecycle(given)).toEqual({ started: false });
    const described = await client().workflow.getHandle(id).describe();
    expect([described.type, described.taskQueue]).toEqual(['modelLifecycle', taskQueues.core]);
    expect(
      Object.fromEntries(described.typedSearchAttributes.getAll().map(({ key, value }) => [key.name, value])),
    ).toEqual({
      ...{ Project: 'vulnerability', Model: 'random-forest', ModelType: 'code-vulnerability', State: 'validating' },
      Author: 'sam',
    });
    expect(await described.staticSummary()).toContain(given.submission);
    await client().workflow.getHandle(id).terminate();
    // The record decides whether ended work may continue: here it is started again.
    expect(await gateway().startLifecycle(given)).toEqual({ started: true });
    await client().workflow.getHandle(id).terminate();
  });

  test('accepts a command, does not answer without a worker, and is reported as ended after its end', async () => {
    const given = input();
    const id = workflowId.modelLifecycle(given);
    await expect(gateway().sendCommand(id, signed)).rejects.toMatchObject({ kind: 'missing' });
    await expect(gateway().wake(id)).rejects.toMatchObject({ kind: 'missing' });
    await expect(gateway().cancel(id)).rejects.toMatchObject({ kind: 'missing' });
    await gateway().startLifecycle(given);
    await gateway().sendCommand(id, signed);
    await gateway().wake(id);
    await gateway().cancel(id);
    const { events } = await client().workflow.getHandle(id).fetchHistory();
    const signals = events?.flatMap((event) => event.workflowExecutionSignaledEventAttributes?.signalName ?? []);
    expect(signals).toEqual(['command', 'wake']);
    // What the Web UI shows of it begins like this.
    const [shown] =
      events?.flatMap((event) => event.workflowExecutionSignaledEventAttributes?.input?.payloads ?? []) ?? [];
    expect(Buffer.from(shown?.data ?? []).toString()).toMatch(/^\{"what":"approve by mia",/);
    expect(events?.filter((event) => event.workflowExecutionCancelRequestedEventAttributes)).toHaveLength(1);
    await client().workflow.getHandle(id).terminate();
    await expect(gateway().sendCommand(id, signed)).rejects.toMatchObject({ kind: 'closed' });
    await expect(gateway().wake(id)).rejects.toMatchObject({ kind: 'closed' });
    // To cancel what has ended changes nothing.
    await expect(gateway().cancel(id)).resolves.toBeUndefined();
  });

  test('is described, terminated by its run id, and described again', async () => {
    const given = input();
    const id = workflowId.modelLifecycle(given);
    expect(await gateway().look(id)).toBeUndefined();
    await gateway().startLifecycle(given);
    const seen = await gateway().look(id);
    expect(seen).toMatchObject({
      ...{ isRunning: true, status: 'RUNNING', type: 'modelLifecycle', taskQueue: taskQueues.core },
    });
    // There is no worker: its first step has yet to come.
    expect(seen).toMatchObject({ firstRunId: seen?.runId, isComing: true });
    expect(await gateway().look(id, seen?.runId)).toEqual(seen);
    expect(await gateway().look(id, randomUUID())).toBeUndefined();
    // Another run is not touched.
    await expect(gateway().terminate(id, randomUUID(), 'a mistake')).rejects.toMatchObject({ name: 'GatewayError' });
    expect((await gateway().look(id))?.isRunning).toBe(true);
    await gateway().terminate(id, seen?.runId ?? '', 'not the recorded one');
    expect(await gateway().look(id)).toMatchObject({ isRunning: false, status: 'TERMINATED', runId: seen?.runId });
  });

  test('does not count as running while it waits for a start delay', async () => {
    const given = input();
    const id = workflowId.modelLifecycle(given);
    const { taskQueue, type } = { taskQueue: taskQueues.core, type: 'modelLifecycle' };
    await client().workflow.start(type, { taskQueue, workflowId: id, args: [given], startDelay: '1 day' });
    expect(await gateway().look(id)).toMatchObject({ isRunning: true, type, taskQueue, isComing: false });
  });
});

test('the other workflows start once, too', async () => {
  const one = randomUUID();
  const starts = {
    evaluation: () =>
      gateway().startEvaluation({
        ...{ project: 'vulnerability', evaluation: one, model: 'rf', actor: 'sam', dataset: 'd' },
        subject: { directory: 'runs' },
      }),
    application: () => gateway().startApplication({ application: one, type: 'code-vulnerability' }, 'vulnerability'),
    feedback: () => gateway().startFeedback({ project: 'vulnerability', scan: one }),
  };
  const ids = {
    evaluation: workflowId.evaluation({ project: 'vulnerability', evaluation: one }),
    application: workflowId.application({ application: one, type: 'code-vulnerability' }),
    feedback: workflowId.feedback({ project: 'vulnerability', scan: one }),
  };
  for (const [name, start] of Object.entries(starts)) {
    expect([name, await start(), await start()]).toEqual([name, { started: true }, { started: false }]);
    const described = await client()
      .workflow.getHandle(ids[name as keyof typeof ids])
      .describe();
    expect(described.type).toBe(name);
  }
});

test('a server that is down is reported as unavailable quickly', async () => {
  const connection = Connection.lazy({ address: '127.0.0.1:1' });
  const disconnected = createWorkflowGateway(new Client({ connection }));
  await expect(disconnected.ready()).rejects.toMatchObject({ kind: 'unavailable' });
  await expect(disconnected.startLifecycle(input())).rejects.toMatchObject({ kind: 'unavailable' });
  await expect(disconnected.sendCommand('model/a/b/c', signed)).rejects.toMatchObject({ kind: 'unavailable' });
  await expect(disconnected.look('model/a/b/c')).rejects.toMatchObject({ kind: 'unavailable' });
  expect(await disconnected.waiting('model/a/b/c', 500)).toEqual([]);
  await connection.close();
  await expect(gateway().ready()).resolves.toBeUndefined();
}, 600_000);
