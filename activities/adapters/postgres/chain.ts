// The audit's hash chain: links entries in batches, and verifies the linked rows.
import { createHash } from 'node:crypto';
import { sql } from 'kysely';
import { LINKED_AT_ONCE, type AuditCheck } from '../../records.ts';
import type { Database, Work } from './connection.ts';
import { lock, transact, tryLock } from './connection.ts';
import { canonical, entryOf, type StoredRow } from './entry-text.ts';
import { tellRefusals } from './refusals.ts';

/** The previous hash of the first row. */
const GENESIS = '0'.repeat(64);
/** Held while linking, so that the head has only one successor. */
const CHAIN_LOCK = 'audit';
/** Rows per read while the chain is verified: a few megabytes. */
const WALK = 1_000;
/** Rows are linked within a second, and transactions rarely take this long. */
const OVERDUE_SECONDS = 10;

/** Links a batch unless another process is linking. */
export async function linkBatch(db: Database): Promise<number> {
  return transact(db, async (trx) => {
    if (!(await tryLock(trx, CHAIN_LOCK))) return 0;
    await tellRefusals(trx);
    return link(trx);
  });
}

/** Links all committed rows; waits for another process that is linking. */
export async function linkAll(db: Database): Promise<void> {
  for (let linked = LINKED_AT_ONCE; linked === LINKED_AT_ONCE;)
    linked = await transact(db, async (trx) => {
      await lock(trx, CHAIN_LOCK);
      return link(trx);
    });
}

/**
 * Gives the oldest unlinked rows their positions. Rows committed later are still unlinked and get later positions, so
 * readers that page by position miss nothing.
 */
async function link(trx: Work): Promise<number> {
  const rows = await trx
    .selectFrom('authoritative.audit')
    .select(['arrival', 'entry'])
    .where('seq', 'is', null)
    .orderBy('arrival')
    .limit(LINKED_AT_ONCE)
    .execute();
  if (rows.length === 0) return 0;
  let head = await trx.selectFrom('authoritative.audit_head').select(['seq', 'hash']).executeTakeFirstOrThrow();
  const links = rows.map(({ arrival, entry }) => {
    const [seq, previous] = [head.seq + 1, head.hash];
    head = { seq, hash: hashOfText(seq, previous, entry) };
    return { arrival, previous, ...head };
  });
  // One statement with four parameters, regardless of the number of rows.
  const { numAffectedRows } = await sql`
    update authoritative.audit a set seq = l.seq, previous = l.previous, hash = l.hash
    from unnest(${links.map(({ arrival }) => arrival)}::bigint[], ${links.map(({ seq }) => seq)}::bigint[],
      ${links.map(({ previous }) => previous)}::text[], ${links.map(({ hash }) => hash)}::text[])
      as l (arrival, seq, previous, hash)
    where a.arrival = l.arrival`.execute(trx);
  if (numAffectedRows !== BigInt(rows.length))
    throw new Error(`${rows.length} audit rows should have been linked, but ${String(numAffectedRows)} were`);
  await trx.updateTable('authoritative.audit_head').set(head).execute();
  return rows.length;
}

/** Verifies the chain in one snapshot: head and rows are from the same moment, and writers are not blocked. */
export async function verifyChain(db: Database): Promise<AuditCheck> {
  return db
    .transaction()
    .setIsolationLevel('repeatable read')
    .setAccessMode('read only')
    .execute(async (trx) => {
      const { rows, broken } = await walk(trx);
      const { unlinked, overdue } = await trx
        .selectFrom('authoritative.audit')
        .select((eb) => eb.fn.countAll<number>().as('unlinked'))
        .select(
          sql<number>`count(*) filter (where recorded_at < now() - make_interval(secs => ${OVERDUE_SECONDS}))`.as(
            'overdue',
          ),
        )
        .where('seq', 'is', null)
        .executeTakeFirstOrThrow();
      return { rows: rows + unlinked, broken, unlinked, overdue };
    });
}

async function walk(trx: Work): Promise<Pick<AuditCheck, 'rows' | 'broken'>> {
  const head = await trx.selectFrom('authoritative.audit_head').select(['seq', 'hash']).executeTakeFirst();
  const state: { rows: number; broken: number | null; last: { seq: number; hash: string } } = {
    rows: 0,
    broken: null,
    last: { seq: 0, hash: GENESIS },
  };
  // Someone may have written any number by hand, including values below 1.
  for (let after = Number.MIN_SAFE_INTEGER; ;) {
    const page = await trx
      .selectFrom('authoritative.audit')
      .selectAll()
      .where('seq', '>', after)
      .orderBy('seq')
      .limit(WALK)
      .execute();
    for (const row of page) {
      state.rows += 1;
      const expected = state.last.seq + 1;
      if (state.broken === null && !isLinked(row, expected, state.last.hash))
        state.broken = Math.min(row.seq ?? expected, expected);
      state.last = { seq: row.seq ?? expected, hash: row.hash ?? '' };
    }
    if (page.length < WALK) break;
    after = state.last.seq;
  }
  const ends = head !== undefined && head.seq === state.last.seq && head.hash === state.last.hash;
  if (state.broken === null && !ends)
    state.broken = Math.min(state.last.seq, head?.seq ?? state.last.seq) + (head?.seq === state.last.seq ? 0 : 1);
  return { rows: state.rows, broken: state.broken };
}

/** Whether the row is intact, at its position, and its columns match its entry. */
function isLinked(row: StoredRow, seq: number, previous: string): boolean {
  if (row.seq !== seq || row.previous !== previous) return false;
  try {
    const entry = entryOf(row);
    const same = entry.key === row.key && entry.project === row.project && entry.subject === row.subject;
    return same && hashOfText(seq, previous, canonical(entry)) === row.hash;
  } catch {
    return false;
  }
}

/** Hash of the RFC 8785 text of `{ seq, previous, entry }`, from the entry's text. */
function hashOfText(seq: number, previous: string, entry: string): string {
  const text = `{"entry":${entry},"previous":${JSON.stringify(previous)},"seq":${seq}}`;
  return createHash('sha256').update(text, 'utf8').digest('hex');
}
