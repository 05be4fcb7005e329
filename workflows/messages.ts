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
  /** `null` until the workflow has read the record. */
  readonly version: Version | null;
  /** The command being decided or carried out. */
  readonly busy: string | null;
  readonly approvals: readonly string[];
}

export interface ApplicationStatus {
  readonly pointer: LivePointer | null;
  /** The release that is on its way in. */
  readonly delivering: string | null;
  readonly busy: string | null;
}

/** Where a lifecycle begins: with a training run, or with a directory of the author's private area. */
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
  /** What is evaluated: a version's submission, or a directory of the actor's private area. */
  readonly subject: { readonly submission: string } | { readonly directory: string };
  /** A private test's own thresholds; without them, and for a version in staging, those of the project's policy. */
  readonly thresholds?: Readonly<Record<string, number>>;
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
  /** Name of the data set it becomes. */
  readonly dataset: string;
  readonly source: Source;
  /** Lay archives out as folders. */
  readonly unpack: boolean;
  /** What the one file must be, if the importer knows. */
  readonly sha256: Digest | null;
  readonly actor: string;
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
