// Projects with their types and policy, their members, their data sets.
import { isDeepStrictEqual } from 'node:util';
import { sql } from 'kysely';
import type { Project, Records } from '../../records.ts';
import { failure } from '../../failures.ts';
import { once } from './audit.ts';
import type { Database, Work } from './connection.ts';
import { json } from './connection.ts';

type ProjectRecords = Pick<
  Records,
  | 'createProject'
  | 'project'
  | 'projects'
  | 'projectOfType'
  | 'setPolicy'
  | 'setMember'
  | 'members'
  | 'registerDataSet'
  | 'dataSet'
  | 'dataSets'
>;

/** The projects' part of Records. */
export function projectRecords(db: Database): ProjectRecords {
  return {
    async createProject(project, audit) {
      await once(db, audit, (trx) => insertProject(trx, project));
    },

    async project(project) {
      const [found] = await selectProjects(db, { project });
      return found;
    },

    async projects(user) {
      return selectProjects(db, user === null ? {} : { user });
    },

    async projectOfType(type) {
      const found = await db
        .selectFrom('authoritative.types')
        .select('project')
        .where('type', '=', type)
        .executeTakeFirst();
      return found?.project;
    },

    async setPolicy(project, policy, audit) {
      await once(db, audit, async (trx) => {
        const set = await trx
          .updateTable('authoritative.projects')
          .set({ policy: json(policy) })
          .where('project', '=', project)
          .executeTakeFirst();
        if (set.numUpdatedRows === 0n) throw failure('NotFound', `there is no project ${project}`);
      });
    },

    async setMember(project, { user, roles }, audit) {
      await once(db, audit, async (trx) => {
        await bothMustExist(trx, project, user);
        if (roles.length === 0)
          await trx
            .deleteFrom('authoritative.members')
            .where('project', '=', project)
            .where('name', '=', user)
            .execute();
        else
          await trx
            .insertInto('authoritative.members')
            .values({ project, name: user, roles: json(roles) })
            .onConflict((conflict) => conflict.columns(['project', 'name']).doUpdateSet({ roles: json(roles) }))
            .execute();
      });
    },

    async members(project) {
      const found = await db
        .selectFrom('authoritative.members')
        .select(['name', 'roles'])
        .where('project', '=', project)
        .orderBy(sql`name collate "C"`)
        .execute();
      return found.map(({ name, roles }) => ({ user: name, roles }));
    },

    async registerDataSet(dataset, audit) {
      await once(db, audit, async (trx) => {
        const key = { project: dataset.project, dataset: dataset.dataset };
        await trx
          .insertInto('authoritative.data_sets')
          .values({ ...key, row: json(dataset) })
          .onConflict((conflict) => conflict.doNothing())
          .execute();
        const { row } = await trx
          .selectFrom('authoritative.data_sets')
          .select('row')
          .where('project', '=', key.project)
          .where('dataset', '=', key.dataset)
          .executeTakeFirstOrThrow();
        // Who registered it, and when, stays with the first; what it holds must be the same.
        if (row.kind !== dataset.kind || !isDeepStrictEqual(row.files, JSON.parse(json(dataset.files))))
          throw failure(
            'Conflict',
            `data set ${dataset.dataset} of ${dataset.project} exists with other files: data sets do not change, give it a new name`,
          );
      });
    },

    async dataSet(project, dataset) {
      const found = await db
        .selectFrom('authoritative.data_sets')
        .select('row')
        .where('project', '=', project)
        .where('dataset', '=', dataset)
        .executeTakeFirst();
      return found?.row;
    },

    async dataSets(project) {
      const found = await db
        .selectFrom('authoritative.data_sets')
        .select('row')
        .where('project', '=', project)
        .orderBy(sql`dataset collate "C"`)
        .execute();
      return found.map(({ row }) => row);
    },
  };
}

async function insertProject(trx: Work, { project, types, policy }: Project): Promise<void> {
  const made = await trx
    .insertInto('authoritative.projects')
    .values({ project, policy: json(policy) })
    .onConflict((conflict) => conflict.doNothing())
    .executeTakeFirst();
  if (made.numInsertedOrUpdatedRows === 0n) throw failure('Conflict', `project ${project} exists`);
  // Sorted: two projects that want the same types then wait for each other in one direction only.
  const wanted = types.map((type, position) => ({ type, project, position }));
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

/** The types of a project, in their order, as a column; `alias` is how the query calls the table of projects. */
export const typesOf = (alias: string) =>
  sql<
    string[]
  >`array(select t.type from authoritative.types t where t.project = ${sql.ref(`${alias}.project`)} order by t.position)`.as(
    'types',
  );

async function selectProjects(
  db: Database,
  { project, user }: { project?: string; user?: string },
): Promise<readonly Project[]> {
  let query = db
    .selectFrom('authoritative.projects as p')
    .select(['p.project', 'p.policy', typesOf('p')])
    .orderBy(sql`p.project collate "C"`);
  if (project !== undefined) query = query.where('p.project', '=', project);
  if (user !== undefined)
    query = query.where('p.project', 'in', (select) =>
      select.selectFrom('authoritative.members').select('project').where('name', '=', user),
    );
  const found = await query.execute();
  return found.map((row) => ({ project: row.project, types: row.types, policy: row.policy }));
}

async function bothMustExist(trx: Work, project: string, user: string): Promise<void> {
  const there = await trx
    .selectFrom('authoritative.projects')
    .select('project')
    .where('project', '=', project)
    .executeTakeFirst();
  if (!there) throw failure('NotFound', `there is no project ${project}`);
  const known = await trx.selectFrom('authoritative.users').select('name').where('name', '=', user).executeTakeFirst();
  if (!known) throw failure('NotFound', `there is no user ${user}: create the user first`);
}
