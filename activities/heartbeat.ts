// Activity heartbeats: they tell Temporal that an activity is alive and how far it is, and deliver cancellations.
import { Context } from '@temporalio/activity';
import type { WorkflowName } from '../workflows/domain/ids.ts';
import { parseWorkflowId, partsOf } from '../workflows/domain/ids.ts';
import { failure } from './failures.ts';

/** A third of the 15 s heartbeat timeout (workflows/activities.ts): two beats may be late before a worker counts as dead. */
const EVERY_MS = 5_000;

type Report = (progress: unknown) => void;

/** Running heartbeats by activity, so that nested work reports to the same heartbeat. */
const hearts = new WeakMap<Context, Report>();

/**
 * Runs `work` with the activity's cancellation signal, and sends the last report as a heartbeat on a timer. The progress
 * is visible in the Temporal Web UI.
 */
export async function beating<R>(work: (signal: AbortSignal, report: Report) => Promise<R>): Promise<R> {
  const context = Context.current();
  const heart = hearts.get(context);
  // Temporal accepts no heartbeats from an activity without a heartbeat timeout.
  if (heart ?? !context.info.heartbeatTimeoutMs) return work(context.cancellationSignal, heart ?? (() => undefined));
  let latest: unknown;
  const report: Report = (progress) => {
    latest = progress;
    context.heartbeat(progress);
  };
  const beat = setInterval(() => context.heartbeat(latest), EVERY_MS);
  hearts.set(context, report);
  try {
    return await work(context.cancellationSignal, report);
  } finally {
    clearInterval(beat);
    hearts.delete(context);
  }
}

type Activity = (...input: never[]) => Promise<unknown>;

/** The same activities, each sending heartbeats while it runs, whatever it waits for. */
export function allBeating<A extends Readonly<Record<string, Activity>>>(activities: A): A {
  const wrapped = Object.entries(activities).map(([name, activity]): [string, Activity] => [
    name,
    (...input) => beating(() => activity(...input)),
  ]);
  return Object.fromEntries(wrapped) as A;
}

/** Id of the workflow that this activity works for. Used as the key of what it writes. */
export const currentWorkflow = (): string => Context.current().info.workflowExecution?.workflowId ?? '';

/** Run id of that workflow. Used as the key of what is written once per run. */
export const currentRun = (): string => Context.current().info.workflowExecution?.runId ?? '';

/**
 * The values of `names` in the id of the workflow that this activity works for. Activities take what they act on from
 * here or from Records, never from an argument.
 */
export function ofWorkflow<const Name extends string>(
  workflow: WorkflowName,
  ...names: readonly Name[]
): { readonly [K in Name]: string } {
  const id = currentWorkflow();
  if (parseWorkflowId(id)?.workflow !== workflow)
    throw failure('NotAuthorized', `workflow "${id}" may not do what a workflow of type ${workflow} does`);
  return partsOf(id, workflow, ...names);
}
