// The tables as types: `authoritative.*` is backed up, `projection.*` can be rebuilt from staging.
import type { ColumnType, Generated, GeneratedAlways } from 'kysely';
import type { Finding } from '../../installation.ts';
import type { Job, JobGrant, JobKind, PoolRow, Principal, VersionSummary } from '../../records.ts';
import type { ComputeProfile } from '../../../workflows/domain/compute.ts';
import type {
  Application,
  DataSet,
  Delivery,
  Evaluation,
  NamedArtifact,
  Policy,
  Release,
  RunRecord,
  Scan,
  Version,
} from '../../../workflows/domain/model.ts';
import type { Approval } from '../../../workflows/domain/approval.ts';
import type { Outcome } from '../../../workflows/domain/command.ts';
import type { WorkflowName } from '../../../workflows/domain/ids.ts';
import type { Import, Node } from '../../../workflows/domain/import.ts';
import type { VersionState } from '../../../workflows/domain/lifecycle.ts';
import type { Digest } from '../../../workflows/domain/names.ts';
import type { Role } from '../../../workflows/domain/roles.ts';

/** jsonb: read as a value, written as JSON text (the driver would write an array as a PostgreSQL array). */
type Json<T> = ColumnType<T, string, string>;

/** The recorded effects of a decision. */
export interface DecisionDetail {
  readonly release?: string;
  readonly folder?: string;
  readonly to?: string;
  readonly commit?: string;
}
/** A nullable time that may be omitted on insert. */
type Nullable = ColumnType<string | null, string | null | undefined, string | null>;

/**
 * A projection stores the whole domain object, and the columns used in queries. `ordinal` is the insertion order, used
 * for paging.
 */
interface Projected<T> {
  readonly ordinal: Generated<number>;
  readonly row: Json<T>;
  readonly updated_at: string;
}

