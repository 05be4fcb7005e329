// The API's port to the workflows: start one, send it a command, get its status. `temporal.ts` implements it.
import type { SignedCommand } from '../workflows/domain/command.ts';
import type {
  ApplicationInput,
  DataImportInput,
  EvaluationInput,
  FeedbackInput,
  LifecycleInput,
} from '../workflows/messages.ts';

/**
 * `closed`: the workflow has ended. `missing`: no workflow with that id exists. `unavailable`: the server does
 * not answer.
 */
export type GatewayErrorKind = 'closed' | 'missing' | 'unavailable';

/** The only error that a gateway throws. */
export class GatewayError extends Error {
  readonly kind: GatewayErrorKind;
  constructor(kind: GatewayErrorKind, message: string, cause?: unknown) {
    super(message, { cause });
    this.name = 'GatewayError';
    this.kind = kind;
  }
}

export const isGatewayError = (error: unknown, ...kinds: readonly GatewayErrorKind[]): error is GatewayError =>
  error instanceof GatewayError && (kinds.length === 0 || kinds.includes(error.kind));

/** `started: false`: a workflow with that id exists or existed, and nothing was done. */
export interface Started {
  readonly started: boolean;
}

/** A failed step that will be retried: what a workflow is waiting for, and why. */
export interface Waiting {
  /** The activity's name in the Temporal Web UI. */
  readonly step: string;
  /** Number of failed attempts. */
  readonly attempts: number;
  readonly reason: string;
  /** ISO 8601; `null` while an attempt is running. */
  readonly nextTryAt: string | null;
}

export interface WorkflowGateway {
  startLifecycle(input: LifecycleInput): Promise<Started>;
  startEvaluation(input: EvaluationInput): Promise<Started>;
  startApplication(input: ApplicationInput, project: string): Promise<Started>;
  startFeedback(input: FeedbackInput): Promise<Started>;
  startImport(input: DataImportInput): Promise<Started>;
  /** Asks a workflow to interrupt its work. An import then removes what it has stored. */
  cancel(workflowId: string): Promise<void>;
  sendCommand(workflowId: string, command: SignedCommand): Promise<void>;
  /** Makes a workflow read the records again. */
  wake(workflowId: string): Promise<void>;
  /**
   * A workflow's status in Temporal, for its newest run unless `runId` is given; `undefined` if no workflow with that id
   * exists.
   */
  look(workflowId: string, runId?: string): Promise<Seen | undefined>;
  /** Terminates one run. */
  terminate(workflowId: string, runId: string, reason: string): Promise<void>;
  /**
   * The failing steps of the workflow and its children. Empty if the workflow has ended or the server does not answer
   * within `timeoutMs`.
   */
  waiting(workflowId: string, timeoutMs: number): Promise<readonly Waiting[]>;
  /** Rejects if the server does not answer. */
  ready(): Promise<void>;
}

/** A workflow's status in Temporal. */
export interface Seen {
  readonly isRunning: boolean;
  /** Temporal's status name: RUNNING, TERMINATED, … */
  readonly status: string;
  readonly type: string;
  readonly taskQueue: string;
  readonly runId: string;
  /** The first run in the chain of resets and continuations; the run itself if there is none. */
  readonly firstRunId: string;
  /** A step is waiting for a worker to pick it up. */
  readonly isComing: boolean;
}
