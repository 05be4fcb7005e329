// Who is asking: bearer tokens, and the roles a principal holds in a project or on the platform.
import type { Principal, Project, Records } from '../activities/records.ts';
import { digestOfToken, isToken } from '../activities/tokens.ts';
import type { Role } from '../workflows/domain/roles.ts';
import { problem } from './problems.ts';

const BEARER = /^bearer +([^ ]+) *$/i;

/** The principal of an `Authorization` header; a 401 problem for none, for junk, and for a token that is no longer good. */
export async function authenticate(header: string | undefined, records: Records): Promise<Principal> {
  if (header === undefined) throw unauthenticated('send the header "Authorization: Bearer <token>"', '');
  const token = BEARER.exec(header)?.[1] ?? '';
  const principal = isToken(token) ? await records.principal(digestOfToken(token)) : undefined;
  if (!principal)
    throw unauthenticated(
      'the token is unknown, expired or revoked: ask an administrator for another one',
      ', error="invalid_token"',
    );
  return principal;
}

const unauthenticated = (detail: string, parameters: string) =>
  problem(401, 'unauthenticated', detail, {}, { 'www-authenticate': `Bearer realm="ocdl"${parameters}` });

/** Roles that a principal holds wherever it is. */
export function platformRoles(principal: Principal): readonly Role[] {
  if (principal.kind !== 'user') return [principal.kind];
  return principal.admin ? ['admin'] : [];
}

/** A project as one principal stands in it. */
export interface Standing {
  readonly project: Project;
  readonly roles: readonly Role[];
}

/** The roles of a principal in a project; `undefined` when there is no such project or they have nothing to do with it. */
export async function standingIn(records: Records, principal: Principal, name: string): Promise<Standing | undefined> {
  // Both at once: every request waits for them.
  const [project, held] = await Promise.all([records.project(name), projectRoles(records, principal, name)]);
  if (!project) return undefined;
  const roles = [...held];
  if (principal.kind === 'user' && principal.admin) roles.push('admin');
  return roles.length > 0 ? { project, roles } : undefined;
}

async function projectRoles(records: Records, principal: Principal, project: string): Promise<readonly Role[]> {
  switch (principal.kind) {
    case 'user':
      return (await records.members(project)).find(({ user }) => user === principal.name)?.roles ?? [];
    case 'application':
      return (await records.application(principal.name))?.project === project ? ['application'] : [];
    case 'job':
      // A job's token opens its own inputs and outputs, never a project.
      return [];
    default:
      return principal.kind satisfies never;
  }
}
