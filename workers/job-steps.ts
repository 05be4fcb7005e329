// What happens to one job: its start, its heartbeats, its end. Each step may be repeated: a worker can die between any two.
import {
  ActivityCancelledError,
  ActivityNotFoundError,
  ActivityPausedError,
  ActivityResetError,
  type Client,
} from '@temporalio/client';
import { WorkflowNotFoundError } from '@temporalio/common';
import { isFinal, messageOf } from '../activities/failures.ts';
import type { JobEnd } from '../activities/jobs.ts';
import { failedEnd, issueJobToken, MOST_STARTS, revokeJobTokens, sorted, specOf } from '../activities/jobs.ts';
import type { ArtifactStore, Cluster, JobState, LockArchives } from '../activities/ports.ts';
import type { JobRow, PoolRow, Records, WaitingActivity } from '../activities/records.ts';
import { openResults } from '../activities/run-results.ts';

export interface JobStepsDeps {
  readonly records: Records;
  readonly areas: ArtifactStore;
  /** The pool that is watched, and its cluster. Workers with a pool of the same id watch the same jobs. */
  readonly pool: PoolRow;
  readonly cluster: Cluster;
  /** For a cluster that does not install locks itself. */
  readonly lockArchives?: LockArchives | undefined;
  readonly client: Pick<Client, 'activity' | 'workflow'>;
  /** Address of the API for the jobs' wrappers. */
  readonly apiUrl: string;
  readonly onWarn: (message: string) => void;
}

/** Between tries of a job that failed for a passing reason: it grows to a minute, as between tries of an activity. */
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 60_000;
/** A heartbeat brings a cancellation. Few jobs run, so they ask often; the many that wait ask as seldom as they may. */
const RUNNING_BEAT_MS = 5_000;
/** Progress is shown at most this often. */
const PROGRESS_MS = 1_000;
/** A workflow that Temporal has lost is resumed within a minute, or an hour if it keeps failing. */
const RESUMED_WITHIN_MS = 2 * 3_600_000;
/** The log of an interrupted job is kept if its store answers within this time. */
const LOG_WITHIN_MS = 5_000;

