// The database as a port: people, projects, the record of every passage, releases, live pointers, findings.
import type {
  Application,
  DataSet,
  Delivery,
  Evaluation,
  GateResult,
  LivePointer,
  NamedArtifact,
  Policy,
  Release,
  RunRecord,
  Scan,
  Version,
} from '../workflows/domain/model.ts';
import type { Import, Node } from '../workflows/domain/import.ts';
import type { Outcome, PublicKeys, SignedCommand } from '../workflows/domain/command.ts';
import type { WorkflowName } from '../workflows/domain/ids.ts';
import type { VersionState } from '../workflows/domain/lifecycle.ts';
import type { ApplicationStanding, NextDelivery, ScanStanding, VersionStanding } from '../workflows/domain/standing.ts';
import type { ArtifactUri, Digest, StorePath } from '../workflows/domain/names.ts';
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

/**
 * A stored audit row: `hash` = SHA-256 over RFC 8785 JSON of `{ seq, previous, entry }`. All three are null until the row
 * is linked into the chain, about a second after it was written.
 */
export interface AuditRow {
  readonly seq: number | null;
  readonly previous: string | null;
  readonly hash: string | null;
  readonly entry: AuditEntry;
}

/** What a walk of the audit found. */
export interface AuditCheck {
  /** All rows, linked or not. */
  readonly rows: number;
  /** The sequence number of the first broken row. */
  readonly broken: number | null;
  /** Rows that are not linked yet. */
  readonly unlinked: number;
  /** Of those, rows that should have been linked seconds ago: no process links them. */
  readonly overdue: number;
}

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

export interface User {
  readonly user: string;
  readonly admin: boolean;
  /** Their tokens open nothing, and they count nowhere until they are enabled again. */
  readonly disabled: boolean;
}

/** A token without its secret. */
export interface IssuedToken {
  readonly tokenId: string;
  readonly kind: Principal['kind'];
  /** Whose it is: a user, an application or a job. */
  readonly name: string;
  readonly createdAt: string;
  readonly expiresAt: string | null;
  readonly revokedAt: string | null;
}

export interface Member {
  readonly user: string;
  readonly roles: readonly Role[];
}

/** A member as they stand now: the roles of a disabled person are kept, and count for nothing. */
export interface StandingMember extends Member {
  readonly disabled: boolean;
}

/** A type that a project may use: its own, or one of another project that lets it be consumed. */
export interface TypeAccess {
  readonly type: string;
  /** The project that owns it, which alone releases into it. */
  readonly owner: string;
  /** Projects whose applications may consume it besides; told to the owner only. */
  readonly consumers: readonly string[];
}

/** What still names a data set, so that it cannot be deleted. */
export interface DataSetReference {
  readonly kind: 'run' | 'evaluation' | 'import';
  /** `<model>/<submission>` of a run, else the id. */
  readonly name: string;
}

/** Types that one project may own: every request reads them with its project. */
export const TYPES_LIMIT = 50;
/** References that are told of a data set that cannot be deleted. */
export const REFERENCES_LIMIT = 20;

export interface Project {
  readonly project: string;
  readonly types: readonly string[];
  readonly policy: Policy;
}

export interface Page {
  readonly after?: string;
  readonly limit?: number;
}

/** A workflow that may run: recorded by whoever starts it, before it is started. */
export interface NewStart {
  readonly workflowId: string;
  readonly type: WorkflowName;
  /** Its only argument. */
  readonly input: object;
  readonly askedBy: string;
  /** Roles that they held then. */
  readonly roles: readonly Role[];
  readonly project: string | null;
  /** The workflow that starts and resumes it; without one it is a root. */
  readonly parent?: string | null;
}

export interface StartRow extends NewStart {
  readonly recordedAt: string;
  /** It was started before starts were recorded: its input is not known in full. */
  readonly earlier: boolean;
  /** It ran before starts were recorded: what its steps made then is not on record, its workflow brings it along. */
  readonly broughtOver: boolean;
  /** The run that was admitted last. */
  readonly runId: string | null;
  /** How often it was started again since it last went on, and when at the earliest it is again. */
  readonly restarts: number;
  readonly restartAt: string | null;
  readonly closedAt: string | null;
  readonly detail: string;
}

