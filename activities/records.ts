// The database as a port: people, projects, the record of every passage, releases, live pointers, findings.
import type {
  Application,
  DataSet,
  Delivery,
  Evaluation,
  LivePointer,
  NamedArtifact,
  Policy,
  Release,
  Scan,
  Version,
} from '../workflows/domain/model.ts';
import type { Import, Node } from '../workflows/domain/import.ts';
import type { Digest, StorePath } from '../workflows/domain/names.ts';
import type { Checkpoint, Finding, Paused, RecordsKnow } from './installation.ts';
import type { Role } from '../workflows/domain/roles.ts';

/** The `code` of the errors with which methods reject while the database does not answer: waiting mends them. */
export const RECORDS_AWAY = 'RECORDS_AWAY';

export interface AuditEntry {
  /** Makes writing twice harmless: command id, or workflow id and step. */
  readonly key: string;
  /** `null`: of the platform. */
  readonly project: string | null;
  /** e.g. `version.approve`, `version.state`, `command.refused`, `token.issued` */
  readonly kind: string;
  readonly actor: string;
  /** e.g. `vulnerability/random-forest/rf-1` */
  readonly subject: string;
  readonly digest: string | null;
  readonly report: string | null;
  readonly reason: string;
  /** Anything else worth keeping, JSON, small. The signed command is kept whole here. */
  readonly detail: Readonly<Record<string, unknown>>;
  /** ISO 8601 */
  readonly at: string;
}

/** A stored audit row: `hash` = SHA-256 over RFC 8785 JSON of `{ seq, previous, entry }`. */
export interface AuditRow {
  readonly seq: number;
  readonly previous: string;
  readonly hash: string;
  readonly entry: AuditEntry;
}

/** Rows that are made again from staging when lost; written together with the audit row that explains them. */
export type Projection =
  | { readonly kind: 'version'; readonly row: Version }
  | { readonly kind: 'evaluation'; readonly row: Evaluation }
  | { readonly kind: 'delivery'; readonly row: Delivery }
  | { readonly kind: 'scan'; readonly row: Scan };

export interface Principal {
  readonly tokenId: string;
  /** User, application or job name. */
  readonly name: string;
  readonly kind: 'user' | 'application' | 'job';
  readonly admin: boolean;
  /** Job tokens: what the job may fetch and leave. */
  readonly job: JobGrant | null;
}

/** A project, and the roles that a principal was given in it. */
export interface Standing {
  readonly project: Project;
  readonly roles: readonly Role[];
}

export interface JobGrant {
  readonly job: string;
  readonly inputs: readonly NamedArtifact[];
  /** Outputs by name with the store path each goes to. */
  readonly outputs: readonly { readonly name: string; readonly path: StorePath; readonly limit: number }[];
}

export interface Member {
  readonly user: string;
  readonly roles: readonly Role[];
}

export interface Project {
  readonly project: string;
  readonly types: readonly string[];
  readonly policy: Policy;
}

export interface Page {
  readonly after?: string;
  readonly limit?: number;
}

/** The database. Every method is one transaction; every write may come twice and counts once. */
export interface Records {
  // people
  createUser(user: string, admin: boolean, audit: AuditEntry): Promise<void>;
  users(): Promise<readonly { user: string; admin: boolean }[]>;
  /** Stores only the SHA-256 of a token. `expiresAt` null: until revoked. */
  issueToken(
    token: {
      tokenId: string;
      sha256: Digest;
      kind: Principal['kind'];
      name: string;
      expiresAt: string | null;
      job: JobGrant | null;
    },
    audit: AuditEntry,
  ): Promise<void>;
  /** The principal of a token that is neither revoked nor expired. */
  principal(sha256: Digest): Promise<Principal | undefined>;
  /** The same, and how they stand in a project, if there is one of this name: one question, since every request waits for it. */
  principalIn(
    sha256: Digest,
    project: string,
  ): Promise<{ readonly principal: Principal; readonly standing: Standing | undefined } | undefined>;
  tokens(name: string): Promise<
    readonly {
      tokenId: string;
      kind: Principal['kind'];
      createdAt: string;
      expiresAt: string | null;
      revokedAt: string | null;
    }[]
  >;
  revokeToken(tokenId: string, audit: AuditEntry): Promise<void>;

