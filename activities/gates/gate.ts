// What a gate is: one of the five DevOps tests (paper 3.3), or one of the application's own. Adding one is one file, its entry here and its name in workflows/domain/known-names.ts.
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
  /** Ends with the delivery. */
  readonly signal: AbortSignal;
  readonly report: (progress: unknown) => void;
  /** The gate's own unless given. */
  readonly limits?: GateLimits;
}

/** How long a model may take for one answer, and a gate for all it does. */
export interface GateLimits {
  readonly answerMs: number;
  readonly gateMs: number;
}

/** Resolves to the verdict with its evidence; a throw means that the gate could not be run, which is not passed either. */
export type Gate = (context: GateContext) => Promise<{ readonly passed: boolean; readonly detail: string }>;

export const gates = { function: functionGate } as const satisfies Record<GateName, Gate>;
