// The schema's versions, forward only: one transaction under one lock, so that several processes may start at once.
import type { Kysely } from 'kysely';
import { sql } from 'kysely';
import type { Tables } from './schema.ts';
import { lock, transact } from './connection.ts';

/** Never edit one that has been shipped: append. Their number is the version of the schema. */
const migrations: readonly string[] = [
  `
  create table authoritative.users (
    name text primary key,
    admin boolean not null
  );
  create table authoritative.tokens (
    token_id text primary key,
    sha256 text not null unique,
    kind text not null check (kind in ('user', 'application', 'job')),
    name text not null,
    created_at timestamptz not null default now(),
    expires_at timestamptz,
    revoked_at timestamptz,
    job jsonb
  );
  create index on authoritative.tokens (name);

  create table authoritative.projects (
    project text primary key,
    policy jsonb not null
  );
  create table authoritative.types (
    type text primary key,
    project text not null references authoritative.projects,
    position integer not null
  );
  create table authoritative.members (
    project text references authoritative.projects,
    name text references authoritative.users,
    roles jsonb not null,
    primary key (project, name)
  );
  create table authoritative.data_sets (
    project text references authoritative.projects,
    dataset text,
    row jsonb not null,
    primary key (project, dataset)
  );

  create table authoritative.audit (
    seq bigint primary key,
    previous text not null,
    hash text not null,
    key text not null unique,
    project text,
    subject text not null,
    entry text not null
  );
  create index on authoritative.audit (project, seq);
  create index on authoritative.audit (subject, seq);
  -- The chain alone cannot show that its last rows are missing; the head can.
  create table authoritative.audit_head (
    one boolean primary key default true check (one),
    seq bigint not null,
    hash text not null
  );
  insert into authoritative.audit_head (seq, hash) values (0, repeat('0', 64));
  create function authoritative.refuse_change() returns trigger language plpgsql as $$
    begin
      raise exception 'the audit is append-only: % on % is refused', tg_op, tg_table_name using errcode = '42501';
    end
  $$;
  create trigger append_only before update or delete or truncate on authoritative.audit
    for each statement execute function authoritative.refuse_change();
  -- Also for sessions in replica role, which skip ordinary triggers.
  alter table authoritative.audit enable always trigger append_only;

  create table authoritative.version_numbers (
    project text,
    model text,
    submission text,
    version integer not null check (version > 0),
    primary key (project, model, submission),
    unique (project, model, version)
  );
  create table authoritative.digest_claims (
    project text,
    model text,
    submission text,
    digest text,
    freed boolean not null,
    primary key (project, model, submission)
  );
  create unique index open_digest on authoritative.digest_claims (project, model, digest) where not freed;

  create table authoritative.releases (
    release text primary key,
    command_id text not null unique,
    type text not null references authoritative.types,
    sequence integer not null check (sequence > 0),
    project text not null,
    model text not null,
    submission text not null,
    version integer not null,
    announced boolean not null,
    row jsonb not null,
    unique (type, sequence)
  );
  create index on authoritative.releases (project, model, submission);
  -- No reference to releases: a fence may come first.
  create table authoritative.fences (
    release text primary key,
    command_id text not null
  );
  create table authoritative.applications (
    application text primary key,
    project text not null references authoritative.projects,
    row jsonb not null
  );
  create table authoritative.live_pointers (
    application text references authoritative.applications,
    type text references authoritative.types,
    generation integer not null default 0,
    release text references authoritative.releases,
    moved_at timestamptz,
    primary key (application, type)
  );
  create index on authoritative.live_pointers (type);
  create index on authoritative.live_pointers (release);
  create table authoritative.moves (
    key text primary key,
    application text not null,
    type text not null,
    release text not null references authoritative.releases,
    generation integer,
    moved_at timestamptz,
    refused text,
    unique (application, type, generation),
    foreign key (application, type) references authoritative.live_pointers,
    check ((refused is null) = (generation is not null) and (generation is null) = (moved_at is null))
  );

  create table projection.versions (
    ordinal bigint generated always as identity unique,
    project text,
    model text,
    submission text,
    state text not null,
    author text not null,
    revision integer not null,
    updated_at timestamptz not null,
    row jsonb not null,
    primary key (project, model, submission)
  );
  create index on projection.versions (project, ordinal);
  create table projection.evaluations (
    ordinal bigint generated always as identity unique,
    project text,
    evaluation text,
    model text not null,
    submission text,
    standing smallint not null,
    updated_at timestamptz not null,
    row jsonb not null,
    primary key (project, evaluation)
  );
  create index on projection.evaluations (project, model, submission, ordinal);
  create table projection.deliveries (
    ordinal bigint generated always as identity unique,
    application text,
    release text,
    state text not null,
    standing smallint not null,
    updated_at timestamptz not null,
    row jsonb not null,
    primary key (application, release)
  );
  create index on projection.deliveries (release);
  create table projection.scans (
    ordinal bigint generated always as identity unique,
    project text,
    scan text,
    application text not null,
    revision integer not null,
    standing smallint not null,
    updated_at timestamptz not null,
    row jsonb not null,
    primary key (project, scan)
  );
  create index on projection.scans (project, application, ordinal);
  `,
  `
  create table authoritative.nodes (
    project text references authoritative.projects,
    node text,
    row jsonb not null,
    primary key (project, node)
  );
  create table projection.imports (
    ordinal bigint generated always as identity unique,
    project text,
    import text,
    standing smallint not null,
    updated_at timestamptz not null,
    row jsonb not null,
    primary key (project, import)
  );
  create index on projection.imports (project, ordinal);
  `,
  // People choose the ids of their commands: one is unique in its workflow, not beyond.
  `
  alter table authoritative.releases
    drop constraint releases_command_id_key,
    add unique (project, model, submission, command_id);
  `,
  // What stored bytes are checked by when they are served, and those that were found wrong.
  `
  create table authoritative.chunk_digests (
    sha256 text,
    chunk_bytes integer,
    -- SHA-256 of each chunk, one after the other. Not compressed: a part is then read without the rest.
    digests bytea not null check (length(digests) % 32 = 0),
    primary key (sha256, chunk_bytes)
  );
  alter table authoritative.chunk_digests alter column digests set storage external;
  create table authoritative.file_digests (
    uri text primary key,
    sha256 text not null,
    bytes bigint not null,
    modified_at text not null
  );
  create table authoritative.byte_faults (
    uri text primary key,
    expected text not null,
    found text not null,
    first_at timestamptz not null,
    last_at timestamptz not null
  );
  `,
];

/** Brings the schema to this program's version. A database of a later version is refused: an older program would misread it. */
export async function migrate(db: Kysely<Tables>): Promise<void> {
  await transact(db, async (trx) => {
    await lock(trx, 'migrations');
    await sql
      .raw(
        `create schema if not exists authoritative;
         create schema if not exists projection;
         create table if not exists authoritative.migrations (version integer primary key, applied_at timestamptz not null default now());`,
      )
      .execute(trx);
    const found = await sql<{
      version: number;
    }>`select coalesce(max(version), 0) as version from authoritative.migrations`.execute(trx);
    const version = found.rows[0]?.version ?? 0;
    if (version > migrations.length)
      throw new Error(
        `the database's schema has version ${version}, this program knows ${migrations.length}: run the newer program`,
      );
    for (const [index, statements] of migrations.entries()) {
      if (index < version) continue;
      await sql.raw(statements).execute(trx);
      await sql`insert into authoritative.migrations (version) values (${index + 1})`.execute(trx);
    }
  });
}
