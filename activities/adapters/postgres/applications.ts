// Applications and the deliveries into them.
import { sql } from 'kysely';
import type { Records } from '../../records.ts';
import type { Application } from '../../../workflows/domain/model.ts';
import { failure } from '../../failures.ts';
import { once } from './audit.ts';
import type { Database, Work } from './connection.ts';
import { json } from './connection.ts';
import { cursorOf, limitOf, pageOf } from './page.ts';

type ApplicationRecords = Pick<
  Records,
  'createApplication' | 'application' | 'applications' | 'delivery' | 'deliveries'
>;

/** The applications' part of Records. Deliveries come newest first. */
export function applicationRecords(db: Database): ApplicationRecords {
  return {
    async createApplication(application, audit) {
      await once(db, audit, (trx) => insertApplication(trx, application));
    },

    async application(application) {
      const found = await db
        .selectFrom('authoritative.applications')
        .select('row')
        .where('application', '=', application)
        .executeTakeFirst();
      return found?.row;
    },

    async applications({ project, type }) {
      let query = db
        .selectFrom('authoritative.applications')
        .select('row')
        .orderBy(sql`application collate "C"`);
      if (project !== undefined) query = query.where('project', '=', project);
      if (type !== undefined)
        query = query.where('application', 'in', (select) =>
          select.selectFrom('authoritative.live_pointers').select('application').where('type', '=', type),
        );
      const found = await query.execute();
      return found.map(({ row }) => row);
    },

    async delivery(application, release) {
      const found = await db
        .selectFrom('projection.deliveries')
        .select('row')
        .where('application', '=', application)
        .where('release', '=', release)
        .executeTakeFirst();
      return found?.row;
    },

    async deliveries({ application, release, ...page }) {
      const [after, limit] = [cursorOf(page), limitOf(page.limit)];
      let query = db
        .selectFrom('projection.deliveries')
        .select(['ordinal', 'row'])
        .orderBy('ordinal', 'desc')
        .limit(limit + 1);
      if (application !== undefined) query = query.where('application', '=', application);
      if (release !== undefined) query = query.where('release', '=', release);
      if (after !== undefined) query = query.where('ordinal', '<', after);
      return pageOf(
        await query.execute(),
        limit,
        ({ ordinal }) => ordinal,
        ({ row }) => row,
      );
    },
  };
}

/** An application with one live pointer per type, at generation 0: nothing is live. */
async function insertApplication(trx: Work, application: Application): Promise<void> {
  const { application: name, project, types } = application;
  const owned = await trx.selectFrom('authoritative.types').select('type').where('project', '=', project).execute();
  const foreign = types.filter((type) => !owned.some((own) => own.type === type));
  if (foreign.length > 0)
    throw failure(
      'InvalidInput',
      `application ${name}: project ${project} has no type ${foreign.join(', ')}; it has ${owned.map(({ type }) => type).join(', ') || 'none'}`,
    );
  const made = await trx
    .insertInto('authoritative.applications')
    .values({ application: name, project, row: json(application) })
    .onConflict((conflict) => conflict.doNothing())
    .executeTakeFirst();
  if (made.numInsertedOrUpdatedRows === 0n)
    throw failure('Conflict', `application ${name} exists: its name is one for the whole platform, choose another`);
  for (const type of new Set(types))
    await trx
      .insertInto('authoritative.live_pointers')
      .values({ application: name, type, generation: 0, release: null, moved_at: null })
      .execute();
}
