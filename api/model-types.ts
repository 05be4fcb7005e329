// Model types: adds types to a project, and grants other projects' applications the right to consume one.
import { randomUUID } from 'node:crypto';
import { z } from 'zod';
import { TYPES_LIMIT } from '../activities/records.ts';
import { auditEntry } from './audit-entry.ts';
import type { ApiDeps } from './deps.ts';
import { notFound } from './problems.ts';
import type { Route } from './route.ts';
import { route } from './route.ts';
import { distinct, nameSchema } from './schemas.ts';
import { projectView, rowsOf, typeView } from './views.ts';

const types = distinct<string>((type) => type, 'a type');
const grantPath = '/v1/projects/{project}/types/{type}/consumers/{consumer}';
const grantView = z.object({ type: z.string(), consumer: z.string(), granted: z.boolean() });

export const typeRoutes = ({ records }: ApiDeps): readonly Route[] => {
  const setGrant = async (
    { project, type, consumer }: { project: string; type: string; consumer: string },
    granted: boolean,
    actor: string,
  ) => {
    const kind = granted ? 'type.granted' : 'type.grant-revoked';
    await records.setTypeGrant(
      { owner: project, type, consumer, granted },
      auditEntry({
        ...{ key: `${kind}/${type}/${consumer}/${randomUUID()}`, project, kind, actor },
        subject: `${project}/types/${type}`,
        detail: { consumer },
      }),
    );
    return { body: { type, consumer, granted } };
  };
  return [
    route({
      method: 'get',
      path: '/v1/projects/{project}/types',
      operationId: 'listTypes',
      summary:
        'The types that the project may use: its own, with the projects that may consume them, and those granted to it',
      action: 'project.see',
      response: rowsOf(typeView),
      async handler({ params: { project } }) {
        return { body: { rows: await records.typeAccess(project) } };
      },
    }),
    route({
      method: 'post',
      path: '/v1/projects/{project}/types',
      operationId: 'addTypes',
      summary: 'Adds types to the project; existing ones are accepted',
      action: 'project.types',
      body: z.strictObject({ types: z.array(nameSchema).min(1).max(TYPES_LIMIT).refine(types.check, types.message) }),
      response: projectView,
      async handler({ params: { project }, principal, body }) {
        await records.addTypes(
          project,
          body.types,
          auditEntry({
            ...{ key: `project.types/${project}/${randomUUID()}`, project, kind: 'project.types' },
            ...{ actor: principal.name, subject: project, detail: { added: body.types } },
          }),
        );
        const found = await records.project(project);
        if (!found) throw notFound(`project "${project}"`);
        return { body: found };
      },
    }),
    route({
      method: 'put',
      path: grantPath,
      operationId: 'grantType',
      summary: 'Lets the applications of another project consume a type of this one',
      action: 'type.grant',
      response: grantView,
      handler: async ({ params, principal }) => setGrant(params, true, principal.name),
    }),
    route({
      method: 'delete',
      path: grantPath,
      operationId: 'revokeTypeGrant',
      summary:
        'Revokes a grant: the other project gets no further releases or files of the type; a live release stays live until it is taken down',
      action: 'type.grant',
      response: grantView,
      handler: async ({ params, principal }) => setGrant(params, false, principal.name),
    }),
  ];
};
