// Releases, applications with their live pointers and deliveries, and scans.
import type {
  Application,
  Delivery,
  LivePointer,
  Release,
  Scan,
  StandingRelease,
} from '../../workflows/domain/model.ts';
import type { AuditEntry, Page } from './audit.ts';

/** The release and application part of Records. */
export interface ReleaseRecords {
  /**
   * The release that this command creates for this submission. The first call allots the type's next sequence number.
   * `Conflict` if a newer version of the model is live in an application.
   */
  allotRelease(commandId: string, release: Omit<Release, 'release' | 'sequence' | 'state'>): Promise<Release>;
  announced(release: string): Promise<void>;
  /** Records that the manifest that fixes this release's number is in the release store. */
  manifested(release: string): Promise<void>;
  /** The id of the command that created a release. */
  releaseCommand(release: string): Promise<string>;
  /** Announced releases without a manifest, with the ids of their commands. Earlier platform versions created them. */
  unmanifested(limit: number): Promise<readonly { readonly commandId: string; readonly release: Release }[]>;
  release(release: string): Promise<StandingRelease | undefined>;
  /** Ordered by number. `announced` excludes releases whose bytes may be incomplete. */
  releases(filter: {
    type: string;
    after?: number;
    limit?: number;
    announced?: boolean;
  }): Promise<readonly StandingRelease[]>;
  releasesOf(project: string, model: string, submission: string): Promise<readonly StandingRelease[]>;
  /**
   * Prevents applications from making these releases live. `live` lists the applications where one of them is live; if
   * there are any, nothing is fenced.
   */
  fence(releases: readonly string[], commandId: string): Promise<{ readonly live: readonly string[] }>;
  fenced(release: string): Promise<boolean>;

  /** Creates the application at revision 0. Its types must be the project's own or granted to it. */
  createApplication(application: Omit<Application, 'revision'>, audit: AuditEntry): Promise<void>;
  /**
   * Replaces types, gates, owner and repository. `application.revision` is the next revision. `Conflict` if another
   * change came first, if a removed type is live there, or if another application has the repository.
   */
  changeApplication(application: Application, audit: AuditEntry): Promise<void>;
  application(application: string): Promise<Application | undefined>;
  applications(filter: { project?: string; type?: string }): Promise<readonly Application[]>;
  /** Types of applications whose workflow has no recorded start. */
  unstartedTypes(
    limit: number,
  ): Promise<
    readonly { readonly application: string; readonly type: string; readonly project: string; readonly owner: string }[]
  >;
  livePointer(application: string, type: string): Promise<LivePointer>;
  /** Whether this release has ever been live there. */
  wasLive(application: string, type: string, release: string): Promise<boolean>;
  /**
   * Compare-and-set on `generation`, together with the delivery rows: the release becomes `live`, the previous one
   * `superseded` or, on a revert, `reverted`. A repeated `key` returns the first answer.
   */
  moveLivePointer(
    move: { key: string; application: string; type: string; generation: number; release: string; revert: boolean },
    audit: AuditEntry,
  ): Promise<
    | { readonly moved: true; readonly pointer: LivePointer }
    | { readonly moved: false; readonly why: 'generation' | 'fenced' | 'older' | 'gates' }
  >;
  /** What was live at a given time (ISO 8601). */
  liveAt(application: string, type: string, at: string): Promise<LivePointer>;
  /** Releases that have been live there, newest first. A page continues before the generation `after`. */
  liveHistory(
    filter: { application: string; type: string } & Page,
  ): Promise<{ rows: readonly LivePointer[]; next?: string }>;
  delivery(application: string, release: string): Promise<Delivery | undefined>;
  deliveries(
    filter: { application?: string; release?: string } & Page,
  ): Promise<{ rows: readonly Delivery[]; next?: string }>;
}

/** A scan in a list: a page of scans with their findings would be gigabytes. */
export type ScanSummary = Omit<Scan, 'findings'> & { readonly findingCount: number; readonly labelCount: number };

/** The scan part of Records. */
export interface ScanRecords {
  scan(project: string, scan: string): Promise<Scan | undefined>;
  scans(
    filter: { project: string; application?: string } & Page,
  ): Promise<{ rows: readonly ScanSummary[]; next?: string }>;
}
