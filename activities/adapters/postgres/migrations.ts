// Schema migrations, forward only: one transaction under one lock, so that several processes may start concurrently.
import type { Kysely } from 'kysely';
import { sql } from 'kysely';
import type { Tables } from './schema.ts';
import type { Work } from './connection.ts';
import { lock, transact } from './connection.ts';
import { recordEarlierClosings, recordEarlierStarts } from './earlier-starts.ts';

/** Never edit a shipped migration: append a new one. Their count is the schema version. */
export const migrations: readonly (string | ((trx: Work) => Promise<void>))[] = [
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
  // People choose the ids of their commands, so an id is only unique within its workflow.
  `
  alter table authoritative.releases
    drop constraint releases_command_id_key,
    add unique (project, model, submission, command_id);
  `,
  // These tables hold the authoritative state; workflows only coordinate.
  `
  create table authoritative.signing_keys (
    key_id text primary key,
    public_key text not null,
    registered_at timestamptz not null default now()
  );
  create table authoritative.policies (
    project text references authoritative.projects,
    version integer,
    policy jsonb not null,
    set_by text,
    primary key (project, version)
  );
  update authoritative.projects set policy = policy - 'operatorCommands';
  insert into authoritative.policies (project, version, policy)
    select project, (policy->>'version')::integer, policy from authoritative.projects;

  create table authoritative.starts (
    workflow_id text primary key,
    ordinal bigint generated always as identity unique,
    type text not null,
    -- JSON text: jsonb would change numbers.
    input text not null,
    input_digest text not null,
    asked_by text not null,
    roles jsonb not null,
    project text,
    parent text,
    recorded_at timestamptz not null default now(),
    -- Started before starts were recorded, with an input that the record does not know.
    earlier boolean not null default false,
    run_id text,
    restarts integer not null default 0,
    restart_at timestamptz,
    closed_at timestamptz,
    detail text not null default ''
  );
  create index on authoritative.starts (ordinal) where closed_at is null and parent is null;
  create index on authoritative.starts (parent) where closed_at is null;

  create table authoritative.commands (
    workflow_id text,
    command_id text,
    ordinal bigint generated always as identity unique,
    project text,
    subject text not null,
    actor text not null,
    name text not null,
    -- SHA-256 of what makes the command this one and no other.
    mark text not null,
    command text not null,
    status text not null check (status in ('open', 'accepted', 'refused', 'done', 'failed')),
    reason text,
    message text not null default '',
    recorded_at timestamptz not null default now(),
    settled_at timestamptz,
    primary key (workflow_id, command_id)
  );
  create index on authoritative.commands (ordinal) where status = 'open';
  create index on authoritative.commands (workflow_id) where status = 'open';

  create table authoritative.decisions (
    workflow_id text,
    command_id text,
    ordinal bigint generated always as identity unique,
    name text not null,
    actor text not null,
    reason text not null,
    report text,
    digest text,
    revision integer not null,
    policy_version integer,
    at timestamptz not null,
    status text not null check (status in ('pending', 'complete', 'failed')),
    -- Of its effects: the release, the folder of returned files, a commit.
    detail jsonb not null default '{}',
    primary key (workflow_id, command_id),
    foreign key (workflow_id, command_id) references authoritative.commands
  );
  create unique index one_pending on authoritative.decisions (workflow_id) where status = 'pending';

  create table authoritative.standings (
    project text,
    model text,
    submission text,
    state text not null,
    revision integer not null,
    attempt integer not null,
    approvals jsonb not null,
    new_since timestamptz,
    undo_until timestamptz,
    closed boolean not null,
    row jsonb not null,
    primary key (project, model, submission)
  );
  -- Each transition, and whether its file lies beside the artifact yet.
  create table authoritative.transitions (
    project text,
    model text,
    submission text,
    revision integer,
    entry text not null,
    filed boolean not null default false,
    primary key (project, model, submission, revision)
  );
  create index on authoritative.transitions (project, model, submission) where not filed;

  -- Facts, each written by the activity that establishes it.
  create table authoritative.steps (
    workflow_id text,
    step text,
    value jsonb not null,
    primary key (workflow_id, step)
  );
  create table authoritative.runs (
    project text,
    model text,
    submission text,
    attempt integer,
    row jsonb not null,
    primary key (project, model, submission, attempt)
  );
  create table authoritative.staged (
    project text,
    model text,
    submission text,
    files jsonb not null,
    problems jsonb,
    digest text,
    revises integer,
    primary key (project, model, submission)
  );
  create table authoritative.evidence (
    project text,
    evaluation text,
    model text not null,
    submission text not null,
    digest text not null,
    report text not null,
    dataset text not null,
    actor text not null,
    as_manager boolean not null,
    begun_at timestamptz not null,
    metrics jsonb not null,
    primary key (project, evaluation)
  );
  create index on authoritative.evidence (project, model, submission, report);
  create table authoritative.gate_results (
    ordinal bigint generated always as identity primary key,
    application text not null,
    release text not null,
    gate text not null,
    passed boolean not null,
    detail text not null,
    seconds double precision not null,
    at timestamptz not null default now()
  );
  create index on authoritative.gate_results (application, release, gate, ordinal);

  alter table authoritative.live_pointers add column floor integer;
  alter table authoritative.moves alter column release drop not null;
  `,
  recordEarlierStarts,
  // Makes people's input correctable: disabled users, granted types, changed applications, deleted data sets.
  `
  alter table authoritative.users add column disabled boolean not null default false;
  create index on authoritative.tokens (token_id) where kind = 'job' and revoked_at is null;

  create index on authoritative.types (project);
  create table authoritative.type_grants (
    type text references authoritative.types,
    project text references authoritative.projects,
    primary key (type, project)
  );
  create index on authoritative.type_grants (project);

  update authoritative.applications set row = row || '{"revision": 0}';
  create index on authoritative.applications ((row->>'repository'));

  -- A deleted data set keeps its row: its name stays taken.
  alter table authoritative.data_sets add column deleted_at timestamptz, add column swept_at timestamptz;
  create index on authoritative.data_sets (deleted_at) where deleted_at is not null and swept_at is null;
  create table authoritative.data_set_drafts (
    project text references authoritative.projects,
    dataset text,
    attempt text not null,
    step text not null check (step in ('write', 'clear')),
    drafted_at timestamptz not null,
    primary key (project, dataset)
  );
  create table authoritative.data_set_uses (
    project text,
    dataset text,
    kind text check (kind in ('run', 'evaluation')),
    name text,
    primary key (project, dataset, kind, name),
    foreign key (project, dataset) references authoritative.data_sets
  );
  create index on projection.imports (project) where standing < 2;
  -- What names them already: runs that have ended, runs under way by what was asked, evaluations.
  -- Materialized: other entries may hold what jsonb cannot, and must not be cast.
  with started as materialized (
    select v.project, v.model || '/' || v.submission as name, a.entry
    from projection.versions v
    join authoritative.audit a
      on a.key = 'version.started/model/' || v.project || '/' || v.model || '/' || v.submission
  )
  insert into authoritative.data_set_uses (project, dataset, kind, name)
    select d.project, d.dataset, found.kind, found.name
    from (
      select project, jsonb_array_elements_text(row #> '{run,spec,data}') as dataset, 'run' as kind,
             model || '/' || submission as name
      from projection.versions where jsonb_typeof(row #> '{run,spec,data}') = 'array'
      union
      select project, jsonb_array_elements_text(entry::jsonb #> '{detail,request,beginning,run,data}'), 'run', name
      from started
      where jsonb_typeof(entry::jsonb #> '{detail,request,beginning,run,data}') = 'array'
      union
      select project, row->>'dataset', 'evaluation', evaluation from projection.evaluations
    ) found
    join authoritative.data_sets d on d.project = found.project and d.dataset = found.dataset;
  `,
  // Digests for checking stored bytes when they are served, and the faults found.
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
  // Entries are inserted without a chain position and get one later, so that writers wait for nobody.
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
  // Lists: the columns that a page shows, filters and sorts by, without reading whole rows.
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
  // A delivery run's result for a gate counts once, even if the worker died before reporting it.
  `
  alter table authoritative.gate_results add column run text;
  create unique index on authoritative.gate_results (application, release, gate, run);
  `,
  // The installation that this database belongs to, the last known checkpoints of other systems, and the pause.
  `
  create table authoritative.installation (
    one boolean primary key default true check (one),
    installation text not null,
    claimed_at timestamptz not null default now(),
    tick bigint not null default 0,
    audit_seq bigint not null default 0
  );
  create table authoritative.marked_systems (
    system text primary key,
    tick bigint not null
  );
  -- A key that was lost and let go of: what it has signed stays checked, and no home must have it.
  alter table authoritative.signing_keys add column retired_at timestamptz;
  create table authoritative.paused (
    one boolean primary key default true check (one),
    since timestamptz not null default now(),
    findings jsonb not null
  );
  -- Numbers that no release gets any more: those up to the floor, which a restore has set.
  create table authoritative.release_floors (
    type text primary key,
    sequence integer not null
  );
  alter table authoritative.releases add column manifest boolean not null default false;
  create index on authoritative.releases (sequence) where announced and not manifest;
  `,
  // Narrow rows for filtering and sorting versions: thousands of rows may match a tag or word, and are read without the versions.
  `
  create table projection.version_index (
    ordinal bigint primary key references projection.versions (ordinal) on delete cascade,
    project text not null,
    model text not null,
    type text,
    state text not null,
    author text not null,
    number integer not null,
    updated_at timestamptz not null,
    -- Each as <project>/<tag>: tags of one name in other projects cost nothing.
    tags text[] not null,
    words tsvector not null
  );
  create function projection.index_version() returns trigger language plpgsql as $$
    begin
      insert into projection.version_index
        values (
          new.ordinal, new.project, new.model, new.row->>'type', new.state, new.author, new.number, new.updated_at,
          array(select new.project || '/' || tag from jsonb_array_elements_text(
            case jsonb_typeof(new.row->'tags') when 'array' then new.row->'tags' else '[]' end) tag),
          to_tsvector('simple', regexp_replace(
            new.model || ' ' || new.submission || ' ' || left(coalesce(new.row->>'detail', ''), 2000),
            '[\\x01-\\x2f\\x3a-\\x40\\x5b-\\x60\\x7b-\\x7f]+', ' ', 'g')))
        on conflict (ordinal) do update set
          (project, model, type, state, author, number, updated_at, tags, words) =
          (excluded.project, excluded.model, excluded.type, excluded.state, excluded.author, excluded.number,
           excluded.updated_at, excluded.tags, excluded.words);
      return null;
    end
  $$;
  create trigger index_version after insert or update on projection.versions
    for each row execute function projection.index_version();
  -- Fires the trigger for every row that is there.
  update projection.versions set revision = revision;
  alter table projection.versions drop column words, drop column tags, drop column type;
  drop index projection.versions_project_updated_at_ordinal_idx, projection.versions_project_model_updated_at_ordinal_idx,
    projection.versions_project_state_updated_at_ordinal_idx, projection.versions_project_author_updated_at_ordinal_idx,
    projection.versions_project_number_ordinal_idx;
  create index on projection.version_index (project, updated_at, ordinal);
  create index on projection.version_index (project, model, updated_at, ordinal);
  create index on projection.version_index (project, type, updated_at, ordinal);
  create index on projection.version_index (project, state, updated_at, ordinal);
  create index on projection.version_index (project, author, updated_at, ordinal);
  create index on projection.version_index (project, number, ordinal);
  create index on projection.version_index (project, model, number, ordinal);
  create index on projection.version_index using gin (tags);
  create index on projection.version_index using gin (words);
  `,
  // Starts that an earlier migration wrote for open work: the results of their steps are not on record, and the
  // requester's role was not stored. Where a role is needed, the current one is used.
  `
  alter table authoritative.starts add column brought_over boolean not null default false;
  update authoritative.starts set brought_over = true where earlier or roles = '[]';
  update authoritative.starts s set roles = m.roles from authoritative.members m
    where s.type = 'evaluation' and s.brought_over and s.closed_at is null and m.project = s.project and m.name = s.asked_by;
  `,
  // Accepted restores: how many there were tells whether a look at the systems is still current; their pauses extend deadlines.
  `
  create table authoritative.restores (
    ordinal bigint generated always as identity primary key,
    -- Null if nothing was paused, such as for a lost home that did not start.
    paused_since timestamptz,
    accepted_at timestamptz not null
  );
  create index on authoritative.standings (undo_until) where undo_until is not null and not closed;
  `,
  recordEarlierClosings,
  // Lists that cost as much among many versions as among few: versions of a tag in the order of lists, and one index that
  // finds the versions for any combination of filters, without reading those that match only some of them.
  `
  create table projection.version_tags (
    ordinal bigint not null references projection.version_index (ordinal) on delete cascade,
    project text not null,
    tag text not null,
    model text not null,
    type text,
    state text not null,
    author text not null,
    number integer not null,
    updated_at timestamptz not null,
    primary key (ordinal, tag)
  );
  -- Other columns that are asked for are compared in the index.
  create index on projection.version_tags (project, tag, updated_at, ordinal) include (model, type, state, author);
  create index on projection.version_tags (project, tag, number, ordinal) include (model, type, state, author);
  create function projection.tag_version() returns trigger language plpgsql as $$
    begin
      if tg_op = 'UPDATE' then
        delete from projection.version_tags where ordinal = new.ordinal;
      end if;
      insert into projection.version_tags
        select distinct new.ordinal, new.project, substr(tag, length(new.project) + 2), new.model, new.type, new.state,
          new.author, new.number, new.updated_at
        from unnest(new.tags) tag;
      return null;
    end
  $$;
  create trigger tag_version after insert or update on projection.version_index
    for each row execute function projection.tag_version();
  insert into projection.version_tags
    select distinct v.ordinal, v.project, substr(t.tag, length(v.project) + 2), v.model, v.type, v.state, v.author, v.number,
      v.updated_at
    from projection.version_index v, unnest(v.tags) t (tag);
  -- Words are found by how they begin: by up to 12 characters here; the rest is compared in the rows.
  create function projection.version_terms(
    project text, model text, type text, state text, author text, tags text[], words tsvector
  ) returns text[] language sql immutable parallel safe cost 10000 as $$
    select array['model:' || project || '/' || model, 'type:' || project || '/' || type, 'state:' || project || '/' || state,
        'author:' || project || '/' || author]
      || array(select 'tag:' || tag from unnest(tags) tag)
      || array(select 'word:' || project || '/' || left(word, n)
        from unnest(tsvector_to_array(words)) word, generate_series(1, least(length(word), 12)) n)
  $$;
  drop index projection.version_index_tags_idx, projection.version_index_words_idx;
  -- Entries that wait to be sorted in are read by every search, so few may wait.
  create index version_index_terms_idx on projection.version_index
    using gin (projection.version_terms(project, model, type, state, author, tags, words)) with (gin_pending_list_limit = 128);
  analyze projection.version_index, projection.version_tags;
  `,
  `
  -- An application's floor is at least the highest number that was ever live there.
  update authoritative.live_pointers p set floor = greatest(p.floor, (
    select max(r.sequence) from authoritative.moves m join authoritative.releases r on r.release = m.release
    where m.application = p.application and m.type = p.type and m.generation is not null))
  where p.release is not null or p.generation > 0;
  `,
  `
  -- Decisions that wait for their effects: few of all commands.
  create index on authoritative.commands (ordinal) where status = 'accepted';
  `,
  `
  -- Accepted restores, those that a restored database no longer knows included.
  alter table authoritative.installation add column accepted bigint not null default 0;
  update authoritative.installation set accepted = (select count(*) from authoritative.restores);
  `,
  `
  -- Jobs from their request to their recorded end.
  create table authoritative.jobs (
    name text primary key,
    workflow_id text not null,
    project text not null,
    kind text not null check (kind in ('training', 'evaluation')),
    state text not null default 'queued' check (state in ('queued', 'starting', 'running')),
    job jsonb not null,
    task_token bytea,
    beat_ms integer not null,
    queued_at timestamptz not null default clock_timestamp(),
    not_before timestamptz not null default clock_timestamp(),
    starts integer not null default 0,
    kills integer not null default 0,
    why text not null default '',
    -- The pool whose cluster has it; null while it is queued.
    pool text
  );
  create index on authoritative.jobs (kind, project, queued_at, name) where state = 'queued';
  create index on authoritative.jobs (kind, project) where state <> 'queued';
  create index on authoritative.jobs (pool) where pool is not null;
  -- Pools, and when a worker last watched each.
  create table authoritative.pools (pool text primary key, seen_at timestamptz not null default clock_timestamp());
  `,
  `
  create table authoritative.compute_profiles (name text primary key, profile jsonb not null);
  -- What a project is offered instead of the built-in profiles.
  create table authoritative.compute_offers (
    project text primary key references authoritative.projects (project),
    names jsonb not null
  );
  -- What a job needs of a pool. Jobs from before profiles were recorded name a built-in one.
  alter table authoritative.jobs
    add column reason text not null default '',
    add column gpus integer not null generated always as (
      coalesce((job->'profile'->>'gpus')::integer, case when job->>'compute' = 'gpu' then 1 else 0 end)) stored,
    add column pools jsonb generated always as (job->'profile'->'pools') stored,
    add column on_cluster boolean not null generated always as (
      coalesce(job->'profile' ?| array['image', 'nodeSelector'], false)) stored;
  -- How its watcher describes it; null for a watcher of an earlier version.
  alter table authoritative.pools add column about jsonb;
  `,
];

/**
 * Migrates the schema to this program's version, or to an earlier one. Refuses a database of a later version: an older
 * program would misread it.
 */
export async function migrate(db: Kysely<Tables>, to: number = migrations.length): Promise<void> {
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
        `the database has schema version ${version}, but this program supports only ${migrations.length}: run the newer program`,
      );
    for (const [index, statements] of migrations.entries()) {
      if (index < version || index >= to) continue;
      if (typeof statements === 'string') await sql.raw(statements).execute(trx);
      else await statements(trx);
      await sql`insert into authoritative.migrations (version) values (${index + 1})`.execute(trx);
    }
  });
}
