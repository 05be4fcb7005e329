// What activities and the API need from the world. Each port has an embedded adapter and real ones; test/contracts/ holds all to it.
import type { LeftOut, Node, RemoteFile, Resolution, Source } from '../workflows/domain/import.ts';
import type { Artifact, NamedArtifact } from '../workflows/domain/model.ts';
import type { ArtifactUri, Digest, StorePath } from '../workflows/domain/names.ts';

// ---------------------------------------------------------------- Marker

/** Says which installation a system belongs to: the first that claimed it, for ever. */
export interface Marker {
  /** The installation's id; `undefined` while nobody has claimed the system. */
  owner(): Promise<string | undefined>;
  /** Claims the system if nobody has, and answers whose it is: of two that claim at once, both get the same answer. */
  claim(installation: string): Promise<string>;
}

// ---------------------------------------------------------------- ArtifactStore

export interface WriteOptions {
  /** Refuse the bytes unless they are these; checked while streaming, before the commit. */
  readonly expect?: { readonly sha256?: Digest; readonly bytes?: number };
  /** What to do when the path is taken: `same` (default) succeeds if the stored bytes have the same digest and is a `Conflict` otherwise; `replace` swaps atomically. */
  readonly ifExists?: 'same' | 'replace';
  /** Largest number of bytes that is taken. */
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
 * Bytes by path. A path is seen whole or not at all: writing goes to a temporary name, length and digest are checked, then
 * it is renamed. Local disk, HDFS over WebHDFS (with reads through Alluxio) and S3 fit this.
 */
export interface ArtifactStore {
  /** The URI of a path in this store; pure. */
  uri(path: StorePath): ArtifactUri;
  /** Inverse of `uri`. Throws `InvalidInput` for a URI that another store made. */
  path(uri: ArtifactUri): StorePath;
  /** Streams bytes in and commits them. On any failure (source error, digest, limit, abort) nothing is visible at the path. */
  write(path: StorePath, source: AsyncIterable<Uint8Array>, options?: WriteOptions): Promise<Artifact>;
  /** Streams bytes out; `NotFound` if there are none. `range` is in bytes, `end` exclusive. */
  read(
    uri: ArtifactUri,
    options?: { range?: { start: number; end?: number }; signal?: AbortSignal },
  ): Promise<AsyncIterable<Uint8Array>>;
  stat(uri: ArtifactUri): Promise<StoredFile | undefined>;
  /** SHA-256 of the bytes as they are stored now. */
  digest(uri: ArtifactUri, signal?: AbortSignal): Promise<Digest>;
  /** Files below a folder in code-point order of their paths, a page at a time; temporary files are never listed. */
  list(
    folder: StorePath,
    options?: { after?: StorePath; limit?: number },
  ): Promise<{ files: readonly StoredFile[]; next?: StorePath }>;
  /** Removes one file; a missing one is fine. */
  remove(uri: ArtifactUri): Promise<void>;
}

// ---------------------------------------------------------------- Cluster

export interface JobSpec {
  /**
   * Cluster-wide name: 1 to 63 of a-z, 0-9 and `-`. Running the same name again ends what is left of the earlier one. Of the same
   * job (inputs, program, lock, parameters) what is finished is kept: its outputs are uploaded, or its outcome is given again.
   * Another job starts over.
   */
  readonly name: string;
  readonly inputs: readonly (NamedArtifact & { readonly unpack?: boolean })[];
  readonly outputs: readonly { readonly name: string; readonly required: boolean }[];
  /** Program and arguments, seen from the job's working folder; `python` is the environment's interpreter. */
  readonly argv: readonly string[];
  /** Text of the pinned requirements that the environment is made from. */
  readonly lock: string;
  /** Whose packages these are (a project's unless given): environments of the platform are not shared with projects. */
  readonly lockOwner?: 'platform' | 'project';
  readonly parameters: Readonly<Record<string, unknown>>;
  readonly compute: 'cpu' | 'gpu';
  readonly resources: { readonly cpus: number; readonly memoryBytes: number; readonly diskBytes: number };
  /** How long the program itself may run: fetching and uploading are not its time. */
  readonly deadlineSeconds: number;
  /** Where the wrapper fetches inputs and leaves outputs: the API's job resource, with a token good for this job only. */
  readonly data: { readonly api: string; readonly job: string; readonly token: string };
}

export interface JobProgress {
  readonly done: number;
  readonly total: number;
  readonly message: string;
}

/**
 * Why a job failed, in two kinds. What lies in the job itself fails the same way each time: `exit` (it ended with an error),
 * `inputs` and `outputs` (something is missing, has other bytes or is no plain file), `lock`, `memory`. What lies around it
 * passes: `fetch` and `upload` (the API or a store did not answer), `environment` (no index, no disk), `killed` (by somebody
 * else, for no limit of its own). Run again under its name, a job that had finished only uploads its outputs.
 */
export type FinalJobReason = 'exit' | 'inputs' | 'outputs' | 'lock' | 'memory';
export type PassingJobReason = 'fetch' | 'upload' | 'environment' | 'killed';

export type JobOutcome =
  | { readonly status: 'succeeded'; readonly seconds: number; readonly log: string }
  | {
      readonly status: 'failed';
      readonly reason: FinalJobReason | PassingJobReason;
      readonly exitCode: number | null;
      readonly log: string;
    }
  | { readonly status: 'timed-out'; readonly log: string };

/** How a service ended that nobody stopped: `killed` from outside, or by itself, which it will do again. */
export interface ServiceEnd {
  readonly killed: boolean;
  /** Its status and last lines. */
  readonly detail: string;
}

/** A service that took too long to be ready: its model is too large or never ends to load, or the machine is busy. */
export class ServiceNotReady extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'ServiceNotReady';
  }
}