/** May this run of a workflow do anything? `closed`: it has ended, and this is another run. */
export type AdmissionAnswer = 'admitted' | 'unknown' | 'other-input' | 'closed';

/** A command as its row stands. `isOpen`: its workflow has not decided about it yet. */
export interface CommandRow {
  readonly commandId: string;
  readonly actor: string;
  readonly isOpen: boolean;
  readonly outcome: Outcome;
}

/** A decision with the command that it rests on. */
export interface DecisionNote {
  readonly command: SignedCommand;
  readonly status: 'pending' | 'complete' | 'failed';
  readonly detail: {
    readonly release?: string;
    readonly folder?: string;
    readonly to?: string;
    readonly commit?: string;
  };
  readonly policyVersion: number | null;
  readonly at: string;
}

/** One transition of a version, as the file beside its artifact keeps it. */
export interface TransitionEntry {
  readonly version: Version;
  readonly from: VersionState;
  readonly command: SignedCommand | null;
}

type VersionKey = Pick<Version, 'project' | 'model' | 'submission'>;
type DeliveryKey = { readonly application: string; readonly type: string; readonly release: string };
interface Failed {
  readonly reason: string;
  readonly message: string;
}

/**
 * Size of the chunks whose digests are kept. Reading and hashing 1 MiB takes about as long as asking a store for it (some
 * milliseconds), and the digests of the largest model (512 MiB) are 16 KiB.
 */
export const CHUNK_BYTES = 2 ** 20;
/** Of SHA-256. */
export const DIGEST_BYTES = 32;

/** A file that no record names by its digest, as it was when the digest was computed. */
export interface FileDigest {
  readonly uri: ArtifactUri;
  readonly sha256: Digest;
  readonly bytes: number;
  /** By the store's clock: a file with another time or size is another one. */
  readonly modifiedAt: string;
}

/** Stored bytes that are not those that are on record, as they were found when they were read. */
export interface ByteFault {
  readonly uri: ArtifactUri;
  /** Digest of the file on record. */
  readonly expected: Digest;
  /** What is wrong, with the digests that were compared. */
  readonly found: string;
  /** ISO 8601 */
  readonly at: string;
}

/** The database. Every method is one transaction; every write may come twice and counts once. */
export interface Records {
  // people
  createUser(user: string, admin: boolean, audit: AuditEntry): Promise<void>;
  user(user: string): Promise<User | undefined>;
  users(): Promise<readonly User[]>;
  /** Makes somebody an administrator or no longer, disables or enables them. `Conflict` when no enabled administrator would be left. */
  changeUser(
    user: string,
    change: { readonly admin?: boolean | undefined; readonly disabled?: boolean | undefined },
    audit: AuditEntry,
  ): Promise<void>;
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
  /** Tokens of everything of this name, oldest first: a user, an application and a job may share one. */
  tokens(name: string): Promise<readonly IssuedToken[]>;
  token(tokenId: string): Promise<IssuedToken | undefined>;
  /** The tokens of jobs that still work, by their ids. */
  jobTokens(page: Page): Promise<{ rows: readonly IssuedToken[]; next?: string }>;
  revokeToken(tokenId: string, audit: AuditEntry): Promise<void>;

  // projects
  /** `Conflict` if the project, or one of its types in another project, exists. */
  createProject(project: Project, audit: AuditEntry): Promise<void>;
  project(project: string): Promise<Project | undefined>;
  projects(user: string | null): Promise<readonly Project[]>;
  /** Gives a project more types; those it has already are fine. `Conflict` if one is another project's, `InvalidInput` beyond {@link TYPES_LIMIT}. */
  addTypes(project: string, types: readonly string[], audit: AuditEntry): Promise<void>;
  /** The project's own types, and those of others that it may consume. */
  typeAccess(project: string): Promise<readonly TypeAccess[]>;
  /** Lets the applications of another project consume a type, or no longer (`granted: false`). `NotFound` for a type that is not the owner's, and for no such consumer. */
  setTypeGrant(
    grant: { readonly owner: string; readonly type: string; readonly consumer: string; readonly granted: boolean },
    audit: AuditEntry,
  ): Promise<void>;
  /** May applications of this project consume the type now? */
  mayConsume(project: string, type: string): Promise<boolean>;
  /** The project that owns a type. */
  projectOfType(type: string): Promise<string | undefined>;
  setPolicy(project: string, policy: Policy, audit: AuditEntry): Promise<void>;
  /** Replaces a person's roles in a project; an empty list removes them. `NotFound` for an unknown user. */
  setMember(project: string, member: Member, audit: AuditEntry): Promise<void>;
  members(project: string): Promise<readonly StandingMember[]>;