export interface Tables {
  'authoritative.users': { name: string; admin: boolean; disabled: Generated<boolean> };
  'authoritative.tokens': {
    token_id: string;
    sha256: string;
    kind: Principal['kind'];
    name: string;
    created_at: Generated<string>;
    expires_at: string | null;
    revoked_at: string | null;
    job: Json<JobGrant> | null;
  };
  'authoritative.projects': { project: string; policy: Json<Policy> };
  'authoritative.types': { type: string; project: string; position: number };
  'authoritative.type_grants': { type: string; project: string };
  'authoritative.members': { project: string; name: string; roles: Json<readonly Role[]> };
  'authoritative.data_sets': {
    project: string;
    dataset: string;
    row: Json<DataSet>;
    deleted_at: Nullable;
    swept_at: Nullable;
  };
  'authoritative.data_set_drafts': {
    project: string;
    dataset: string;
    attempt: string;
    step: 'write' | 'clear';
    drafted_at: string;
  };
  'authoritative.data_set_uses': {
    project: string;
    dataset: string;
    kind: 'run' | 'evaluation';
    name: string;
  };
  'authoritative.nodes': { project: string; node: string; row: Json<Node> };
  'authoritative.audit': {
    /** Insertion order. A transaction that commits late has an early value. */
    arrival: GeneratedAlways<number>;
    /** Position in the chain. This, `previous` and `hash` are null until the entry is linked. */
    seq: number | null;
    previous: string | null;
    hash: string | null;
    key: string;
    project: string | null;
    subject: string;
    /** RFC 8785 text, as hashed: jsonb would change numbers and refuse U+0000. */
    entry: string;
    recorded_at: Generated<string>;
  };
  'authoritative.refusals': {
    refusal: GeneratedAlways<number>;
    principal: string;
    action: string;
    /** Empty for the whole platform. */
    project: string;
    minute: string;
    count: number;
    /** The last counted request. The same value again is a retried call. */
    request: string;
    /** The audit entry of the first refusal, as RFC 8785 text. */
    entry: string;
  };
  'authoritative.audit_head': { seq: number; hash: string };
  'authoritative.version_numbers': { project: string; model: string; submission: string; version: number };
  'authoritative.digest_claims': {
    project: string;
    model: string;
    submission: string;
    digest: string | null;
    freed: boolean;
  };
  'authoritative.releases': {
    release: string;
    command_id: string;
    type: string;
    sequence: number;
    project: string;
    model: string;
    submission: string;
    version: number;
    announced: boolean;
    row: Json<Release>;
    /** Whether the manifest that fixes its number is in the release store. */
    manifest: Generated<boolean>;
  };
  'authoritative.release_floors': { type: string; sequence: number };
  'authoritative.installation': {
    one: Generated<boolean>;
    installation: string;
    claimed_at: Generated<string>;
    tick: Generated<number>;
    /** The audit's last row at the newest checkpoint. */
    audit_seq: Generated<number>;
    /** How many restores were accepted. Never goes back: a restored database learns the number from the other systems. */
    accepted: Generated<number>;
  };
  'authoritative.marked_systems': { system: string; tick: number };
  'authoritative.paused': { one: Generated<boolean>; since: Generated<string>; findings: Json<readonly Finding[]> };
  'authoritative.fences': { release: string; command_id: string };
  'authoritative.applications': { application: string; project: string; row: Json<Application> };
  'authoritative.live_pointers': {
    application: string;
    type: string;
    generation: number;
    release: string | null;
    moved_at: string | null;
    /** Releases up to this sequence are older than the application; null until its first delivery. */
    floor: Generated<number | null>;
  };
  /** Every answered move, including refused ones (`generation` null): a key keeps its first answer permanently. */
  'authoritative.moves': {
    key: string;
    application: string;
    type: string;
    /** `null`: taken down. */
    release: string | null;
    generation: number | null;
    moved_at: string | null;
    refused: 'fenced' | 'older' | null;
  };
  'authoritative.signing_keys': {
    key_id: string;
    public_key: string;
    registered_at: Generated<string>;
    /** Set if the key was lost and retired: it signs nothing new. */
    retired_at: Nullable;
  };
  /** Accepted restores, with the pause that each one ended. */
  'authoritative.restores': { ordinal: Generated<number>; paused_since: string | null; accepted_at: string };
  'authoritative.policies': { project: string; version: number; policy: Json<Policy>; set_by: string | null };
  'authoritative.starts': {
    workflow_id: string;
    ordinal: Generated<number>;
    type: WorkflowName;
    input: string;
    input_digest: string;
    asked_by: string;
    roles: Json<readonly Role[]>;
    project: string | null;
    parent: string | null;
    recorded_at: Generated<string>;
    earlier: Generated<boolean>;
    brought_over: Generated<boolean>;
    run_id: string | null;
    restarts: Generated<number>;
    restart_at: string | null;
    closed_at: string | null;
    detail: Generated<string>;
  };
  'authoritative.commands': {
    workflow_id: string;
    command_id: string;
    ordinal: Generated<number>;
    project: string | null;
    subject: string;
    actor: string;
    name: string;
    mark: string;
    /** RFC 8785 text of the signed command. */
    command: string;
    status: 'open' | Outcome['status'];
    reason: string | null;
    message: Generated<string>;
    recorded_at: Generated<string>;
    settled_at: string | null;
  };
  'authoritative.decisions': {
    workflow_id: string;
    command_id: string;
    ordinal: Generated<number>;
    name: string;
    actor: string;
    reason: string;
    report: string | null;
    digest: string | null;
    revision: number;
    policy_version: number | null;
    at: string;
    status: 'pending' | 'complete' | 'failed';
    detail: ColumnType<DecisionDetail, string | undefined, string>;
  };
  'authoritative.standings': {
    project: string;
    model: string;
    submission: string;
    state: VersionState;
    revision: number;
    attempt: number;
    approvals: Json<readonly Approval[]>;
    new_since: string | null;
    undo_until: string | null;
    closed: boolean;
    row: Json<Version>;
  };
  'authoritative.transitions': {
    project: string;
    model: string;
    submission: string;
    revision: number;
    entry: string;
    filed: Generated<boolean>;
  };
  'authoritative.steps': { workflow_id: string; step: string; value: Json<object> };
  'authoritative.runs': { project: string; model: string; submission: string; attempt: number; row: Json<RunRecord> };
  'authoritative.staged': {
    project: string;
    model: string;
    submission: string;
    files: Json<readonly NamedArtifact[]>;
    problems: Json<readonly string[]> | null;
    digest: Digest | null;
    revises: number | null;
  };
  'authoritative.evidence': {
    project: string;
    evaluation: string;
    model: string;
    submission: string;
    digest: string;
    report: string;
    dataset: string;
    actor: string;
    as_manager: boolean;
    begun_at: string;
    metrics: Json<Readonly<Record<string, number | null>>>;
  };
  'authoritative.gate_results': {
    ordinal: Generated<number>;
    application: string;
    release: string;
    gate: string;
    passed: boolean;
    detail: string;
    seconds: number;
    at: Generated<string>;
    /** The delivery run that produced the result; null if it was recorded before runs were. */
    run: string | null;
  };
  /** Digests of a file's chunks, by the file's digest: written once, valid for every store. */
  'authoritative.chunk_digests': { sha256: string; chunk_bytes: number; digests: Buffer };
  'authoritative.file_digests': { uri: string; sha256: string; bytes: number; modified_at: string };
  'authoritative.byte_faults': {
    uri: string;
    expected: string;
    found: string;
    first_at: string;
    last_at: string;
  };
  /** Jobs from their request to their recorded end. */
  'authoritative.jobs': {
    name: string;
    workflow_id: string;
    project: string;
    kind: JobKind;
    state: Generated<'queued' | 'starting' | 'running'>;
    job: ColumnType<Job, string, string>;
    task_token: Buffer | null;
    beat_ms: number;
    queued_at: Generated<string>;
    not_before: Generated<string>;
    starts: Generated<number>;
    kills: Generated<number>;
    why: Generated<string>;
    pool: string | null;
    reason: Generated<string>;
    gpus: GeneratedAlways<number>;
    pools: GeneratedAlways<readonly string[] | null>;
    on_cluster: GeneratedAlways<boolean>;
  };
  'authoritative.pools': { pool: string; seen_at: Generated<string>; about: Json<PoolRow> | null };
  'authoritative.compute_profiles': { name: string; profile: Json<ComputeProfile> };
  'authoritative.compute_offers': { project: string; names: Json<readonly string[]> };
  'projection.versions': Projected<Version> & {
    project: string;
    model: string;
    submission: string;
    state: string;
    author: string;
    revision: number;
    summary: GeneratedAlways<VersionSummary>;
    /** The version's number; 0 while it has none. */
    number: GeneratedAlways<number>;
  };
  /** Columns for filtering and sorting versions, maintained by a trigger. */
  'projection.version_index': {
    ordinal: GeneratedAlways<number>;
    project: GeneratedAlways<string>;
    model: GeneratedAlways<string>;
    type: GeneratedAlways<string | null>;
    state: GeneratedAlways<string>;
    author: GeneratedAlways<string>;
    number: GeneratedAlways<number>;
    updated_at: GeneratedAlways<string>;
    /** Each as `<project>/<tag>`. */
    tags: GeneratedAlways<readonly string[]>;
    words: GeneratedAlways<string>;
  };
  /** Versions by their tags, maintained by a trigger. */
  'projection.version_tags': {
    ordinal: GeneratedAlways<number>;
    project: GeneratedAlways<string>;
    tag: GeneratedAlways<string>;
    model: GeneratedAlways<string>;
    type: GeneratedAlways<string | null>;
    state: GeneratedAlways<string>;
    author: GeneratedAlways<string>;
    number: GeneratedAlways<number>;
    updated_at: GeneratedAlways<string>;
  };
  'projection.evaluations': Projected<Evaluation> & {
    project: string;
    evaluation: string;
    model: string;
    submission: string | null;
    /** Author of the evaluated version. */
    author: string | null;
    actor: GeneratedAlways<string>;
    standing: number;
  };
  'projection.deliveries': Projected<Delivery> & {
    application: string;
    release: string;
    state: string;
    standing: number;
  };
  'projection.scans': Projected<Scan> & {
    project: string;
    scan: string;
    application: string;
    revision: number;
    standing: number;
  };
  'projection.imports': Projected<Import> & { project: string; import: string; standing: number };
}
