// Versions and evaluations, as read by lists and lookups.
import type { Evaluation, Version } from '../../workflows/domain/model.ts';
import type { Digest } from '../../workflows/domain/names.ts';
import type { Page } from './audit.ts';

/** A version as shown in lists: without its files, run and decisions. */
export type VersionSummary = Omit<Version, 'files' | 'run' | 'decisions' | 'keyId'>;

/** Sort orders of version lists: `newest` and `oldest` by last update, `number` by highest version number first. */
export const versionOrders = ['newest', 'oldest', 'number'] as const;

export interface VersionFilter extends Page {
  readonly project: string;
  readonly model?: string;
  readonly type?: string;
  readonly state?: string;
  readonly author?: string;
  readonly tag?: string;
  /** Each word of it must be a prefix of a word in the model's name, the submission or the detail. */
  readonly text?: string;
  /** Default: `newest`. A cursor is valid only for the order it was made in. */
  readonly order?: (typeof versionOrders)[number];
}

/** The version part of Records. */
export interface VersionRecords {
  version(project: string, model: string, submission: string): Promise<Version | undefined>;
  versionByNumber(project: string, model: string, number: number): Promise<Version | undefined>;
  versions(filter: VersionFilter): Promise<{ rows: readonly VersionSummary[]; next?: string }>;
  /**
   * Claims a digest for an open submission. `Conflict` naming the other submission if another open one has the same
   * bytes.
   */
  claimDigest(project: string, model: string, submission: string, digest: Digest): Promise<void>;
  /** Releases the claim at the end of a lifecycle. */
  freeDigest(project: string, model: string, submission: string): Promise<void>;

  evaluation(project: string, evaluation: string): Promise<Evaluation | undefined>;
  /**
   * Newest first. `seenBy` limits the list to what a person may see: their own evaluations, those of versions they
   * authored and, with `all`, those of every version.
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
