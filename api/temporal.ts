// The workflow gateway over a Temporal client: the only file of the API that uses Temporal's client library.
import type { Client } from '@temporalio/client';
import {
  isGrpcServiceError,
  ServiceError,
  WorkflowExecutionAlreadyStartedError,
  WorkflowNotFoundError,
} from '@temporalio/client';
import type { SearchAttributePair } from '@temporalio/common';
import { describeSource } from '../workflows/domain/import.ts';
import type { WorkflowName } from '../workflows/messages.ts';
import { command, searchAttributes, taskQueues, wake, workflowId } from '../workflows/messages.ts';
import type { Started, Waiting, WorkflowGateway } from './gateway.ts';
import { GatewayError } from './gateway.ts';

type Described = Awaited<ReturnType<ReturnType<Client['workflow']['getHandle']>['describe']>>['raw'];

/** Time limit for a start, signal or lookup. People are waiting for it. */
const CALL_MS = 5_000;
/** Time limit of the readiness check. A supervisor checks often and does not wait long. */
const READY_MS = 2_000;

/** Creates the gateway from a connected client. */
export function createWorkflowGateway(client: Client): WorkflowGateway {
  const call = async <T>(work: () => Promise<T>, withinMs = CALL_MS): Promise<T> => {
    try {
      return await client.withDeadline(Date.now() + withinMs, work);
    } catch (error) {
      throw gatewayError(error);
    }
  };

  const start = (
    name: WorkflowName,
    id: string,
    input: unknown,
    summary: string,
    attributes: SearchAttributePair[],
  ): Promise<Started> =>
    call(async () => {
      try {
        await client.workflow.start(name, {
          workflowId: id,
          taskQueue: taskQueues.core,
          // As in the embedded server (deploy/temporal/main.go): the default of 10 s is too short for thousands of signals.
          workflowTaskTimeout: '30 seconds',
          args: [input],
          // A workflow that was ended by hand resumes from the record. Admission, not this call, decides whether it may run.
          workflowIdReusePolicy: 'ALLOW_DUPLICATE',
          workflowIdConflictPolicy: 'FAIL',
          staticSummary: summary,
          typedSearchAttributes: attributes,
        });
        return { started: true };
      } catch (error) {
        if (error instanceof WorkflowExecutionAlreadyStartedError) return { started: false };
        throw error;
      }
    });

  /** Temporal gives the same error for a signal to an ended workflow and to a missing one. `describe` distinguishes them. */
  const signal = async (id: string, send: () => Promise<void>): Promise<void> => {
    try {
      await call(send);
    } catch (error) {
      if (!(error instanceof GatewayError) || error.kind !== 'missing') throw error;
      await call(() => client.workflow.getHandle(id).describe());
      throw new GatewayError('closed', `workflow ${id} has ended`, error);
    }
  };

  const query = async <T>(timeoutMs: number, ask: () => Promise<T>): Promise<T | undefined> => {
    try {
      return await client.withDeadline(Date.now() + timeoutMs, ask);
    } catch (error) {
      const failure = gatewayError(error);
      if (failure.kind === 'unavailable') return undefined;
      throw failure;
    }
  };

  const { Project, Model, ModelType, State, Author, Application } = searchAttributes;
  return {
    startLifecycle: (input) =>
      start(
        'modelLifecycle',
        workflowId.modelLifecycle(input),
        input,
        `${input.project} / ${input.model} / ${input.submission} (${input.type}) by ${input.author}`,
        [
          { key: Project, value: input.project },
          { key: Model, value: input.model },
          { key: ModelType, value: input.type },
          { key: State, value: 'run' in input.beginning ? 'provisioning' : 'validating' },
          { key: Author, value: input.author },
        ],
      ),
    startEvaluation: (input) =>
      start(
        'evaluation',
        workflowId.evaluation(input),
        input,
        `${input.project} / ${input.model} over ${input.dataset} for ${input.actor}`,
        [
          { key: Project, value: input.project },
          { key: Model, value: input.model },
          { key: State, value: 'running' },
          { key: Author, value: input.actor },
        ],
      ),
    startApplication: (input, project) =>
      start('application', workflowId.application(input), input, `${input.application} consumes ${input.type}`, [
        { key: Project, value: project },
        { key: ModelType, value: input.type },
        { key: Application, value: input.application },
        { key: State, value: 'starting' },
      ]),
    startFeedback: (input) =>
      start('feedback', workflowId.feedback(input), input, `${input.project}: findings of ${input.scan}`, [
        { key: Project, value: input.project },
        { key: State, value: 'open' },
      ]),
    startImport: (input) =>
      start(
        'dataImport',
        workflowId.dataImport(input),
        input,
        `${input.project}: ${describeSource(input.source)} as ${input.dataset}, for ${input.actor}`,
        [
          { key: Project, value: input.project },
          { key: State, value: 'resolving' },
          { key: Author, value: input.actor },
        ],
      ),
    cancel: (id) =>
      signal(id, async () => {
        await client.workflow.getHandle(id).cancel();
      }),
    // The Temporal Web UI shows the start of the signal, so it begins with the actor and the command.
    sendCommand: (id, signed) =>
      signal(id, () =>
        client.workflow
          .getHandle(id)
          .signal(command, { what: `${signed.body.name} by ${signed.body.actor}`, ...signed }),
      ),
    wake: (id) => signal(id, () => client.workflow.getHandle(id).signal(wake)),
    look: async (id, run) => {
      try {
        const { status, type, taskQueue, runId, raw } = await call(() => client.workflow.getHandle(id, run).describe());
        const firstRunId = raw.workflowExecutionInfo?.firstRunId || runId;
        const isRunning = status.name === 'RUNNING';
        return { isRunning, status: status.name, type, taskQueue, runId, firstRunId, isComing: isComing(raw) };
      } catch (error) {
        if (error instanceof GatewayError && error.kind === 'missing') return undefined;
        throw error;
      }
    },
    terminate: (id, runId, reason) =>
      call(async () => {
        await client.workflow.getHandle(id, runId).terminate(reason);
      }),
    waiting: async (id, timeoutMs) => (await query(timeoutMs, () => waitingOf(client, id)).catch(() => [])) ?? [],
    ready: () =>
      call(async () => {
        await client.workflowService.getSystemInfo({});
      }, READY_MS),
  };
}

