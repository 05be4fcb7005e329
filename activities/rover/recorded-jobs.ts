// Jobs of trainings and evaluations: run once with a recorded end, and what later activities do with that end.
import { setTimeout as sleep } from 'node:timers/promises';
import { Context } from '@temporalio/activity';
import { digestMismatch } from '../../workflows/domain/digest-mismatch.ts';
import type { NamedArtifact } from '../../workflows/domain/model.ts';
import type { Location } from '../../workflows/domain/names.ts';
import { failure, isFinal } from '../failures.ts';
import { currentWorkflow } from '../heartbeat.ts';
import type { Job, JobDeps, JobEnd } from '../jobs.ts';
import { createJobRunner } from '../jobs.ts';
import type { ArtifactStore, Cluster } from '../ports.ts';
import type { UploadedOutput } from '../records.ts';
import { openResults } from '../run-results.ts';

export type RecordedJobs = ReturnType<typeof createRecordedJobs>;

export type Watch = Parameters<Cluster['runJob']>[1];

/** What trainings and evaluations share: a job that is run once, its recorded end, its log, and the stored results. */
export function createRecordedJobs(deps: JobDeps & { areas: ArtifactStore }) {
  const { records, areas } = deps;
  const runJob = createJobRunner(deps);
  const results = openResults(areas);

  return { results, onlyEarlier, runRecorded, endOfJob, outputOf, keepLog };

  /**
   * Accepts the input of a workflow from before its steps were recorded. Any other workflow without a recorded step is
   * refused.
   */
  async function onlyEarlier<Input>(input: Input): Promise<Input> {
    if ((await records.start(currentWorkflow()))?.broughtOver) return input;
    throw failure('NotAuthorized', `${currentWorkflow()} has prepared nothing: there is nothing to run`);
  }

  /** Runs a job and records how it ended. If it is interrupted, stores the log so far, because no later step does. */
  async function runRecorded(job: Job, watch: Watch, log: Location): Promise<void> {
    const said = { text: '' };
    const onLog = (line: string): void => {
      said.text += `${line}\n`;
      if (said.text.length > 2 * LOG_KEPT) said.text = said.text.slice(-LOG_KEPT);
    };
    try {
      await records.recordStep(currentWorkflow(), 'ended', await runJob(job, { ...watch, onLog }));
    } catch (error) {
      if (watch.signal.aborted && said.text !== '')
        await results
          .keep(log, `${said.text.slice(-LOG_KEPT)}(interrupted)\n`, AbortSignal.timeout(LOG_WITHIN_MS))
          .catch((why: unknown) =>
            deps.onWarn?.(`the log ${log.path} of an interrupted job was not kept: ${String(why)}`),
          );
      throw error;
    }
  }

  async function endOfJob(): Promise<JobEnd> {
    const ended = await records.step<JobEnd>(currentWorkflow(), 'ended');
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

/** For an interrupted job: the size that a cluster keeps for a finished job, and a time that fits a stopping worker. */
const LOG_KEPT = 64 * 1024;
const LOG_WITHIN_MS = 5_000;
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
