// Users, and the tokens that authenticate them. Only the SHA-256 of a token is stored.
import { sql } from 'kysely';
import type { Digest } from '../../../workflows/domain/names.ts';
import type { IssuedToken, JobGrant, Principal, Records } from '../../records.ts';
import { failure } from '../../failures.ts';
import { writeOnce } from './audit.ts';
import type { Database, Work } from './connection.ts';
import { json, lock } from './connection.ts';
import { limitOf } from './page.ts';
import { typesOf } from './projects.ts';

type PeopleRecords = Pick<
  Records,
  | 'createUser'
  | 'user'
  | 'users'
  | 'changeUser'
  | 'issueToken'
  | 'principal'
  | 'principalIn'
  | 'tokens'
  | 'token'
  | 'jobTokens'
  | 'revokeToken'
>;

/** The people part of Records. */
export function peopleRecords(db: Database): PeopleRecords {
  return {
    async createUser(user, admin, audit) {
      await writeOnce(db, audit, async (trx) => {
        await trx
          .insertInto('authoritative.users')
          .values({ name: user, admin })
          .onConflict((conflict) => conflict.doNothing())
          .execute();
        const stored = await trx
          .selectFrom('authoritative.users')
          .select('admin')
          .where('name', '=', user)
          .executeTakeFirstOrThrow();
        if (stored.admin !== admin)
          throw failure('Conflict', `user ${user} exists and is ${stored.admin ? 'an' : 'no'} administrator`);
      });
    },

    async user(user) {
      return db
        .selectFrom('authoritative.users')
        .select(['name as user', 'admin', 'disabled'])
        .where('name', '=', user)
        .executeTakeFirst();
    },

    async users() {
      return db
        .selectFrom('authoritative.users')
        .select(['name as user', 'admin', 'disabled'])
        .orderBy(sql`name collate "C"`)
        .execute();
    },

    async changeUser(user, { admin, disabled }, audit) {
      await writeOnce(db, audit, async (trx) => {
        // Serializes changes: two administrators who disable each other concurrently would leave none.
        await lock(trx, 'administrators');
        if (disabled !== undefined) await lockProjectsOf(trx, user);
        const before = await trx
          .selectFrom('authoritative.users')
          .select(['admin', 'disabled'])
          .where('name', '=', user)
          .forUpdate()
          .executeTakeFirst();
        if (!before) throw failure('NotFound', `there is no user ${user}`);
        const after = { admin: admin ?? before.admin, disabled: disabled ?? before.disabled };
        await trx.updateTable('authoritative.users').set(after).where('name', '=', user).execute();
        if (!isGoodAdmin(before) || isGoodAdmin(after)) return;
        const left = await trx
          .selectFrom('authoritative.users')
          .select('name')
          .where('admin', '=', true)
          .where('disabled', '=', false)
          .limit(1)
          .executeTakeFirst();
        if (!left)
          throw failure(
            'Conflict',
            `${user} is the last enabled administrator: make another user an administrator first`,
          );
      });
    },

    async issueToken({ tokenId, sha256, kind, name, expiresAt, job }, audit) {
      await writeOnce(db, audit, async (trx) => {
        await holderMustExist(trx, kind, name);
        await trx
          .insertInto('authoritative.tokens')
          .values({
            token_id: tokenId,
            sha256,
            kind,
            name,
            expires_at: expiresAt,
            revoked_at: null,
            job: job && json(job),
          })
          .onConflict((conflict) => conflict.column('token_id').doNothing())
          .execute();
        const stored = await trx
          .selectFrom('authoritative.tokens')
          .select(['sha256', 'kind', 'name'])
          .where('token_id', '=', tokenId)
          .executeTakeFirstOrThrow();
        if (stored.sha256 !== sha256 || stored.kind !== kind || stored.name !== name)
          throw failure('Conflict', `token ${tokenId} exists with other content: use a new id`);
      });
    },

    async principal(sha256) {
      const found = await goodTokens(db, sha256).executeTakeFirst();
      return found && principalOf(found);
    },

    async principalIn(sha256, project) {
      const found = await goodTokens(db, sha256)
        .leftJoin('authoritative.projects as project', (join) => join.on('project.project', '=', project))
        .leftJoin('authoritative.members as member', (join) =>
          join
            .onRef('member.project', '=', 'project.project')
            .onRef('member.name', '=', 'token.name')
            .on('token.kind', '=', 'user'),
        )
        .leftJoin('authoritative.applications as application', (join) =>
          join.onRef('application.application', '=', 'token.name').on('token.kind', '=', 'application'),
        )
        .select(['project.policy', 'member.roles', 'application.row as application', typesOf('project')])
        .executeTakeFirst();
      if (!found) return undefined;
      const { policy, types, application } = found;
      const roles = found.roles ?? (application?.project === project ? (['application'] as const) : []);
      return {
        principal: principalOf(found),
        standing: policy ? { project: { project, types, policy }, roles } : undefined,
      };
    },

    async tokens(name) {
      return issuedTokens(db).where('name', '=', name).orderBy('created_at').orderBy('token_id').execute();
    },

    async token(tokenId) {
      return issuedTokens(db).where('token_id', '=', tokenId).executeTakeFirst();
    },

    async jobTokens({ after = '', limit: wanted }) {
      const limit = limitOf(wanted);
      const found: readonly IssuedToken[] = await issuedTokens(db)
        .where('kind', '=', 'job')
        .where('revoked_at', 'is', null)
        .where(stillGood)
        .where('token_id', '>', after)
        .orderBy('token_id')
        .limit(limit + 1)
        .execute();
      const rows = found.slice(0, limit);
      const last = rows.at(-1);
      return { rows, ...(found.length > limit && last && { next: last.tokenId }) };
    },

    async revokeToken(tokenId, audit) {
      await writeOnce(db, audit, async (trx) => {
        const revoked = await trx
          .updateTable('authoritative.tokens')
          .set({ revoked_at: sql<string>`coalesce(revoked_at, now())` })
          .where('token_id', '=', tokenId)
          .executeTakeFirst();
        if (revoked.numUpdatedRows === 0n) throw failure('NotFound', `there is no token ${tokenId}`);
      });
    },
  };
}

