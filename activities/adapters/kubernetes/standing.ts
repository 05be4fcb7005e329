// How a job stands, judged from its Job and its pod: pure rules, with the reasons in words for a scientist.
import { z } from 'zod';
import {
  finalJobReasons,
  passingJobReasons,
  type FinalJobReason,
  type JobOutcome,
  type PassingJobReason,
} from '../../ports.ts';
import { containers } from './job-manifests.ts';
import type { ContainerFacts, JobFacts, PodFacts } from './objects.ts';

/** An outcome without its log. */
export type End =
  | { readonly status: 'succeeded'; readonly seconds: number }
  | {
      readonly status: 'failed';
      readonly reason: FinalJobReason | PassingJobReason;
      readonly exitCode: number | null;
    }
  | { readonly status: 'timed-out' };

export type Standing =
  | { readonly phase: 'missing' }
  | { readonly phase: 'waiting'; readonly why: string }
  | { readonly phase: 'running' }
  /** `note` is a last line for the log. */
  | { readonly phase: 'ended'; readonly end: End; readonly note?: string };

/** The termination message that deploy/capsule/ocdl/pod.py writes. The job's own program can write it too. */
const resultSchema = z.discriminatedUnion('status', [
  z.object({ status: z.literal('succeeded'), seconds: z.number().nonnegative() }),
  z.object({
    status: z.literal('failed'),
    reason: z.enum([...finalJobReasons, ...passingJobReasons]),
    exitCode: z.int().nullable(),
  }),
  z.object({ status: z.literal('timed-out') }),
]);

/** Judges a job. `hindrance` is what the cluster reported instead of making a pod. */
export function standingOf(job: JobFacts | undefined, pod: PodFacts | undefined, hindrance?: string): Standing {
  if (job === undefined) return { phase: 'missing' };
  if (job.isBeingRemoved) return { phase: 'waiting', why: 'it is being removed from the cluster' };
  const ended = pod && endOf(pod);
  if (ended !== undefined) return ended;
  if (job.finished === 'complete') return { phase: 'ended', end: { status: 'succeeded', seconds: job.seconds } };
  if (job.finished === 'failed') return lost(pod);
  if (pod === undefined || pod.isGone) return { phase: 'waiting', why: hindrance ? hinderedBy(hindrance) : STARTING };
  const hasBegun = pod.containers.some(({ isRunning, ended: over }) => isRunning || over !== undefined);
  return hasBegun && !pod.containers.some(isImageMissing)
    ? { phase: 'running' }
    : { phase: 'waiting', why: whyWaiting(pod) };
}

/** The outcome of an end, with the job's log. */
export function outcomeOf({ end, note }: Extract<Standing, { phase: 'ended' }>, log: string): JobOutcome {
  if (note === undefined) return { ...end, log };
  return { ...end, log: `${log}${log === '' || log.endsWith('\n') ? '' : '\n'}${note}\n` };
}

const STARTING = 'the cluster is making the job’s pod';

const failed = (
  reason: FinalJobReason | PassingJobReason,
  note?: string,
  exitCode: number | null = null,
): Standing => ({
  ...{ phase: 'ended', end: { status: 'failed', reason, exitCode } },
  ...(note !== undefined && { note }),
});

/** The end of a job whose pod has ended; undefined while it goes on. */
function endOf(pod: PodFacts): Standing | undefined {
  const of = (name: string): ContainerFacts['ended'] => pod.containers.find((one) => one.name === name)?.ended;
  const run = of(containers.run);
  const result = run && resultOf(run.message);
  if (result?.status === 'succeeded' && run?.exitCode === 0) return { phase: 'ended', end: result };
  const isOver = run !== undefined || pod.phase === 'Failed' || pod.phase === 'Succeeded';
  if (isOver || pod.isGone || pod.isBeingRemoved) {
    const outside = endedFromOutside(pod);
    if (outside !== undefined && (isOver || pod.isGone)) return outside;
  }
  const fetch = of(containers.fetch);
  if (fetch !== undefined && fetch.exitCode !== 0) return endOfStep(fetch);
  if (run !== undefined) return endOfRun(run, result, pod);
  if (!isOver) return undefined;
  return failed('killed', `stopped: the pod failed before the program ran: ${pod.reason} ${pod.message}`.trimEnd());
}

function endOfStep({ exitCode, reason, message }: NonNullable<ContainerFacts['ended']>): Standing {
  if (reason === 'OOMKilled') return failed('fetch', 'stopped: fetching the inputs needed too much memory', exitCode);
  const result = resultOf(message);
  return result
    ? { phase: 'ended', end: result }
    : failed('fetch', `stopped: the inputs were not fetched (${reason})`, exitCode);
}