  // data sets
  /**
   * Takes a name for one attempt to register a data set: the newest attempt has it. `clear`: the attempt has failed, and its
   * files are being removed. `busy`: another attempt is clearing or, when this one wants to clear, has taken the name.
   */
  draftDataSet(draft: {
    readonly project: string;
    readonly dataset: string;
    readonly attempt: string;
    readonly step: 'write' | 'clear';
  }): Promise<'taken' | 'busy' | 'registered' | 'deleted'>;
  /** Lets go of the name after clearing. */
  dropDraft(project: string, dataset: string, attempt: string): Promise<void>;
  /** `Conflict` when the name has other files, was deleted, or (`attempt` given) a newer attempt has taken it. */
  registerDataSet(dataset: DataSet, audit: AuditEntry, attempt?: string): Promise<void>;
  /** Deleted ones are not there. */
  dataSet(project: string, dataset: string): Promise<DataSet | undefined>;
  dataSets(project: string): Promise<readonly DataSet[]>;
  /** A data set that was deleted. */
  deletedDataSet(project: string, dataset: string): Promise<DataSet | undefined>;
  /** Writes down that a run or an evaluation, whose row is there, names these data sets. `NotFound` for one that is not there. */
  nameDataSets(
    project: string,
    datasets: readonly string[],
    by: { readonly kind: 'run' | 'evaluation'; readonly name: string },
  ): Promise<void>;
  /**
   * Deletes a data set unless something names it; then it answers by what, at most {@link REFERENCES_LIMIT}. The name stays taken
   * for ever: runs and reports name data sets, and must not come to mean other rows.
   */
  deleteDataSet(
    project: string,
    dataset: string,
    audit: AuditEntry,
  ): Promise<{ readonly references: readonly DataSetReference[] }>;
  /** Deleted data sets whose files may still lie in the areas. */
  unsweptDataSets(limit: number): Promise<readonly DataSet[]>;
  /** The files of a deleted data set are gone. */
  sweptDataSet(project: string, dataset: string): Promise<void>;

  // the record of a passage
  /** Adds to the audit and writes the projections with it; a key that is there already adds nothing. Writers do not wait for each other. */
  record(entries: readonly AuditEntry[], projections: readonly Projection[]): Promise<void>;
  /**
   * Counts a request that was refused. Per principal, action, project and minute the audit gets the first entry at once
   * and, when the minute is over, one that tells how many there were. `request` tells one request from the next.
   */
  recordRefused(
    entry: AuditEntry,
    by: { readonly principal: string; readonly action: string; readonly request: string },
  ): Promise<void>;
  /** Oldest first: linked rows in the order of the chain, then those that are not linked yet. */
  audit(
    filter: { project?: string | null; subject?: string } & Page,
  ): Promise<{ rows: readonly AuditRow[]; next?: string }>;
  /** The audit entry of a key. */
  audited(key: string): Promise<AuditEntry | undefined>;
  /**
   * Links a batch of rows into the chain, oldest first, and returns how many: 0 when none is left or another process is
   * at it. Any number of processes may call it again and again.
   */
  linkAudit(): Promise<number>;
  /** Walks the whole chain. */
  verifyAudit(): Promise<AuditCheck>;

  version(project: string, model: string, submission: string): Promise<Version | undefined>;
  versionByNumber(project: string, model: string, number: number): Promise<Version | undefined>;
  versions(filter: VersionFilter): Promise<{ rows: readonly VersionSummary[]; next?: string }>;
  /** The number of this submission, the model's next one the first time; kept for ever. */
  versionNumber(project: string, model: string, submission: string): Promise<number>;
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

