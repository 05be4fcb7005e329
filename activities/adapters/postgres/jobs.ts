// The part of Records about jobs that wait or run.
import { sql, type Selectable } from 'kysely';
import type { JobKind, JobRow, Records, WaitingActivity } from '../../records.ts';
import type { Needs, Pool } from '../../../workflows/domain/compute.ts';
import { json, type Database } from './connection.ts';
import type { Tables } from './schema.ts';

type JobRecords = Pick<
  Records,
  | 'queueJob'
  | 'job'
  | 'jobTurns'
  | 'takeJob'
  | 'takenJobs'
  | 'watchedPool'
  | 'pools'
  | 'queuedJobs'
  | 'changeJob'
  | 'endJob'
>;

/** The part of Records about jobs. */
export function jobRecords(db: Database): JobRecords {
  return {
    async queueJob({ name, workflowId, project, kind, job, taskToken, beatMs }) {
      const activity = { task_token: taskToken && Buffer.from(taskToken), beat_ms: beatMs };
      await db
        .insertInto('authoritative.jobs')
        .values({ name, workflow_id: workflowId, project, kind, job: json(job), ...activity })
        .onConflict((conflict) =>
          conflict.column('name').doUpdateSet((eb) => {
            const isSame = eb('authoritative.jobs.job', '=', eb.ref('excluded.job'));
            const kept = <
              C extends 'state' | 'starts' | 'kills' | 'why' | 'queued_at' | 'not_before' | 'pool' | 'reason',
            >(
              column: C,
            ) =>
              eb
                .case()
                .when(isSame)
                .then(eb.ref(`authoritative.jobs.${column}`))
                .else(eb.ref(`excluded.${column}`))
                .end();
            return {
              ...activity,
              job: eb.ref('excluded.job'),
              state: kept('state'),
              starts: kept('starts'),
              kills: kept('kills'),
              why: kept('why'),
              queued_at: kept('queued_at'),
              not_before: kept('not_before'),
              pool: kept('pool'),
              reason: kept('reason'),
            };
          }),
        )
        .execute();
    },

    async job(name) {
      const found = await db.selectFrom('authoritative.jobs').selectAll().where('name', '=', name).executeTakeFirst();
      return found && rowOf(found);
    },

    async jobTurns(kind, pool, before) {
      const rows = await db
        .selectFrom('authoritative.jobs as queued')
        .distinctOn('project')
        .select(['project', 'name', 'queued_at as queuedAt', 'gpus', 'pools', 'on_cluster'])
        .select((eb) =>
          eb
            .selectFrom('authoritative.jobs as other')
            .whereRef('other.project', '=', 'queued.project')
            .where('other.kind', '=', kind)
            .where('other.state', '<>', 'queued')
            .select((count) => count.fn.countAll<number>().as('taken'))
            .as('taken'),
        )
        .where('kind', '=', kind)
        .where('state', '=', 'queued')
        .where('not_before', '<=', sql<string>`now()`)
        .where(fits(pool))
        .where((eb) => eb.and(before.map((one) => eb.not(fits(one)))))
        .orderBy('project')
        .orderBy('queued_at')
        .orderBy('name')
        .execute();
      return rows.map(({ project, name, queuedAt, taken, ...row }) => ({
        ...{ project, name, queuedAt, taken: taken ?? 0 },
        needs: needsOf(row),
      }));
    },

    async takeJob(name, pool, reason) {
      const isMine = { state: 'starting', pool } as const;
      const taken = await db
        .updateTable('authoritative.jobs')
        .set({ ...isMine, reason })
        .where('name', '=', name)
        // A repeated call finds its own answer.
        .where((eb) => eb.or([eb('state', '=', 'queued'), eb.and(isMine)]))
        .returningAll()
        .executeTakeFirst();
      return taken && rowOf(taken);
    },

    async watchedPool(pool, lostAfterMs) {
      const seen_at = sql<string>`clock_timestamp()`;
      await db
        .insertInto('authoritative.pools')
        .values({ pool: pool.id, seen_at, about: json(pool) })
        .onConflict((conflict) => conflict.column('pool').doUpdateSet({ seen_at, about: json(pool) }))
        .execute();
      const lost = db
        .selectFrom('authoritative.pools')
        .select('pool')
        .where('seen_at', '<', sql<string>`clock_timestamp() - ${lostAfterMs} * interval '1 millisecond'`);
      await db
        .updateTable('authoritative.jobs')
        .set({ state: 'queued', pool: null, reason: '', why: 'nobody watches the pool that ran it any more' })
        .where('pool', 'in', lost)
        .execute();
    },

    async pools(withinMs) {
      const rows = await db
        .selectFrom('authoritative.pools as pools')
        .select('about')
        .select((eb) => {
          const taken = (kind: JobKind) =>
            eb
              .selectFrom('authoritative.jobs as job')
              .whereRef('job.pool', '=', 'pools.pool')
              .where('job.kind', '=', kind)
              .select((count) => count.fn.countAll<number>().as('taken'));
          return [taken('training').as('trainings'), taken('evaluation').as('evaluations')];
        })
        .where('about', 'is not', null)
        .where('seen_at', '>=', sql<string>`clock_timestamp() - ${withinMs} * interval '1 millisecond'`)
        .orderBy(sql`(about->>'rank')::integer`)
        .orderBy('pool')
        .execute();
      return rows.flatMap(({ about, trainings, evaluations }) =>
        about === null ? [] : { ...about, taken: { training: trainings ?? 0, evaluation: evaluations ?? 0 } },
      );
    },

    async takenJobs(pool) {
      const rows = await db
        .selectFrom('authoritative.jobs')
        .selectAll()
        .where('pool', '=', pool)
        .where('state', '<>', 'queued')
        .orderBy('queued_at')
        .execute();
      return rows.map(rowOf);
    },

    async queuedJobs({ after, limit }) {
      let query = db
        .selectFrom('authoritative.jobs')
        .select(['name', 'workflow_id', 'task_token', 'beat_ms', 'why', 'gpus', 'pools', 'on_cluster'])
        .where('state', '=', 'queued')
        .orderBy('name')
        .limit(limit);
      if (after !== undefined) query = query.where('name', '>', after);
      return (await query.execute()).map((row) => ({ ...activityOf(row), needs: needsOf(row) }));
    },

    async changeJob(name, { waitMs, ...change }) {
      const notBefore = sql<string>`now() + make_interval(secs => ${(waitMs ?? 0) / 1000})`;
      await db
        .updateTable('authoritative.jobs')
        .set({
          ...change,
          ...(change.state === 'queued' && { pool: null, reason: '' }),
          ...(waitMs !== undefined && { not_before: notBefore }),
        })
        .where('name', '=', name)
        .execute();
    },

    async endJob(name) {
      await db.deleteFrom('authoritative.jobs').where('name', '=', name).execute();
    },
  };
}

type Row = Selectable<Tables['authoritative.jobs']>;

/** The same rule as `misfit` of the domain, for a queued job. */
const fits = ({ name, kind, gpus }: Pool) =>
  sql<boolean>`(gpus <= ${gpus}::integer and (pools is null or pools ? ${name}::text)
    and (${kind === 'kubernetes'}::boolean or not on_cluster))`;

const needsOf = ({ gpus, pools, on_cluster }: Pick<Row, 'gpus' | 'pools' | 'on_cluster'>): Needs => ({
  ...{ gpus, pools, onCluster: on_cluster },
});

const activityOf = (row: Pick<Row, 'name' | 'workflow_id' | 'task_token' | 'beat_ms' | 'why'>): WaitingActivity => ({
  name: row.name,
  workflowId: row.workflow_id,
  taskToken: row.task_token,
  beatMs: row.beat_ms,
  why: row.why,
});

const rowOf = (row: Row): JobRow => ({
  ...activityOf(row),
  project: row.project,
  kind: row.kind,
  job: row.job,
  state: row.state,
  starts: row.starts,
  kills: row.kills,
  pool: row.pool,
  reason: row.reason,
});
