// Decisions, and the facts that they follow from.
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

/** One transition of a version, as the file beside its artifact keeps it. */
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

/** Decisions about versions, and the facts that they follow from. */
export interface VersionDecisionRecords {
  versionStanding(key: VersionKey): Promise<VersionStanding>;
  /**
   * Decides: locks project, members, version, releases and pointers, judges by what holds now, consumes the command, writes
   * decision, transition and audit. The same again returns the standing. `place` says where a released file will lie,
   * `doubt` what stands against it outside the database.
   */
  decideVersion(
    workflowId: string,
    command: SignedCommand,
    more: {
      readonly place: (type: string, file: NamedArtifact) => NamedArtifact;
      readonly doubt?: Failed | undefined;
    },
  ): Promise<VersionStanding>;
  /** The effects of the pending decision are there: the state follows. Another one changes nothing. */
  completeDecision(workflowId: string, commandId: string): Promise<VersionStanding>;
  /** The effects of the pending decision cannot be had: the state is as it was. A release that an operator has `Ended` stays pending. */
  failDecision(workflowId: string, commandId: string, failed: Failed): Promise<VersionStanding>;
  /** Notes where a decision's files were returned to. */
  noteReturned(workflowId: string, commandId: string, folder: string): Promise<void>;
  /** Makes the transition that follows from the facts, if one does and the version is at this revision. `ended`: why what was awaited came to nothing. */
  advanceVersion(
    workflowId: string,
    step: { readonly revision: number; readonly ended?: string | undefined },
  ): Promise<VersionStanding>;
  recordRun(key: VersionKey, attempt: number, run: RunRecord): Promise<void>;
  run(key: VersionKey, attempt: number): Promise<RunRecord | undefined>;
  recordStaged(key: VersionKey, files: readonly NamedArtifact[]): Promise<void>;
  staged(key: VersionKey): Promise<readonly NamedArtifact[] | undefined>;
  recordValidation(
    key: VersionKey,
    result: { readonly problems: readonly string[] } | { readonly digest: Digest; readonly revises: number | null },
  ): Promise<void>;
  /** Transitions whose files are not beside the artifact yet, oldest first. */
  unfiled(key: VersionKey): Promise<readonly (TransitionEntry & { readonly revision: number })[]>;
  filed(key: VersionKey, revision: number): Promise<void>;
  /** Ends an evaluation, once; `inStaging`: its report is where only the platform writes, so that it is evidence. */
  endEvaluation(row: Evaluation, report: { readonly inStaging: boolean }): Promise<Evaluation>;
}

/** Decisions about applications and findings. */
export interface PointerDecisionRecords {
  applicationStanding(workflowId: string): Promise<ApplicationStanding>;
  /** Decides about the live pointer; `doubt`: what stands against it outside the database. */
  decidePointer(workflowId: string, command: SignedCommand, doubt?: Failed): Promise<ApplicationStanding>;
  /** The main branch follows the pointer; `note`: what is to be said where it could not. */
  completePointer(workflowId: string, commandId: string, note: string): Promise<ApplicationStanding>;
  /** The oldest release that the application has not dealt with, its delivery recorded as received. */
  openDelivery(workflowId: string): Promise<NextDelivery>;
  /** Gates, as they are configured now, that this release has not passed. */
  missingGates(delivery: DeliveryKey): Promise<readonly string[]>;
  /** The delivery is at its gates. */
  beginGates(delivery: DeliveryKey): Promise<void>;
  /** Records what a gate has found; the same again is one. `run`: the delivery's run: what it found of a gate first counts, and is returned. */
  recordGate(delivery: DeliveryKey, result: GateResult, run?: string): Promise<GateResult>;
  /** What the delivery has come to by the results of its gates. `ended`: why it came to nothing. Its start closes when it has failed or is live. */
  concludeDelivery(delivery: DeliveryKey, ended?: string): Promise<Delivery>;
  scanStanding(workflowId: string): Promise<ScanStanding>;
  decideLabels(workflowId: string, command: SignedCommand): Promise<ScanStanding>;
  completeLabels(workflowId: string, commandId: string, commit: string): Promise<ScanStanding>;
  failLabels(workflowId: string, commandId: string, failed: Failed): Promise<ScanStanding>;
}
