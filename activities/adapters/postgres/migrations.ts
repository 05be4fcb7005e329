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
  // Entries are inserted without a place in the chain and get one later: writers wait for nobody.
  `
  alter table authoritative.audit
    drop constraint audit_pkey,
    alter column seq drop not null,
    alter column previous drop not null,
    alter column hash drop not null,
    add column arrival bigint generated always as identity primary key,
    add column recorded_at timestamptz not null default clock_timestamp(),
    add unique (seq),
    add check (num_nulls(seq, previous, hash) in (0, 3));
  create index audit_unlinked on authoritative.audit (arrival) where seq is null;
  create function authoritative.link_once() returns trigger language plpgsql as $$
    begin
      if old.seq is null and new.seq is not null
        and (new.arrival, new.recorded_at, new.key, new.project, new.subject, new.entry)
          is not distinct from (old.arrival, old.recorded_at, old.key, old.project, old.subject, old.entry)
      then return new;
      end if;
      raise exception 'the audit is append-only: % on % is refused', tg_op, tg_table_name using errcode = '42501';
    end
  $$;
  drop trigger append_only on authoritative.audit;
  create trigger append_only before delete or truncate on authoritative.audit
    for each statement execute function authoritative.refuse_change();
  create trigger link_once before update on authoritative.audit
    for each row execute function authoritative.link_once();
  alter table authoritative.audit enable always trigger append_only, enable always trigger link_once;

  -- How often a person was refused an action within a minute, until the audit tells it.
  create table authoritative.refusals (
    refusal bigint generated always as identity,
    principal text,
    action text,
    project text,
    minute timestamptz,
    count integer not null,
    request text not null,
    entry text not null,
    primary key (principal, action, project, minute)
  );
  create index on authoritative.refusals (minute);
  create index on authoritative.releases (type, sequence) where announced;
  `,
  // Lists: what a page shows, and by what it is filtered and sorted, without the whole rows.
  `
  alter table projection.versions
    add column summary jsonb not null generated always as (row - '{files,run,decisions,keyId}'::text[]) stored,
    add column type text generated always as (row->>'type') stored,
    add column number integer generated always as (coalesce((row->>'version')::integer, 0)) stored,
    add column tags jsonb generated always as (row->'tags') stored,
    add column words tsvector generated always as (to_tsvector('simple', regexp_replace(
      (row->>'model') || ' ' || (row->>'submission') || ' ' || left(row->>'detail', 2000),
      '[\\x01-\\x2f\\x3a-\\x40\\x5b-\\x60\\x7b-\\x7f]+', ' ', 'g'))) stored;
  drop index projection.versions_project_ordinal_idx;
  create index on projection.versions (project, updated_at, ordinal);
  create index on projection.versions (project, model, updated_at, ordinal);
  create index on projection.versions (project, type, updated_at, ordinal);
  create index on projection.versions (project, state, updated_at, ordinal);
  create index on projection.versions (project, author, updated_at, ordinal);
  create index on projection.versions (project, number, ordinal);
  create index on projection.versions (project, model, number, ordinal);
  create index on projection.versions using gin (tags jsonb_path_ops);
  create index on projection.versions using gin (words);

  -- The author of the version that was evaluated, who never changes; a private test has none.
  alter table projection.evaluations
    add column author text,
    add column actor text generated always as (row->>'actor') stored;
  update projection.evaluations e set author = v.author from projection.versions v
    where (v.project, v.model, v.submission) = (e.project, e.model, e.submission);
  create index on projection.evaluations (project, ordinal);
  create index on projection.evaluations (project, model, ordinal);
  create index on projection.evaluations (project, ordinal) where submission is not null;
  create index on projection.evaluations (project, actor, ordinal);
  create index on projection.evaluations (project, author, ordinal);
  create index on projection.deliveries (application, ordinal);
  create index on projection.deliveries (release, ordinal);
  drop index projection.deliveries_release_idx;
  create index on projection.scans (project, ordinal);
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
