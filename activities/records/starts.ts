// Workflow starts, and the commands that people gave.
import type { Outcome, PublicKeys, SignedCommand } from '../../workflows/domain/command.ts';
import type { WorkflowName } from '../../workflows/domain/ids.ts';
import type { Digest } from '../../workflows/domain/names.ts';
import type { Role } from '../../workflows/domain/roles.ts';
import type { AuditEntry, Page, Projection } from './audit.ts';

/** A workflow that may run. The starter records it before starting the workflow. */
export interface NewStart {
  readonly workflowId: string;
  readonly type: WorkflowName;
  /** The workflow's only argument. */
  readonly input: object;
  readonly askedBy: string;
  /** Roles that `askedBy` held at that time. */
  readonly roles: readonly Role[];
  readonly project: string | null;
  /** The workflow that starts and resumes it; a root workflow has none. */
  readonly parent?: string | null;
}

export interface StartRow extends NewStart {
  readonly recordedAt: string;
  /** Started before starts were recorded: its full input is unknown. */
  readonly earlier: boolean;
  /** Ran before starts were recorded: the results of its first steps are not on record, and its workflow supplies them. */
  readonly broughtOver: boolean;
  /** The run admitted last. */
  readonly runId: string | null;
  /** How often it was restarted since it last made progress, and the earliest time of the next restart. */
  readonly restarts: number;
  readonly restartAt: string | null;
  readonly closedAt: string | null;
  readonly detail: string;
}

/** Whether this run of a workflow may do anything. `closed`: the workflow has ended, and this is another run. */
export type AdmissionAnswer = 'admitted' | 'unknown' | 'other-input' | 'closed';

/** A command row. `isOpen`: its workflow has not decided it yet. */
export interface CommandRow {
  readonly commandId: string;
  readonly actor: string;
  readonly isOpen: boolean;
  readonly outcome: Outcome;
}

/** A decision with the command it is based on. */
export interface DecisionNote {
  readonly command: SignedCommand;
  readonly status: 'pending' | 'complete' | 'failed';
  readonly detail: {
    readonly release?: string;
    readonly folder?: string;
    readonly to?: string;
    readonly commit?: string;
  };
  readonly policyVersion: number | null;
  readonly at: string;
}

/**
 * What was prepared, which bytes the job uploaded as an output, how the job ended, and that someone stopped the workflow
 * by hand, so it cleans up and ends.
 */
export type StepName = 'prepared' | `output/${string}` | 'ended' | 'stopped';

/** An output as the API received it from the job. */
export interface UploadedOutput {
  readonly sha256: Digest;
  readonly bytes: number;
}

/** The part of Records about starts and commands. */
export interface StartRecords {
  /** Records a workflow that may run, with its first rows. `Conflict` if the id is recorded with a different input. */
  recordStart(start: NewStart, audit: AuditEntry, projections: readonly Projection[]): Promise<void>;
  start(workflowId: string): Promise<StartRow | undefined>;
  /** Compares a run with its recorded start. An admitted run is recorded as the current run. */
  admit(run: { workflowId: string; type: string; digest: string | null; runId: string }): Promise<AdmissionAnswer>;
  closeStart(workflowId: string, detail: string): Promise<void>;
  /**
   * Closes a workflow that people have not used for `forMs` since `since`; the time of a pause after a restore does not count.
   * `until`: the later end if it is not closed yet. Throws a retryable error while decisions are paused.
   */
  closeQuiet(workflowId: string, quiet: { since: string; forMs: number }): Promise<{ readonly until: string | null }>;
  /** Records what was established about a workflow for its later steps. */
  recordStep(workflowId: string, step: StepName, value: object): Promise<void>;
  step<T extends object>(workflowId: string, step: StepName): Promise<T | undefined>;
  /** Root workflows that are not closed, oldest first. */
  openStarts(page: Page): Promise<{ rows: readonly StartRow[]; next?: string }>;
  /**
   * Opens the starts of versions again that were closed more than `quietMs` ago without all of their transitions stored beside the
   * artifact: their workflow was lost after its last decision.
   */
  reopenUnfiled(quietMs: number): Promise<void>;
  /** Counts a restart and sets the earliest time of the next one. `null`: the workflow made progress. */
  restarted(workflowId: string, restartAt: string | null): Promise<void>;
  /**
   * Registers the keys of a home and returns the ids of those that may sign. Retired keys stay retired, except with `revive`
   * (the default) if none of the keys may sign: the home has found its old keys again.
   */
  registerKeys(keys: PublicKeys, revive?: boolean): Promise<readonly string[]>;
  /** All keys, also retired ones: commands that they signed may still wait. Nothing new is recorded with a retired key. */
  keys(): Promise<PublicKeys>;
  /**
   * Records a signed command with a provisional verdict; a repeated command returns its row. `Conflict` (details
   * `repeated`) if the id belongs to another command or person, `NotAuthorized` without a signature by a registered key.
   */
  recordCommand(
    command: SignedCommand,
    about: { readonly project: string | null; readonly subject: string },
  ): Promise<CommandRow>;
  command(workflowId: string, commandId: string): Promise<CommandRow | undefined>;
  /**
   * Commands recorded before a given time that wait to be decided, and those recorded before `pendingBefore` that wait to
   * be carried out: oldest first, those recorded after `after`.
   */
  openCommands(filter: {
    before: string;
    pendingBefore?: string;
    limit: number;
    after?: { readonly workflowId: string; readonly commandId: string };
  }): Promise<readonly SignedCommand[]>;
  decision(workflowId: string, commandId: string): Promise<DecisionNote | undefined>;
  /**
   * Verifies each decision: the platform signed its command, and the command says the same. Also verifies that each
   * approval, release and live-pointer move has a decision. `problems` lists the first hundred mismatches.
   */
  verifyDecisions(): Promise<{ readonly checked: number; readonly problems: readonly string[] }>;
}
