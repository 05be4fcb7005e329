// The audit: one hash chain over the whole platform, append-only, and the projections that are written with it.
import { createHash } from 'node:crypto';
import canonicalize from 'canonicalize';
import type { AuditEntry, AuditRow, Records } from '../../records.ts';
import { failure } from '../../failures.ts';
import type { Database, Work } from './connection.ts';
import { lock, transact, wellFormedJson } from './connection.ts';
import { cursorOf, limitOf, pageOf } from './page.ts';
import { writeProjections } from './projections.ts';
import type { Tables } from './schema.ts';

/** What the first row names as the hash before it. */
const GENESIS = '0'.repeat(64);
/** Rows per read while the chain is walked: a few megabytes. */
const WALK = 1_000;

type StoredRow = Tables['authoritative.audit'];

/**
 * Appends the entries whose keys are not there yet. Sequence numbers have no gaps, since a number is given under the
 * chain's lock, which is held until the commit: so this comes last in a transaction.
 */
export async function append(trx: Work, entries: readonly AuditEntry[]): Promise<void> {
  if (entries.length === 0) return;
  await lock(trx, 'audit');
  const found = await trx
    .selectFrom('authoritative.audit')
    .select('key')
    .where(
      'key',
      'in',
      entries.map(({ key }) => key),
    )
    .execute();
  const known = new Set(found.map(({ key }) => key));
  let head = await trx.selectFrom('authoritative.audit_head').select(['seq', 'hash']).executeTakeFirstOrThrow();
  const rows: StoredRow[] = [];
  for (const entry of entries) {
    if (known.has(entry.key)) continue;
    known.add(entry.key);
    const row = link(head.seq + 1, head.hash, entry);
    rows.push(row);
    head = { seq: row.seq, hash: row.hash };
  }
  if (rows.length === 0) return;
  await trx.insertInto('authoritative.audit').values(rows).execute();
  await trx.updateTable('authoritative.audit_head').set(head).execute();
}

/** A write that counts once, for ever: `work` runs only while the audit does not hold the entry's key. */
export async function once(db: Database, audit: AuditEntry, work: (trx: Work) => Promise<void>): Promise<void> {
  await transact(db, async (trx) => {
    await lock(trx, `key:${audit.key}`);
    const known = await trx
      .selectFrom('authoritative.audit')
      .select('seq')
      .where('key', '=', audit.key)
      .executeTakeFirst();
    if (known) return;
    await work(trx);
    await append(trx, [audit]);
  });
}

/** The audit's part of Records. */
export function auditRecords(db: Database): Pick<Records, 'record' | 'audit' | 'verifyAudit'> {
  return {
    async record(entries, projections) {
      await transact(db, async (trx) => {
        await writeProjections(trx, projections);
        await append(trx, entries);
      });
    },

    async audit({ project, subject, ...page }) {
      const [after, limit] = [cursorOf(page), limitOf(page.limit)];
      let query = db
        .selectFrom('authoritative.audit')
        .selectAll()
        .orderBy('seq')
        .limit(limit + 1);
      if (project !== undefined)
        query = project === null ? query.where('project', 'is', null) : query.where('project', '=', project);
      if (subject !== undefined) query = query.where('subject', '=', subject);
      if (after !== undefined) query = query.where('seq', '>', after);
      return pageOf(
        await query.execute(),
        limit,
        ({ seq }) => seq,
        (row) => auditRow(row),
      );
    },

    async verifyAudit() {
      // One snapshot: head and rows are of the same moment, and appending goes on meanwhile.
      return db
        .transaction()
        .setIsolationLevel('repeatable read')
        .setAccessMode('read only')
        .execute((trx) => walk(trx));
    },
  };
}

async function walk(trx: Work): Promise<{ rows: number; broken: number | null }> {
  const head = await trx.selectFrom('authoritative.audit_head').select(['seq', 'hash']).executeTakeFirst();
  const state: { rows: number; broken: number | null; last: { seq: number; hash: string } } = {
    rows: 0,
    broken: null,
    last: { seq: 0, hash: GENESIS },
  };
  // Any number may have been written by hand, also one below 1.
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
        state.broken = Math.min(row.seq, expected);
      state.last = { seq: row.seq, hash: row.hash };
    }
    const end = page.at(-1);
    if (!end || page.length < WALK) break;
    after = end.seq;
  }
  const ends = head !== undefined && head.seq === state.last.seq && head.hash === state.last.hash;
  if (state.broken === null && !ends)
    state.broken = Math.min(state.last.seq, head?.seq ?? state.last.seq) + (head?.seq === state.last.seq ? 0 : 1);
  return { rows: state.rows, broken: state.broken };
}

function link(seq: number, previous: string, entry: AuditEntry): StoredRow {
  // As it will be read again; a hostile command may hold what RFC 8785 has no form for.
  const kept: unknown = JSON.parse(wellFormedJson(entry));
  return {
    seq,
    previous,
    hash: hashOf(seq, previous, kept),
    key: entry.key,
    project: entry.project,
    subject: entry.subject,
    entry: canonical(kept),
  };
}

/** Is the row whole, at its place, and are the columns it is found by those of its entry? */
function isLinked(row: StoredRow, seq: number, previous: string): boolean {
  if (row.seq !== seq || row.previous !== previous) return false;
  try {
    const { entry } = auditRow(row);
    const same = entry.key === row.key && entry.project === row.project && entry.subject === row.subject;
    return same && hashOf(seq, previous, entry) === row.hash;
  } catch {
    return false;
  }
}

function auditRow({ seq, previous, hash, entry }: StoredRow): AuditRow {
  try {
    return { seq, previous, hash, entry: JSON.parse(entry) as AuditEntry };
  } catch {
    throw failure('Corrupt', `row ${seq} of the audit does not parse: verify the audit, then restore it from a backup`);
  }
}

const hashOf = (seq: number, previous: string, entry: unknown): string =>
  createHash('sha256').update(canonical({ seq, previous, entry }), 'utf8').digest('hex');

function canonical(value: unknown): string {
  const text = canonicalize(value);
  if (text === undefined) throw failure('InvalidInput', 'an audit entry must be JSON');
  return text;
}
