// What may run, and the commands that people gave.
import type { Outcome, PublicKeys, SignedCommand } from '../../workflows/domain/command.ts';
import type { WorkflowName } from '../../workflows/domain/ids.ts';
import type { Role } from '../../workflows/domain/roles.ts';
import type { AuditEntry, Page, Projection } from './audit.ts';

/** A workflow that may run: recorded by whoever starts it, before it is started. */
export interface NewStart {
  readonly workflowId: string;
  readonly type: WorkflowName;
  /** Its only argument. */
  readonly input: object;
  readonly askedBy: string;
  /** Roles that they held then. */
  readonly roles: readonly Role[];
  readonly project: string | null;
  /** The workflow that starts and resumes it; without one it is a root. */
  readonly parent?: string | null;
}

export interface StartRow extends NewStart {
  readonly recordedAt: string;
  /** It was started before starts were recorded: its input is not known in full. */
  readonly earlier: boolean;
  /** It ran before starts were recorded: the results of its first steps are not on record, its workflow brings them along. */
  readonly broughtOver: boolean;
  /** The run that was admitted last. */
  readonly runId: string | null;
  /** How often it was started again since it last went on, and when at the earliest it is again. */
  readonly restarts: number;
  readonly restartAt: string | null;
  readonly closedAt: string | null;
  readonly detail: string;
}

/** May this run of a workflow do anything? `closed`: it has ended, and this is another run. */
export type AdmissionAnswer = 'admitted' | 'unknown' | 'other-input' | 'closed';

/** A command as its row stands. `isOpen`: its workflow has not decided about it yet. */
export interface CommandRow {
  readonly commandId: string;
  readonly actor: string;
  readonly isOpen: boolean;
  readonly outcome: Outcome;
}

/** A decision with the command that it rests on. */
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

/** What was prepared, how a job ended, and that somebody has stopped the workflow by hand: it cleans up and ends. */
export type StepName = 'prepared' | 'ended' | 'stopped';

/** The part of Records that is about starts and commands. */
export interface StartRecords {
  /** Records what may run, with its first rows. `Conflict` when the id stands for another input. */
  recordStart(start: NewStart, audit: AuditEntry, projections: readonly Projection[]): Promise<void>;
  start(workflowId: string): Promise<StartRow | undefined>;
  /** Compares a run with its start; one that is admitted is noted as the run that goes on. */
  admit(run: { workflowId: string; type: string; digest: string | null; runId: string }): Promise<AdmissionAnswer>;
  closeStart(workflowId: string, detail: string): Promise<void>;
  /** What was established of a workflow for its later steps. */
  recordStep(workflowId: string, step: StepName, value: object): Promise<void>;
  step<T extends object>(workflowId: string, step: StepName): Promise<T | undefined>;
  /** Roots that are not closed, oldest first. */
  openStarts(page: Page): Promise<{ rows: readonly StartRow[]; next?: string }>;
  /** Counts a restart and says when at the earliest the next one comes; `null`: it goes on. */
  restarted(workflowId: string, restartAt: string | null): Promise<void>;
  registerKeys(keys: PublicKeys): Promise<void>;
  keys(): Promise<PublicKeys>;
  /**
   * Records a signed command with a first verdict; the same again returns its row. `Conflict` (details `repeated`) when the
   * id stands for another command or person, `NotAuthorized` without a signature of a registered key.
   */
  recordCommand(
    command: SignedCommand,
    about: { readonly project: string | null; readonly subject: string },
  ): Promise<CommandRow>;
  command(workflowId: string, commandId: string): Promise<CommandRow | undefined>;
  /** Commands that wait for their workflow since before a time, oldest first. */
  openCommands(filter: { before: string; limit: number }): Promise<readonly SignedCommand[]>;
  decision(workflowId: string, commandId: string): Promise<DecisionNote | undefined>;
  /**
   * Checks each decision: its command is signed by the platform and says just this; and each approval, release and move of
   * a live pointer has its decision. `problems` names what does not fit, the first hundred.
   */
  verifyDecisions(): Promise<{ readonly checked: number; readonly problems: readonly string[] }>;
}
