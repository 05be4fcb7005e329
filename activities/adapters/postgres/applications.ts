// Applications and their deliveries.
import { sql } from 'kysely';
import type { Records } from '../../records.ts';
import type { Application } from '../../../workflows/domain/model.ts';
import { failure } from '../../failures.ts';
import { writeOnce } from './audit.ts';
import type { Database, Work } from './connection.ts';
import { json, lock } from './connection.ts';
import { cursorOf, limitOf, cutPage } from './page.ts';
import { unavailableTypes } from './model-types.ts';
import { beforeNewest } from './releases.ts';

type ApplicationRecords = Pick<
  Records,
  | 'createApplication'
  | 'changeApplication'
  | 'application'
  | 'applications'
  | 'unstartedTypes'
  | 'wasLive'
  | 'delivery'
  | 'deliveries'
>;

/** The application part of Records. Deliveries are listed newest first. */
export function applicationRecords(db: Database): ApplicationRecords {
  return {
    async createApplication(application, audit) {
      await writeOnce(db, audit, (trx) => insertApplication(trx, { ...application, revision: 0 }));
    },

    async changeApplication(application, audit) {
      await writeOnce(db, audit, (trx) => changeApplication(trx, application));
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
      // A pointer and its history are kept after the application stops consuming the type, so filter by the current types.
      if (type !== undefined) query = query.where(sql<boolean>`row->'types' @> ${json([type])}::jsonb`);
      const found = await query.execute();
      return found.map(({ row }) => row);
    },

    async unstartedTypes(limit) {
      const found = await sql<{ application: string; type: string; project: string; owner: string }>`
        select a.application, t.type, a.project, a.row->>'owner' as owner
        from authoritative.applications a cross join lateral jsonb_array_elements_text(a.row->'types') t (type)
        where not exists (select from authoritative.starts s
          where s.workflow_id = 'application/' || a.application || '/' || t.type)
        order by a.application, t.type limit ${limit}`.execute(db);
      return found.rows;
    },

    async wasLive(application, type, release) {
      const found = await db
        .selectFrom('authoritative.moves')
        .select('key')
        .where('application', '=', application)
        .where('type', '=', type)
        .where('release', '=', release)
        .where('generation', 'is not', null)
        .limit(1)
        .executeTakeFirst();
      return found !== undefined;
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
      return cutPage(
        await query.execute(),
        limit,
        ({ ordinal }) => ordinal,
        ({ row }) => row,
      );
    },
  };
}

/** Inserts an application with one live pointer per type, at generation 0: nothing is live. */
async function insertApplication(trx: Work, application: Application): Promise<void> {
  const { application: name, project, types } = application;
  await repositoryMustBeFree(trx, application);
  await typesMustBeAvailable(trx, application, types);
  const made = await trx
    .insertInto('authoritative.applications')
    .values({ application: name, project, row: json(application) })
    .onConflict((conflict) => conflict.doNothing())
    .executeTakeFirst();
  if (made.numInsertedOrUpdatedRows === 0n)
    throw failure(
      'Conflict',
      `application ${name} already exists: application names are unique in the platform, choose another one`,
    );
  await insertPointers(trx, name, types);
}

/** Compare-and-set on the revision. A removed type must not be live; its pointer and history are kept. */
async function changeApplication(trx: Work, application: Application): Promise<void> {
  const { application: name, types } = application;
  await repositoryMustBeFree(trx, application);
  const found = await trx
    .selectFrom('authoritative.applications')
    .select('row')
    .where('application', '=', name)
    .forUpdate()
    .executeTakeFirst();
  if (!found) throw failure('NotFound', `there is no application ${name}`);
  const before = found.row;
  if (application.project !== before.project)
    throw failure(
      'InvalidInput',
      `application ${name} belongs to project ${before.project}: it cannot change projects`,
    );
  if (application.revision !== before.revision + 1)
    throw failure(
      'Conflict',
      `application ${name} is at revision ${before.revision}: read it again, then repeat the change`,
    );
  await typesMustBeAvailable(
    trx,
    application,
    types.filter((type) => !before.types.includes(type)),
  );
  await nothingMustBeLive(
    trx,
    name,
    before.types.filter((type) => !types.includes(type)),
  );
  await trx
    .updateTable('authoritative.applications')
    .set({ row: json(application) })
    .where('application', '=', name)
    .execute();
  await insertPointers(trx, name, types);
  await skipMissed(
    trx,
    name,
    types.filter((type) => !before.types.includes(type)),
  );
}

/** A type that is added again continues with its newest release, like a new one: those announced meanwhile are not delivered. */
async function skipMissed(trx: Work, application: string, types: readonly string[]): Promise<void> {
  if (types.length === 0) return;
  await trx
    .updateTable('authoritative.live_pointers as p')
    .set({ floor: sql<number>`greatest(p.floor, ${beforeNewest(sql.ref('p.type'))})` })
    .where('p.application', '=', application)
    .where('p.type', 'in', types)
    // A pointer without a floor is new: its workflow sets it.
    .where('p.floor', 'is not', null)
    .execute();
}

async function insertPointers(trx: Work, application: string, types: readonly string[]): Promise<void> {
  for (const type of new Set(types))
    await trx
      .insertInto('authoritative.live_pointers')
      .values({ application, type, generation: 0, release: null, moved_at: null })
      .onConflict((conflict) => conflict.doNothing())
      .execute();
}

async function typesMustBeAvailable(
  trx: Work,
  { application, project }: Application,
  types: readonly string[],
): Promise<void> {
  const missing = await unavailableTypes(trx, project, types);
  if (missing.length > 0)
    throw failure(
      'InvalidInput',
      `application ${application}: project ${project} neither owns ${missing.join(', ')} nor was granted it`,
    );
}

/**
 * Two applications in one repository would overwrite each other's `model.lock`. Takes a named lock, so call it before
 * locking rows.
 */
async function repositoryMustBeFree(trx: Work, { application, repository }: Application): Promise<void> {
  await lock(trx, `repository:${repository}`);
  const other = await trx
    .selectFrom('authoritative.applications')
    .select('application')
    .where(sql<string>`row->>'repository'`, '=', repository)
    .where('application', '<>', application)
    .executeTakeFirst();
  if (other)
    throw failure('Conflict', `${repository} is the repository of application ${other.application}: choose another`);
}

/**
 * Locks the pointers' rows, as a move does: a concurrent move is either seen here, or finds that the type is no longer
 * consumed.
 */
async function nothingMustBeLive(trx: Work, application: string, types: readonly string[]): Promise<void> {
  if (types.length === 0) return;
  const pointers = await trx
    .selectFrom('authoritative.live_pointers')
    .select(['type', 'release'])
    .where('application', '=', application)
    .where('type', 'in', types)
    .orderBy('type')
    .forUpdate()
    .execute();
  const live = pointers.find(({ release }) => release !== null);
  if (live)
    throw failure(
      'Conflict',
      `${live.release} is live in ${application}: take ${live.type} down there first, then remove the type`,
    );
}
