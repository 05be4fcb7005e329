// The only proxies of activities: their timeouts, retries and queues, by group. Limits that people feel are inputs, not here.
import type { ActivityInterfaceFor, ActivityOptions } from '@temporalio/workflow';
import { ActivityCancellationType, proxyActivities } from '@temporalio/workflow';
import type { AcquisitionActivities } from '../activities/acquisition.ts';
import type { DeliveryActivities } from '../activities/delivery.ts';
import type { FeedbackActivities } from '../activities/feedback.ts';
import type { EarlierCalls } from '../activities/earlier.ts';
import type { LauncherActivities } from '../activities/launcher.ts';
import type { ModelCenterActivities } from '../activities/model-center.ts';
import type { ReleaseActivities } from '../activities/release.ts';
import type { RoverActivities } from '../activities/rover.ts';
import { describeSource } from './domain/import.ts';
import { LONGEST_RUN_SECONDS } from './domain/model.ts';
import { LONGEST_EVALUATION_SECONDS, taskQueues } from './messages.ts';

/** Pauses between tries grow to a minute: a store that is down for an hour is asked sixty times, not thousands. */
const retry = { initialInterval: '500 milliseconds', maximumInterval: '1 minute', backoffCoefficient: 2 } as const;

/** The record itself: tried for as long as it takes, since nothing may count as done before it is written. */
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

/** What workflows of before Records decided call: see workflows/before/. */
export const earlier = group<EarlierCalls>(
  { taskQueue: taskQueues.core, startToCloseTimeout: '15 seconds', retry },
  {},
);

/** Steps of a command: bytes move, so they heartbeat; after an hour without success the command fails and can be given again. */
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

/** Around a job, before it: short, and on the core queue, so that what is wrong is said before a slot is free. */
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
 * Compute: runs for as long as its own deadline says, on a queue with few slots, which the projects share fairly; besides it
 * there is a day to fetch what goes in and to upload what comes out. What is thrown here passes (activities/jobs.ts); twenty
 * tries end a job whose worker dies of it each time.
 */
const compute = {
  startToCloseTimeout: (LONGEST_RUN_SECONDS + 86_400) * 1_000,
  heartbeatTimeout: '15 seconds',
  retry: { ...retry, maximumAttempts: 20 },
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
  { ...compute, startToCloseTimeout: 2 * LONGEST_EVALUATION_SECONDS * 1_000, taskQueue: taskQueues.evaluation },
  {
    runEvaluation: ({ model, dataset }) => `${model} over ${dataset}`,
    evaluateModel: ({ model, dataset }) => `${model} over ${dataset}`,
  },
  ({ project }) => project,
);

/** Around a job, after it: reads what it has left, for as long as it takes a store to come back; a week of training waits for a week. */
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

/** A delivery's steps up to its gates. One that cannot be run has not passed, so its tries are bounded. */
export const delivering = group<Omit<DeliveryActivities, 'moveLivePointer' | 'commitLive'>>(
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
    decidePointer: ({ command: { body } }) => `${body.name} by ${body.actor}`,
  },
);

/** Going live: like the record, tried for as long as it takes, so that pointer and main branch never part for good. */
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

/** Around an import: short, and what a source does not answer for a day has failed. */
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

/** An import's bytes: hours of them, on the queue of the long ones. A cut line or a limited rate is tried again for a day. */
export const acquiring = group<Pick<AcquisitionActivities, 'acquireData'>>(
  {
    taskQueue: taskQueues.imports,
    startToCloseTimeout: '1 day',
    scheduleToCloseTimeout: '1 day',
    heartbeatTimeout: '15 seconds',
    // Its files are taken away only once nothing writes any more.
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
 * Activities with common options, each call summarised in one line for the Temporal Web UI. `ownerOf` names whose work a call
 * is: Temporal hands out a queue's tasks to owners in turn, where its fairness is switched on.
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
      if (!activity) throw new TypeError(`there is no activity ${name}`);
      // Temporal takes 400 bytes of a summary, and fails the workflow task for a longer one: 130 characters are at most 390.
      return (input) => {
        const priority = ownerOf && { priority: { fairnessKey: ownerOf(input as InputOf<A>) } };
        return activity.executeWithOptions({ summary: summary?.(input).slice(0, 130), ...priority }, [input ?? {}]);
      };
    },
  }) as ActivityInterfaceFor<A>;
}
