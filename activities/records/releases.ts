// Releases, applications with their live pointers and deliveries, scans.
import type {
  Application,
  Delivery,
  LivePointer,
  Release,
  Scan,
  StandingRelease,
} from '../../workflows/domain/model.ts';
import type { AuditEntry, Page } from './audit.ts';

/** The part of Records that is about releases and applications. */
export interface ReleaseRecords {
  /** The release of this command to this submission: the type's next sequence number the first time. `Conflict` when a newer version of the model is live in an application. */
  allotRelease(commandId: string, release: Omit<Release, 'release' | 'sequence' | 'state'>): Promise<Release>;
  announced(release: string): Promise<void>;
  /** The manifest that fixes this release's number lies in the release store. */
  manifested(release: string): Promise<void>;
  /** The id of the command that a release was made by. */
  releaseCommand(release: string): Promise<string>;
  /** Announced releases without a manifest, with the ids of their commands: those of earlier programs. */
  unmanifested(limit: number): Promise<readonly { readonly commandId: string; readonly release: Release }[]>;
  release(release: string): Promise<StandingRelease | undefined>;
  /** By number. `announced` leaves out those whose bytes may not all be there yet. */
  releases(filter: {
    type: string;
    after?: number;
    limit?: number;
    announced?: boolean;
  }): Promise<readonly StandingRelease[]>;
  releasesOf(project: string, model: string, submission: string): Promise<readonly StandingRelease[]>;
  /** No application may make these releases live from now on. `live` names those where one is: then nothing is fenced. */
  fence(releases: readonly string[], commandId: string): Promise<{ readonly live: readonly string[] }>;
  fenced(release: string): Promise<boolean>;

  /** At revision 0. Its types are the project's own or granted to it. */
  createApplication(application: Omit<Application, 'revision'>, audit: AuditEntry): Promise<void>;
  /**
   * Replaces types, gates, owner and repository; `application.revision` is the next one. `Conflict` when another change was first,
   * when a type that goes is live there, and when another application has the repository.
   */
  changeApplication(application: Application, audit: AuditEntry): Promise<void>;
  application(application: string): Promise<Application | undefined>;
  applications(filter: { project?: string; type?: string }): Promise<readonly Application[]>;
  livePointer(application: string, type: string): Promise<LivePointer>;
  /** Has this release ever been live there? */
  wasLive(application: string, type: string, release: string): Promise<boolean>;
  /**
   * Compare-and-set on `generation`, and the delivery rows with it: the release becomes `live`, the former one `superseded`
   * or, by a revert, `reverted`. The same `key` again returns the first answer.
   */
  moveLivePointer(
    move: { key: string; application: string; type: string; generation: number; release: string; revert: boolean },
    audit: AuditEntry,
  ): Promise<
    | { readonly moved: true; readonly pointer: LivePointer }
    | { readonly moved: false; readonly why: 'generation' | 'fenced' | 'older' | 'gates' }
  >;
  /** What was live at a time (ISO 8601). */
  liveAt(application: string, type: string, at: string): Promise<LivePointer>;
  /** Releases that have been live there, newest first. */
  liveHistory(application: string, type: string): Promise<readonly LivePointer[]>;
  delivery(application: string, release: string): Promise<Delivery | undefined>;
  deliveries(
    filter: { application?: string; release?: string } & Page,
  ): Promise<{ rows: readonly Delivery[]; next?: string }>;
}

/** The scans' part of Records. */
export interface ScanRecords {
  scan(project: string, scan: string): Promise<Scan | undefined>;
  scans(filter: { project: string; application?: string } & Page): Promise<{ rows: readonly Scan[]; next?: string }>;
}