  // projects
  /** `Conflict` if the project, or one of its types in another project, exists. */
  createProject(project: Project, audit: AuditEntry): Promise<void>;
  project(project: string): Promise<Project | undefined>;
  projects(user: string | null): Promise<readonly Project[]>;
  setPolicy(project: string, policy: Policy, audit: AuditEntry): Promise<void>;
  /** Replaces a person's roles in a project; an empty list removes them. `NotFound` for an unknown user. */
  setMember(project: string, member: Member, audit: AuditEntry): Promise<void>;
  members(project: string): Promise<readonly Member[]>;
  registerDataSet(dataset: DataSet, audit: AuditEntry): Promise<void>;
  dataSet(project: string, dataset: string): Promise<DataSet | undefined>;
  dataSets(project: string): Promise<readonly DataSet[]>;

  // the record of a passage
  /** Appends to the hash-chained audit and writes the projections with it; a key that is there already changes nothing. */
  record(entries: readonly AuditEntry[], projections: readonly Projection[]): Promise<void>;
  audit(
    filter: { project?: string | null; subject?: string } & Page,
  ): Promise<{ rows: readonly AuditRow[]; next?: string }>;
  /** Walks the whole chain: the sequence number of the first broken row, or null. */
  verifyAudit(): Promise<{ rows: number; broken: number | null }>;

  version(project: string, model: string, submission: string): Promise<Version | undefined>;
  versions(
    filter: { project: string; model?: string; state?: string; author?: string } & Page,
  ): Promise<{ rows: readonly Version[]; next?: string }>;
  /** The number of this submission, the model's next one the first time; kept for ever. */
  versionNumber(project: string, model: string, submission: string): Promise<number>;
  /** Claims a digest for an open submission; another open one with the same bytes is a `Conflict` that names it. */
  claimDigest(project: string, model: string, submission: string, digest: Digest): Promise<void>;
  /** Lets go of the claim at the end of a lifecycle. */
  freeDigest(project: string, model: string, submission: string): Promise<void>;

  evaluation(project: string, evaluation: string): Promise<Evaluation | undefined>;
  evaluations(
    filter: { project: string; model?: string; submission?: string } & Page,
  ): Promise<{ rows: readonly Evaluation[]; next?: string }>;

  // releases and applications
  /** The release of this command to this submission: the type's next sequence number the first time. `Conflict` when a newer version of the model is live in an application. */
  allotRelease(commandId: string, release: Omit<Release, 'release' | 'sequence' | 'state'>): Promise<Release>;
  announced(release: string): Promise<void>;
  /** The manifest that fixes this release's number lies in the release store. */
  manifested(release: string): Promise<void>;
  /**
   * Takes the number away from a release that is not announced, for ever: in the release store it is `takenBy` somebody else.
   * The command's next `allotRelease` gets another number. A release that is gone already is fine.
   */
  burnRelease(release: string, takenBy: string, audit: AuditEntry): Promise<void>;
  /** Announced releases without a manifest, with the ids of their commands: those of earlier programs. */
  unmanifested(limit: number): Promise<readonly { readonly commandId: string; readonly release: Release }[]>;
  release(release: string): Promise<Release | undefined>;
  releases(filter: { type: string; after?: number; limit?: number }): Promise<readonly Release[]>;
  releasesOf(project: string, model: string, submission: string): Promise<readonly Release[]>;
  /** No application may make these releases live from now on. `live` names those where one is: then nothing is fenced. */
  fence(releases: readonly string[], commandId: string): Promise<{ readonly live: readonly string[] }>;
  fenced(release: string): Promise<boolean>;

