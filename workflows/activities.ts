// The only activity proxies: timeouts, retries and queues by group. Limits that affect users are inputs, not constants here.
import type { ActivityInterfaceFor, ActivityOptions } from '@temporalio/workflow';
import { ActivityCancellationType, ActivityFailure, ApplicationFailure, isCancellation } from '@temporalio/workflow';
import { patched, proxyActivities, proxyLocalActivities } from '@temporalio/workflow';
import type { AcquisitionActivities } from '../activities/acquisition.ts';
import type { Begun } from '../activities/beginning.ts';
import type { DeliveryActivities } from '../activities/delivery.ts';
import type { FeedbackActivities } from '../activities/feedback.ts';
import type { EarlierCalls } from '../activities/earlier.ts';
import type { LauncherActivities } from '../activities/launcher.ts';
import type { ModelCenterActivities } from '../activities/model-center.ts';
import type { ReleaseActivities } from '../activities/release.ts';
import type { RoverActivities } from '../activities/rover.ts';
import { describeSource } from './domain/import.ts';
import { taskQueues } from './messages.ts';

/** The delay between attempts grows to a minute: a store that is down for an hour gets sixty requests, not thousands. */
const retry = { initialInterval: '500 milliseconds', maximumInterval: '1 minute', backoffCoefficient: 2 } as const;

/** Writes of the record: retried without limit, since nothing counts as done before it is recorded. */
export const center = group<ModelCenterActivities>(
  { taskQueue: taskQueues.core, startToCloseTimeout: '15 seconds', retry },
  {
    decideVersion: ({ command: { body } }) => `${body.name} by ${body.actor}`,
    completeDecision: ({ commandId }) => `decision ${commandId}`,
    failDecision: ({ message }) => message,
    advanceVersion: ({ revision, ended }) => ended ?? `from revision ${revision}`,
    decideLabels: ({ command: { body } }) => `${body.name} by ${body.actor}`,
    recordRefusals: ({ refused, dropped }) => `${refused.length + dropped} refused commands`,
    concludeDelivery: ({ release, ended }) => (ended ? `${release}: ${ended}` : release),
  },
);

/** One attempt: the normal activity is the one that tries again, visibly. */
const local = proxyLocalActivities<Pick<ModelCenterActivities, 'begin'>>({
  startToCloseTimeout: '5 seconds',
  retry: { maximumAttempts: 1 },
});

/**
 * Every workflow's first step: the current state in Records. It is tried as a local activity, which runs within the workflow's
 * first task and is admitted like any other. If Records are unavailable, the normal activity waits for them, where the sweep and
 * the Web UI see it. Workflows that started earlier use only that one. Called once, before the first await.
 */
export async function begin(): Promise<Begun> {
  if (!patched('begins-within-its-task')) return center.begin();
  try {
    return await local.begin();
  } catch (error) {
    if (isCancellation(error) || isRefusal(error)) throw error;
    return center.begin();
  }
}

const isRefusal = (error: unknown): boolean =>
  error instanceof ActivityFailure && error.cause instanceof ApplicationFailure && error.cause.nonRetryable === true;

/** Activities of workflows that started before Records decided: see workflows/before/. */
export const earlier = group<EarlierCalls>(
  { taskQueue: taskQueues.core, startToCloseTimeout: '15 seconds', retry },
  {},
);

/** Effects of a command: they copy bytes, so they heartbeat; after an hour without success the command fails and can be sent again. */
export const launcher = group<LauncherActivities & ReleaseActivities>(
  {
    taskQueue: taskQueues.core,
    startToCloseTimeout: '30 minutes',
    scheduleToCloseTimeout: '1 hour',
    heartbeatTimeout: '15 seconds',
    retry,
  },
  {
    returnToPrivate: ({ commandId }) => `decision ${commandId}`,
    announceWithdrawal: ({ commandId }) => `decision ${commandId}`,
  },
);

/** Preparation of a job: on the core queue, so that invalid input is reported without waiting for a slot. */
export const provisioning = group<Pick<RoverActivities, 'provisionRun' | 'prepareEvaluation'>>(
  {
    taskQueue: taskQueues.core,
    startToCloseTimeout: '2 hours',
    scheduleToCloseTimeout: '1 day',
    heartbeatTimeout: '15 seconds',
    retry,
  },
  {
    provisionRun: ({ spec }) => `${spec.compute} compute, ${spec.code.repository} at ${spec.code.commit.slice(0, 12)}`,
    prepareEvaluation: ({ model, dataset }) => `${model} over ${dataset}`,
  },
);

/**
 * Compute: an activity queues its job, and completes when the job has ended. A job may wait for days behind others; it has its
 * own deadline, and its own limit of starts (activities/jobs.ts). Without a heartbeat, the worker that watches the jobs is gone:
 * the next attempt waits for the same job.
 */
const compute = {
  startToCloseTimeout: '90 days',
  heartbeatTimeout: '2 minutes',
  retry,
} as const;

export const training = group<Pick<RoverActivities, 'runTraining' | 'trainModel'>>(
  { ...compute, taskQueue: taskQueues.training },
  {
    runTraining: ({ model, attempt, spec }) => `${model}: ${spec.entrypoint}, attempt ${attempt}`,
    trainModel: ({ model, attempt, spec }) => `${model}: ${spec.entrypoint}, attempt ${attempt}`,
  },
  ({ project }) => project,
);

