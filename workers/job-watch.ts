// Watches the jobs of a pool, whichever worker queued them: one worker at a time gives them places on its cluster and follows them.
import { setTimeout as sleep } from 'node:timers/promises';
import { messageOf } from '../activities/failures.ts';
import type { JobState } from '../activities/ports.ts';
import type { JobRow, JobTurn, WatchedPool } from '../activities/records.ts';
import { choiceOf, waitReason, WATCHED_WITHIN_MS } from '../workflows/domain/compute.ts';
import { createJobSteps, type JobStepsDeps } from './job-steps.ts';

export interface JobWatchDeps extends JobStepsDeps {
  /** Names of the pools that come before this one: they take what they can first. */
  readonly earlier: readonly string[];
}

/** Between looks at the queue: how long a job waits for its start. */
const LOOK_MS = 1_000;
/** Between looks at the activities of queued jobs. */
const QUEUE_BEAT_MS = 5_000;
/** After this time the cluster is asked for each job's state, in case a change was not reported. */
const ASK_AGAIN_MS = 30_000;
/** Between attempts to become the worker that watches: another one may have ended. */
const TAKE_OVER_MS = 3_000;
/** Queued activities that send a heartbeat at the same time, and that are read at a time. */
const AT_ONCE = 20;
const PAGE = 500;
/** Between looks for archives of locks that no job has used for long. */
const SWEEP_MS = 6 * 3_600_000;
/** After this time without a watcher, a pool's jobs are given to other pools: its machine is gone, or off for long. */
const POOL_LOST_MS = 5 * 60_000;
/** The same warning is repeated after this time: an outage must not flood the log. */
const WARN_AGAIN_MS = 60_000;

/** Watches while this process runs and no other one does. `stop` leaves the jobs as they are. */
export function watchJobs(deps: JobWatchDeps): { stop(): Promise<void> } {
  const stopping = new AbortController();
  const onWarn = seldom(deps.onWarn);
  const watching = (async () => {
    while (!stopping.signal.aborted) {
      await deps.records
        .exclusively(`jobs ${deps.pool.id}`, (lost) =>
          watch({ ...deps, onWarn }, AbortSignal.any([lost, stopping.signal])),
        )
        .catch((error: unknown) => onWarn(`jobs are not watched: ${messageOf(error)}; retrying`));
      await pause(TAKE_OVER_MS, stopping.signal);
    }
  })();
  return {
    async stop() {
      stopping.abort();
      await watching;
    },
  };
}

