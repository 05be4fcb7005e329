// First start: creates an administrator with a token for a platform that has none.
import type { Records } from '../activities/records.ts';
import { auditEntry } from './audit-entry.ts';
import { issueToken } from './tokens.ts';

const ADMIN = 'admin';

/**
 * Creates the user `admin` with a token, unless an enabled administrator has ever had one.
 * @returns the token, which is shown only once
 */
export async function firstAdmin(records: Records): Promise<string | undefined> {
  const users = await records.users();
  const admins = users.filter(({ admin, disabled }) => admin && !disabled).map(({ user }) => user);
  for (const user of admins) if ((await records.tokens(user)).some(({ kind }) => kind === 'user')) return undefined;
  const [holder = ADMIN] = admins;
  if (admins.length === 0)
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
  return (await issueToken(records, { kind: 'user', name: holder, actor: 'platform' })).token;
}
