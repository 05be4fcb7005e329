// Heartbeats of activities: Temporal learns that they live and how far they are, and tells them when they are cancelled.
import { Context } from '@temporalio/activity';
import type { WorkflowName } from '../workflows/domain/ids.ts';
import { parseWorkflowId, partsOf } from '../workflows/domain/ids.ts';
import { failure } from './failures.ts';

/** A third of the heartbeat timeout of fifteen seconds (workflows/activities.ts): two may be late before a worker counts as dead. */
const EVERY_MS = 5_000;

type Report = (progress: unknown) => void;

/** What beats already, by activity: work within work reports into the same heartbeat. */
const hearts = new WeakMap<Context, Report>();

/**
 * Runs `work` with the activity's cancellation signal, beating on a timer with what it last reported.
 * The progress shows in the Temporal Web UI.
 */
export async function beating<R>(work: (signal: AbortSignal, report: Report) => Promise<R>): Promise<R> {
  const context = Context.current();
  const heart = hearts.get(context);
  // Temporal takes no heartbeat of an activity without a timeout for them.
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

/** The same activities, each of which beats from its first moment to its last, whatever it waits for. */
export function allBeating<A extends Readonly<Record<string, Activity>>>(activities: A): A {
  const wrapped = Object.entries(activities).map(([name, activity]): [string, Activity] => [
    name,
    (...input) => beating(() => activity(...input)),
  ]);
  return Object.fromEntries(wrapped) as A;
}

/** Id of the workflow that this activity works for: what it writes is keyed by it. */
export const currentWorkflow = (): string => Context.current().info.workflowExecution?.workflowId ?? '';

/** The run of that workflow: what is written once a run is keyed by it. */
export const currentRun = (): string => Context.current().info.workflowExecution?.runId ?? '';

/**
 * What of `names` the id of the workflow holds that this activity works for. What an activity acts on comes from here, or from
 * Records, never from an argument.
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
