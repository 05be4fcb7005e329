// Tokens: the caller's own tokens, and the only function that issues tokens.
import { z } from 'zod';
import type { IssuedToken, Principal, Records } from '../activities/records.ts';
import { newToken } from '../activities/tokens.ts';
import { auditEntry } from './audit-entry.ts';
import type { ApiDeps } from './deps.ts';
import { notFound } from './problems.ts';
import type { Route } from './route.ts';
import { route } from './route.ts';
import { newTokenView, revokedView, tokenView } from './people-views.ts';
import { rowsOf } from './views.ts';

/** At most ten years. Without it, the token does not expire. */
export const expiryFields = { expiresInDays: z.int().min(1).max(3_650).optional() } as const;

/** Issues a token and returns it. It is shown only once. */
export async function issueToken(
  records: Records,
  given: {
    readonly kind: Principal['kind'];
    readonly name: string;
    readonly actor: string;
    readonly project?: string;
    readonly expiresInDays?: number | undefined;
  },
) {
  const { tokenId, token, sha256 } = newToken();
  const { kind, name, actor, project = null, expiresInDays } = given;
  const expiresAt = expiresInDays ? new Date(Date.now() + expiresInDays * 86_400_000).toISOString() : null;
  await records.issueToken(
    { tokenId, sha256, kind, name, expiresAt, job: null },
    auditEntry({
      key: `token.issued/${tokenId}`,
      project,
      kind: 'token.issued',
      actor,
      subject: `${kind}/${name}`,
      detail: { tokenId, expiresAt },
    }),
  );
  return { tokenId, token, expiresAt };
}

/** The caller's identity and tokens. */
export const tokenRoutes = ({ records }: ApiDeps): readonly Route[] => [
  route({
    method: 'get',
    path: '/v1/me',
    operationId: 'getMe',
    summary: 'Your identity, and your projects with your roles',
    action: 'token.own',
    response: z.object({
      name: z.string(),
      admin: z.boolean(),
      projects: z.array(z.object({ project: z.string(), roles: z.array(z.string()).readonly() })),
    }),
    async handler({ principal }) {
      const projects = await records.projects(principal.name);
      const held = projects.map(async ({ project }) => ({
        project,
        roles: (await records.members(project)).find(({ user }) => user === principal.name)?.roles ?? [],
      }));
      return { body: { name: principal.name, admin: principal.admin, projects: await Promise.all(held) } };
    },
  }),
  route({
    method: 'post',
    path: '/v1/tokens',
    operationId: 'issueToken',
    summary: 'Issues another token for yourself; it is shown only once',
    action: 'token.own',
    body: z.strictObject(expiryFields),
    response: newTokenView,
    statuses: [201],
    async handler({ principal: { name }, body }) {
      return { status: 201, body: await issueToken(records, { kind: 'user', name, actor: name, ...body }) };
    },
  }),
  route({
    method: 'get',
    path: '/v1/tokens',
    operationId: 'listTokens',
    summary: 'Your own tokens, without their secrets',
    action: 'token.own',
    response: rowsOf(tokenView),
    async handler({ principal }) {
      return { body: { rows: await tokensOf(records, principal.kind, principal.name) } };
    },
  }),
  route({
    method: 'delete',
    path: '/v1/tokens/{tokenId}',
    operationId: 'revokeToken',
    summary: 'Revokes one of your tokens or, as an administrator, any token',
    action: 'token.own',
    response: revokedView,
    async handler({ principal, params: { tokenId } }) {
      const token = await records.token(tokenId);
      const own = token?.kind === principal.kind && token.name === principal.name;
      if (!token || (!own && !principal.admin)) throw notFound('such token');
      await revokeToken(records, token, { actor: principal.name });
      return { body: { tokenId, revoked: true } };
    },
  }),
];

/** The tokens of one holder. A user, an application and a job may have the same name. */
export async function tokensOf(
  records: Records,
  kind: Principal['kind'],
  name: string,
): Promise<readonly IssuedToken[]> {
  return (await records.tokens(name)).filter((token) => token.kind === kind);
}

/** Revokes a token. The audit names its holder. */
export async function revokeToken(
  records: Records,
  { tokenId, kind, name }: IssuedToken,
  by: { readonly actor: string; readonly project?: string },
): Promise<void> {
  await records.revokeToken(
    tokenId,
    auditEntry({
      key: `token.revoked/${tokenId}`,
      kind: 'token.revoked',
      subject: `${kind}/${name}`,
      detail: { tokenId },
      ...by,
    }),
  );
}