function endOfRun(
  { exitCode, reason, message }: NonNullable<ContainerFacts['ended']>,
  result: End | undefined,
  pod: PodFacts,
): Standing {
  // The kernel may have ended any of its processes; only where it is the reason of the end, it counts.
  if (reason === 'OOMKilled' && (result === undefined || isKill(result)))
    return failed('memory', 'stopped: the job used more memory than its limit', exitCode);
  if (result?.status === 'failed' && result.reason === 'killed' && pod.isBeingRemoved)
    return { phase: 'ended', end: result, note: DELETED };
  if (result !== undefined) return { phase: 'ended', end: result };
  if (['StartError', 'ContainerCannotRun'].includes(reason))
    return failed('environment', `stopped: the container did not start: ${message}`, exitCode);
  if (exitCode === 137 || exitCode === 143) return failed('killed', 'stopped: killed from outside', exitCode);
  return failed('exit', undefined, exitCode);
}

const isKill = (end: End): boolean => end.status === 'failed' && ['killed', 'exit', 'memory'].includes(end.reason);

const DELETED = 'stopped: the job’s pod was deleted on the cluster, by a person or another program';

/** Why the cluster ended the pod, if it did. */
function endedFromOutside(pod: PodFacts): Standing | undefined {
  const { reason, message, disruption = '' } = pod;
  if (reason === 'Evicted' || reason === 'EvictedByKubelet') {
    // Its own limit, and not a machine that is full.
    const isOwn =
      /exceeds the (total )?limit|exceeded its local ephemeral storage limit|ephemeral local storage usage/i.test(
        message,
      );
    return isOwn
      ? failed('exit', `stopped: the job wrote more than its disk holds: ${message}`)
      : failed('killed', `stopped: its machine had no room left and ended the job: ${message}`);
  }
  if (reason === 'DeadlineExceeded')
    return {
      ...{ phase: 'ended', end: { status: 'timed-out' } },
      note: 'stopped: fetching, running and uploading together took longer than allowed',
    };
  const why = disruptions[disruption] ?? disruptions[reason];
  return why === undefined ? undefined : failed('killed', `stopped: ${why}`);
}

const disruptions: Readonly<Record<string, string>> = {
  DeletionByTaintManager: 'its machine stopped answering',
  NodeLost: 'its machine stopped answering',
  DeletionByPodGC: 'its machine was removed from the cluster',
  TerminationByKubelet: 'its machine ended the job, to shut down or for lack of room',
  NodeShutdown: 'its machine was shut down',
  Terminated: 'its machine was shut down',
  EvictionByEvictionAPI: 'an operator emptied its machine',
  PreemptionByScheduler: 'more important work needed its machine',
  UnexpectedAdmissionError: 'its machine could not give it what it promised, such as a GPU',
};

/** The Job has failed, and its pod cannot say why. */
function lost(pod: PodFacts | undefined): Standing {
  const outside = pod && endedFromOutside(pod);
  return (
    outside ??
    failed('killed', pod === undefined ? 'stopped: the job’s pod is gone: deleted, or lost with its machine' : DELETED)
  );
}

function resultOf(message: string): End | undefined {
  try {
    return resultSchema.parse(JSON.parse(message));
  } catch {
    return undefined;
  }
}

const IMAGE = /Image|Registry/;
const isImageMissing = ({ waiting }: ContainerFacts): boolean => IMAGE.test(waiting?.reason ?? '');

function whyWaiting(pod: PodFacts): string {
  if (pod.unschedulable !== undefined) return `no machine of the cluster has room: ${shortages(pod.unschedulable)}`;
  const held = pod.containers.flatMap(({ waiting }) => waiting ?? []);
  const image = held.find(({ reason }) => IMAGE.test(reason));
  if (image)
    return `the image ${pod.image} cannot be loaded: it does not exist, or the cluster may not read it (${image.message})`;
  const other = held.find(({ reason, message }) => message !== '' && reason !== 'PodInitializing');
  return other ? `the pod cannot start: ${other.message}` : 'its machine loads the image';
}

const resources: readonly (readonly [RegExp, string])[] = [
  [/Insufficient cpu/, 'not enough free processors'],
  [/Insufficient memory/, 'not enough free memory'],
  [/Insufficient ephemeral-storage/, 'not enough free disk'],
  [/Insufficient \S*gpu/i, 'not enough free GPUs'],
  [/untolerated taint/, 'machines that are reserved or do not answer'],
];

/** What is short, and the scheduler's own sentence. */
function shortages(message: string): string {
  const [said = ''] = message.split(' preemption:');
  const short = resources.filter(([pattern]) => pattern.test(said)).map(([, words]) => words);
  return short.length === 0 ? said : `${short.join(', ')} (${said})`;
}

function hinderedBy(message: string): string {
  const [, quota] = /exceeded quota: (.*)$/s.exec(message) ?? [];
  return quota === undefined
    ? `the cluster refuses the job’s pod: ${message}`
    : `the project uses all that its quota allows: it goes on when other jobs have ended (${quota})`;
}
