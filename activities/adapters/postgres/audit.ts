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

/** Statements that append at the same time; entries that arrive meanwhile share the next one. One blocked by a key leaves others. */
const AT_ONCE = 4;
/** Calls that share a statement: some hundred kilobytes. */
const SHARING = 100;

/** Appends entries of concurrent calls with one statement, so that under load each costs a part of one. */
function gathering(db: Database): (entries: readonly AuditEntry[]) => Promise<void> {
  interface Call {
    readonly entries: readonly AuditEntry[];
    readonly resolve: () => void;
    readonly reject: (error: unknown) => void;
  }
  const waiting: Call[] = [];
  const state = { running: 0 };

  async function write(calls: readonly Call[]): Promise<void> {
    try {
      await append(
        db,
        calls.flatMap(({ entries }) => entries),
      );
      for (const { resolve } of calls) resolve();
    } catch (error) {
      const [first, ...others] = calls;
      if (others.length === 0) first?.reject(error);
      // One call's failure is not the others'.
      else await Promise.all(calls.map((call) => write([call])));
    }
  }

  async function work(): Promise<void> {
    state.running += 1;
    while (waiting.length > 0) await write(waiting.splice(0, SHARING));
    state.running -= 1;
  }

  return (entries) =>
    new Promise((resolve, reject) => {
      waiting.push({ entries, resolve, reject });
      if (state.running < AT_ONCE) void work();
    });
}

/** The audit part of Records. */
export function auditRecords(db: Database): AuditRecords {
  const appendGathered = gathering(db);
  return {
    async record(entries, projections) {
      // A single statement is already a transaction.
      if (projections.length === 0) return appendGathered(entries);
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