/** Waits for decisions in progress in the user's projects: they count only people who are enabled. */
async function lockProjectsOf(trx: Work, user: string): Promise<void> {
  await trx
    .selectFrom('authoritative.projects')
    .select('project')
    .where('project', 'in', (select) =>
      select.selectFrom('authoritative.members').select('project').where('name', '=', user),
    )
    .orderBy('project')
    .forNoKeyUpdate()
    .execute();
}

/** By the database's clock, shared by all processes. */
const stillGood = sql<boolean>`(expires_at is null or expires_at > now())`;

const issuedTokens = (db: Database) =>
  db
    .selectFrom('authoritative.tokens')
    .select([
      'token_id as tokenId',
      'kind',
      'name',
      'created_at as createdAt',
      'expires_at as expiresAt',
      'revoked_at as revokedAt',
    ]);

/** The token with its holder, if it is valid now. Always one query, by the database's clock. */
const goodTokens = (db: Database, sha256: Digest) =>
  db
    .selectFrom('authoritative.tokens as token')
    .leftJoin('authoritative.users as user', (join) =>
      join.onRef('user.name', '=', 'token.name').on('token.kind', '=', 'user'),
    )
    .select(['token.token_id', 'token.name', 'token.kind', 'token.job', 'user.admin'])
    .where('token.sha256', '=', sha256)
    .where('token.revoked_at', 'is', null)
    .where(stillGood)
    // Null if the holder is not a user.
    .where('user.disabled', 'is not', true);

type GoodToken = {
  token_id: string;
  name: string;
  kind: Principal['kind'];
  job: JobGrant | null;
  admin: boolean | null;
};

const principalOf = ({ token_id, name, kind, job, admin }: GoodToken): Principal => ({
  tokenId: token_id,
  name,
  kind,
  admin: admin ?? false,
  job,
});

const isGoodAdmin = ({ admin, disabled }: { admin: boolean; disabled: boolean }): boolean => admin && !disabled;

/** A token for an unused name would later work for whoever takes that name. Jobs have no row of their own. */
async function holderMustExist(trx: Work, kind: Principal['kind'], name: string): Promise<void> {
  if (kind === 'job') return;
  const found =
    kind === 'user'
      ? await trx.selectFrom('authoritative.users').select('disabled').where('name', '=', name).executeTakeFirst()
      : await trx
          .selectFrom('authoritative.applications')
          .select(sql<boolean>`false`.as('disabled'))
          .where('application', '=', name)
          .executeTakeFirst();
  if (!found) throw failure('NotFound', `there is no ${kind} ${name}: create it before its token`);
  if (found.disabled) throw failure('Conflict', `${name} is disabled, so a token would not work: enable them first`);
}
