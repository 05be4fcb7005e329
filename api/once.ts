// Makes what people start happen once: its first request is in the audit, and every later one is held against it.
import canonicalize from 'canonicalize';
import type { AuditEntry, Projection, Records } from '../activities/records.ts';
import { problem } from './problems.ts';

/**
 * Writes the entry and its rows unless they are there; `detail.request` is what was asked. The same request again is
 * fine, another one under the same id is a conflict.
 */
export async function recordOnce(
  records: Records,
  entry: AuditEntry,
  projections: readonly Projection[],
  exists: () => Promise<boolean>,
): Promise<void> {
  const before = await records.audited(entry.key);
  if (!before) await records.record([entry], []);
  // Read again: of two at once only one has written.
  const after = before ?? (await records.audited(entry.key));
  if (!after) throw new Error(`audit entry ${entry.key} was written and is not there`);
  if (canonicalize(after.detail['request']) !== canonicalize(entry.detail['request']))
    throw problem(409, 'conflict', `${entry.subject} exists and was made from something else: choose another id`);
  // Only now, since rows are written whoever's the entry is; a row that has moved on is left as it is.
  if (!(await exists())) await records.record([entry], projections);
}
