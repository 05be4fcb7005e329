// The ports that activities and the API use. Each has an embedded adapter and real ones; test/contracts/ tests all of them.
import type { LeftOut, Node, RemoteFile, Resolution, Source } from '../workflows/domain/import.ts';
import type { Artifact, NamedArtifact } from '../workflows/domain/model.ts';
import type { ArtifactUri, Digest, StorePath } from '../workflows/domain/names.ts';

// ---------------------------------------------------------------- Marker

/** Records which installation a system belongs to: the first to claim it, permanently. */
export interface Marker {
  /** The installation's id; `undefined` while the system is unclaimed. */
  owner(): Promise<string | undefined>;
  /** Claims the system if it is unclaimed, and returns the owner. Concurrent claims all get the same answer. */
  claim(installation: string): Promise<string>;
}

// ---------------------------------------------------------------- ArtifactStore

export interface WriteOptions {
  /** Rejects the bytes unless they match. Checked while streaming, before the commit. */
  readonly expect?: { readonly sha256?: Digest; readonly bytes?: number };
  /**
   * What to do if the path exists. `same` (default): succeeds if the stored bytes have the same digest, otherwise
   * `Conflict`. `replace`: swaps atomically.
   */
  readonly ifExists?: 'same' | 'replace';
  /** Maximum number of bytes accepted. */
  readonly limit?: number;
  readonly signal?: AbortSignal;
}

export interface StoredFile {
  readonly uri: ArtifactUri;
  readonly path: StorePath;
  readonly bytes: number;
  readonly modifiedAt: string;
}

/**
 * Bytes by path. A file becomes visible complete or not at all: bytes are written to a temporary name, length and digest
 * are checked, then the file is renamed. Implementations: local disk, HDFS over WebHDFS (with reads through Alluxio) and
 * S3.
 */
export interface ArtifactStore {
  /** The URI of a path in this store. Pure. */
  uri(path: StorePath): ArtifactUri;
  /** Inverse of `uri`. Throws `InvalidInput` for another store's URI. */
  path(uri: ArtifactUri): StorePath;
  /**
   * Streams bytes in and commits them. On any failure (source error, digest, limit, abort) nothing becomes visible at the
   * path.
   */
  write(path: StorePath, source: AsyncIterable<Uint8Array>, options?: WriteOptions): Promise<Artifact>;
  /** Streams bytes out; `NotFound` if the file does not exist. `range` is in bytes, `end` exclusive. */
  read(
    uri: ArtifactUri,
    options?: { range?: { start: number; end?: number }; signal?: AbortSignal },
  ): Promise<AsyncIterable<Uint8Array>>;
  stat(uri: ArtifactUri): Promise<StoredFile | undefined>;
  /** SHA-256 of the currently stored bytes. */
  digest(uri: ArtifactUri, signal?: AbortSignal): Promise<Digest>;
  /** Files below a folder, in code-point order of their paths, in pages. Temporary files are never listed. */
  list(
    folder: StorePath,
    options?: { after?: StorePath; limit?: number },
  ): Promise<{ files: readonly StoredFile[]; next?: StorePath }>;
  /** Removes one file. Idempotent: a missing file is not an error. */
  remove(uri: ArtifactUri): Promise<void>;
}

// ---------------------------------------------------------------- Cluster

export interface JobSpec {
  /** Cluster-wide name: 1 to 63 of a-z, 0-9 and `-`. */
  readonly name: string;
  /** The project that the job belongs to: a cluster may keep projects apart and limit each. */
  readonly project?: string;
  readonly inputs: readonly (NamedArtifact & { readonly unpack?: boolean })[];
  readonly outputs: readonly { readonly name: string; readonly required: boolean }[];
  /** Program and arguments, relative to the job's working folder; `python` is the environment's interpreter. */
  readonly argv: readonly string[];
  /** Text of the pinned requirements that define the environment. */
  readonly lock: string;
  /** Who owns the packages (default: a project). The platform's environments are not shared with projects. */
  readonly lockOwner?: 'platform' | 'project';
  readonly parameters: Readonly<Record<string, unknown>>;
  readonly compute: 'cpu' | 'gpu';
  readonly resources: { readonly cpus: number; readonly memoryBytes: number; readonly diskBytes: number };
  /** Time limit for the program itself, without fetching and uploading. */
  readonly deadlineSeconds: number;
  /** Where the wrapper fetches inputs and uploads outputs: the API's job resource. */
  readonly data: { readonly api: string; readonly job: string };
}

export interface JobProgress {
  readonly done: number;
  readonly total: number;
  readonly message: string;
}

/**
 * Why a job failed. Final reasons are caused by the job itself and recur on every run: `exit` (it ended with an error),
 * `inputs` and `outputs` (something is missing, has other bytes or is not a regular file), `lock`, `memory`. Passing
 * reasons are caused by its surroundings: `fetch` and `upload` (the API or a store did not answer), `environment` (no
 * index, no disk), `killed` (from outside, not for one of its own limits).
 */