  // releases and applications
  /** The release of this command to this submission: the type's next sequence number the first time. `Conflict` when a newer version of the model is live in an application. */
  allotRelease(commandId: string, release: Omit<Release, 'release' | 'sequence' | 'state'>): Promise<Release>;
  announced(release: string): Promise<void>;
  release(release: string): Promise<Release | undefined>;
  /** By number. `announced` leaves out those whose bytes may not all be there yet. */
  releases(filter: { type: string; after?: number; limit?: number; announced?: boolean }): Promise<readonly Release[]>;
  /** The oldest announced release above the floor that is not fenced and whose delivery to the application has not ended. */
  nextRelease(application: string, type: string, floor: number): Promise<Release | undefined>;
  /** The newest announced release that is not fenced. */
  newestRelease(type: string): Promise<Release | undefined>;
  releasesOf(project: string, model: string, submission: string): Promise<readonly Release[]>;
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

  // findings
  scan(project: string, scan: string): Promise<Scan | undefined>;
  scans(filter: { project: string; application?: string } & Page): Promise<{ rows: readonly Scan[]; next?: string }>;

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

  // starts and commands
  /** Records what may run, with its first rows. `Conflict` when the id stands for another input. */
  recordStart(start: NewStart, audit: AuditEntry, projections: readonly Projection[]): Promise<void>;
  start(workflowId: string): Promise<StartRow | undefined>;
  /** Compares a run with its start; one that is admitted is noted as the run that goes on. */
  admit(run: { workflowId: string; type: string; digest: string | null; runId: string }): Promise<AdmissionAnswer>;
  closeStart(workflowId: string, detail: string): Promise<void>;
  /** What one activity of a workflow has established for the later ones: what was prepared, how a job ended. */
  recordStep(workflowId: string, step: 'prepared' | 'ended', value: object): Promise<void>;
  step<T extends object>(workflowId: string, step: 'prepared' | 'ended'): Promise<T | undefined>;
  /** Roots that are not closed, oldest first. */
  openStarts(page: Page): Promise<{ rows: readonly StartRow[]; next?: string }>;
  /** Counts a restart and says when at the earliest the next one comes; `null`: it goes on. */
  restarted(workflowId: string, restartAt: string | null): Promise<void>;
  registerKeys(keys: PublicKeys): Promise<void>;
  keys(): Promise<PublicKeys>;
  /**
   * Records a signed command with a first verdict; the same again returns its row. `Conflict` (details `repeated`) when the
   * id stands for another command or person, `NotAuthorized` without a signature of a registered key.
   */
  recordCommand(
    command: SignedCommand,
    about: { readonly project: string | null; readonly subject: string },
  ): Promise<CommandRow>;
  command(workflowId: string, commandId: string): Promise<CommandRow | undefined>;
  /** Commands that wait for their workflow since before a time, oldest first. */
  openCommands(filter: { before: string; limit: number }): Promise<readonly SignedCommand[]>;
  decision(workflowId: string, commandId: string): Promise<DecisionNote | undefined>;
  /**
   * Checks each decision: its command is signed by the platform and says just this; and each approval, release and move of
   * a live pointer has its decision. `problems` names what does not fit, the first hundred.
   */
  verifyDecisions(): Promise<{ readonly checked: number; readonly problems: readonly string[] }>;

