// The audit, and the rows that are written with it.
import type { Delivery, Evaluation, Scan, Version } from '../../workflows/domain/model.ts';

export interface Page {
  readonly after?: string;
  readonly limit?: number;
}

export interface AuditEntry {
  /** Makes writing twice harmless: command id, or workflow id and step. */
  readonly key: string;
  /** `null`: of the platform. */
  readonly project: string | null;
  /** e.g. `version.approve`, `version.state`, `command.refused`, `token.issued` */
  readonly kind: string;
  readonly actor: string;
  /** e.g. `vulnerability/random-forest/rf-1` */
  readonly subject: string;
  readonly digest: string | null;
  readonly report: string | null;
  readonly reason: string;
  /** Anything else worth keeping, JSON, small. The signed command is kept whole here. */
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

/** What a walk of the audit found. */
export interface AuditCheck {
  /** All rows, linked or not. */
  readonly rows: number;
  /** The sequence number of the first broken row. */
  readonly broken: number | null;
  /** Rows that are not linked yet. */
  readonly unlinked: number;
  /** Of those, rows that should have been linked seconds ago: no process links them. */
  readonly overdue: number;
}

/** Rows that are made again from staging when lost; written together with the audit row that explains them. */
export type Projection =
  | { readonly kind: 'version'; readonly row: Version }
  | { readonly kind: 'evaluation'; readonly row: Evaluation }
  | { readonly kind: 'delivery'; readonly row: Delivery }
  | { readonly kind: 'scan'; readonly row: Scan };

/** The audit's part of Records. */
export interface AuditRecords {
  /** Adds to the audit and writes the projections with it; a key that is there already adds nothing. Writers do not wait for each other. */
  record(entries: readonly AuditEntry[], projections: readonly Projection[]): Promise<void>;
  /**
   * Counts a request that was refused. Per principal, action, project and minute the audit gets the first entry at once
   * and, when the minute is over, one that tells how many there were. `request` tells one request from the next.
   */
  recordRefused(
    entry: AuditEntry,
    by: { readonly principal: string; readonly action: string; readonly request: string },
  ): Promise<void>;
  /** Oldest first: linked rows in the order of the chain, then those that are not linked yet. */
  audit(
    filter: { project?: string | null; subject?: string } & Page,
  ): Promise<{ rows: readonly AuditRow[]; next?: string }>;
  /** The audit entry of a key. */
  audited(key: string): Promise<AuditEntry | undefined>;
  /**
   * Links a batch of rows into the chain, oldest first, and returns how many: 0 when none is left or another process is
   * at it. Any number of processes may call it again and again.
   */
  linkAudit(): Promise<number>;
  /** Walks the whole chain. */
  verifyAudit(): Promise<AuditCheck>;
}
