// Application settings: types, gates, owner, repository and tokens.
import canonicalize from 'canonicalize';
import { z } from 'zod';
import type { Records } from '../activities/records.ts';
import type { Application } from '../workflows/domain/model.ts';
import { nameProblem } from '../workflows/domain/names.ts';
import {
  applicationFields,
  applicationScope,
  applicationSubject,
  mustBeConsumable,
  mustBeMember,
  startApplicationType,
} from './applications.ts';
import { auditEntry } from './audit-entry.ts';
import type { ApiDeps } from './deps.ts';
import { notFound, problem } from './problems.ts';
import type { Route } from './route.ts';
import { route } from './route.ts';
import { expiryFields, issueToken, revokeToken, tokensOf } from './tokens.ts';
import { newTokenView, revokedView, tokenView } from './people-views.ts';
import { applicationView, rowsOf } from './views.ts';

const one = '/v1/applications/{application}';

const change = z.strictObject({
  /** The revision that the caller saw, so that a concurrent change is not overwritten. */
  revision: z.int().min(0),
  ...z.strictObject({ ...applicationFields, repository: z.string().max(160) }).partial().shape,
});

export const applicationSettingRoutes = (deps: ApiDeps): readonly Route[] => {
  const { records, code } = deps;
  const scope = applicationScope(records);
  return [
    route({
      method: 'put',
      path: one,
      operationId: 'changeApplication',
      summary:
        'Changes types, gates, owner or repository; omitted fields stay unchanged. A live type must be taken down before it is removed',
      action: 'application.manage',
      scope,
      body: change,
      response: applicationView,
      async handler({ found, principal, roles, body: { revision, ...fields } }) {
        const next = changed(found, revision, fields);
        if (found.revision === revision) {
          await check(records, found, next);
          await code.ensure(next.repository);
          await records.changeApplication(
            next,
            auditEntry({
              key: `application.changed/${found.application}/${next.revision}`,
              project: found.project,
              kind: 'application.changed',
              actor: principal.name,
              subject: applicationSubject(found.application),
              detail: { before: found, after: next },
            }),
          );
        }
        const stored = await records.application(found.application);
        if (!stored) throw notFound(`application "${found.application}"`);
        // Repeating the same change is not an error: only its answer was lost.
        if (canonicalize(stored) !== canonicalize(next))
          throw problem(
            409,
            'stale',
            `application "${found.application}" is at revision ${stored.revision}, the request has revision ${revision}: read it again`,
          );
        const { application, project } = stored;
        const by = { askedBy: principal.name, roles, project };
        for (const type of stored.types) await startApplicationType(deps, { application, type }, by);
        return { body: stored };
      },
    }),
    route({
      method: 'post',
      path: `${one}/tokens`,
      operationId: 'issueApplicationToken',
      summary: "Issues a token for the application's own pipeline; it is shown only once",
      action: 'application.manage',
      scope,
      body: z.strictObject(expiryFields),
      response: newTokenView,
      statuses: [201],
      async handler({ found: { application: name, project }, principal, body }) {
        const given = { kind: 'application', name, actor: principal.name, project, ...body } as const;
        return { status: 201, body: await issueToken(records, given) };
      },
    }),
    route({
      method: 'get',
      path: `${one}/tokens`,
      operationId: 'listApplicationTokens',
      summary: "The application's tokens, without their secrets",
      action: 'application.manage',
      scope,
      response: rowsOf(tokenView),
      async handler({ found: { application } }) {
        return { body: { rows: await tokensOf(records, 'application', application) } };
      },
    }),
    route({
      method: 'delete',
      path: `${one}/tokens/{tokenId}`,
      operationId: 'revokeApplicationToken',
      summary: 'Revokes a token of the application',
      action: 'application.manage',
      scope,
      response: revokedView,
      async handler({ found: { application, project }, principal, params: { tokenId } }) {
        const token = await records.token(tokenId);
        if (token?.kind !== 'application' || token.name !== application) throw notFound('such token');
        await revokeToken(records, token, { actor: principal.name, project });
        return { body: { tokenId, revoked: true } };
      },
    }),
  ];
};

type Fields = Partial<Pick<Application, 'types' | 'gates' | 'owner' | 'repository'>>;

/** Applies the change to the application. */
function changed(
  found: Application,
  revision: number,
  given: { readonly [Key in keyof Fields]: Fields[Key] | undefined },
) {
  const { types = found.types, gates = found.gates, owner = found.owner, repository = found.repository } = given;
  return { ...found, revision: revision + 1, types, gates, owner, repository } satisfies Application;
}

async function check(records: Records, found: Application, next: Application): Promise<void> {
  for (const type of next.types) if (!found.types.includes(type)) await mustBeConsumable(records, found.project, type);
  if (next.owner !== found.owner) await mustBeMember(records, found.project, next.owner);
  if (next.repository === found.repository) return;
  const [project, name = '', ...rest] = next.repository.split('/');
  // The platform commits there, so it must not be the project's code or labels repository or belong to another project.
  if (project !== found.project || rest.length > 0 || !name.startsWith('app-') || nameProblem(name))
    throw problem(422, 'no-such-repository', `repository: it must be named "${found.project}/app-<name>"`);
}
