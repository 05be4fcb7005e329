// Makes the audit entries that the API writes.
import type { AuditEntry } from '../activities/records.ts';

type Required = Pick<AuditEntry, 'key' | 'kind' | 'actor' | 'subject'>;

/** An audit entry with the current time. Fields not given are empty. */
export function auditEntry(given: Required & Partial<AuditEntry>): AuditEntry {
  return { project: null, digest: null, report: null, reason: '', detail: {}, at: new Date().toISOString(), ...given };
}