export function createJobSteps({ records, areas, pool, cluster, lockArchives, client, apiUrl, onWarn }: JobStepsDeps) {
  const results = openResults(areas);
  const beats = new Map<string, { readonly at: number; readonly details: string }>();
  /** Since when the workflow of a job does not run, although it is open in the record. */
  const gone = new Map<string, number>();
  return { advance, beat };

  /** Does what the state of a job that has a place asks for. */
  async function advance(row: JobRow, seen: JobState): Promise<void> {
    if (row.state === 'starting') return start(row);
    if (seen.phase === 'running' || seen.phase === 'waiting') {
      const progress = seen.phase === 'waiting' ? { waits: seen.why } : seen.progress;
      await beat(row, { ...progress, ...ranOf(row) }, RUNNING_BEAT_MS);
      return;
    }
    const end = await records.step<JobEnd>(row.workflowId, 'ended');
    if (end) return finish(row, end);
    // What a watcher reported may be the end of an earlier start.
    const state = await cluster.jobState(row.name);
    if (state.phase === 'missing') {
      onWarn(`job ${row.name} is lost with the machine that ran it: it is started again`);
      await records.changeJob(row.name, { state: 'starting' });
      return start(row);
    }
    if (state.phase !== 'ended') return;
    const result = sorted(row, state.outcome);
    if (!('again' in result)) return finish(row, result);
    if (row.starts >= MOST_STARTS) return finish(row, startedTooOften(result.again));
    const waitMs = Math.min(FIRST_PAUSE_MS * 2 ** row.starts, LONGEST_PAUSE_MS);
    await records.changeJob(row.name, { state: 'queued', kills: result.kills, why: result.again, waitMs });
  }

  async function start(row: JobRow): Promise<void> {
    const lock = await archiveFor(row);
    // The next look asks again.
    if (!(await beat(row, { waits: 'waits' in lock ? lock.waits : 'for its start' })) || 'waits' in lock) return;
    if ('end' in lock) return finish(row, lock.end);
    if (row.starts >= MOST_STARTS) return finish(row, startedTooOften('it never reached its end'));
    try {
      await cluster.startJob(specOf(row, apiUrl, lock.archive), async () => {
        await records.changeJob(row.name, { starts: row.starts + 1 });
        return issueJobToken(records, row, lock.archive);
      });
    } catch (error) {
      // Any other error is retried: the cluster or PostgreSQL does not answer.
      if (!isFinal(error)) throw error;
      return finish(row, failedEnd('JobFailed', messageOf(error), ''));
    }
    await records.changeJob(row.name, { state: 'running' });
  }

  /** The archive of the job's lock, if the cluster needs one; what it waits for; or the job's end, if there can be none. */
  async function archiveFor({ job }: JobRow) {
    try {
      return (await lockArchives?.find(job.lock)) ?? { archive: null };
    } catch (error) {
      return isFinal(error) ? { end: failedEnd('JobFailed', messageOf(error), '') } : { waits: messageOf(error) };
    }
  }

  /** The order matters: the end is recorded before the job is removed, and the row goes last, so that all can be repeated. */
  async function finish(row: JobRow, end: JobEnd): Promise<void> {
    const ran = ranOf(row);
    await records.recordStep(row.workflowId, 'ended', { ...end, ...(ran && { ran }) });
    await revokeJobTokens(records, row);
    await cluster.removeJob(row.name);
    // An activity that is tried again finds the recorded end.
    if (row.taskToken) await unlessGone(client.activity.complete(row.taskToken, undefined));
    await forget(row);
  }

  /** Where a job runs; `undefined` if an earlier version gave it its place. */
  function ranOf({ reason }: JobRow): JobEnd['ran'] {
    return reason === '' ? undefined : { pool: pool.name, reason };
  }

  /** Ends a job that nobody waits for any more, and keeps its log, because no later step does. */
  async function stop(name: string, isCancelled: boolean): Promise<void> {
    const row = await records.job(name);
    if (!row) return;
    const log = await cluster.jobLog(name);
    if (log !== '')
      await results
        .keep(row.job.log, `${log}(interrupted)\n`, AbortSignal.timeout(LOG_WITHIN_MS))
        .catch((why: unknown) =>
          onWarn(`the log ${row.job.log.path} of an interrupted job was not kept: ${messageOf(why)}`),
        );
    await cluster.removeJob(name);
    await revokeJobTokens(records, row);
    if (isCancelled && row.taskToken) await unlessGone(client.activity.reportCancellation(row.taskToken));
    await forget(row);
  }

  async function forget({ name }: JobRow): Promise<void> {
    beats.delete(name);
    gone.delete(name);
    await records.endJob(name);
  }

  /**
   * Sends the activity's heartbeat if its details have changed or the last one is `longestMs` ago. `false`: nobody waits for
   * the job any more, and it was ended.
   */
  async function beat(activity: WaitingActivity, progress: unknown, longestMs = Infinity): Promise<boolean> {
    const { name, taskToken } = activity;
    const details = JSON.stringify(progress) ?? '';
    const last = beats.get(name);
    const pause = last?.details === details ? Math.min(activity.beatMs, longestMs) : PROGRESS_MS;
    if (last && Date.now() - last.at < pause) return true;
    beats.set(name, { at: Date.now(), details });
    try {
      if (taskToken) await client.activity.heartbeat(taskToken, progress);
      else if (!(await isWanted(activity))) return await ended(name, false);
    } catch (error) {
      // A pause or reset by an operator applies to the next try of the activity: the job goes on.
      if (error instanceof ActivityPausedError || error instanceof ActivityResetError) return true;
      if (error instanceof ActivityCancelledError) return ended(name, true);
      if (!(error instanceof ActivityNotFoundError)) throw error;
      // The activity of a workflow that goes on is tried again, and then waits for this job.
      if (!(await isWanted(activity))) return ended(name, false);
    }
    return true;
  }

  async function ended(name: string, isCancelled: boolean): Promise<false> {
    await stop(name, isCancelled);
    return false;
  }

  /** Whether the workflow runs, or is open in the record: then it is resumed, and finds its job. */
  async function isWanted({ name, workflowId }: WaitingActivity): Promise<boolean> {
    if (await isRunning(workflowId)) {
      gone.delete(name);
      return true;
    }
    if ((await records.start(workflowId))?.closedAt !== null) return false;
    const since = gone.get(name) ?? Date.now();
    gone.set(name, since);
    return Date.now() - since < RESUMED_WITHIN_MS;
  }

  async function isRunning(workflowId: string): Promise<boolean> {
    try {
      return (await client.workflow.getHandle(workflowId).describe()).status.name === 'RUNNING';
    } catch (error) {
      if (error instanceof WorkflowNotFoundError) return false;
      throw error;
    }
  }
}

const startedTooOften = (why: string): JobEnd =>
  failedEnd('JobFailed', `the job was started ${MOST_STARTS} times: ${why}`, '');

async function unlessGone(answer: Promise<void>): Promise<void> {
  try {
    await answer;
  } catch (error) {
    if (!(error instanceof ActivityNotFoundError)) throw error;
  }
}
