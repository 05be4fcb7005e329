// The installation that the database belongs to, its checkpoints in other systems, and the pause after a restore.
import { sql } from 'kysely';
import { pausedError, type Finding, type Paused, type RecordsKnow } from '../../installation.ts';
import type { Records } from '../../records.ts';
import { append, writeOnce } from './audit.ts';
import type { Database, Work } from './connection.ts';
import { json, lock, transact } from './connection.ts';
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
        return { v: 1, installation, tick, audit: head, kept: await keptIn(trx), at: new Date().toISOString() };
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

    async pause(findings, audit) {
      await transact(db, async (trx) => {
        await lock(trx, 'pause');
        const earlier = (await pausedIn(trx))?.findings ?? [];
        const others = earlier.filter((one) => !findings.some(({ system }) => system === one.system));
        const all: readonly Finding[] = [...others, ...findings];
        await trx
          .insertInto('authoritative.paused')
          .values({ findings: json(all) })
          .onConflict((conflict) => conflict.column('one').doUpdateSet({ findings: json(all) }))
          .execute();
        await append(trx, [audit]);
      });
    },

    paused: () => pausedIn(db),

    async acceptRestore({ tick, numbers, keys, voidTokens }, audit) {
      await writeOnce(db, audit, async (trx) => {
        await lock(trx, 'checkpoint');
        await lock(trx, 'pause');
        await trx.deleteFrom('authoritative.paused').execute();
        await trx.deleteFrom('authoritative.marked_systems').execute();
        await trx.updateTable('authoritative.installation').set({ tick }).execute();
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
  const { rows } = await sql<{ table: string | null }>`
    select to_regclass('authoritative.installation')::text as table`.execute(db);
  if (rows[0]?.table == null) return { installation: undefined, tick: 0, kept: {}, keys: [], numbers: [] };
  const row = await installationRow(db);
  const keys = await db
    .selectFrom('authoritative.signing_keys')
    .select('key_id')
    .where('retired_at', 'is', null)
    .orderBy('key_id')
    .execute();
  return {
    installation: row?.installation,
    tick: row?.tick ?? 0,
    kept: await keptIn(db),
    keys: keys.map(({ key_id }) => key_id),
    numbers: await numbersOf(db),
  };
}

/** One index lookup per type, regardless of the number of releases. */
async function numbersOf(db: Database): Promise<RecordsKnow['numbers']> {
  const { rows } = await sql<{ type: string; newest: number; written: number }>`
    select known.type, ${newestOf(sql`known.type`)} as newest,
           coalesce((
             select sequence from authoritative.releases as release
             where release.type = known.type and manifest
               and sequence > coalesce(
                 (select sequence from authoritative.release_floors as floor where floor.type = known.type), 0)
             order by sequence desc limit 1), 0) as written
    from (select type from authoritative.types union select type from authoritative.release_floors) as known
    order by known.type`.execute(db);
  return rows;
}

const installationRow = (db: Database | Work) =>
  db.selectFrom('authoritative.installation').select(['installation', 'tick', 'audit_seq']).executeTakeFirst();

const auditHead = (trx: Work) =>
  trx.selectFrom('authoritative.audit_head').select(['seq', 'hash']).executeTakeFirstOrThrow();

async function keptIn(db: Database | Work): Promise<Readonly<Record<string, number>>> {
  const rows = await db.selectFrom('authoritative.marked_systems').selectAll().orderBy('system').execute();
  return Object.fromEntries(rows.map(({ system, tick }) => [system, tick]));
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
