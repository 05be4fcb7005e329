// Jobs of trainings and evaluations: run once with a recorded end, and what later activities do with that end.
import { setTimeout as sleep } from 'node:timers/promises';
import { CompleteAsyncError, Context } from '@temporalio/activity';
import { notOffered, type ComputeProfile } from '../../workflows/domain/compute.ts';
import { digestMismatch } from '../../workflows/domain/digest-mismatch.ts';
import type { NamedArtifact } from '../../workflows/domain/model.ts';
import type { Location } from '../../workflows/domain/names.ts';
import { failure, isFinal } from '../failures.ts';
import { currentWorkflow } from '../heartbeat.ts';
import type { JobEnd } from '../jobs.ts';
import { jobName } from '../jobs.ts';
import type { ArtifactStore } from '../ports.ts';
import type { Job, JobKind, Records, UploadedOutput } from '../records.ts';
import { openResults } from '../run-results.ts';

export type RecordedJobs = ReturnType<typeof createRecordedJobs>;

/** What trainings and evaluations share: a job that is run once, its recorded end, its log, and the stored results. */
export function createRecordedJobs({ records, areas }: { records: Records; areas: ArtifactStore }) {
  const results = openResults(areas);

  return { results, onlyEarlier, profileFor, runRecorded, untilEnded, endOfJob, outputOf, keepLog };

  /**
   * Accepts the input of a workflow from before its steps were recorded. Any other workflow without a recorded step is
   * refused.
   */
  async function onlyEarlier<Input>(input: Input): Promise<Input> {
    if ((await records.start(currentWorkflow()))?.broughtOver) return input;
    throw failure('NotAuthorized', `${currentWorkflow()} has prepared nothing: there is nothing to run`);
  }

  /** The compute profile that this work was prepared with; before that, the profile that the project is offered now. */
  async function profileFor(project: string, name: string): Promise<ComputeProfile> {
    const prepared = await records.step<{ readonly profile?: ComputeProfile }>(currentWorkflow(), 'prepared');
    if (prepared?.profile?.name === name) return prepared.profile;
    const offered = await records.offeredProfiles(project);
    const found = offered.find((profile) => profile.name === name);
    if (!found) throw failure('InvalidInput', notOffered(name, project, offered));
    return found;
  }

  /**
   * Queues the job for the process that watches the jobs (workers/job-watch.ts), which completes this activity once the
   * job's end is recorded.
   */
  async function runRecorded(kind: JobKind, project: string, job: Job): Promise<void> {
    const { taskToken } = Context.current().info;
    if (await recordedEnd()) return;
    await queue(kind, project, job, taskToken);
    throw new CompleteAsyncError();
  }

  /** Queues the job and waits for its end, in activities that do more than that. */
  async function untilEnded(kind: JobKind, project: string, job: Job, signal: AbortSignal): Promise<void> {
    if (await recordedEnd()) return;
    await queue(kind, project, job, null);
    while (!(await recordedEnd())) await sleep(LOOK_MS, undefined, { signal });
  }

  async function queue(kind: JobKind, project: string, job: Job, taskToken: Uint8Array | null): Promise<void> {
    const workflowId = currentWorkflow();
    const timeoutMs = Context.current().info.heartbeatTimeoutMs ?? Infinity;
    const beatMs = Math.min(LONGEST_BEAT_MS, Math.floor(timeoutMs / 3));
    await records.queueJob({ name: jobName(workflowId), workflowId, kind, project, job, taskToken, beatMs });
  }

  async function recordedEnd(): Promise<JobEnd | undefined> {
    return records.step<JobEnd>(currentWorkflow(), 'ended');
  }

  async function endOfJob(): Promise<JobEnd> {
    const ended = await recordedEnd();
    if (!ended)
      throw failure('NotAuthorized', `the job of ${currentWorkflow()} has not ended: there is nothing to collect`);
    return ended;
  }

  /** An output that lies where its author can write: it must still be what the job uploaded. */
  async function outputOf(location: Location, name: string, signal: AbortSignal): Promise<NamedArtifact> {
    const found = await results.artifactAt(location, signal);
    const uploaded = await records.step<UploadedOutput>(currentWorkflow(), `output/${name}`);
    if (uploaded && uploaded.sha256 !== found.sha256)
      throw failure(
        'DigestMismatch',
        `${digestMismatch(location.path, found.sha256, uploaded.sha256)}: it was changed after the job uploaded it. Start it again.`,
      );
    return { ...found, name };
  }

  /** Stores a failed job's log and returns where it is. An unavailable store must not hide why the job failed. */
  async function keepLog(location: Location, log: string, signal: AbortSignal): Promise<string> {
    try {
      await results.keep(location, log, signal);
      const owner = location.area === 'private' ? `${location.user}'s private area` : `${location.area} area`;
      return `its log: ${location.path} in ${owner}`;
    } catch (error) {
      signal.throwIfAborted();
      if (!isFinal(error) && tries() < LOG_TRIES) throw error;
      return `its log could not be kept: ${error instanceof Error ? error.message : String(error)}`;
    }
  }
}

/** Pause between looks at the end of a job. */
const LOOK_MS = 1_000;
/** Pause between heartbeats of an activity that waits for its job: a thousand waiting jobs cost 30 requests a second. */
const LONGEST_BEAT_MS = 30_000;
/** About three minutes of attempts to store the log of a failed job. */
const LOG_TRIES = 10;
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 60_000;

/** Current attempt number of the activity. */
const tries = (): number => Context.current().info.attempt;

/** Retries transient failures within the activity. Retrying the activity would run its job again. */
export async function untilDone<R>(
  work: () => Promise<R>,
  signal: AbortSignal,
  report: (progress: unknown) => void,
): Promise<R> {
  for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(2 * pause, LONGEST_PAUSE_MS))
    try {
      return await work();
    } catch (error) {
      signal.throwIfAborted();
      if (isFinal(error)) throw error;
      report({ waits: error instanceof Error ? error.message : String(error) });
      await sleep(pause, undefined, { signal });
    }
}

/** Folder of a run's outputs in its author's private area. */
export const runFolder = (submission: string, attempt: number): string => `runs/${submission}-${attempt}`;