export const finalJobReasons = ['exit', 'inputs', 'outputs', 'lock', 'memory'] as const;
export type FinalJobReason = (typeof finalJobReasons)[number];
export const passingJobReasons = ['fetch', 'upload', 'environment', 'killed'] as const;
export type PassingJobReason = (typeof passingJobReasons)[number];

export type JobOutcome =
  | { readonly status: 'succeeded'; readonly seconds: number; readonly log: string }
  | {
      readonly status: 'failed';
      readonly reason: FinalJobReason | PassingJobReason;
      readonly exitCode: number | null;
      readonly log: string;
    }
  | { readonly status: 'timed-out'; readonly log: string };

/** Whether a job ended for a passing reason, so that starting it again may succeed. */
export const isPassing = (outcome: JobOutcome): boolean =>
  outcome.status === 'failed' && passingJobReasons.some((reason) => reason === outcome.reason);

/** The state of a job on its cluster. */
export type JobState =
  /** Never started here, removed, or lost with its machine. */
  | { readonly phase: 'missing' }
  /** Accepted but not running yet. `why` is for a person: its image, capacity, a quota. */
  | { readonly phase: 'waiting'; readonly why: string }
  | { readonly phase: 'running'; readonly progress?: JobProgress }
  | { readonly phase: 'ended'; readonly outcome: JobOutcome };

/** How a service ended that was not stopped: `killed` from outside, or by itself, in which case it will fail again. */
export interface ServiceEnd {
  readonly killed: boolean;
  /** Its exit status and last lines of output. */
  readonly detail: string;
}

/** A service was not ready in time: its model is too large, loading does not finish, or the machine is busy. */
export class ServiceNotReady extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'ServiceNotReady';
  }
}

export interface ServiceSpec {
  readonly name: string;
  /** Files in the service's model folder, by name: at least `model.onnx` and `model.json`. */
  readonly files: readonly NamedArtifact[];
  /** Version label in the protocol's paths. */
  readonly version: string;
  readonly compute: 'cpu' | 'gpu';
}

/**
 * Where jobs and services run: local processes or Kubernetes. They never reach the platform's stores, brokers or
 * database.
 */
export interface Cluster {
  /**
   * Starts a job and resolves once the cluster has accepted it. The same job (inputs, program, lock, parameters) is found
   * again under its name while it runs, and after an end that is not passing ({@link isPassing}). After a passing end it
   * starts again; finished work is kept, so that only its outputs are uploaded. A different job of this name is removed
   * first. `token` is called only if the job really starts, and makes the token for the job's data. If it rejects, nothing
   * starts.
   */
  startJob(spec: JobSpec, token: () => Promise<string>): Promise<void>;
  jobState(name: string): Promise<JobState>;
  /** The last 64 KiB of a job's log so far; empty for a missing job. */
  jobLog(name: string): Promise<string>;
  /**
   * Calls `onChange` once for each job on the cluster, then whenever a job's state changes. Resolves when the signal
   * aborts; rejects if the cluster no longer reports changes.
   */
  watchJobs(onChange: (name: string, state: JobState) => void, signal: AbortSignal): Promise<void>;
  /** Ends a job with all its processes and removes everything of it. Idempotent: a missing job is not an error. */
  removeJob(name: string): Promise<void>;
  /**
   * Starts a service for one model and waits until it is ready; a service with the same name is ended first. Rejects with
   * `ServiceNotReady` if it takes too long. `ended` resolves when the service ends without being stopped; only some
   * clusters can report this.
   */
  startService(
    spec: ServiceSpec,
    signal: AbortSignal,
  ): Promise<{ readonly address: `unix:${string}` | `http://${string}`; readonly ended?: Promise<ServiceEnd> }>;
  /** Ends a service. Idempotent: a missing service is not an error. */
  stopService(name: string): Promise<void>;
}

// ---------------------------------------------------------------- EventBus

/** CloudEvents 1.0 in structured JSON form. */
export interface CloudEvent {
  readonly specversion: '1.0';
  readonly id: string;
  readonly source: string;
  readonly type: string;
  readonly subject?: string;
  readonly time: string;
  readonly datacontenttype: 'application/json';
  readonly data: unknown;
}

export interface Received {
  readonly key: string;
  /** Raw value. The consumer parses it. */
  readonly value: unknown;
  readonly offset: string;
  readonly attempt: number;
}

