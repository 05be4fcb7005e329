// The audit: append-only entries with permanently unique keys, and the projections written with them.
import { sql } from 'kysely';
import type { AuditEntry, AuditRow, Records } from '../../records.ts';
import { linkAll, linkBatch, verifyChain } from './chain.ts';
import type { Database, Work } from './connection.ts';
import { transact } from './connection.ts';
import { entryOf, rowOf, type StoredRow } from './entry-text.ts';
import { cursorOf, limitOf, cutPage } from './page.ts';
import { writeProjections } from './projections.ts';
import { countRefusal } from './refusals.ts';

type AuditRecords = Pick<Records, 'record' | 'recordRefused' | 'audit' | 'audited' | 'linkAudit' | 'verifyAudit'>;

/**
 * Inserts the entries whose keys do not exist yet, in the transaction of the events they describe. The chain is linked
 * later (see `chain.ts`). Waits only for transactions that write one of the same keys. Returns the number of new entries.
 */
export async function append(trx: Database, entries: readonly AuditEntry[]): Promise<number> {
  if (entries.length === 0) return 0;
  const inserted = await trx
    .insertInto('authoritative.audit')
    .values(entries.map(rowOf))
    .onConflict((conflict) => conflict.column('key').doNothing())
    .executeTakeFirst();
  return Number(inserted.numInsertedOrUpdatedRows ?? 0n);
}

/** A write that happens once per audit key: `work` runs only if the key is new. */
export async function writeOnce(db: Database, audit: AuditEntry, work: (trx: Work) => Promise<void>): Promise<void> {
  await transact(db, async (trx) => {
    // Must come first: concurrent callers with the same key wait here until this transaction ends.
    if ((await append(trx, [audit])) > 0) await work(trx);
  });
}

/** The audit part of Records. */
export function auditRecords(db: Database): AuditRecords {
  return {
    async record(entries, projections) {
      // A single statement is already a transaction.
      if (projections.length === 0) return void (await append(db, entries));
      await transact(db, async (trx) => {
        await writeProjections(trx, projections);
        await append(trx, entries);
      });
    },

    async recordRefused(entry, by) {
      await countRefusal(db, entry, by);
    },

    async audit(filter) {
      const { after, limit } = { after: cursorOf(filter), limit: limitOf(filter.limit) };
      for (;;) {
        const found = await readPage(db, filter, after ?? 0, limit + 1);
        // A page must end at a linked row: an unlinked row gives no cursor for the next page.
        if (found.length > limit && found[limit - 1]?.seq === null) await linkAll(db);
        else return cutPage(found, limit, ({ seq }) => String(seq), auditRow);
      }
    },

    async audited(key) {
      const found = await db
        .selectFrom('authoritative.audit')
        .select(['seq', 'entry'])
        .where('key', '=', key)
        .executeTakeFirst();
      return found && entryOf(found);
    },

    linkAudit: () => linkBatch(db),

    verifyAudit: () => verifyChain(db),
  };
}

/** Linked rows after a position, then unlinked rows. One statement, so that a row linked meanwhile is not missed. */
async function readPage(
  db: Database,
  { project, subject }: Parameters<Records['audit']>[0],
  after: number,
  most: number,
): Promise<readonly StoredRow[]> {
  let rows = db.selectFrom('authoritative.audit').selectAll().limit(most);
  if (project !== undefined)
    rows = project === null ? rows.where('project', 'is', null) : rows.where('project', '=', project);
  if (subject !== undefined) rows = rows.where('subject', '=', subject);
  const linked = rows.where('seq', '>', after).orderBy('seq');
  const unlinked = rows.where('seq', 'is', null).orderBy('arrival');
  return db
    .selectFrom(linked.as('linked'))
    .selectAll()
    .unionAll(db.selectFrom(unlinked.as('unlinked')).selectAll())
    .orderBy(sql`seq nulls last`)
    .orderBy('arrival')
    .limit(most)
    .execute();
}

function auditRow(row: StoredRow): AuditRow {
  const { seq, previous, hash } = row;
  return { seq, previous, hash, entry: entryOf(row) };
}
