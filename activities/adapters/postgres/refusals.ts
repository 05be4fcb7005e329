// Refused requests, counted per principal, action, project and minute, so that repeated refusals do not fill the audit.
import { sql } from 'kysely';
import type { AuditEntry, Records } from '../../records.ts';
import type { Database, Work } from './connection.ts';
import { entryOf, rowOf } from './entry-text.ts';

/** Maximum number of minutes reported at a time; the rest waits for the next run. */
const MOST = 500;
/** The clocks of several machines differ by less. A later request is reported in its own entry. */
const minuteOver = sql<string>`now() - interval '2 minutes'`;

/**
 * Counts a refusal. The first one of its minute is also written to the audit. One statement, so that of two concurrent
 * refusals one is first.
 */
export async function countRefusal(
  db: Database,
  refused: AuditEntry,
  { principal, action, request }: Parameters<Records['recordRefused']>[1],
): Promise<void> {
  const { key, project, subject, entry } = rowOf(refused);
  await sql`
    with counted as (
      insert into authoritative.refusals (principal, action, project, minute, count, request, entry)
      values (${principal}, ${action}, ${project ?? ''}, date_trunc('minute', ${refused.at}::timestamptz), 1, ${request}, ${entry})
      on conflict (principal, action, project, minute) do update
        set count = refusals.count + 1, request = excluded.request where refusals.request <> excluded.request
      returning count)
    insert into authoritative.audit (key, project, subject, entry)
    select ${key}, ${project}::text, ${subject}, ${entry} from counted where count = 1
    on conflict (key) do nothing`.execute(db);
}

/** Adds the number of refused requests to the audit, for minutes that are over. */
export async function tellRefusals(trx: Work): Promise<void> {
  const over = await trx
    .deleteFrom('authoritative.refusals')
    .where('refusal', 'in', (select) =>
      select.selectFrom('authoritative.refusals').select('refusal').where('minute', '<', minuteOver).limit(MOST),
    )
    .returning(['refusal', 'principal', 'action', 'count', 'entry'])
    .execute();
  // The first one is already in the audit.
  const more = over.filter(({ count }) => count > 1);
  if (more.length === 0) return;
  const rows = more.map(({ refusal, principal, action, count, entry: text }) => {
    const first = entryOf({ seq: null, entry: text });
    const entry: AuditEntry = {
      ...first,
      key: `${first.key}/counted/${refusal}`,
      kind: `${first.kind}.counted`,
      reason: `${count} requests of this kind were refused within the minute; only the first is recorded in full`,
      detail: { principal, action, count, first: first.key },
    };
    return rowOf(entry);
  });
  await trx
    .insertInto('authoritative.audit')
    .values(rows)
    .onConflict((conflict) => conflict.column('key').doNothing())
    .execute();
}
