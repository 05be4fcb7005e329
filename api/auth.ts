// Authentication: bearer tokens, and the roles a principal has in a project or on the platform.
import type { Principal, Records, Standing } from '../activities/records.ts';
import { digestOfToken, isToken } from '../activities/tokens.ts';
import type { Digest } from '../workflows/domain/names.ts';
import type { Role } from '../workflows/domain/roles.ts';
import { problem } from './problems.ts';

const BEARER = /^bearer +([^ ]+) *$/i;

/** The caller, and their standing in the project that the request names. */
export interface Caller {
  readonly principal: Principal;
  /** `undefined` if the project does not exist or the caller has no role in it. */
  readonly standing: Standing | undefined;
}

/**
 * The caller identified by an `Authorization` header. Throws a 401 problem if it is missing or malformed, or the token is
 * expired or revoked, or its user disabled.
 */
export async function authenticate(
  header: string | undefined,
  records: Records,
  project: string | undefined,
): Promise<Caller> {
  if (header === undefined) throw unauthenticated('send the header "Authorization: Bearer <token>"', '');
  const token = BEARER.exec(header)?.[1] ?? '';
  const caller = isToken(token) ? await callerOf(records, digestOfToken(token), project) : undefined;
  if (!caller)
    throw unauthenticated(
      'the token is unknown, expired or revoked, or its user is disabled: ask an administrator',
      ', error="invalid_token"',
    );
  return caller;
}

const unauthenticated = (detail: string, parameters: string) =>
  problem(401, 'unauthenticated', detail, {}, { 'www-authenticate': `Bearer realm="ocdl"${parameters}` });

/** Roles that a principal has regardless of the project. */
export function platformRoles(principal: Principal): readonly Role[] {
  if (principal.kind !== 'user') return [principal.kind];
  return principal.admin ? ['admin'] : [];
}

async function callerOf(records: Records, sha256: Digest, project: string | undefined): Promise<Caller | undefined> {
  if (project === undefined) {
    const principal = await records.principal(sha256);
    return principal && { principal, standing: undefined };
  }
  const found = await records.principalIn(sha256, project);
  if (!found) return undefined;
  const { principal, standing } = found;
  const roles: readonly Role[] = [...(standing?.roles ?? []), ...(principal.admin ? (['admin'] as const) : [])];
  return { principal, standing: standing && roles.length > 0 ? { ...standing, roles } : undefined };
}
