// The contract of every workflow: task queues, ids with their inverses, signals, queries, search attributes, inputs.
import { defineQuery, defineSignal } from '@temporalio/workflow';
import { defineSearchAttributeKey } from '@temporalio/common';
import type { Outcome, RefusalReason } from './domain/command.ts';
import type { Source } from './domain/import.ts';
import type { LivePointer, Policy, RunSpec, Version } from './domain/model.ts';
import type { Digest } from './domain/names.ts';

/**
 * `core`: workflows and short activities. The long ones have queues with few slots each, so that they hold up neither a decision
 * nor each other: trainings, evaluations, imports. `jobs`: what earlier versions of the platform scheduled, all three in one.
 */
export const taskQueues = {
  core: 'ocdl',
  training: 'ocdl-training',
  evaluation: 'ocdl-evaluation',
  imports: 'ocdl-imports',
  jobs: 'ocdl-jobs',
} as const;

/** The one signal people's commands travel by: one name keeps the order of arrival. Its payload is hostile until parsed. */
export const command = defineSignal<[unknown]>('command');
/** Look at the records again. Carries nothing, so a forged one changes nothing. */
export const wake = defineSignal('wake');

/** What became of a command; `null` when it is unknown. */
export const outcome = defineQuery<Outcome | null, [string]>('outcome');
export const status = defineQuery<LifecycleStatus>('status');
export const live = defineQuery<ApplicationStatus>('live');

/** A refused command, as the audit will keep it. `commandId` and `actor` are claims unless `signed`. */
export interface RefusedCommand {
  readonly reason: RefusalReason;
  readonly message: string;
  readonly name: string;
  readonly actor: string;
  readonly commandId: string;
  readonly signed: boolean;
  readonly at: string;
}

export interface LifecycleStatus {
  readonly version: Version;
  /** The command being carried out. */
  readonly busy: string | null;
  readonly approvals: readonly string[];
}

export interface ApplicationStatus {
  readonly pointer: LivePointer | null;
  /** The release that is on its way in. */
  readonly delivering: string | null;
  readonly busy: string | null;
}

/** Ed25519 public keys by id, hexadecimal: those the API signs with for this workflow. */
export type PublicKeys = Readonly<Record<string, string>>;

/** Where a lifecycle begins: with a training run, or with a directory of the author's private area. */
export type Beginning = { readonly run: RunSpec } | { readonly directory: string };

export interface LifecycleInput {
  readonly project: string;
  readonly model: string;
  readonly type: string;
  readonly submission: string;
  readonly author: string;
  readonly beginning: Beginning;
  readonly policy: Policy;
  readonly keys: PublicKeys;
}

export interface TrainingRunInput {
  readonly project: string;
  readonly model: string;
  readonly submission: string;
  readonly attempt: number;
  readonly author: string;
  readonly spec: RunSpec;
}

export interface EvaluationInput {
  readonly project: string;
  readonly evaluation: string;
  readonly model: string;
  readonly actor: string;
  readonly dataset: string;
  /** What is evaluated: a version's submission, or a directory of the actor's private area. */
  readonly subject: { readonly submission: string } | { readonly directory: string };
  readonly thresholds: Readonly<Record<string, number>>;
  /** How long the model may run over the rows; {@link EVALUATION_SECONDS} unless given. */
  readonly deadlineSeconds?: number;
}

/** An evaluation of a few thousand rows takes seconds; one that takes an hour hangs. */
export const EVALUATION_SECONDS = 3_600;
/** Longest deadline an evaluation may ask for: a day. */
export const LONGEST_EVALUATION_SECONDS = 86_400;

export interface ReleaseInput {
  readonly project: string;
  readonly model: string;
  readonly submission: string;
  readonly release: string;
}

export interface ApplicationInput {
  readonly application: string;
  readonly type: string;
  readonly owner: string;
  readonly keys: PublicKeys;
}

export interface DeliveryInput {
  readonly application: string;
  readonly type: string;
  readonly release: string;
}

export interface FeedbackInput {
  readonly project: string;
  readonly scan: string;
  readonly keys: PublicKeys;
}

export interface DataImportInput {
  readonly project: string;
  readonly import: string;
  /** Name of the data set it becomes. */
  readonly dataset: string;
  readonly source: Source;
  /** Lay archives out as folders. */
  readonly unpack: boolean;
  /** What the one file must be, if the importer knows. */
  readonly sha256: Digest | null;
  readonly actor: string;
}

/** Ids: the business key of each workflow, so that starting twice is harmless. Each maker has its inverse below. */
export const workflowId = {
  modelLifecycle: (i: { project: string; model: string; submission: string }) =>
    `model/${i.project}/${i.model}/${i.submission}`,
  trainingRun: (i: { project: string; model: string; submission: string; attempt: number }) =>
    `run/${i.project}/${i.model}/${i.submission}/${i.attempt}`,
  evaluation: (i: { project: string; evaluation: string }) => `evaluation/${i.project}/${i.evaluation}`,
  release: (i: { release: string }) => `release/${i.release}`,
  application: (i: { application: string; type: string }) => `application/${i.application}/${i.type}`,
  delivery: (i: { application: string; release: string }) => `delivery/${i.application}/${i.release}`,
  feedback: (i: { project: string; scan: string }) => `feedback/${i.project}/${i.scan}`,
  dataImport: (i: { project: string; import: string }) => `import/${i.project}/${i.import}`,
} as const;

export type WorkflowName = keyof typeof workflowId;

const fields = {
  model: ['modelLifecycle', ['project', 'model', 'submission']],
  run: ['trainingRun', ['project', 'model', 'submission', 'attempt']],
  evaluation: ['evaluation', ['project', 'evaluation']],
  release: ['release', ['release']],
  application: ['application', ['application', 'type']],
  delivery: ['delivery', ['application', 'release']],
  feedback: ['feedback', ['project', 'scan']],
  import: ['dataImport', ['project', 'import']],
} as const satisfies Record<string, readonly [WorkflowName, readonly string[]]>;

/** Inverse of {@link workflowId}: which workflow an id names, and of what; `undefined` for ids that are not ours. */
export function parseWorkflowId(
  id: string,
): { readonly workflow: WorkflowName; readonly of: Readonly<Record<string, string>> } | undefined {
  const [prefix = '', ...parts] = id.split('/');
  if (!Object.hasOwn(fields, prefix)) return undefined;
  const [workflow, names] = fields[prefix as keyof typeof fields];
  if (parts.length !== names.length) return undefined;
  return { workflow, of: Object.fromEntries(names.map((name, i) => [name, parts[i] ?? ''])) };
}

/** What `temporal workflow list --query` finds workflows by. Stored unencrypted: no secrets. */
export const searchAttributes = {
  Project: defineSearchAttributeKey('Project', 'KEYWORD'),
  Model: defineSearchAttributeKey('Model', 'KEYWORD'),
  ModelType: defineSearchAttributeKey('ModelType', 'KEYWORD'),
  ModelVersion: defineSearchAttributeKey('ModelVersion', 'INT'),
  State: defineSearchAttributeKey('State', 'KEYWORD'),
  Author: defineSearchAttributeKey('Author', 'KEYWORD'),
  Tags: defineSearchAttributeKey('Tags', 'KEYWORD_LIST'),
  Application: defineSearchAttributeKey('Application', 'KEYWORD'),
} as const;
