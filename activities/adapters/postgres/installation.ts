// The installation that the database belongs to, its checkpoints in other systems, and the pause after a restore.
import { sql } from 'kysely';
import { failure } from '../../failures.ts';
import { pausedError, type Finding, type Paused, type RecordsKnow } from '../../installation.ts';
import type { Records } from '../../records.ts';
import { append, writeOnce } from './audit.ts';
import type { Database, Work } from './connection.ts';
import { clockNow, json, lock, transact } from './connection.ts';
import { newestOf } from './numbers.ts';

type InstallationRecords = Pick<
  Records,
  'claimInstallation' | 'known' | 'auditHash' | 'checkpoint' | 'kept' | 'pause' | 'paused' | 'acceptRestore'
>;

/** The current pause, for reads inside a transaction. */
export async function pausedIn(db: Database | Work): Promise<Paused | undefined> {
  return db.selectFrom('authoritative.paused').select(['since', 'findings']).executeTakeFirst();
}

/**
 * Throws a retryable error ({@link pausedError}) while decisions and deliveries are paused. A deciding transaction
 * calls it before it writes: it delays a new pause until the decision is committed.
 */
export async function mustNotBePaused(trx: Work): Promise<void> {
  await sql`select pg_advisory_xact_lock_shared(hashtextextended('ocdl:pause', 0))`.execute(trx);
  const paused = await pausedIn(trx);
  if (paused) throw pausedError(paused);
}

/** The installation part of Records. */
export function installationRecords(db: Database): InstallationRecords {
  return {
    async claimInstallation(installation) {
      await db
        .insertInto('authoritative.installation')
        .values({ installation })
        .onConflict((conflict) => conflict.doNothing())
        .execute();
      return (await installationRow(db))?.installation ?? installation;
    },

    known: () => recordsKnow(db),

    async auditHash(seq) {
      const found = await db.selectFrom('authoritative.audit').select('hash').where('seq', '=', seq).executeTakeFirst();
      return found?.hash ?? undefined;
    },

    async checkpoint(forced) {
      return transact(db, async (trx) => {
        await lock(trx, 'checkpoint');
        const [row, head] = [await installationRow(trx), await auditHead(trx)];
        if (!row || (!forced && row.audit_seq === head.seq)) return undefined;
        const tick = row.tick + 1;
        await trx.updateTable('authoritative.installation').set({ tick, audit_seq: head.seq }).execute();
        const { installation } = row;
        const [accepted, kept] = [await acceptedIn(trx), await keptIn(trx)];
        return { v: 1, installation, tick, accepted, audit: head, kept, at: new Date().toISOString() };
      });
    },

    async kept(system, tick) {
      await db
        .insertInto('authoritative.marked_systems')
        .values({ system, tick })
        .onConflict((conflict) =>
          conflict
            .column('system')
            .doUpdateSet({ tick: sql<number>`greatest(authoritative.marked_systems.tick, excluded.tick)` }),
        )
        .execute();
    },

    async pause(findings, audit, accepted) {
      return transact(db, async (trx) => {
        await lock(trx, 'pause');
        if ((await acceptedIn(trx)) !== accepted) return false;
        const earlier = (await pausedIn(trx))?.findings ?? [];
        const others = earlier.filter((one) => !findings.some(({ system }) => system === one.system));
        const all: readonly Finding[] = [...others, ...findings];
        await trx
          .insertInto('authoritative.paused')
          .values({ findings: json(all) })
          .onConflict((conflict) => conflict.column('one').doUpdateSet({ findings: json(all) }))
          .execute();
        await append(trx, [audit]);
        return true;
      });
    },

    paused: () => pausedIn(db),

    async acceptRestore({ tick, accepted, numbers, keys, voidTokens, findings }, audit) {
      await writeOnce(db, audit, async (trx) => {
        await lock(trx, 'checkpoint');
        await endPause(trx, findings);
        await trx.deleteFrom('authoritative.marked_systems').execute();
        // A process that was writing a checkpoint meanwhile has counted on.
        await trx
          .updateTable('authoritative.installation')
          .set({
            tick: sql<number>`greatest(tick, ${tick})`,
            accepted: sql<number>`greatest(accepted, ${accepted}) + 1`,
          })
          .execute();
        await retireOtherKeys(trx, keys);
        for (const { type, sequence } of numbers) await raiseFloor(trx, type, sequence);
        if (voidTokens) await append(trx, [{ ...audit, ...(await revokeAll(trx, audit.key)) }]);
      });
    },
  };
}

/**
 * What the records know about the installation. Also works on a database without these tables (empty, or from an earlier
 * version): then nothing is known.
 */
export async function recordsKnow(db: Database): Promise<RecordsKnow> {
  // One snapshot: between two statements the database may be restored, and parts of both would say what neither knew.
  return db.transaction().setIsolationLevel('repeatable read').setAccessMode('read only').execute(knownIn);
}

