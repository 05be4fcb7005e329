// Decisions, and the facts they are based on.
import type { SignedCommand } from '../../workflows/domain/command.ts';
import type { VersionState } from '../../workflows/domain/lifecycle.ts';
import type {
  Delivery,
  Evaluation,
  GateResult,
  NamedArtifact,
  RunRecord,
  Version,
} from '../../workflows/domain/model.ts';
import type { Digest } from '../../workflows/domain/names.ts';
import type {
  ApplicationStanding,
  NextDelivery,
  ScanStanding,
  VersionStanding,
} from '../../workflows/domain/standing.ts';

/** The most transitions that one call of `unfiled` returns. */
export const UNFILED_PAGE = 100;

/** One version transition, as stored in the file beside its artifact. */
export interface TransitionEntry {
  readonly version: Version;
  readonly from: VersionState;
  readonly command: SignedCommand | null;
}

export type VersionKey = Pick<Version, 'project' | 'model' | 'submission'>;

export type DeliveryKey = { readonly application: string; readonly type: string; readonly release: string };

interface Failed {
  readonly reason: string;
  readonly message: string;
}

/** Decisions about versions, and the facts they are based on. */
export interface VersionDecisionRecords {
  versionStanding(key: VersionKey): Promise<VersionStanding>;
  /**
   * Decides a command: locks project, members, version, releases and pointers, judges by the current state, consumes the
   * command, and writes decision, transition and audit. Idempotent: a repeated command returns the standing. `place`
   * returns where a released file will be stored; `doubt` is an objection from outside the database.
   */
  decideVersion(
    workflowId: string,
    command: SignedCommand,
    more: {
      readonly place: (type: string, file: NamedArtifact) => NamedArtifact;
      readonly doubt?: Failed | undefined;
    },
  ): Promise<VersionStanding>;
  /** The effects of the pending decision are done: applies the new state. For any other decision it changes nothing. */
  completeDecision(workflowId: string, commandId: string): Promise<VersionStanding>;
  /**
   * The effects of the pending decision failed for good: restores the previous state. A release that an operator ended
   * (`Ended`) stays pending.
   */
  failDecision(workflowId: string, commandId: string, failed: Failed): Promise<VersionStanding>;
  /** Records the folder to which a decision's files were returned. */
  noteReturned(workflowId: string, commandId: string, folder: string): Promise<void>;
  /**
   * Makes the transition that follows from the facts, if any, provided the version is at this revision. `ended`: why the
   * awaited work failed.
   */
  advanceVersion(
    workflowId: string,
    step: { readonly revision: number; readonly ended?: string | undefined },
  ): Promise<VersionStanding>;
  recordRun(key: VersionKey, attempt: number, run: RunRecord): Promise<void>;
  run(key: VersionKey, attempt: number): Promise<RunRecord | undefined>;
  recordStaged(key: VersionKey, files: readonly NamedArtifact[]): Promise<void>;
  /** `isJudged`: they are valid, so these files are the version's. */
  staged(
    key: VersionKey,
  ): Promise<{ readonly files: readonly NamedArtifact[]; readonly isJudged: boolean } | undefined>;
  recordValidation(
    key: VersionKey,
    result: { readonly problems: readonly string[] } | { readonly digest: Digest; readonly revises: number | null },
  ): Promise<void>;
  /** Transitions whose files are not yet stored beside the artifact, oldest first, at most `UNFILED_PAGE`. */
  unfiled(key: VersionKey): Promise<readonly (TransitionEntry & { readonly revision: number })[]>;
  filed(key: VersionKey, revision: number): Promise<void>;
  /** Ends an evaluation, once. `inStaging`: only the platform can write where the report is, so it counts as evidence. */
  endEvaluation(row: Evaluation, report: { readonly inStaging: boolean }): Promise<Evaluation>;
}

/** Decisions about applications and findings. */
export interface PointerDecisionRecords {
  applicationStanding(workflowId: string): Promise<ApplicationStanding>;
  /** Decides a command about the live pointer. `doubt` is an objection from outside the database. */
  decidePointer(workflowId: string, command: SignedCommand, doubt?: Failed): Promise<ApplicationStanding>;
  /** The main branch now matches the pointer. `note`: the message to show if it could not be updated. */
  completePointer(workflowId: string, commandId: string, note: string): Promise<ApplicationStanding>;
  /** The oldest release that the application has not handled. Records its delivery as received. */
  openDelivery(workflowId: string): Promise<NextDelivery>;
  /** Currently configured gates that this release has not passed. */
  missingGates(delivery: DeliveryKey): Promise<readonly string[]>;
  /** Marks the delivery as running its gates. */
  beginGates(delivery: DeliveryKey): Promise<void>;
  /**
   * Records a gate result; idempotent. `run` identifies the delivery's run: its first result for a gate counts and is
   * returned.
   */
  recordGate(delivery: DeliveryKey, result: GateResult, run?: string): Promise<GateResult>;
  /**
   * Concludes the delivery from its gate results. `ended`: why it failed. Closes the delivery's start if it failed or is
   * live.
   */
  concludeDelivery(delivery: DeliveryKey, ended?: string): Promise<Delivery>;
  scanStanding(workflowId: string): Promise<ScanStanding>;
  decideLabels(workflowId: string, command: SignedCommand): Promise<ScanStanding>;
  completeLabels(workflowId: string, commandId: string, commit: string): Promise<ScanStanding>;
  failLabels(workflowId: string, commandId: string, failed: Failed): Promise<ScanStanding>;
}
