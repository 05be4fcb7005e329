// The tables as types: `authoritative.*` is backed up, `projection.*` is made again from staging.
import type { ColumnType, Generated } from 'kysely';
import type { JobGrant, Principal } from '../../records.ts';
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
    seq: number;
    previous: string;
    hash: string;
    key: string;
    project: string | null;
    subject: string;
    /** RFC 8785 text, as it was hashed: jsonb would change numbers and refuse U+0000. */
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
  /** What chunks of files have, by the file's digest: written once, the same for every store. */
  'authoritative.chunk_digests': { sha256: string; chunk_bytes: number; digests: Buffer };
  'authoritative.file_digests': { uri: string; sha256: string; bytes: number; modified_at: string };
  'authoritative.byte_faults': {
    uri: string;
    expected: string;
    found: string;
    first_at: string;
    last_at: string;
  };
  'projection.versions': Projected<Version> & {
    project: string;
    model: string;
    submission: string;
    state: string;
    author: string;
    revision: number;
  };
  'projection.evaluations': Projected<Evaluation> & {
    project: string;
    evaluation: string;
    model: string;
    submission: string | null;
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
