// The tables as types: `authoritative.*` is backed up, `projection.*` is made again from staging.
import type { ColumnType, Generated, GeneratedAlways } from 'kysely';
import type { JobGrant, Principal, VersionSummary } from '../../records.ts';
import type {
  Application,
  DataSet,
  Delivery,
  Evaluation,
  Policy,
  Release,
  Scan,
  Version,
} from '../../../workflows/domain/model.ts';
import type { Import, Node } from '../../../workflows/domain/import.ts';
import type { Role } from '../../../workflows/domain/roles.ts';

/** jsonb: read as the value that was written, written as JSON text (the driver would take an array for a PostgreSQL one). */
type Json<T> = ColumnType<T, string, string>;

/** A projection keeps the whole domain object and, besides, what is asked for. `ordinal` counts the rows as they came: pages go by it. */
interface Projected<T> {
  readonly ordinal: Generated<number>;
  readonly row: Json<T>;
  readonly updated_at: string;
}

export interface Tables {
  'authoritative.users': { name: string; admin: boolean };
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
  'authoritative.members': { project: string; name: string; roles: Json<readonly Role[]> };
  'authoritative.data_sets': { project: string; dataset: string; row: Json<DataSet> };
  'authoritative.nodes': { project: string; node: string; row: Json<Node> };
  'authoritative.audit': {
    /** In the order of insertion; a transaction that commits late has an early one. */
    arrival: GeneratedAlways<number>;
    /** Place in the chain; it, `previous` and `hash` are null until the entry is linked. */
    seq: number | null;
    previous: string | null;
    hash: string | null;
    key: string;
    project: string | null;
    subject: string;
    /** RFC 8785 text, as it is hashed: jsonb would change numbers and refuse U+0000. */
    entry: string;
    recorded_at: Generated<string>;
  };
  'authoritative.refusals': {
    refusal: GeneratedAlways<number>;
    principal: string;
    action: string;
    /** Empty for one of the platform. */
    project: string;
    minute: string;
    count: number;
    /** The last one that was counted: the same again is a call that is made again. */
    request: string;
    /** The audit entry of the first one, as RFC 8785 text. */
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
  };
  'authoritative.fences': { release: string; command_id: string };
  'authoritative.applications': { application: string; project: string; row: Json<Application> };
  'authoritative.live_pointers': {
    application: string;
    type: string;
    generation: number;
    release: string | null;
    moved_at: string | null;
  };
  /** Every answered move, also the refused ones (`generation` null): a key gets its first answer for ever. */
  'authoritative.moves': {
    key: string;
    application: string;
    type: string;
    release: string;
    generation: number | null;
    moved_at: string | null;
    refused: 'fenced' | 'older' | null;
  };
  'projection.versions': Projected<Version> & {
    project: string;
    model: string;
    submission: string;
    state: string;
    author: string;
    revision: number;
    summary: GeneratedAlways<VersionSummary>;
    type: GeneratedAlways<string>;
    /** The version's number; 0 while it has none. */
    number: GeneratedAlways<number>;
    tags: GeneratedAlways<readonly string[]>;
    words: GeneratedAlways<string>;
  };
  'projection.evaluations': Projected<Evaluation> & {
    project: string;
    evaluation: string;
    model: string;
    submission: string | null;
    /** Of the version that was evaluated. */
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
