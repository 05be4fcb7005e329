// The first start: a platform that nobody can use yet gets an administrator with a token.
import type { Records } from '../activities/records.ts';
import { auditEntry } from './audit-entry.ts';
import { issueToken } from './tokens.ts';

const ADMIN = 'admin';

/**
 * Makes the user `admin` with a token, unless there is an administrator who has ever had one.
 * @returns the token, the one time it is seen
 */
export async function firstAdmin(records: Records): Promise<string | undefined> {
  const users = await records.users();
  for (const { user, admin } of users)
    if (admin && (await records.tokens(user)).some(({ kind }) => kind === 'user')) return undefined;
  if (!users.some(({ user }) => user === ADMIN))
    await records.createUser(
      ADMIN,
      true,
      auditEntry({
        key: `user.created/${ADMIN}`,
        kind: 'user.created',
        actor: 'platform',
        subject: `user/${ADMIN}`,
        detail: { admin: true },
      }),
    );
  return (await issueToken(records, { kind: 'user', name: ADMIN, actor: 'platform' })).token;
}
