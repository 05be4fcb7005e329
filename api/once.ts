// Makes starts idempotent: a start is recorded first, and later requests are compared with it.
import { isFailure } from '../activities/failures.ts';
import type { AuditEntry, NewStart, Projection, Records } from '../activities/records.ts';
import { problem } from './problems.ts';

/**
 * Records a start with its first rows. Repeating the same request is not an error; a different one with the same id is a
 * conflict.
 */
export async function recordStart(
  records: Records,
  start: NewStart,
  entry: AuditEntry,
  projections: readonly Projection[],
): Promise<void> {
  try {
    await records.recordStart(start, entry, projections);
  } catch (error) {
    if (!isFailure(error, 'Conflict')) throw error;
    throw problem(409, 'conflict', `${entry.subject} exists with other content: choose another id`);
  }
}
