// Converts an audit entry to the text that is stored and hashed, and back.
import canonicalize from 'canonicalize';
import type { Selectable } from 'kysely';
import type { AuditEntry } from '../../records.ts';
import { failure } from '../../failures.ts';
import { wellFormedJson } from './connection.ts';
import type { Tables } from './schema.ts';

export type StoredRow = Selectable<Tables['authoritative.audit']>;

/** The columns of an entry without a position in the chain. */
export function rowOf(entry: AuditEntry): Pick<StoredRow, 'key' | 'project' | 'subject' | 'entry'> {
  const { key, project, subject } = entry;
  // Normalized to what a read returns. A hostile command may contain values without an RFC 8785 form.
  return { key, project, subject, entry: canonical(JSON.parse(wellFormedJson(entry))) };
}

/** The entry from a row's text. */
export function entryOf({ seq, entry }: Pick<StoredRow, 'seq' | 'entry'>): AuditEntry {
  try {
    return JSON.parse(entry) as AuditEntry;
  } catch {
    throw failure(
      'Corrupt',
      `row ${seq ?? '(unlinked)'} of the audit is malformed: verify the audit, then restore it from a backup`,
    );
  }
}

/** RFC 8785 text. */
export function canonical(value: unknown): string {
  const text = canonicalize(value);
  if (text === undefined) throw failure('InvalidInput', 'an audit entry must be JSON');
  return text;
}