export const evaluating = group<Pick<RoverActivities, 'runEvaluation' | 'evaluateModel'>>(
  { ...compute, taskQueue: taskQueues.evaluation },
  {
    runEvaluation: ({ model, dataset }) => `${model} over ${dataset}`,
    evaluateModel: ({ model, dataset }) => `${model} over ${dataset}`,
  },
  ({ project }) => project,
);

/** Collects a job's outputs: retried for a week while a store is unavailable, since a training may have taken a week. */
export const collecting = group<Pick<RoverActivities, 'collectRun' | 'collectReport'>>(
  {
    taskQueue: taskQueues.core,
    startToCloseTimeout: '2 hours',
    scheduleToCloseTimeout: '7 days',
    heartbeatTimeout: '15 seconds',
    retry,
  },
  {
    collectRun: ({ model, attempt }) => `${model}, attempt ${attempt}`,
    collectReport: ({ model, dataset }) => `${model} over ${dataset}`,
  },
);

/** The steps of a delivery up to its gates. A gate that cannot run has not passed, so attempts are limited. */
export const delivering = group<Omit<DeliveryActivities, 'decidePointer' | 'moveLivePointer' | 'commitLive'>>(
  {
    taskQueue: taskQueues.core,
    startToCloseTimeout: '30 minutes',
    scheduleToCloseTimeout: '2 hours',
    heartbeatTimeout: '15 seconds',
    retry: { ...retry, maximumAttempts: 20 },
  },
  {
    receiveRelease: ({ release }) => release,
    lockModel: ({ release }) => `model.lock on ocdl/${release}`,
    runGate: ({ gate }) => gate,
  },
);

/** A person's move of the live pointer: retried without limit, like the record. It checks the bytes of the release first. */
export const deciding = group<Pick<DeliveryActivities, 'decidePointer'>>(
  { taskQueue: taskQueues.core, startToCloseTimeout: '30 minutes', heartbeatTimeout: '15 seconds', retry },
  { decidePointer: ({ command: { body } }) => `${body.name} by ${body.actor}` },
);

/** Going live: retried without limit, like the record, so that the pointer and the main branch finally agree. */
export const deploying = group<Pick<DeliveryActivities, 'moveLivePointer' | 'commitLive'>>(
  { taskQueue: taskQueues.core, startToCloseTimeout: '2 minutes', heartbeatTimeout: '15 seconds', retry },
  {
    moveLivePointer: ({ release }) => release,
    commitLive: ({ application, type }) => `model.lock on main of ${application}: ${type}`,
  },
);

/** The engineer's labels. */
export const feedbackLabels = group<FeedbackActivities>(
  {
    taskQueue: taskQueues.core,
    startToCloseTimeout: '2 minutes',
    scheduleToCloseTimeout: '1 hour',
    heartbeatTimeout: '15 seconds',
    retry,
  },
  { commitLabels: ({ commandId }) => `command ${commandId}` },
);

/** Preparation and registration of an import; a source that does not answer for a day is a failure. */
export const acquisition = group<Omit<AcquisitionActivities, 'acquireData'>>(
  {
    taskQueue: taskQueues.core,
    startToCloseTimeout: '5 minutes',
    scheduleToCloseTimeout: '1 day',
    heartbeatTimeout: '15 seconds',
    retry,
  },
  {
    resolveSource: ({ source }) => describeSource(source),
    registerImport: ({ dataset }) => `as data set ${dataset}`,
    abandonImport: ({ state, detail }) => `${state}: ${detail}`,
  },
);

/** The download of an import: may take hours, on the imports queue. Broken connections and rate limits are retried for a day. */
export const acquiring = group<Pick<AcquisitionActivities, 'acquireData'>>(
  {
    taskQueue: taskQueues.imports,
    startToCloseTimeout: '1 day',
    scheduleToCloseTimeout: '1 day',
    heartbeatTimeout: '15 seconds',
    // The import's files are removed only after the activity has stopped writing.
    cancellationType: ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    retry,
  },
  { acquireData: ({ source, dataset }) => `${describeSource(source)} for ${dataset}` },
  ({ project }) => project,
);

type Summaries<A> = {
  [K in keyof A]?: A[K] extends (input: infer Input) => unknown ? (input: Input) => string : never;
};
type InputOf<A> = A[keyof A] extends (input: infer Input) => unknown ? Input : never;
type Call = (input: unknown) => Promise<unknown>;

/**
 * Activities with common options; each call has a one-line summary for the Temporal Web UI. `ownerOf` names the owner of a call:
 * if fairness is enabled, Temporal serves the owners of a queue in turn.
 */
function group<A>(
  options: ActivityOptions,
  summaries: Summaries<A>,
  ownerOf?: (input: InputOf<A>) => string,
): ActivityInterfaceFor<A> {
  const activities = proxyActivities<Record<string, Call>>(options);
  const lines: Record<string, ((input: never) => string) | undefined> = summaries;
  return new Proxy(activities, {
    get(_, name: string): Call {
      const activity = activities[name];
      const summary = lines[name] as ((input: unknown) => string) | undefined;
      if (!activity) throw new TypeError(`activity ${name} does not exist`);
      // Temporal limits a summary to 400 bytes and fails the workflow task for a longer one; 130 characters have at most 390 bytes.
      return (input) => {
        const priority = ownerOf && { priority: { fairnessKey: ownerOf(input as InputOf<A>) } };
        return activity.executeWithOptions({ summary: summary?.(input).slice(0, 130), ...priority }, [input ?? {}]);
      };
    },
  }) as ActivityInterfaceFor<A>;
}
