// Versions and evaluations, as they are looked at.
import type { Evaluation, Version } from '../../workflows/domain/model.ts';
import type { Digest } from '../../workflows/domain/names.ts';
import type { Page } from './audit.ts';

/** A version as lists show it: without its files, run and decisions. */
export type VersionSummary = Omit<Version, 'files' | 'run' | 'decisions' | 'keyId'>;

/** How a list of versions is sorted: last updated first, last updated last, highest version number first. */
export const versionOrders = ['newest', 'oldest', 'number'] as const;

export interface VersionFilter extends Page {
  readonly project: string;
  readonly model?: string;
  readonly type?: string;
  readonly state?: string;
  readonly author?: string;
  readonly tag?: string;
  /** Each of its words begins a word of the model's name, the submission or the detail. */
  readonly text?: string;
  /** `newest` unless given. A cursor is good for the order it was made in. */
  readonly order?: (typeof versionOrders)[number];
}

/** The versions' part of Records. */
export interface VersionRecords {
  version(project: string, model: string, submission: string): Promise<Version | undefined>;
  versionByNumber(project: string, model: string, number: number): Promise<Version | undefined>;
  versions(filter: VersionFilter): Promise<{ rows: readonly VersionSummary[]; next?: string }>;
  /** Claims a digest for an open submission; another open one with the same bytes is a `Conflict` that names it. */
  claimDigest(project: string, model: string, submission: string, digest: Digest): Promise<void>;
  /** Lets go of the claim at the end of a lifecycle. */
  freeDigest(project: string, model: string, submission: string): Promise<void>;

  evaluation(project: string, evaluation: string): Promise<Evaluation | undefined>;
  /**
   * Newest first. `seenBy` leaves those that a person may see: their own, those of versions they are the author of and,
   * with `all`, those of every version.
   */
  evaluations(
    filter: {
      project: string;
      model?: string;
      submission?: string;
      seenBy?: { readonly user: string; readonly all: boolean };
    } & Page,
  ): Promise<{ rows: readonly Evaluation[]; next?: string }>;
}
