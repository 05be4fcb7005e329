// The database port: people, projects, versions, releases, live pointers, findings and the audit. Each part has a file in records/.
import type { AuditRecords } from './records/audit.ts';
import type { PeopleRecords, ProjectRecords } from './records/people.ts';
import type { DataSetRecords, ImportRecords } from './records/data-sets.ts';
import type { VersionRecords } from './records/versions.ts';
import type { ReleaseRecords, ScanRecords } from './records/releases.ts';
import type { StartRecords } from './records/starts.ts';
import type { VersionDecisionRecords, PointerDecisionRecords } from './records/decisions.ts';
import type { ByteRecords } from './records/bytes.ts';
import type { InstallationRecords } from './records/installation.ts';
import type { ComputeRecords, JobRecords } from './records/jobs.ts';

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
export type { ScanSummary } from './records/releases.ts';
export { versionOrders } from './records/versions.ts';
export type {
  AdmissionAnswer,
  CommandRow,
  DecisionNote,
  NewStart,
  StartRow,
  StepName,
  UploadedOutput,
} from './records/starts.ts';
export type { DeliveryKey, TransitionEntry, VersionKey } from './records/decisions.ts';
export { UNFILED_PAGE } from './records/decisions.ts';
export type {
  Job,
  JobKind,
  JobRow,
  JobTurn,
  PoolRow,
  QueuedJob,
  WaitingActivity,
  WatchedPool,
} from './records/jobs.ts';
export type { ByteFault, FileDigest } from './records/bytes.ts';
export { CHUNK_BYTES, DIGEST_BYTES } from './records/bytes.ts';

/** The `code` of errors thrown while the database is unavailable. Callers may retry. */
export const RECORDS_AWAY = 'RECORDS_AWAY';

/** Most rows that `linkAudit` links: it takes some tens of milliseconds, during which writers of the same keys wait. */
export const LINKED_AT_ONCE = 1_000;

/** The database. Each method is one transaction; each write is idempotent. */
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
    JobRecords,
    ComputeRecords,
    InstallationRecords {
  /** The current time by the clock that stamps recorded times. Use it for comparisons with recorded times. */
  clock(): Promise<string>;
  /**
   * Runs `work` while holding a lock that excludes other callers in this and other processes. Returns `undefined` if the
   * lock is taken. No transaction is open meanwhile, so `work` may call other systems. `held` is aborted when the
   * connection that holds the lock is lost: another caller may then hold it, so `work` must stop before its next step.
   */
  exclusively<T>(what: string, work: (held: AbortSignal) => Promise<T>): Promise<T | undefined>;
  close(): Promise<void>;
}
