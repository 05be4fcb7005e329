// Projects with their types, policy and members.
import { sql } from 'kysely';
import type { Project, Records } from '../../records.ts';
import type { Policy } from '../../../workflows/domain/model.ts';
import { failure } from '../../failures.ts';
import { writeOnce } from './audit.ts';
import type { Database, Work } from './connection.ts';
import { json } from './connection.ts';
import { insertTypes } from './model-types.ts';

type ProjectRecords = Pick<
  Records,
  'createProject' | 'project' | 'projects' | 'projectOfType' | 'setPolicy' | 'setMember' | 'members'
>;

/** The project part of Records. */
export function projectRecords(db: Database): ProjectRecords {
  return {
    async createProject(project, audit) {
      await writeOnce(db, audit, async (trx) => {
        await insertProject(trx, project);
        await insertPolicy(trx, project.project, project.policy, audit.actor);
      });
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
      await writeOnce(db, audit, async (trx) => {
        const set = await trx
          .updateTable('authoritative.projects')
          .set({ policy: json(policy) })
          .where('project', '=', project)
          // Compare-and-set: approvals count by the policy's version, so a version never gets other content.
          .where(sql<boolean>`(policy->>'version')::integer < ${policy.version}`)
          .executeTakeFirst();
        if (set.numUpdatedRows === 0n) throw await policyProblem(trx, project, policy);
        await insertPolicy(trx, project, policy, audit.actor);
      });
    },

    async setMember(project, { user, roles }, audit) {
      await writeOnce(db, audit, async (trx) => {
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
      return db
        .selectFrom('authoritative.members as member')
        .innerJoin('authoritative.users as user', 'user.name', 'member.name')
        .select(['member.name as user', 'member.roles', 'user.disabled'])
        .where('member.project', '=', project)
        .orderBy(sql`member.name collate "C"`)
        .execute();
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
  await insertTypes(trx, project, types, 0);
}

/** A project's types, in order, as a column. `alias` is the projects table in the query. */
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

async function policyProblem(trx: Work, project: string, { version }: Policy): Promise<Error> {
  const found = await trx
    .selectFrom('authoritative.projects')
    .select('policy')
    .where('project', '=', project)
    .executeTakeFirst();
  if (!found) return failure('NotFound', `there is no project ${project}`);
  return failure(
    'Conflict',
    `policy ${found.policy.version} of project ${project} is in force, so policy ${version} cannot follow: read it again, then repeat the change`,
  );
}

/** Stores who set each policy, so that nobody can lower the bar for their own work. */
async function insertPolicy(trx: Work, project: string, policy: Policy, setBy: string): Promise<void> {
  await trx
    .insertInto('authoritative.policies')
    .values({ project, version: policy.version, policy: json(policy), set_by: setBy })
    .execute();
}

async function bothMustExist(trx: Work, project: string, user: string): Promise<void> {
  const there = await trx
    .selectFrom('authoritative.projects')
    .select('project')
    .where('project', '=', project)
    // Waits for decisions in progress, which lock the members.
    .forNoKeyUpdate()
    .executeTakeFirst();
  if (!there) throw failure('NotFound', `there is no project ${project}`);
  const known = await trx.selectFrom('authoritative.users').select('name').where('name', '=', user).executeTakeFirst();
  if (!known) throw failure('NotFound', `there is no user ${user}: create the user first`);
}
