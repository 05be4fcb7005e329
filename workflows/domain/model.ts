// Types of the model lifecycle: runs, versions, evaluations, releases, applications, deliveries, findings.
import type { Placement } from './compute.ts';
import type { ArtifactUri, Digest } from './names.ts';
import type { VersionState } from './lifecycle.ts';

/** Stored bytes: address and digest. Immutable. */
export interface Artifact {
  readonly uri: ArtifactUri;
  readonly sha256: Digest;
  readonly bytes: number;
}

/** A file of a data set, a job's input or a submission: its name and its bytes. */
export interface NamedArtifact extends Artifact {
  readonly name: string;
}

/** The inputs of a training run: enough to repeat it. */
export interface RunSpec {
  /** Commit of the project's code repository; `entrypoint` and `lock` are in the tree's root. */
  readonly code: { readonly repository: string; readonly commit: string };
  /** e.g. `train.py` */
  readonly entrypoint: string;
  /** Path of the pinned requirements in the tree. */
  readonly lock: string;
  /** Data sets by name; their files become the job's inputs. */
  readonly data: readonly string[];
  readonly parameters: Readonly<Record<string, string | number | boolean>>;
  readonly seed: number;
  /** Name of a compute profile that the project is offered. */
  readonly compute: string;
  readonly deadlineSeconds: number;
}

/** A completed run: the spec with every digest, and the outputs. */
export interface RunRecord {
  readonly attempt: number;
  readonly spec: RunSpec;
  readonly inputs: readonly NamedArtifact[];
  /** SHA-256 of the environment's lock. */
  readonly environment: Digest;
  readonly outputs: readonly NamedArtifact[];
  readonly metrics: Readonly<Record<string, number>>;
  readonly log: NamedArtifact | null;
  /** Missing in runs recorded before this field. */
  readonly placement?: Placement;
  readonly startedAt: string;
  readonly endedAt: string;
}

/** The manager's rules for a project. The policy in force at a decision applies and is recorded with it. */
export interface Policy {
  readonly version: number;
  /** Number of distinct approvals required. */
  readonly quorum: number;
  /** Time in which a rejection can be undone. */
  readonly undoWithinSeconds: number;
  /** Minimum of each metric for a report to pass, e.g. `{ average_precision: 0.7 }`. */
  readonly thresholds: Readonly<Record<string, number>>;
}

export const defaultPolicy: Policy = {
  version: 1,
  quorum: 1,
  undoWithinSeconds: 600,
  thresholds: {},
};

/** One decision or transition in a version's record. */
export interface Decision {
  readonly commandId: string;
  readonly name: string;
  readonly actor: string;
  readonly reason: string;
  readonly report: string | null;
  /** Version of the policy in force. Missing in older decisions. */
  readonly policyVersion?: number;
  /** `retry`: the compute profile from here on. */
  readonly compute?: string;
  readonly at: string;
}

/** One submission as shown in the Model Center. */
export interface Version {
  readonly project: string;
  readonly model: string;
  readonly type: string;
  readonly submission: string;
  readonly author: string;
  readonly state: VersionState;
  readonly revision: number;
  /** Assigned on entering `new`; never reused. */
  readonly version: number | null;
  readonly revises: number | null;
  readonly digest: Digest | null;
  readonly files: readonly NamedArtifact[];
  readonly run: RunRecord | null;
  readonly tags: readonly string[];
  readonly decisions: readonly Decision[];
  /** Why it is in this state, for people: the error of a failed run, the problems of an invalid submission. */
  readonly detail: string;
  readonly keyId: string;
  readonly updatedAt: string;
}

/** The row of a submission that has just been started. */
export const newVersion = (
  given: Pick<Version, 'project' | 'model' | 'type' | 'submission' | 'author'> & {
    readonly beginning: { readonly run: RunSpec } | { readonly directory: string };
  },
  keyId: string,
  updatedAt: string,
): Version => ({
  project: given.project,
  model: given.model,
  type: given.type,
  submission: given.submission,
  author: given.author,
  state: 'run' in given.beginning ? 'provisioning' : 'validating',
  revision: 0,
  version: null,
  revises: null,
  digest: null,
  files: [],
  run: null,
  tags: [],
  decisions: [],
  detail: '',
  keyId,
  updatedAt,
});