export interface ServiceSpec {
  readonly name: string;
  /** Files the service needs, by name in its model folder: at least `model.onnx` and `model.json`. */
  readonly files: readonly NamedArtifact[];
  /** Label in the protocol's paths. */
  readonly version: string;
  readonly compute: 'cpu' | 'gpu';
}

/**
 * Where jobs and services run: local processes or Kubernetes. Neither ever reaches the platform's stores, brokers or database.
 */
export interface Cluster {
  /** Runs a job to its end. `log` in the outcome is the last 64 KiB. Aborting the signal ends the job and everything it started, then rejects. */
  runJob(
    spec: JobSpec,
    watch: { signal: AbortSignal; onProgress?: (progress: JobProgress) => void; onLog?: (line: string) => void },
  ): Promise<JobOutcome>;
  /**
   * Starts a service of one model and waits until it is ready; the same name again first ends the earlier one. Rejects with
   * `ServiceNotReady` where it takes too long. `ended`, from clusters that can tell: resolves when it ends unstopped.
   */
  startService(
    spec: ServiceSpec,
    signal: AbortSignal,
  ): Promise<{ readonly address: `unix:${string}` | `http://${string}`; readonly ended?: Promise<ServiceEnd> }>;
  /** Ends a service; a missing one is fine. */
  stopService(name: string): Promise<void>;
}

// ---------------------------------------------------------------- EventBus

/** CloudEvents 1.0, structured as its JSON form. */
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
  /** As it came: the consumer parses it. */
  readonly value: unknown;
  readonly offset: string;
  readonly attempt: number;
}

