// Jobs of trainings and evaluations from their request to their end: those that wait for a place, and those that run.
import type { ComputeProfile, Needs, Pool } from '../../workflows/domain/compute.ts';
import type { Location } from '../../workflows/domain/names.ts';
import type { JobSpec } from '../ports.ts';
import type { AuditEntry } from './audit.ts';

export type JobKind = 'training' | 'evaluation';

/** A job without what is added at its start: name, limits and data access. */
export type Job = Omit<
  JobSpec,
  'name' | 'outputs' | 'resources' | 'image' | 'nodeSelector' | 'tolerations' | 'data'
> & {
  /** The compute profile as it was when the job was prepared. Missing in jobs from before profiles were recorded. */
  readonly profile?: ComputeProfile;
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
  /** Id of the pool whose cluster has it; `null` while it is queued. */
  readonly pool: string | null;
  /** Why this pool; empty while it is queued. */
  readonly reason: string;
}

/** The activity of a queued job, and what the job needs of a pool. */
export type QueuedJob = WaitingActivity & { readonly needs: Needs };

/** A pool as its watcher describes it. */
export interface PoolRow extends Pool {
  /** Unique; several machines may each have a pool of the same name. */
  readonly id: string;
  /** Position in the order of pools. */
  readonly rank: number;
  /** How many jobs of each kind have a place at a time. */
  readonly places: Readonly<Record<JobKind, number>>;
}

/** A pool that somebody watches, with the number of its jobs of each kind. */
export interface WatchedPool extends PoolRow {
  readonly taken: Readonly<Record<JobKind, number>>;
}

/** The first job in the queue of one project. */
export interface JobTurn {
  readonly project: string;
  readonly name: string;
  readonly queuedAt: string;
  /** Jobs of this project and kind that have a place. */
  readonly taken: number;
  readonly needs: Needs;
}

/** The part of Records about jobs. Only the process that watches a pool changes the rows of its jobs. */
export interface JobRecords {
  /** Queues a job. If the same job is known, only its activity is replaced; another job of its name starts over. */
  queueJob(
    job: Pick<JobRow, 'name' | 'workflowId' | 'taskToken' | 'beatMs' | 'project' | 'kind' | 'job'>,
  ): Promise<void>;
  job(name: string): Promise<JobRow | undefined>;
  /**
   * The first queued job of each project that `pool` can run and none of the pools in `before` can. Without jobs that wait
   * for their next try.
   */
  jobTurns(kind: JobKind, pool: Pool, before: readonly Pool[]): Promise<readonly JobTurn[]>;
  /** Gives a queued job a place in a pool, and records why there; `undefined` if another pool was faster. */
  takeJob(name: string, pool: string, reason: string): Promise<JobRow | undefined>;
  /** Jobs that have a place in the pool. */
  takenJobs(pool: string): Promise<readonly JobRow[]>;
  /** Records that the pool is watched, and queues the jobs of pools again that nobody has watched for `lostAfterMs`. */
  watchedPool(pool: PoolRow, lostAfterMs: number): Promise<void>;
  /** The pools that were watched within `withinMs`, in order. */
  pools(withinMs: number): Promise<readonly WatchedPool[]>;
  /** Activities of queued jobs, by name. */
  queuedJobs(page: { readonly after?: string; readonly limit: number }): Promise<readonly QueuedJob[]>;
  /** `waitMs`: the job is not taken before that time has passed. */
  changeJob(
    name: string,
    change: Partial<Pick<JobRow, 'state' | 'starts' | 'kills' | 'why'>> & { readonly waitMs?: number },
  ): Promise<void>;
  /** Removes the row of a job whose end is recorded. */
  endJob(name: string): Promise<void>;
}

/** The part of Records about compute profiles. The built-in profiles have no rows. */
export interface ComputeRecords {
  /** All profiles that administrators made, by name. */
  computeProfiles(): Promise<readonly ComputeProfile[]>;
  /** Makes or replaces a profile. `Conflict` for a built-in one, and beyond the limit of their number. */
  putComputeProfile(profile: ComputeProfile, audit: AuditEntry): Promise<void>;
  /** Removes a profile. `Conflict` while a project is offered it, `NotFound` if there is none. */
  deleteComputeProfile(name: string, audit: AuditEntry): Promise<void>;
  /** The profiles that a project is offered: by default the built-in ones. */
  offeredProfiles(project: string): Promise<readonly ComputeProfile[]>;
  /** Replaces what a project is offered. `NotFound` for an unknown project or profile. */
  offerProfiles(project: string, names: readonly string[], audit: AuditEntry): Promise<void>;
}
