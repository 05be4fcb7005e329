// Makes the audit entries that the API itself writes.
import type { AuditEntry } from '../activities/records.ts';

type Required = Pick<AuditEntry, 'key' | 'kind' | 'actor' | 'subject'>;

/** An entry of now; what is not given is empty. */
export function auditEntry(given: Required & Partial<AuditEntry>): AuditEntry {
  return { project: null, digest: null, report: null, reason: '', detail: {}, at: new Date().toISOString(), ...given };
}