/** Events by topic. Per key in order; at least once; consumers deduplicate by event id. Kafka fits this. */
export interface EventBus {
  /** Resolves once the event is durable (acks=all). One send of a topic at a time. */
  publish(topic: string, key: string, event: CloudEvent): Promise<{ readonly offset: string }>;
  /**
   * Calls `handle` for each event of the topic that the group has not finished, oldest first, one at a time per key. A group's
   * first subscription begins at the oldest event. The offset moves after `handle` resolves. A throw is tried again
   * (`retries` times, default 5, with growing pauses), then the event goes to the topic `<topic>.dead` with the reason; a failure
   * that trying again cannot mend (`failures.ts`) sends it there at once.
   * Of two subscribers of one group each event goes to one.
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

/** Where an event ends up that no attempt could handle. */
export const deadLetterTopic = (topic: string): string => `${topic}.dead`;

// ---------------------------------------------------------------- CodeHost

/** Git repositories by name (`<project>/code`, `<project>/labels`, `<project>/app-<application>`). */
export interface CodeHost {
  /** Creates the repository with an empty first commit on `main` if it is missing. */
  ensure(repository: string): Promise<void>;
  /**
   * Commits files on a branch (made from `main` if missing) and returns the commit. `null` content deletes. If the branch's
   * tree already holds exactly this, its head is returned and nothing is committed: doing it twice is harmless.
   */
  commit(change: {
    repository: string;
    branch: string;
    files: Readonly<Record<string, string | Uint8Array | null>>;
    message: string;
    author: string;
    signal?: AbortSignal;
  }): Promise<{ readonly commit: string }>;
  /** Content of a file at a branch or commit; `undefined` when there is none. */
  read(repository: string, revision: string, path: string): Promise<Uint8Array | undefined>;
  /** The full commit id a branch or commit names; `undefined` when there is none. */
  resolve(repository: string, revision: string): Promise<string | undefined>;
  /** The tree at a commit as a tar archive, the same bytes each time. */
  archive(repository: string, commit: string): Promise<AsyncIterable<Uint8Array>>;
  branches(repository: string): Promise<readonly string[]>;
  log(
    repository: string,
    revision: string,
    limit: number,
  ): Promise<readonly { commit: string; author: string; at: string; message: string }[]>;
  /** What a person clones. */
  url(repository: string): string;
}

// ---------------------------------------------------------------- DataSources

/** Data from outside: public repositories, web servers, private nodes. */
export interface DataSources {
  /** Opens a source for one piece of work; private and unlisted hosts are refused here and at every connection. */
  connect(
    source: Source,
    context: { readonly project: string; readonly nodes: readonly Node[]; readonly signal: AbortSignal },
  ): Promise<SourceSession>;
}

export interface SourceSession {
  /** What the source means now. `NotFound` when it means nothing. */
  resolve(): Promise<Resolution>;
  /** The files below a folder, by paths relative to it. */
  list(folder: RemoteFile): Promise<{ readonly files: readonly RemoteFile[]; readonly leftOut: LeftOut }>;
  /** The bytes from `start` on, if the source can and is still in the state that `validator` names; else from the beginning. */
  open(file: RemoteFile, from: { readonly start: number; readonly validator: string | null }): Promise<OpenedFile>;
  close(): Promise<void>;
}

export interface OpenedFile {
  readonly start: number;
  readonly bytes: AsyncIterable<Uint8Array>;
  /** Names the state of the file, so that a part fetched later fits; `null`: it cannot be gone on with. */
  readonly validator: string | null;
  readonly total: number | null;
}

/** What a source throws that wants to be left alone until then. */
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

/** Bytes of one file of a folder, lying in a local file. */
export interface FolderEntry {
  readonly path: string;
  readonly file: string;
  readonly offset: number;
  readonly bytes: number;
}

/** Archives that nobody vouches for, and the one that the platform makes. */
export interface Archives {
  /**
   * Writes the files of a tar, tar.gz or zip one after the other into the local file `spool`; no name of the archive ever
   * becomes one on disk. `undefined` when it is no archive. `InvalidInput` for names that lead out, and for bombs.
   */
  unpack(
    archive: string,
    spool: string,
    options: { readonly stripTop: boolean; readonly signal: AbortSignal },
  ): Promise<{ readonly entries: readonly FolderEntry[]; readonly leftOut: LeftOut } | undefined>;
  /** The files as a tar, the same bytes for the same files. */
  pack(entries: readonly FolderEntry[], signal: AbortSignal): AsyncIterable<Uint8Array>;
}
