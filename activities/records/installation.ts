// The installation that the records belong to, its checkpoints in other systems, and the pause after a restore.
import type { Checkpoint, Finding, Paused, RecordsKnow } from '../installation.ts';
import type { AuditEntry } from './audit.ts';

/** The installation part of Records. */
export interface InstallationRecords {
  /** Claims the database for an installation if it is unclaimed, and returns the owner. */
  claimInstallation(installation: string): Promise<string>;
  /** What the records know about the installation and the other systems. */
  known(): Promise<RecordsKnow>;
  /** Hash of an audit row; `undefined` if there is no row with that number. */
  auditHash(seq: number): Promise<string | undefined>;
  /** The next checkpoint; `undefined` if the audit has not grown since the last one, unless `forced`. */
  checkpoint(forced: boolean): Promise<Checkpoint | undefined>;
  /** Records that the system stores this checkpoint (0: only the marker). An earlier one never replaces a later one. */
  kept(system: string, tick: number): Promise<void>;
  /**
   * Pauses decisions and deliveries until `acceptRestore`. Findings about a system replace earlier ones about it. `accepted`
   * is the number of accepted restores before the systems were read: if another one was accepted since then, the findings may
   * be what was accepted, nothing is written and the answer is false.
   */
  pause(findings: readonly Finding[], audit: AuditEntry, accepted: RecordsKnow['accepted']): Promise<boolean>;
  paused(): Promise<Paused | undefined>;
  /**
   * Ends the pause. Deadlines for people that had not passed when it began move by its length. Checkpoints continue from
   * `tick`, accepted restores from `accepted`; types never reuse numbers up to those in `numbers`; the known checkpoints of other systems and all signing keys
   * except `keys` are forgotten. `voidTokens` revokes every token of people and applications. `findings` are those that the
   * administrator accepts: `Conflict` if the pause has another one.
   */
  acceptRestore(
    accepted: {
      readonly tick: number;
      readonly accepted: number;
      readonly numbers: readonly { readonly type: string; readonly sequence: number }[];
      readonly keys: readonly string[];
      readonly voidTokens: boolean;
      readonly findings: readonly Finding[];
    },
    audit: AuditEntry,
  ): Promise<void>;
}
