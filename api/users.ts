// Users: administrators create, disable and promote them, and see and revoke their tokens.
import { randomUUID } from 'node:crypto';
import { z } from 'zod';
import { auditEntry } from './audit-entry.ts';
import type { ApiDeps } from './deps.ts';
import { notFound, problem } from './problems.ts';
import type { Route } from './route.ts';
import { route } from './route.ts';
import { actorSchema, pageQuery } from './schemas.ts';
import { expiryFields, issueToken, tokensOf } from './tokens.ts';
import { newTokenView, tokenView, userView } from './people-views.ts';
import { pageOf, rowsOf } from './views.ts';

export const userRoutes = ({ records }: ApiDeps): readonly Route[] => {
  const found = async (user: string) => {
    const one = await records.user(user);
    if (!one) throw notFound(`user "${user}"`);
    return one;
  };
  return [
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
        // If the user exists with different rights, nothing was written. The answer must not look like success.
        const made = await records.user(user);
        if (made?.admin !== admin)
          throw problem(
            409,
            'conflict',
            `user "${user}" exists with other rights: change them with PUT /v1/users/${user}`,
          );
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
      method: 'put',
      path: '/v1/users/{user}',
      operationId: 'changeUser',
      summary:
        'Disables or enables a user, or grants or withdraws administrator rights; tokens of a disabled user are refused until the user is enabled again',
      action: 'users.manage',
      body: z
        .strictObject({ admin: z.boolean(), disabled: z.boolean() })
        .partial()
        .refine((change) => Object.keys(change).length > 0, 'give admin, disabled or both'),
      response: userView,
      async handler({ principal, params: { user }, body }) {
        const { admin, disabled } = await found(user);
        await records.changeUser(
          user,
          body,
          auditEntry({
            key: `user.changed/${user}/${randomUUID()}`,
            kind: 'user.changed',
            actor: principal.name,
            subject: `user/${user}`,
            detail: { before: { admin, disabled }, change: body },
          }),
        );
        return { body: await found(user) };
      },
    }),
    route({
      method: 'post',
      path: '/v1/users/{user}/tokens',
      operationId: 'issueUserToken',
      summary: 'Issues a token for a user; it is shown only once',
      action: 'users.manage',
      body: z.strictObject(expiryFields),
      response: newTokenView,
      statuses: [201],
      async handler({ principal, params: { user }, body }) {
        await found(user);
        return {
          status: 201,
          body: await issueToken(records, { kind: 'user', name: user, actor: principal.name, ...body }),
        };
      },
    }),
    route({
      method: 'get',
      path: '/v1/users/{user}/tokens',
      operationId: 'listUserTokens',
      summary: "A user's tokens, without their secrets; DELETE /v1/tokens/{tokenId} revokes one",
      action: 'users.manage',
      response: rowsOf(tokenView),
      async handler({ params: { user } }) {
        await found(user);
        return { body: { rows: await tokensOf(records, 'user', user) } };
      },
    }),
    route({
      method: 'get',
      path: '/v1/jobs/tokens',
      operationId: 'listJobTokens',
      summary:
        'The valid tokens of jobs; DELETE /v1/tokens/{tokenId} revokes one, after which its job cannot store anything',
      action: 'users.manage',
      query: pageQuery,
      response: pageOf(tokenView),
      async handler({ query: { after, limit } }) {
        return { body: await records.jobTokens({ limit, ...(after !== undefined && { after }) }) };
      },
    }),
  ];
};
