// The audit, and the projection rows written with it.
import type { Delivery, Evaluation, Scan, Version } from '../../workflows/domain/model.ts';

export interface Page {
  readonly after?: string;
  readonly limit?: number;
}

export interface AuditEntry {
  /** Idempotency key: the command id, or workflow id and step. */
  readonly key: string;
  /** `null`: the entry concerns the whole platform. */
  readonly project: string | null;
  /** e.g. `version.approve`, `version.state`, `command.refused`, `token.issued` */
  readonly kind: string;
  readonly actor: string;
  /** e.g. `vulnerability/random-forest/rf-1` */
  readonly subject: string;
  readonly digest: string | null;
  readonly report: string | null;
  readonly reason: string;
  /** Further small JSON data. The complete signed command is stored here. */
  readonly detail: Readonly<Record<string, unknown>>;
  /** ISO 8601 */
  readonly at: string;
}

/**
 * A stored audit row: `hash` = SHA-256 over RFC 8785 JSON of `{ seq, previous, entry }`. All three are null until the row
 * is linked into the chain, about a second after it was written.
 */
export interface AuditRow {
  readonly seq: number | null;
  readonly previous: string | null;
  readonly hash: string | null;
  readonly entry: AuditEntry;
}

/** The result of verifying the whole audit. */
export interface AuditCheck {
  /** All rows, linked or not. */
  readonly rows: number;
  /** The sequence number of the first broken row. */
  readonly broken: number | null;
  /** Rows not linked yet. */
  readonly unlinked: number;
  /** Unlinked rows that should have been linked seconds ago: no process is linking them. */
  readonly overdue: number;
}

/** Rows that can be rebuilt from staging if lost. They are written together with the audit row that explains them. */
export type Projection =
  | { readonly kind: 'version'; readonly row: Version }
  | { readonly kind: 'evaluation'; readonly row: Evaluation }
  | { readonly kind: 'delivery'; readonly row: Delivery }
  | { readonly kind: 'scan'; readonly row: Scan };

/** The audit part of Records. */
export interface AuditRecords {
  /** Appends audit entries and writes their projections. An existing key adds nothing. Writers do not block each other. */
  record(entries: readonly AuditEntry[], projections: readonly Projection[]): Promise<void>;
  /**
   * Counts a refused request. Per principal, action, project and minute, the audit gets the first entry immediately and,
   * when the minute is over, one entry with the total. `request` identifies the request.
   */
  recordRefused(
    entry: AuditEntry,
    by: { readonly principal: string; readonly action: string; readonly request: string },
  ): Promise<void>;
  /** Oldest first: linked rows in chain order, then unlinked rows. */
  audit(
    filter: { project?: string | null; subject?: string } & Page,
  ): Promise<{ rows: readonly AuditRow[]; next?: string }>;
  /** The audit entry with this key. */
  audited(key: string): Promise<AuditEntry | undefined>;
  /**
   * Links up to `LINKED_AT_ONCE` rows into the chain, oldest first, and returns how many. 0: none is left, or another
   * process is linking. Any number of processes may call it repeatedly.
   */
  linkAudit(): Promise<number>;
  /** Verifies the whole chain. */
  verifyAudit(): Promise<AuditCheck>;
}
