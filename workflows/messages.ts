// The contract of every workflow: task queues, ids with their inverses, signals, queries, search attributes, inputs.
import { defineQuery, defineSignal } from '@temporalio/workflow';
import { defineSearchAttributeKey } from '@temporalio/common';
import type { PublicKeys, RefusalReason } from './domain/command.ts';
import type { Source } from './domain/import.ts';
import type { LivePointer, RunSpec, Version } from './domain/model.ts';
import type { Digest } from './domain/names.ts';

export type { PublicKeys };
export type { WorkflowName } from './domain/ids.ts';
export { parseWorkflowId, workflowId } from './domain/ids.ts';

/**
 * `core`: workflows and short activities. Trainings, evaluations and imports have separate queues with few slots, so that they
 * delay neither decisions nor each other. `jobs`: activities that earlier versions scheduled, all three kinds in one queue.
 */
export const taskQueues = {
  core: 'ocdl',
  training: 'ocdl-training',
  evaluation: 'ocdl-evaluation',
  imports: 'ocdl-imports',
  jobs: 'ocdl-jobs',
} as const;

/** The only signal for people's commands: one name keeps the order of arrival. Its payload is untrusted until parsed. */
export const command = defineSignal<[unknown]>('command');
/** Asks a workflow to read the records again. It has no payload, so a forged one changes nothing. */
export const wake = defineSignal('wake');

export const status = defineQuery<LifecycleStatus>('status');
export const live = defineQuery<ApplicationStatus>('live');

/** A refused command as recorded in the audit. `commandId` and `actor` are unverified unless `signed`. */
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
  /** `null` until the workflow has read the record. */
  readonly version: Version | null;
  /** The command being decided or carried out. */
  readonly busy: string | null;
  readonly approvals: readonly string[];
}

export interface ApplicationStatus {
  readonly pointer: LivePointer | null;
  /** The release that is being delivered. */
  readonly delivering: string | null;
  readonly busy: string | null;
}

/** How a lifecycle begins: with a training run, or with a directory of the author's private area. */
export type Beginning = { readonly run: RunSpec } | { readonly directory: string };

export interface LifecycleInput {
  readonly project: string;
  readonly model: string;
  readonly type: string;
  readonly submission: string;
  readonly author: string;
  readonly beginning: Beginning;
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
  /** The evaluated model: a version's submission, or a directory of the actor's private area. */
  readonly subject: { readonly submission: string } | { readonly directory: string };
  /** Thresholds of a private test; by default, and for a version in staging, those of the project's policy. */
  readonly thresholds?: Readonly<Record<string, number>>;
  /** Time limit for the model; {@link EVALUATION_SECONDS} by default. */
  readonly deadlineSeconds?: number;
  /** Name of a compute profile; `cpu` by default. */
  readonly compute?: string;
}

/** An evaluation of a few thousand rows takes seconds; one that takes an hour hangs. */
export const EVALUATION_SECONDS = 3_600;
/** Maximum deadline of an evaluation: a day. */
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
}

export interface DeliveryInput {
  readonly application: string;
  readonly type: string;
  readonly release: string;
}

export interface FeedbackInput {
  readonly project: string;
  readonly scan: string;
}

export interface DataImportInput {
  readonly project: string;
  readonly import: string;
  /** Name of the resulting data set. */
  readonly dataset: string;
  readonly source: Source;
  /** Unpack archives into folders. */
  readonly unpack: boolean;
  /** Expected digest of the only file, if the importer knows it. */
  readonly sha256: Digest | null;
  readonly actor: string;
}

/** Search attributes for `temporal workflow list --query`. Stored unencrypted: no secrets. */
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
