// What the API asks of the workflows: start one, send it a command, look how it stands. `temporal.ts` fulfils it.
import type { SignedCommand } from '../workflows/domain/command.ts';
import type {
  ApplicationInput,
  DataImportInput,
  EvaluationInput,
  FeedbackInput,
  LifecycleInput,
} from '../workflows/messages.ts';

/** `closed`: it has ended. `missing`: there is none of that id (any more). `unavailable`: the server does not answer. */
export type GatewayErrorKind = 'closed' | 'missing' | 'unavailable';

/** What a gateway throws, and nothing else. */
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

/** `started: false`: a workflow of that id is or was there already, and nothing was done. */
export interface Started {
  readonly started: boolean;
}

/** A step that has failed and will be tried again: what a workflow waits for, and why. */
export interface Waiting {
  /** The activity, as the Temporal Web UI calls it. */
  readonly step: string;
  /** Tries that have failed. */
  readonly attempts: number;
  readonly reason: string;
  /** ISO 8601; `null` while it is being tried. */
  readonly nextTryAt: string | null;
}

export interface WorkflowGateway {
  startLifecycle(input: LifecycleInput): Promise<Started>;
  startEvaluation(input: EvaluationInput): Promise<Started>;
  startApplication(input: ApplicationInput, project: string): Promise<Started>;
  startFeedback(input: FeedbackInput): Promise<Started>;
  startImport(input: DataImportInput): Promise<Started>;
  /** Asks a workflow to interrupt what it runs; an import then takes away what it has stored. */
  cancel(workflowId: string): Promise<void>;
  sendCommand(workflowId: string, command: SignedCommand): Promise<void>;
  /** Tells a workflow to read the records again. */
  wake(workflowId: string): Promise<void>;
  /** How a workflow stands in Temporal, its newest run unless one is named; `undefined`: it has none of that id (any more). */
  look(workflowId: string, runId?: string): Promise<Seen | undefined>;
  /** Ends one run. */
  terminate(workflowId: string, runId: string, reason: string): Promise<void>;
  /** What the workflow, and those it waits for itself, are kept from by failures; nothing when it has ended or the server does not answer in that time. */
  waiting(workflowId: string, timeoutMs: number): Promise<readonly Waiting[]>;
  /** Rejects when the server does not answer. */
  ready(): Promise<void>;
}

/** A workflow as Temporal sees it. */
export interface Seen {
  readonly isRunning: boolean;
  /** Temporal's word for how it stands: RUNNING, TERMINATED, … */
  readonly status: string;
  readonly type: string;
  readonly taskQueue: string;
  readonly runId: string;
  /** The run that this one follows from by resets and continuations: its own one where there is none. */
  readonly firstRunId: string;
  /** It waits for a worker to take a step of it, which only has to come. */
  readonly isComing: boolean;
}