  createApplication(application: Application, audit: AuditEntry): Promise<void>;
  application(application: string): Promise<Application | undefined>;
  applications(filter: { project?: string; type?: string }): Promise<readonly Application[]>;
  livePointer(application: string, type: string): Promise<LivePointer>;
  /**
   * Compare-and-set on `generation`, and the delivery rows with it: the release becomes `live`, the former one `superseded`
   * or, by a revert, `reverted`. The same `key` again returns the first answer.
   */
  moveLivePointer(
    move: { key: string; application: string; type: string; generation: number; release: string; revert: boolean },
    audit: AuditEntry,
  ): Promise<
    | { readonly moved: true; readonly pointer: LivePointer }
    | { readonly moved: false; readonly why: 'generation' | 'fenced' | 'older' }
  >;
  /** What was live at a time (ISO 8601). */
  liveAt(application: string, type: string, at: string): Promise<LivePointer>;
  /** Releases that have been live there, newest first. */
  liveHistory(application: string, type: string): Promise<readonly LivePointer[]>;
  delivery(application: string, release: string): Promise<Delivery | undefined>;
  deliveries(
    filter: { application?: string; release?: string } & Page,
  ): Promise<{ rows: readonly Delivery[]; next?: string }>;

  // findings
  scan(project: string, scan: string): Promise<Scan | undefined>;
  scans(filter: { project: string; application?: string } & Page): Promise<{ rows: readonly Scan[]; next?: string }>;
  /** Creates the scan with its findings; the same id again changes nothing. */
  createScan(scan: Scan, audit: AuditEntry): Promise<void>;

  // data acquisition
  /** Writes an import as it now stands, with an audit row where one belongs to it; an older state never replaces a newer one. */
  recordImport(row: Import, audit: AuditEntry | null): Promise<void>;
  import(project: string, id: string): Promise<Import | undefined>;
  imports(filter: { project: string } & Page): Promise<{ rows: readonly Import[]; next?: string }>;
  /** Registers a host that data may come from, in the place of one of the same name. */
  setNode(node: Node, audit: AuditEntry): Promise<void>;
  /** Removes a node; a missing one is fine. */
  removeNode(project: string, node: string, audit: AuditEntry): Promise<void>;
  nodes(project: string): Promise<readonly Node[]>;

  // the installation
  /** Claims the database for an installation if nobody has, and answers whose it is. */
  claimInstallation(installation: string): Promise<string>;
  /** What the records know of the installation and of the other systems. */
  known(): Promise<RecordsKnow>;
  /** Hash of a row of the audit; `undefined` where there is none of that number. */
  auditHash(seq: number): Promise<string | undefined>;
  /** Notes the signing keys of the installation; those that are known stay. */
  addKeys(keyIds: readonly string[]): Promise<void>;
  /** The next checkpoint; `undefined` when the audit has not grown since the last one, unless it is `forced`. */
  checkpoint(forced: boolean): Promise<Checkpoint | undefined>;
  /** The system holds this checkpoint (0: the marker alone); an earlier one never replaces a later one. */
  kept(system: string, tick: number): Promise<void>;
  /** Pauses decisions and deliveries until `acceptRestore`; findings about a system replace earlier ones about it. */
  pause(findings: readonly Finding[], audit: AuditEntry): Promise<void>;
  paused(): Promise<Paused | undefined>;
  /**
   * Ends the pause: checkpoints go on from `tick`, no type gives a number up to its `numbers` again, what systems were known
   * to hold is forgotten, and so are signing keys other than `keys`. `voidTokens` revokes every token of people and applications.
   */
  acceptRestore(
    accepted: {
      readonly tick: number;
      readonly numbers: readonly { readonly type: string; readonly sequence: number }[];
      readonly keys: readonly string[];
      readonly voidTokens: boolean;
    },
    audit: AuditEntry,
  ): Promise<void>;

  close(): Promise<void>;
}
