// The state in Records as read by workflows, which use it to coordinate, not to decide.
import type { Approval } from './approval.ts';
import type { LivePointer, Release, Scan, Version } from './model.ts';

/** A decision whose effects outside the database are being carried out. */
export interface Pending {
  readonly commandId: string;
  readonly name: string;
  /** The release id assigned to a `release` command. */
  readonly release: string | null;
}

/** A version and everything its workflow needs to continue at any point. */
export interface VersionStanding {
  readonly version: Version;
  /** The current or last training attempt. */
  readonly attempt: number;
  readonly approvals: readonly Approval[];
  /** Approvals that count now, lapsed approvals with the reason, and the number required. */
  readonly counting: readonly string[];
  readonly lapsed: readonly { readonly actor: string; readonly why: string }[];
  readonly quorum: number;
  readonly pending: Pending | null;
  /** ISO 8601 end of the undo window of a rejection. */
  readonly undoUntil: string | null;
  /** Whether the version is closed and takes no more commands. */
  readonly closed: boolean;
  /** Ids of workflows that must read the records again. */
  readonly wake: readonly string[];
}

/** One (application, type): the live release and the command that is being carried out. */
export interface ApplicationStanding {
  readonly pointer: LivePointer;
  readonly pending: Pending | null;
  readonly wake: readonly string[];
}

/** The next release of an application. */
export interface NextDelivery {
  readonly release: Release | null;
  /** Of the live pointer. Missing in results recorded before this field. */
  readonly generation?: number;
}

/** A scan without its findings, which would fill a workflow's history with every label. */
export interface ScanStanding {
  readonly scan: Omit<Scan, 'findings'>;
  readonly findings: number;
  readonly labelled: number;
  readonly pending: Pending | null;
}
