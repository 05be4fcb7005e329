// Model types: each belongs to one project, which may grant other projects the right to consume it.
import { sql } from 'kysely';
import type { Records } from '../../records.ts';
import { TYPES_LIMIT } from '../../records.ts';
import { failure } from '../../failures.ts';
import { writeOnce } from './audit.ts';
import type { Database, Work } from './connection.ts';

type TypeRecords = Pick<Records, 'addTypes' | 'typeAccess' | 'setTypeGrant' | 'mayConsume'>;

/** The model-type part of Records. */
export function typeRecords(db: Database): TypeRecords {
  return {
    async addTypes(project, types, audit) {
      await writeOnce(db, audit, async (trx) => {
        const there = await trx
          .selectFrom('authoritative.projects')
          .select('project')
          .where('project', '=', project)
          // Concurrent additions would use the same position twice and exceed the limit together.
          .forUpdate()
          .executeTakeFirst();
        if (!there) throw failure('NotFound', `there is no project ${project}`);
        const owned = await trx
          .selectFrom('authoritative.types')
          .select(['type', 'position'])
          .where('project', '=', project)
          .execute();
        const wanted = [...new Set(types)].filter((type) => !owned.some((own) => own.type === type));
        if (owned.length + wanted.length > TYPES_LIMIT)
          throw failure(
            'InvalidInput',
            `project ${project} has ${owned.length} types and would have ${owned.length + wanted.length}: at most ${TYPES_LIMIT} are allowed`,
          );
        await insertTypes(trx, project, wanted, Math.max(-1, ...owned.map(({ position }) => position)) + 1);
      });
    },

    async typeAccess(project) {
      const consumers = sql<string[]>`array(select c.project from authoritative.type_grants c
        where c.type = t.type and t.project = ${project} order by c.project collate "C")`.as('consumers');
      return usable(db, project)
        .select(['t.type', 't.project as owner', consumers])
        .orderBy(sql`t.type collate "C"`)
        .execute();
    },

    async setTypeGrant({ owner, type, consumer, granted }, audit) {
      await writeOnce(db, audit, async (trx) => {
        const owned = await trx
          .selectFrom('authoritative.types')
          .select('project')
          .where('type', '=', type)
          .executeTakeFirst();
        if (owned?.project !== owner) throw failure('NotFound', `project ${owner} does not own a type ${type}`);
        if (consumer === owner)
          throw failure('InvalidInput', `project ${owner} owns ${type} and needs no grant to consume it`);
        if (!granted) {
          await trx
            .deleteFrom('authoritative.type_grants')
            .where('type', '=', type)
            .where('project', '=', consumer)
            .execute();
          return;
        }
        const there = await trx
          .selectFrom('authoritative.projects')
          .select('project')
          .where('project', '=', consumer)
          .executeTakeFirst();
        if (!there) throw failure('NotFound', `there is no project ${consumer}`);
        await trx
          .insertInto('authoritative.type_grants')
          .values({ type, project: consumer })
          .onConflict((conflict) => conflict.doNothing())
          .execute();
      });
    },

    async mayConsume(project, type) {
      return (await unavailableTypes(db, project, [type])).length === 0;
    },
  };
}

/** The types that a project may consume: its own and those granted to it. */
const usable = (db: Database, project: string) =>
  db
    .selectFrom('authoritative.types as t')
    .leftJoin('authoritative.type_grants as g', (join) =>
      join.onRef('g.type', '=', 't.type').on('g.project', '=', project),
    )
    .where((eb) => eb.or([eb('t.project', '=', project), eb('g.project', 'is not', null)]));

/** The types that a project may not consume: neither its own nor granted to it. */
export async function unavailableTypes(
  db: Database,
  project: string,
  types: readonly string[],
): Promise<readonly string[]> {
  if (types.length === 0) return [];
  const found = await usable(db, project).select('t.type').where('t.type', 'in', types).execute();
  return types.filter((type) => !found.some((one) => one.type === type));
}

/** Inserts a project's types, in order, starting at `position`. A type of another project is a conflict. */
export async function insertTypes(
  trx: Work,
  project: string,
  types: readonly string[],
  position: number,
): Promise<void> {
  const wanted = types.map((type, i) => ({ type, project, position: position + i }));
  // Sorted, so that two projects that want the same types cannot deadlock.
  for (const row of wanted.sort((a, b) => (a.type < b.type ? -1 : 1))) {
    const added = await trx
      .insertInto('authoritative.types')
      .values(row)
      .onConflict((conflict) => conflict.doNothing())
      .executeTakeFirst();
    if (added.numInsertedOrUpdatedRows !== 0n) continue;
    const { project: owner } = await trx
      .selectFrom('authoritative.types')
      .select('project')
      .where('type', '=', row.type)
      .executeTakeFirstOrThrow();
    throw failure('Conflict', `type ${row.type} belongs to project ${owner}: a type has one project`);
  }
}
