// Runs an activity without Temporal, in a context that the test gives, and collects its heartbeats.
import { EventEmitter } from 'node:events';
import { asyncLocalStorage, CompleteAsyncError } from '@temporalio/activity';
import type { Context } from '@temporalio/activity';

export interface ActivityGiven {
  readonly workflowId?: string;
  readonly attempt?: number;
  readonly heartbeatTimeoutMs?: number;
  readonly signal?: AbortSignal;
}

/** Runs `work` as an activity, which may be completed later; `beats` receives the details of its heartbeats. */
export function inActivity<R>(work: () => Promise<R>, given: ActivityGiven = {}, beats: unknown[] = []): Promise<R> {
  const { workflowId = 'run/p/m/s/1', attempt = 1, heartbeatTimeoutMs = 15_000 } = given;
  const context = {
    info: { workflowExecution: { workflowId, runId: 'r' }, attempt, heartbeatTimeoutMs, taskToken: Uint8Array.of(1) },
    cancellationSignal: given.signal ?? new AbortController().signal,
    cancelled: new Promise<never>(() => undefined),
    heartbeat: (details: unknown) => void beats.push(details),
    emitter: new EventEmitter(),
  } as unknown as Context;
  return asyncLocalStorage.run(context, work).catch((error: unknown) => {
    if (error instanceof CompleteAsyncError) return undefined as R;
    throw error;
  });
}
