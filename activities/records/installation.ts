// Which installation the records belong to, checkpoints of them in the other systems, and the pause after a restore.
import type { Checkpoint, Finding, Paused, RecordsKnow } from '../installation.ts';
import type { AuditEntry } from './audit.ts';

/** The part of Records that is about the installation. */
export interface InstallationRecords {
  /** Claims the database for an installation if nobody has, and answers whose it is. */
  claimInstallation(installation: string): Promise<string>;
  /** What the records know of the installation and of the other systems. */
  known(): Promise<RecordsKnow>;
  /** Hash of a row of the audit; `undefined` where there is none of that number. */
  auditHash(seq: number): Promise<string | undefined>;
  /** The next checkpoint; `undefined` when the audit has not grown since the last one, unless it is `forced`. */
  checkpoint(forced: boolean): Promise<Checkpoint | undefined>;
  /** The system holds this checkpoint (0: the marker alone); an earlier one never replaces a later one. */
  kept(system: string, tick: number): Promise<void>;
  /** Pauses decisions and deliveries until `acceptRestore`; findings about a system replace earlier ones about it. */
  pause(findings: readonly Finding[], audit: AuditEntry): Promise<void>;
  paused(): Promise<Paused | undefined>;
  /**
   * Ends the pause: checkpoints go on from `tick`, no type gives a number up to its `numbers` again, what systems were known
   * to hold is forgotten, and so are signing keys other than `keys`. `voidTokens` revokes every token of people and applications.
   */
  acceptRestore(
    accepted: {
      readonly tick: number;
      readonly numbers: readonly { readonly type: string; readonly sequence: number }[];
      readonly keys: readonly string[];
      readonly voidTokens: boolean;
    },
    audit: AuditEntry,
  ): Promise<void>;
}
