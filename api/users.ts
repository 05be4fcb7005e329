// Users of the platform: made by administrators, who also hand out their first tokens.
import { z } from 'zod';
import { auditEntry } from './audit-entry.ts';
import type { ApiDeps } from './deps.ts';
import { notFound, problem } from './problems.ts';
import type { Route } from './route.ts';
import { route } from './route.ts';
import { actorSchema } from './schemas.ts';
import { expiryFields, issueToken } from './tokens.ts';
import { newTokenView, rowsOf } from './views.ts';

const userView = z.object({ user: z.string(), admin: z.boolean() });

export const userRoutes = ({ records }: ApiDeps): readonly Route[] => [
  route({
    method: 'post',
    path: '/v1/users',
    operationId: 'createUser',
    summary: 'Adds a user',
    action: 'users.manage',
    body: z.strictObject({ user: actorSchema, admin: z.boolean().default(false) }),
    response: userView,
    statuses: [201],
    async handler({ principal, body: { user, admin } }) {
      await records.createUser(
        user,
        admin,
        auditEntry({
          key: `user.created/${user}`,
          kind: 'user.created',
          actor: principal.name,
          subject: `user/${user}`,
          detail: { admin },
        }),
      );
      // Given before with another right, nothing was written: that must not look as if it were.
      const made = (await records.users()).find((one) => one.user === user);
      if (made?.admin !== admin) throw problem(409, 'conflict', `user "${user}" exists with other rights`);
      return { status: 201, body: made };
    },
  }),
  route({
    method: 'get',
    path: '/v1/users',
    operationId: 'listUsers',
    summary: 'All users',
    action: 'users.manage',
    response: rowsOf(userView),
    async handler() {
      return { body: { rows: await records.users() } };
    },
  }),
  route({
    method: 'post',
    path: '/v1/users/{user}/tokens',
    operationId: 'issueUserToken',
    summary: 'Makes a token for a user; it is shown this once',
    action: 'users.manage',
    body: z.strictObject(expiryFields),
    response: newTokenView,
    statuses: [201],
    async handler({ principal, params: { user }, body }) {
      if (!(await records.users()).some((one) => one.user === user)) throw notFound(`user "${user}"`);
      return {
        status: 201,
        body: await issueToken(records, { kind: 'user', name: user, actor: principal.name, ...body }),
      };
    },
  }),
];
