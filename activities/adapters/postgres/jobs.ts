// The part of Records about jobs that wait or run.
import { sql, type Selectable } from 'kysely';
import type { JobRow, Records, WaitingActivity } from '../../records.ts';
import { json, type Database } from './connection.ts';
import type { Tables } from './schema.ts';

type JobRecords = Pick<
  Records,
  'queueJob' | 'job' | 'jobTurns' | 'takeJob' | 'takenJobs' | 'watchedPool' | 'queuedJobs' | 'changeJob' | 'endJob'
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
            const kept = <C extends 'state' | 'starts' | 'kills' | 'why' | 'queued_at' | 'not_before' | 'pool'>(
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
            };
          }),
        )
        .execute();
    },

    async job(name) {
      const found = await db.selectFrom('authoritative.jobs').selectAll().where('name', '=', name).executeTakeFirst();
      return found && rowOf(found);
    },

    async jobTurns(kind) {
      const rows = await db
        .selectFrom('authoritative.jobs as queued')
        .distinctOn('project')
        .select(['project', 'name', 'queued_at as queuedAt'])
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
        .orderBy('project')
        .orderBy('queued_at')
        .orderBy('name')
        .execute();
      return rows.map((row) => ({ ...row, taken: row.taken ?? 0 }));
    },

    async takeJob(name, pool) {
      const isMine = { state: 'starting', pool } as const;
      const taken = await db
        .updateTable('authoritative.jobs')
        .set(isMine)
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
        .values({ pool, seen_at })
        .onConflict((conflict) => conflict.column('pool').doUpdateSet({ seen_at }))
        .execute();
      const lost = db
        .selectFrom('authoritative.pools')
        .select('pool')
        .where('seen_at', '<', sql<string>`clock_timestamp() - ${lostAfterMs} * interval '1 millisecond'`);
      await db
        .updateTable('authoritative.jobs')
        .set({ state: 'queued', pool: null, why: 'the pool that ran it has no worker any more' })
        .where('pool', 'in', lost)
        .execute();
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
        .select(['name', 'workflow_id', 'task_token', 'beat_ms', 'why'])
        .where('state', '=', 'queued')
        .orderBy('name')
        .limit(limit);
      if (after !== undefined) query = query.where('name', '>', after);
      return (await query.execute()).map(activityOf);
    },

    async changeJob(name, { waitMs, ...change }) {
      const notBefore = sql<string>`now() + make_interval(secs => ${(waitMs ?? 0) / 1000})`;
      await db
        .updateTable('authoritative.jobs')
        .set({
          ...change,
          ...(change.state === 'queued' && { pool: null }),
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
});
