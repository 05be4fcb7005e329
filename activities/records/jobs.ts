// Jobs of trainings and evaluations from their request to their end: those that wait for a place, and those that run.
import type { Location } from '../../workflows/domain/names.ts';
import type { JobSpec } from '../ports.ts';

export type JobKind = 'training' | 'evaluation';

/** A job without what is added at its start: name, limits and data access. */
export type Job = Omit<JobSpec, 'name' | 'outputs' | 'resources' | 'data'> & {
  readonly outputs: readonly { readonly name: string; readonly required: boolean; readonly location: Location }[];
  /** Where the log of an interrupted job is kept. */
  readonly log: Location;
};

/** The activity that waits for a job, to be reached by its task token. */
export interface WaitingActivity {
  readonly name: string;
  readonly workflowId: string;
  /** `null`: the activity itself watches for the end. */
  readonly taskToken: Uint8Array | null;
  /** The longest pause between its heartbeats in milliseconds. */
  readonly beatMs: number;
  /** Why the job must be tried again; empty if it was not started yet. */
  readonly why: string;
}

export interface JobRow extends WaitingActivity {
  readonly project: string;
  readonly kind: JobKind;
  readonly job: Job;
  /** `starting`: it has a place, and may have started. */
  readonly state: 'queued' | 'starting' | 'running';
  readonly starts: number;
  /** How often in a row it was killed from outside. */
  readonly kills: number;
  /** The pool whose cluster has it; `null` while it is queued. */
  readonly pool: string | null;
}

/** The first job in the queue of one project. */
export interface JobTurn {
  readonly project: string;
  readonly name: string;
  readonly queuedAt: string;
  /** Jobs of this project and kind that have a place. */
  readonly taken: number;
}

/** The part of Records about jobs. Only the process that watches a pool changes the rows of its jobs. */
export interface JobRecords {
  /** Queues a job. If the same job is known, only its activity is replaced; another job of its name starts over. */
  queueJob(
    job: Pick<JobRow, 'name' | 'workflowId' | 'taskToken' | 'beatMs' | 'project' | 'kind' | 'job'>,
  ): Promise<void>;
  job(name: string): Promise<JobRow | undefined>;
  /** The first queued job of each project, without those that wait for their next try. */
  jobTurns(kind: JobKind): Promise<readonly JobTurn[]>;
  /** Gives a queued job a place in a pool; `undefined` if another pool was faster. */
  takeJob(name: string, pool: string): Promise<JobRow | undefined>;
  /** Jobs that have a place in the pool. */
  takenJobs(pool: string): Promise<readonly JobRow[]>;
  /** Records that the pool is watched; jobs whose pool has had no watcher for `lostAfterMs` are queued again. */
  watchedPool(pool: string, lostAfterMs: number): Promise<void>;
  /** Activities of queued jobs, by name. */
  queuedJobs(page: { readonly after?: string; readonly limit: number }): Promise<readonly WaitingActivity[]>;
  /** `waitMs`: the job is not taken before that time has passed. */
  changeJob(
    name: string,
    change: Partial<Pick<JobRow, 'state' | 'starts' | 'kills' | 'why'>> & { readonly waitMs?: number },
  ): Promise<void>;
  /** Removes the row of a job whose end is recorded. */
  endJob(name: string): Promise<void>;
}
