// How things stand in Records, as workflows read it: they coordinate by this, and decide nothing by it.
import type { Approval } from './approval.ts';
import type { LivePointer, Release, Scan, Version } from './model.ts';

/** A decision whose effects outside the database are under way. */
export interface Pending {
  readonly commandId: string;
  readonly name: string;
  /** The release that a `release` has been given. */
  readonly release: string | null;
}

/** A version, and what its workflow needs to go on with it from any moment. */
export interface VersionStanding {
  readonly version: Version;
  /** The training attempt that is under way or was the last. */
  readonly attempt: number;
  readonly approvals: readonly Approval[];
  /** Approvals that count now, those that lapsed with the reason, and how many are needed. */
  readonly counting: readonly string[];
  readonly lapsed: readonly { readonly actor: string; readonly why: string }[];
  readonly quorum: number;
  readonly pending: Pending | null;
  /** ISO 8601: until then a rejection can be undone. */
  readonly undoUntil: string | null;
  /** Nothing more can come. */
  readonly closed: boolean;
  /** Ids of workflows that must look at the records again. */
  readonly wake: readonly string[];
}

/** One (application, type): what is live, and what is being carried out. */
export interface ApplicationStanding {
  readonly pointer: LivePointer;
  readonly pending: Pending | null;
  readonly wake: readonly string[];
}

/** The next release of an application. */
export interface NextDelivery {
  readonly release: Release | null;
}

/** A scan without its findings: with every label they would fill a workflow's history. */
export interface ScanStanding {
  readonly scan: Omit<Scan, 'findings'>;
  readonly findings: number;
  readonly labelled: number;
  readonly pending: Pending | null;
}