async function watch(deps: JobWatchDeps, signal: AbortSignal): Promise<void> {
  const { records, cluster, pool, earlier, onWarn } = deps;
  const steps = createJobSteps(deps);
  /** The latest state of each job that the cluster has reported since it was last asked for all. */
  const seen = new Map<string, JobState>();
  /** Names whose state changed since the last look. */
  const changed = new Set<string>();
  const working = new Map<string, Promise<void>>();
  const lastTurn = new Map<string, number>();
  const state = { askedAt: Date.now(), beatAt: 0, sweptAt: 0 };

  const following = follow();
  await records
    .watchedPool(pool, POOL_LOST_MS)
    .catch((error: unknown) => onWarn(`pool ${pool.name}: ${messageOf(error)}`));
  // Those that come first may have begun to watch at the same moment.
  if (earlier.length > 0) await pause(2 * LOOK_MS, signal);
  while (!signal.aborted) {
    await look().catch((error: unknown) => onWarn(`jobs cannot be looked at: ${messageOf(error)}; retrying`));
    await pause(LOOK_MS, signal);
  }
  await Promise.all([following, ...working.values()]);

  async function follow(): Promise<void> {
    while (!signal.aborted) {
      await cluster
        .watchJobs((name, now) => {
          seen.set(name, now);
          changed.add(name);
        }, signal)
        .catch((error: unknown) => onWarn(`the cluster does not report its jobs: ${messageOf(error)}; retrying`));
      await pause(TAKE_OVER_MS, signal);
    }
  }

  async function look(): Promise<void> {
    if (Date.now() - state.askedAt > ASK_AGAIN_MS) {
      seen.clear();
      state.askedAt = Date.now();
    }
    const taken = await records.takenJobs(pool.id);
    for (const row of [...taken, ...(await takePlaces(taken))])
      work(row.name, async () => {
        const known = seen.get(row.name) ?? (await cluster.jobState(row.name));
        await steps.advance(row, known);
        // What was seen before a start, or before the end that asks for another start, says nothing about that start.
        const isStill = row.state === 'running' && (known.phase === 'running' || known.phase === 'waiting');
        if (!isStill) seen.delete(row.name);
        else if (!seen.has(row.name)) seen.set(row.name, known);
      });
    await removeUnknown(taken);
    if (Date.now() - state.beatAt < QUEUE_BEAT_MS) return;
    state.beatAt = Date.now();
    await records.watchedPool(pool, POOL_LOST_MS);
    work('', beatQueued);
    if (Date.now() - state.sweptAt < SWEEP_MS) return;
    state.sweptAt = Date.now();
    work(' archives of locks', async () => deps.lockArchives?.sweep(taken.map(({ job }) => job.lock)));
  }

  /** One piece of work of a name at a time, in the background: a slow one does not hold up the others. */
  function work(name: string, piece: () => Promise<void>): void {
    if (working.has(name) || signal.aborted) return;
    const done = piece()
      .catch((error: unknown) => onWarn(`job ${name}: ${messageOf(error)}; retrying`))
      .finally(() => working.delete(name));
    working.set(name, done);
  }

  /** Gives the free places of each kind to queued jobs. */
  async function takePlaces(taken: readonly JobRow[]): Promise<readonly JobRow[]> {
    const got: JobRow[] = [];
    const before = await poolsBefore();
    for (const kind of ['training', 'evaluation'] as const) {
      const hasPlace = (one: WatchedPool): boolean => one.taken[kind] < one.places[kind];
      for (let free = pool.places[kind] - taken.filter((row) => row.kind === kind).length; free > 0; free--) {
        const next = firstOf(await records.jobTurns(kind, pool, before.filter(hasPlace)));
        if (!next) break;
        lastTurn.set(next.project, Date.now());
        const row = await records.takeJob(next.name, pool.id, choiceOf(next.needs, pool.name, earlier, before));
        if (row) got.push(row);
      }
    }
    return got;
  }

  /** The pools before this one that somebody watches. */
  async function poolsBefore(): Promise<readonly WatchedPool[]> {
    if (earlier.length === 0) return [];
    return (await records.pools(WATCHED_WITHIN_MS)).filter(({ rank }) => rank < pool.rank);
  }

  /** The project with the fewest jobs in places, then the one whose last turn is longest ago, then the oldest job. */
  function firstOf(turns: readonly JobTurn[]): JobTurn | undefined {
    const ranked = turns.map((turn) => ({ turn, last: lastTurn.get(turn.project) ?? 0 }));
    ranked.sort(
      (a, b) =>
        a.turn.taken - b.turn.taken || a.last - b.last || Date.parse(a.turn.queuedAt) - Date.parse(b.turn.queuedAt),
    );
    return ranked[0]?.turn;
  }

  /** Removes jobs that the cluster has, and that the record has not or has given to another pool: nobody waits for them. */
  async function removeUnknown(taken: readonly JobRow[]): Promise<void> {
    const known = new Set(taken.map(({ name }) => name));
    for (const name of changed) {
      changed.delete(name);
      const found = seen.get(name);
      if (found === undefined || found.phase === 'missing' || known.has(name)) continue;
      if ((await records.job(name))?.pool === pool.id) continue;
      work(name, () => cluster.removeJob(name));
    }
  }

  async function beatQueued(): Promise<void> {
    const watched = await records.pools(WATCHED_WITHIN_MS);
    // Of several pools, one is enough.
    if (watched[0] && watched[0].id !== pool.id) return;
    for (let after: string | undefined; !signal.aborted;) {
      const page = await records.queuedJobs({ limit: PAGE, ...(after !== undefined && { after }) });
      for (let from = 0; from < page.length && !signal.aborted; from += AT_ONCE)
        await Promise.all(
          page
            .slice(from, from + AT_ONCE)
            .map((activity) =>
              steps
                .beat(activity, { waits: waitReason(activity.needs, watched) || activity.why || 'for a free place' })
                .catch((error: unknown) => onWarn(`queued job ${activity.name}: ${messageOf(error)}; retrying`)),
            ),
        );
      after = page.at(-1)?.name;
      if (page.length < PAGE) return;
    }
  }
}

const pause = (ms: number, signal: AbortSignal): Promise<void> =>
  sleep(ms, undefined, { signal }).catch(() => undefined);

/** Leaves out warnings that were given a moment ago. */
function seldom(onWarn: (message: string) => void): (message: string) => void {
  const given = new Map<string, number>();
  return (message) => {
    const now = Date.now();
    for (const [text, at] of given) if (now - at > WARN_AGAIN_MS) given.delete(text);
    if (given.has(message)) return;
    given.set(message, now);
    onWarn(message);
  };
}