async function knownIn(trx: Work): Promise<RecordsKnow> {
  const { rows } = await sql<{ table: string | null; accepted: string | null }>`
    select to_regclass('authoritative.installation')::text as table,
           (select column_name from information_schema.columns where table_schema = 'authoritative'
              and table_name = 'installation' and column_name = 'accepted')::text as accepted`.execute(trx);
  const [found] = rows;
  if (found?.table == null) return { installation: undefined, tick: 0, accepted: 0, kept: {}, keys: [], numbers: [] };
  const row = await installationRow(trx);
  const keys = await trx
    .selectFrom('authoritative.signing_keys')
    .select('key_id')
    .where('retired_at', 'is', null)
    .orderBy('key_id')
    .execute();
  return {
    installation: row?.installation,
    tick: row?.tick ?? 0,
    accepted: found.accepted === null ? 0 : await acceptedIn(trx),
    kept: await keptIn(trx),
    keys: keys.map(({ key_id }) => key_id),
    numbers: await numbersOf(trx),
  };
}

/** One index lookup per type, regardless of the number of releases. */
async function numbersOf(trx: Work): Promise<RecordsKnow['numbers']> {
  const { rows } = await sql<{ type: string; newest: number; written: number }>`
    select known.type, ${newestOf(sql`known.type`)} as newest,
           coalesce((
             select sequence from authoritative.releases as release
             where release.type = known.type and manifest
               and sequence > coalesce(
                 (select sequence from authoritative.release_floors as floor where floor.type = known.type), 0)
             order by sequence desc limit 1), 0) as written
    from (select type from authoritative.types union select type from authoritative.release_floors) as known
    order by known.type`.execute(trx);
  return rows;
}

const installationRow = (db: Database | Work) =>
  db.selectFrom('authoritative.installation').select(['installation', 'tick', 'audit_seq']).executeTakeFirst();

const auditHead = (trx: Work) =>
  trx.selectFrom('authoritative.audit_head').select(['seq', 'hash']).executeTakeFirstOrThrow();

async function keptIn(trx: Work): Promise<Readonly<Record<string, number>>> {
  const rows = await trx.selectFrom('authoritative.marked_systems').selectAll().orderBy('system').execute();
  return Object.fromEntries(rows.map(({ system, tick }) => [system, tick]));
}

/** How many restores were accepted. */
async function acceptedIn(trx: Work): Promise<number> {
  const row = await trx.selectFrom('authoritative.installation').select('accepted').executeTakeFirst();
  return row?.accepted ?? 0;
}

/**
 * Ends the pause and records it. Deadlines that had not passed when it began move by its length, because people could not act.
 * The `pause` lock comes after the rows of versions, as in a deciding transaction.
 */
async function endPause(trx: Work, findings: readonly Finding[]): Promise<void> {
  const since = (await pausedIn(trx))?.since ?? null;
  const { at } = await trx.selectNoFrom(clockNow.as('at')).executeTakeFirstOrThrow();
  if (since !== null)
    await trx
      .updateTable('authoritative.standings')
      .set({ undo_until: sql<string>`undo_until + (${at}::timestamptz - ${since}::timestamptz)` })
      .where('undo_until', '>', since)
      .where('closed', '=', false)
      .execute();
  await lock(trx, 'pause');
  const unseen = ((await pausedIn(trx))?.findings ?? []).filter(
    (one) => !findings.some(({ system, kind }) => system === one.system && kind === one.kind),
  );
  if (unseen.length > 0)
    throw failure(
      'Conflict',
      `another restore was found meanwhile (${unseen.map(({ text }) => text).join('; ')}): run "ocdl restore list", then accept again`,
    );
  await trx.deleteFrom('authoritative.paused').execute();
  await trx.insertInto('authoritative.restores').values({ paused_since: since, accepted_at: at }).execute();
}

/** How long the platform was paused after `since`, in milliseconds; a pause that is not accepted yet does not count. */
export async function pausedAfter(trx: Work, since: string): Promise<number> {
  const { rows } = await sql<{ ms: number }>`
    select coalesce(sum(extract(epoch from accepted_at - greatest(paused_since, ${since}::timestamptz))), 0)::float8 * 1000 as ms
    from authoritative.restores where accepted_at > ${since}::timestamptz and paused_since is not null`.execute(trx);
  return rows[0]?.ms ?? 0;
}

/** Retires every signing key that is no longer in any home. */
async function retireOtherKeys(trx: Work, keys: readonly string[]): Promise<void> {
  const known = trx.updateTable('authoritative.signing_keys').set({ retired_at: sql<string>`now()` });
  const open = known.where('retired_at', 'is', null);
  await (keys.length === 0 ? open : open.where('key_id', 'not in', keys)).execute();
}

async function raiseFloor(trx: Work, type: string, sequence: number): Promise<void> {
  await lock(trx, `sequence:${type}`);
  await trx
    .insertInto('authoritative.release_floors')
    .values({ type, sequence })
    .onConflict((conflict) =>
      conflict
        .column('type')
        .doUpdateSet({ sequence: sql<number>`greatest(authoritative.release_floors.sequence, excluded.sequence)` }),
    )
    .execute();
}

/** Revokes all remaining tokens of people and applications, and returns the remaining fields of the audit entry. */
async function revokeAll(trx: Work, key: string) {
  const revoked = await trx
    .updateTable('authoritative.tokens')
    .set({ revoked_at: sql<string>`now()` })
    .where('kind', 'in', ['user', 'application'])
    .where('revoked_at', 'is', null)
    .executeTakeFirst();
  return {
    key: `${key}/tokens`,
    kind: 'tokens.voided',
    subject: 'tokens',
    detail: { revoked: Number(revoked.numUpdatedRows) },
  };
}