/** A workflow task with more failures is not just waiting for a worker. */
const MOST_TRIES = 10;
const ourQueues: readonly string[] = Object.values(taskQueues);

/** Whether a workflow task, or an activity on one of our queues, is waiting for its worker. */
function isComing({ pendingWorkflowTask: task, pendingActivities }: Described): boolean {
  if (task) return (task.attempt ?? 1) <= MOST_TRIES;
  return (pendingActivities ?? []).some(({ activityOptions }) => {
    const queue = activityOptions?.taskQueue?.name;
    // Older servers do not report the queue.
    return !queue || ourQueues.includes(queue);
  });
}

/** The failing steps of a workflow and its children. */
async function waitingOf(client: Client, id: string): Promise<Waiting[]> {
  const { raw } = await client.workflow.getHandle(id).describe();
  const own = (raw.pendingActivities ?? [])
    .filter(({ lastFailure }) => lastFailure)
    .map(({ activityType, attempt, lastFailure, nextAttemptScheduleTime: next }) => ({
      step: activityType?.name ?? '',
      // During a pause, `attempt` is the next attempt.
      attempts: (attempt ?? 1) - 1,
      reason: [lastFailure?.message, lastFailure?.cause?.message].filter(Boolean).join(': '),
      nextTryAt: next ? new Date(Number(next.seconds ?? 0) * 1_000).toISOString() : null,
    }));
  const children = (raw.pendingChildren ?? []).map(({ workflowId: child }) =>
    child ? waitingOf(client, child) : Promise.resolve([]),
  );
  return [...own, ...(await Promise.all(children)).flat()];
}

function gatewayError(error: unknown): GatewayError {
  if (error instanceof WorkflowNotFoundError) return new GatewayError('missing', error.message, error);
  if (error instanceof ServiceError || isGrpcServiceError(error))
    return new GatewayError('unavailable', `the workflow server does not answer: ${error.message}`, error);
  return new GatewayError('unavailable', 'the workflow server sent an invalid response', error);
}
