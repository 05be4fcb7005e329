// The database as a port: people, projects, the record of every passage, releases, live pointers, findings; each part in its file of records/.
import type { AuditRecords } from './records/audit.ts';
import type { PeopleRecords, ProjectRecords } from './records/people.ts';
import type { DataSetRecords, ImportRecords } from './records/data-sets.ts';
import type { VersionRecords } from './records/versions.ts';
import type { ReleaseRecords, ScanRecords } from './records/releases.ts';
import type { StartRecords } from './records/starts.ts';
import type { VersionDecisionRecords, PointerDecisionRecords } from './records/decisions.ts';
import type { ByteRecords } from './records/bytes.ts';
import type { InstallationRecords } from './records/installation.ts';

export type { AuditCheck, AuditEntry, AuditRow, Page, Projection } from './records/audit.ts';
export type {
  IssuedToken,
  JobGrant,
  Member,
  Principal,
  Project,
  Standing,
  StandingMember,
  TypeAccess,
  User,
} from './records/people.ts';
export { TYPES_LIMIT } from './records/people.ts';
export type { DataSetReference } from './records/data-sets.ts';
export { REFERENCES_LIMIT } from './records/data-sets.ts';
export type { VersionFilter, VersionSummary } from './records/versions.ts';
export { versionOrders } from './records/versions.ts';
export type { AdmissionAnswer, CommandRow, DecisionNote, NewStart, StartRow, StepName } from './records/starts.ts';
export type { DeliveryKey, TransitionEntry, VersionKey } from './records/decisions.ts';
export type { ByteFault, FileDigest } from './records/bytes.ts';
export { CHUNK_BYTES, DIGEST_BYTES } from './records/bytes.ts';

/** The `code` of the errors with which methods reject while the database does not answer: waiting mends them. */
export const RECORDS_AWAY = 'RECORDS_AWAY';

/** The database. Every method is one transaction; every write may come twice and counts once. */
export interface Records
  extends
    AuditRecords,
    PeopleRecords,
    ProjectRecords,
    DataSetRecords,
    ImportRecords,
    VersionRecords,
    ReleaseRecords,
    ScanRecords,
    StartRecords,
    VersionDecisionRecords,
    PointerDecisionRecords,
    ByteRecords,
    InstallationRecords {
  /** The time by the clock that recorded times come from: what is compared with one of them is taken from here. */
  clock(): Promise<string>;
  /**
   * Does the work unless another caller holds this lock, in this process or another; `undefined` then. No transaction is
   * open meanwhile, so the work may call other systems. `held` is aborted when the connection that holds the lock is lost:
   * another caller may hold it then, and the work stops before its next step.
   */
  exclusively<T>(what: string, work: (held: AbortSignal) => Promise<T>): Promise<T | undefined>;
  close(): Promise<void>;
}
