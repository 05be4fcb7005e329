// Compute profiles and pools: what a job may use, which pool can run it, and the reasons in words. The only definition of each.

/** Maximum deadline of a run: a week. Its activity has a day more (workflows/activities.ts). */
export const LONGEST_RUN_SECONDS = 604_800;

/** A taint of nodes that jobs of a profile accept. */
export interface Toleration {
  readonly key: string;
  readonly operator: 'Exists' | 'Equal';
  readonly value?: string;
  readonly effect?: 'NoSchedule' | 'PreferNoSchedule' | 'NoExecute';
}

/** What a job may use, by name. It has no field for mounts, users, accounts, privileges or single nodes. */
export interface ComputeProfile {
  readonly name: string;
  readonly cpus: number;
  readonly memoryBytes: number;
  readonly diskBytes: number;
  readonly gpus: number;
  /** Maximum deadline of a job. */
  readonly deadlineSeconds: number;
  /** Image of the program, by digest; by default the platform's. Only on Kubernetes. */
  readonly image?: string;
  /** Labels of the nodes. Only on Kubernetes. */
  readonly nodeSelector?: Readonly<Record<string, string>>;
  readonly tolerations?: readonly Toleration[];
  /** The only pools that may run its jobs; by default all. */
  readonly pools?: readonly string[];
}

/** Most GPUs of one job: more than one machine has. */
export const MOST_GPUS = 64;
/** Most compute profiles: a person chooses among them. */
export const PROFILES_LIMIT = 100;

/** Fits a small machine. */
const small = { cpus: 2, memoryBytes: 4 * 2 ** 30, diskBytes: 2 * 2 ** 30 } as const;
const builtIn = (name: 'cpu' | 'gpu', gpus: number): ComputeProfile => ({
  ...{ name, ...small, gpus, deadlineSeconds: LONGEST_RUN_SECONDS },
});
const [cpu, gpu] = [builtIn('cpu', 0), builtIn('gpu', 1)];
/** Profiles that every installation has, and that a project is offered unless an administrator decided otherwise. */
export const builtInProfiles: readonly ComputeProfile[] = [cpu, gpu];

export const isBuiltIn = (name: string): boolean => builtInProfiles.some((profile) => profile.name === name);

/** The profile of a job that was queued before profiles were recorded. */
export const profileBefore = (name: string): ComputeProfile => (name === 'gpu' ? gpu : cpu);

/** Why a project cannot use a profile. */
export const notOffered = (name: string, project: string, offered: readonly ComputeProfile[]): string =>
  `project ${project} is not offered the compute profile "${name}": ` +
  (offered.length > 0
    ? `use ${offered.map((profile) => profile.name).join(', ')}`
    : 'it is offered none; ask an administrator');

/** A pool that was not watched for this time takes no jobs: six beats of its watcher. */
export const WATCHED_WITHIN_MS = 30_000;

/** A cluster, or a machine that runs jobs as local processes. */
export interface Pool {
  readonly name: string;
  readonly kind: 'local' | 'kubernetes';
  /** Most GPUs that one of its jobs may have. */
  readonly gpus: number;
}

/** What a job needs of a pool. */
export interface Needs {
  readonly gpus: number;
  /** `null`: any pool. */
  readonly pools: readonly string[] | null;
  /** It has an image or selects nodes. */
  readonly onCluster: boolean;
}

/** What jobs of a profile need of a pool. */
export const needsOf = ({ gpus, pools, image, nodeSelector }: ComputeProfile): Needs => ({
  ...{ gpus, pools: pools ?? null, onCluster: image !== undefined || nodeSelector !== undefined },
});

/** Where a job runs or ran: the profile as it was then, the pool, and why this pool. */
export interface Placement {
  readonly profile: ComputeProfile;
  readonly pool: string;
  readonly reason: string;
}

/** Why a pool cannot run a job; `undefined` if it can. Records select jobs by the same rule. */
export function misfit({ gpus, pools, onCluster }: Needs, pool: Pool): string | undefined {
  if (pools !== null && !pools.includes(pool.name)) return 'is not a pool of the profile';
  if (gpus > pool.gpus)
    return pool.gpus === 0 ? 'has no GPU' : `has at most ${pool.gpus} ${pool.gpus === 1 ? 'GPU' : 'GPUs'} for a job`;
  if (onCluster && pool.kind === 'local') return 'has no images and no nodes to select';
  return undefined;
}

/** Why a job goes to `pool`, and not to one of the pools before it in order (`earlier`, by name). */
export function choiceOf(needs: Needs, pool: string, earlier: readonly string[], standing: readonly Pool[]): string {
  const passed = earlier.flatMap((name) => {
    const named = standing.filter((one) => one.name === name);
    if (named.length === 0) return [`${name} is not watched`];
    return named.map((one) => `${name} ${misfit(needs, one) ?? 'had no free place'}`);
  });
  if (passed.length === 0) return `pool ${pool} is first in order and has free places`;
  return `pool ${pool}: ${[...new Set(passed)].join(', ')}`;
}

/** Where a job ran, as a line of the Web UI's details. */
export const placed = (placement: Placement | undefined): readonly string[] =>
  placement ? [`- compute profile ${placement.profile.name}, ${placement.reason}`] : [];

/** Why a queued job waits; empty if it only waits for a free place. `pools`: those that somebody watches. */
export function waitReason(needs: Needs, pools: readonly Pool[]): string {
  const misfits = pools.map((pool) => ({ pool, problem: misfit(needs, pool) }));
  if (misfits.some(({ problem }) => problem === undefined)) return '';
  const why = [...new Set(misfits.map(({ pool, problem }) => `${pool.name} ${problem}`))].join(', ');
  return (
    `no pool can run it${why && ` (${why})`}: it waits for such a pool; to go on now, ` +
    'cancel it and start it with another compute profile, or ask an administrator'
  );
}