  // decisions about versions, and the facts that they follow from
  versionStanding(key: VersionKey): Promise<VersionStanding>;
  /**
   * Decides: locks project, members, version, releases and pointers, judges by what holds now, consumes the command, writes
   * decision, transition and audit. The same again returns the standing. `place` says where a released file will lie,
   * `doubt` what stands against it outside the database.
   */
  decideVersion(
    workflowId: string,
    command: SignedCommand,
    more: {
      readonly place: (type: string, file: NamedArtifact) => NamedArtifact;
      readonly doubt?: Failed | undefined;
    },
  ): Promise<VersionStanding>;
  /** The effects of the pending decision are there: the state follows. Another one changes nothing. */
  completeDecision(workflowId: string, commandId: string): Promise<VersionStanding>;
  /** The effects of the pending decision cannot be had: the state is as it was. */
  failDecision(workflowId: string, commandId: string, failed: Failed): Promise<VersionStanding>;
  /** Notes where a decision's files were returned to. */
  noteReturned(workflowId: string, commandId: string, folder: string): Promise<void>;
  /** Makes the transition that follows from the facts, if one does and the version is at this revision. `ended`: why what was awaited came to nothing. */
  advanceVersion(
    workflowId: string,
    step: { readonly revision: number; readonly ended?: string | undefined },
  ): Promise<VersionStanding>;
  recordRun(key: VersionKey, attempt: number, run: RunRecord): Promise<void>;
  run(key: VersionKey, attempt: number): Promise<RunRecord | undefined>;
  recordStaged(key: VersionKey, files: readonly NamedArtifact[]): Promise<void>;
  staged(key: VersionKey): Promise<readonly NamedArtifact[] | undefined>;
  recordValidation(
    key: VersionKey,
    result: { readonly problems: readonly string[] } | { readonly digest: Digest; readonly revises: number | null },
  ): Promise<void>;
  /** Transitions whose files are not beside the artifact yet, oldest first. */
  unfiled(key: VersionKey): Promise<readonly (TransitionEntry & { readonly revision: number })[]>;
  filed(key: VersionKey, revision: number): Promise<void>;
  /** Ends an evaluation, once; `inStaging`: its report is where only the platform writes, so that it is evidence. */
  endEvaluation(row: Evaluation, report: { readonly inStaging: boolean }): Promise<Evaluation>;

  // decisions about applications and findings
  applicationStanding(workflowId: string): Promise<ApplicationStanding>;
  /** Decides about the live pointer; `doubt`: what stands against it outside the database. */
  decidePointer(workflowId: string, command: SignedCommand, doubt?: Failed): Promise<ApplicationStanding>;
  /** The main branch follows the pointer; `note`: what is to be said where it could not. */
  completePointer(workflowId: string, commandId: string, note: string): Promise<ApplicationStanding>;
  /** The oldest release that the application has not dealt with, its delivery recorded as received. */
  openDelivery(workflowId: string): Promise<NextDelivery>;
  /** Gates, as they are configured now, that this release has not passed. */
  missingGates(delivery: DeliveryKey): Promise<readonly string[]>;
  /** The delivery is at its gates. */
  beginGates(delivery: DeliveryKey): Promise<void>;
  /** Records what a gate has found; the same again is one. `run`: the delivery's run: what it found of a gate first counts, and is returned. */
  recordGate(delivery: DeliveryKey, result: GateResult, run?: string): Promise<GateResult>;
  /** What the delivery has come to by the results of its gates. `ended`: why it came to nothing. */
  concludeDelivery(delivery: DeliveryKey, ended?: string): Promise<Delivery>;
  scanStanding(workflowId: string): Promise<ScanStanding>;
  decideLabels(workflowId: string, command: SignedCommand): Promise<ScanStanding>;
  completeLabels(workflowId: string, commandId: string, commit: string): Promise<ScanStanding>;
  failLabels(workflowId: string, commandId: string, failed: Failed): Promise<ScanStanding>;

  /** Does the work unless somebody else is at it, in this process or another; `undefined` then. */
  exclusively<T>(what: string, work: () => Promise<T>): Promise<T | undefined>;
  // stored bytes
  /** Digests (32 bytes each) of so many chunks of a file, from the chunk `first` on; `undefined` when they are not kept. */
  chunkDigests(sha256: Digest, first: number, count: number): Promise<Uint8Array | undefined>;
  /** Keeps the digests of all chunks of a file. They follow from its digest, so the first ones stay. */
  keepChunkDigests(sha256: Digest, digests: Uint8Array): Promise<void>;
  fileDigest(uri: ArtifactUri): Promise<FileDigest | undefined>;
  /** Keeps the digest of a file in the place of an earlier one. */
  keepFileDigest(file: FileDigest): Promise<void>;
  /** Notes that a stored file is wrong or missing; again, it notes the time. */
  recordByteFault(fault: ByteFault): Promise<void>;

  close(): Promise<void>;
}