/** An evaluation: its rows, its requester and its result. */
export interface Evaluation {
  readonly evaluation: string;
  readonly project: string;
  readonly model: string;
  /** `null`: a private test of a directory, before submission. */
  readonly submission: string | null;
  readonly actor: string;
  readonly dataset: string;
  readonly state: 'running' | 'done' | 'failed';
  /** Digest of the evaluated model. */
  readonly digest: Digest | null;
  readonly report: NamedArtifact | null;
  readonly passed: boolean | null;
  readonly metrics: Readonly<Record<string, number | null>>;
  /** Missing until it has a report, and in evaluations recorded before this field. */
  readonly placement?: Placement;
  readonly detail: string;
  readonly updatedAt: string;
}

/** Immutable rows with digests. `test` sets are in staging: managers see the rows, scientists only results. */
export interface DataSet {
  readonly project: string;
  readonly dataset: string;
  readonly kind: 'training' | 'test';
  /** `unpack`: an archive that jobs get as an unpacked folder. */
  readonly files: readonly (NamedArtifact & { readonly unpack?: boolean })[];
  readonly registeredBy: string;
  readonly registeredAt: string;
}

/** An approved artifact that is delivered to applications. */
export interface Release {
  /** `<type>-<sequence>` */
  readonly release: string;
  readonly type: string;
  readonly sequence: number;
  readonly project: string;
  readonly model: string;
  readonly submission: string;
  readonly version: number;
  readonly digest: Digest;
  readonly files: readonly NamedArtifact[];
  readonly report: string | null;
  readonly approvedBy: readonly string[];
  readonly releasedBy: string;
  readonly state: 'allotted' | 'announced';
  readonly releasedAt: string;
}

/** The decision that withdrew a release. */
export interface Withdrawal {
  /** The command: `reject`, `rollback`, `reassign`, `retire`; `release` where the release itself failed. */
  readonly decision: string;
  readonly by: string;
  readonly reason: string;
  readonly at: string;
}

/** A release as it stands: a withdrawn release is no longer downloaded and never goes live again. */
export interface StandingRelease extends Release {
  readonly withdrawn: Withdrawal | null;
}

/** A consumer of one or more types. */
export interface Application {
  readonly application: string;
  /** Number of changes of its types, gates, owner and repository; a change must name the current one. */
  readonly revision: number;
  readonly project: string;
  readonly owner: string;
  readonly types: readonly string[];
  /** Names of the gates, in order. */
  readonly gates: readonly string[];
  readonly repository: string;
}

/** The live release of an application and type. `generation` counts the moves and is used for compare-and-set. */
export interface LivePointer {
  readonly application: string;
  readonly type: string;
  readonly generation: number;
  readonly release: string | null;
  readonly movedAt: string | null;
}

export const deliveryStates = [
  'received',
  'gating',
  'deploying',
  'live',
  'superseded',
  'reverted',
  'taken-down',
  'failed',
] as const;
export type DeliveryState = (typeof deliveryStates)[number];

/** Result of one gate with its evidence. */
export interface GateResult {
  readonly gate: string;
  readonly passed: boolean;
  readonly detail: string;
  readonly seconds: number;
}

/** The delivery of one release to one application. */
export interface Delivery {
  readonly application: string;
  readonly release: string;
  readonly type: string;
  readonly state: DeliveryState;
  readonly gates: readonly GateResult[];
  readonly detail: string;
  readonly updatedAt: string;
}

/** One item that the application's model flagged (or passed), as shown to the engineer. */
export interface Finding {
  readonly finding: string;
  readonly name: string;
  readonly path: string;
  readonly vulnerable: boolean;
  readonly probability: number;
  /** SHA-256 of the scanned source file. */
  readonly source: Digest;
  readonly label: Label | null;
}

export interface Label {
  readonly verdict: 'true' | 'false';
  readonly by: string;
  readonly at: string;
}

/** One scan by an application with the version that was live. */
export interface Scan {
  readonly scan: string;
  readonly project: string;
  readonly application: string;
  readonly type: string;
  readonly release: string;
  readonly findings: readonly Finding[];
  readonly state: 'open' | 'labelled';
  readonly revision: number;
  /** Commit of the labels repository with the newest labels. */
  readonly commit: string | null;
  readonly keyId: string;
  readonly updatedAt: string;
}

/** What the next attempt of a version runs: as requested at its start, with the compute profile that the last retry named. */
export function specOfNext(requested: RunSpec, { decisions }: Pick<Version, 'decisions'>): RunSpec {
  const named = [...decisions].reverse().find(({ compute }) => compute !== undefined)?.compute;
  return named === undefined ? requested : { ...requested, compute: named };
}