/** Events by topic: ordered per key, delivered at least once. Consumers deduplicate by event id. Matches Kafka. */
export interface EventBus {
  /** Resolves once the event is durable (acks=all). One send per topic at a time. */
  publish(topic: string, key: string, event: CloudEvent): Promise<{ readonly offset: string }>;
  /**
   * Calls `handle` for each event of the topic that the group has not processed, oldest first, one at a time per key. A
   * group's first subscription starts at the oldest event. The offset moves after `handle` resolves. A throw is retried
   * (`retries` times, default 5, with growing pauses), then the event goes to the dead-letter topic `<topic>.dead` with
   * the reason. A non-retryable failure (`failures.ts`) goes there immediately. Each event goes to only one of several
   * subscribers in a group.
   */
  subscribe(options: {
    topic: string;
    group: string;
    handle: (event: Received) => Promise<void>;
    retries?: number;
    pauseMs?: number;
    onError?: (error: unknown) => void;
  }): Promise<{ stop(): Promise<void> }>;
  readonly marker: Marker;
  close(): Promise<void>;
}

/** The topic for events that could not be handled. */
export const deadLetterTopic = (topic: string): string => `${topic}.dead`;

// ---------------------------------------------------------------- CodeHost

/** Git repositories by name (`<project>/code`, `<project>/labels`, `<project>/app-<application>`). */
export interface CodeHost {
  /** Creates the repository with an empty first commit on `main` if it does not exist. */
  ensure(repository: string): Promise<void>;
  /**
   * Commits files on a branch (created from `main` if missing) and returns the commit. `null` content deletes a file.
   * Idempotent: if the branch's tree already matches, its head is returned and nothing is committed.
   */
  commit(change: {
    repository: string;
    branch: string;
    files: Readonly<Record<string, string | Uint8Array | null>>;
    message: string;
    author: string;
    signal?: AbortSignal;
  }): Promise<{ readonly commit: string }>;
  /** Content of a file at a branch or commit; `undefined` if it does not exist. */
  read(repository: string, revision: string, path: string): Promise<Uint8Array | undefined>;
  /** The full commit id of a branch or commit; `undefined` if it does not exist. */
  resolve(repository: string, revision: string): Promise<string | undefined>;
  /** The tree at a commit as a reproducible tar archive: the same bytes each time. */
  archive(repository: string, commit: string): Promise<AsyncIterable<Uint8Array>>;
  branches(repository: string): Promise<readonly string[]>;
  log(
    repository: string,
    revision: string,
    limit: number,
  ): Promise<readonly { commit: string; author: string; at: string; message: string }[]>;
  /** The URL for `git clone`. */
  url(repository: string): string;
}

// ---------------------------------------------------------------- DataSources

/** External data: public repositories, web servers, private nodes. */
export interface DataSources {
  /** Opens a source for one unit of work. Private and unlisted hosts are refused here and at every connection. */
  connect(
    source: Source,
    context: { readonly project: string; readonly nodes: readonly Node[]; readonly signal: AbortSignal },
  ): Promise<SourceSession>;
}

export interface SourceSession {
  /** What the source currently refers to. `NotFound` if it refers to nothing. */
  resolve(): Promise<Resolution>;
  /** The files below a folder, with paths relative to it. */
  list(folder: RemoteFile): Promise<{ readonly files: readonly RemoteFile[]; readonly leftOut: LeftOut }>;
  /**
   * The bytes from `start` on, if the source supports it and the file still matches `validator`; otherwise from the
   * beginning.
   */
  open(file: RemoteFile, from: { readonly start: number; readonly validator: string | null }): Promise<OpenedFile>;
  close(): Promise<void>;
}

export interface OpenedFile {
  readonly start: number;
  readonly bytes: AsyncIterable<Uint8Array>;
  /** Identifies the state of the file, so that a later part matches. `null`: the download cannot be resumed. */
  readonly validator: string | null;
  readonly total: number | null;
}

/** Thrown when a source asks not to be contacted before `until`. */
export class TryLater extends Error {
  /** ISO 8601 */
  readonly until: string;
  constructor(message: string, until: string) {
    super(message);
    this.name = 'TryLater';
    this.until = until;
  }
}

// ---------------------------------------------------------------- Archives

/** The bytes of one file in a folder, stored in a local file. */
export interface FolderEntry {
  readonly path: string;
  readonly file: string;
  readonly offset: number;
  readonly bytes: number;
}

/** Untrusted archives, and the tar that the platform makes. */
export interface Archives {
  /**
   * Writes the files of a tar, tar.gz or zip one after another into the local file `spool`. Names from the archive are
   * never used on disk. `undefined` if it is not an archive. `InvalidInput` for names that escape the folder and for
   * archive bombs.
   */
  unpack(
    archive: string,
    spool: string,
    options: { readonly stripTop: boolean; readonly signal: AbortSignal },
  ): Promise<{ readonly entries: readonly FolderEntry[]; readonly leftOut: LeftOut } | undefined>;
  /** The files as a reproducible tar: the same files give the same bytes. */
  pack(entries: readonly FolderEntry[], signal: AbortSignal): AsyncIterable<Uint8Array>;
}
