// What a gate is: one of the five DevOps tests (paper 3.3) or an application's own. To add one, add a file, an entry here and a name in workflows/domain/known-names.ts.
import type { GateName } from '../../workflows/domain/known-names.ts';
import type { Application, NamedArtifact, Release } from '../../workflows/domain/model.ts';
import type { ArtifactStore, Cluster } from '../ports.ts';
import { functionGate } from './function.ts';

export interface GateContext {
  readonly application: Application;
  readonly release: Release;
  readonly files: readonly NamedArtifact[];
  readonly cluster: Cluster;
  readonly releases: ArtifactStore;
  /** Aborted when the delivery ends. */
  readonly signal: AbortSignal;
  readonly report: (progress: unknown) => void;
  /** Default: the gate's own limits. */
  readonly limits?: GateLimits;
}

/** Time limits for one answer of the model and for the whole gate. */
export interface GateLimits {
  readonly answerMs: number;
  readonly gateMs: number;
}

/** Resolves to the verdict with its evidence. A throw means that the gate could not run, which never counts as passed. */
export type Gate = (context: GateContext) => Promise<{ readonly passed: boolean; readonly detail: string }>;

export const gates = { function: functionGate } as const satisfies Record<GateName, Gate>;
