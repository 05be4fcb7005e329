// Projects: their types, policy and members.
import { randomUUID } from 'node:crypto';
import canonicalize from 'canonicalize';
import { z } from 'zod';
import type { Project } from '../activities/records.ts';
import { TYPES_LIMIT } from '../activities/records.ts';
import { isFailure } from '../activities/failures.ts';
import type { Policy } from '../workflows/domain/model.ts';
import { defaultPolicy } from '../workflows/domain/model.ts';
import { auditEntry } from './audit-entry.ts';
import type { ApiDeps } from './deps.ts';
import { notFound, problem } from './problems.ts';
import type { Route } from './route.ts';
import { route } from './route.ts';
import { distinct, nameSchema, policyFields } from './schemas.ts';
import { memberView, policyView, projectView, rowsOf } from './views.ts';

const types = distinct<string>((type) => type, 'a type');
/** Far more than people who change one policy at the same time. */
const POLICY_TRIES = 20;
const memberRoles = z.enum(['scientist', 'manager', 'developer', 'engineer']);

export const projectRoutes = ({ records }: ApiDeps): readonly Route[] => [
  route({
    method: 'post',
    path: '/v1/projects',
    operationId: 'createProject',
    summary: 'Creates a project that owns these model types',
    action: 'project.create',
    body: z.strictObject({
      project: nameSchema,
      types: z.array(nameSchema).min(1).max(TYPES_LIMIT).refine(types.check, types.message),
      policy: z.strictObject(policyFields).partial().default({}),
    }),
    response: projectView,
    statuses: [201],
    async handler({ principal, body }) {
      const project = {
        project: body.project,
        types: body.types,
        policy: { ...defaultPolicy, ...defined(body.policy) },
      };
      await records.createProject(
        project,
        auditEntry({
          key: `project.created/${project.project}`,
          project: project.project,
          kind: 'project.created',
          actor: principal.name,
          subject: project.project,
          detail: { types: project.types, policy: project.policy },
        }),
      );
      const made = await records.project(project.project);
      // Repeating the same request is not an error. If a different project exists, nothing was written.
      if (!made || canonicalize(sorted(made)) !== canonicalize(sorted(project)))
        throw problem(409, 'conflict', `project "${project.project}" exists with other types or rules`);
      return { status: 201, body: made };
    },
  }),
  route({
    method: 'get',
    path: '/v1/projects',
    operationId: 'listProjects',
    summary: 'Your projects; for administrators, all projects',
    action: 'token.own',
    response: rowsOf(projectView),
    async handler({ principal: { admin, name } }) {
      return { body: { rows: await records.projects(admin ? null : name) } };
    },
  }),
  route({
    method: 'get',
    path: '/v1/projects/{project}',
    operationId: 'getProject',
    summary: 'A project with its types and policy',
    action: 'project.see',
    response: projectView,
    async handler({ project }) {
      return { body: project };
    },
  }),
  route({
    method: 'put',
    path: '/v1/projects/{project}/policy',
    operationId: 'setPolicy',
    summary: 'Sets the policy for decisions from now on; omitted fields stay unchanged',
    action: 'project.policy',
    body: z.strictObject(policyFields).partial(),
    response: policyView,
    async handler({ principal, project: { project, policy: seen }, body }) {
      const set = async (before: Policy): Promise<Policy> => {
        const policy = { ...before, ...defined(body), version: before.version + 1 };
        await records.setPolicy(
          project,
          policy,
          auditEntry({
            key: `project.policy/${project}/${randomUUID()}`,
            project,
            kind: 'project.policy',
            actor: principal.name,
            subject: project,
            detail: { policy },
          }),
        );
        return policy;
      };
      let before = seen;
      for (let tries = 1; ; tries += 1)
        try {
          return { body: await set(before) };
        } catch (error) {
          if (tries === POLICY_TRIES || !isFailure(error, 'Conflict')) throw error;
          // Another change came first. Fields that this request omits keep that change's values.
          before = (await records.project(project))?.policy ?? before;
        }
    },
  }),
  route({
    method: 'get',
    path: '/v1/projects/{project}/members',
    operationId: 'listMembers',
    summary: 'Members of the project with their roles; the roles of a disabled person do not count',
    action: 'project.see',
    response: rowsOf(memberView),
    async handler({ params: { project } }) {
      return { body: { rows: await records.members(project) } };
    },
  }),
  route({
    method: 'put',
    path: '/v1/projects/{project}/members/{user}',
    operationId: 'setMember',
    summary: "Sets a person's roles; an empty list removes them from the project",
    action: 'project.members',
    body: z.strictObject({ roles: z.array(memberRoles).max(4) }),
    response: memberView,
    async handler({ principal, params: { project, user }, body }) {
      const person = await records.user(user);
      if (!person) throw notFound(`user "${user}"`);
      const member = { user, roles: [...new Set(body.roles)] };
      await records.setMember(
        project,
        member,
        auditEntry({
          key: `project.member/${project}/${user}/${randomUUID()}`,
          project,
          kind: 'project.member',
          actor: principal.name,
          subject: `${project}/members/${user}`,
          detail: { roles: member.roles },
        }),
      );
      return { body: { ...member, disabled: person.disabled } };
    },
  }),
];

const sorted = (project: Project): Project => ({ ...project, types: [...project.types].sort() });

/** Removes keys with the value undefined, which would otherwise overwrite. */
function defined<T extends object>(given: T): { [Key in keyof T]: Exclude<T[Key], undefined> } {
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)) as {
    [Key in keyof T]: Exclude<T[Key], undefined>;
  };
}
