// What holds at every moment of a passage: the tables are consistent, and no acknowledged change is lost.
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';

/** Each row that it returns is a contradiction. One statement reads one moment. */
const CONTRADICTIONS = `
  select 'the list has ' || (v.row->>'state') || ' ' || (v.row->>'revision') || ', the version is ' ||
    s.state || ' ' || s.revision as said
  from authoritative.standings s left join projection.versions v
    on v.project = s.project and v.model = s.model and v.submission = s.submission
  where v.row is distinct from s.row or s.state <> s.row->>'state' or s.revision <> (s.row->>'revision')::int
  union all
  select 'revisions ' || string_agg(t.revision::text, ',' order by t.revision) || ' of a version at ' || s.revision
  from authoritative.standings s left join authoritative.transitions t
    on t.project = s.project and t.model = s.model and t.submission = s.submission
  group by s.project, s.model, s.submission, s.revision
  having count(t.revision) <> s.revision
  union all
  select 'no audit row of revision ' || t.revision
  from authoritative.transitions t
  where not exists (select from authoritative.audit a
    where a.key = 'model/' || t.project || '/' || t.model || '/' || t.submission || '/' || t.revision)
  union all
  select p.application || ' has ' || coalesce(p.release, 'nothing') || ' live at ' || p.generation || ', moved to ' ||
    coalesce(m.release, 'nothing') || ' at ' || coalesce(m.generation, 0)
  from authoritative.live_pointers p left join lateral (
    select m.release, m.generation from authoritative.moves m
    where m.application = p.application and m.type = p.type and m.generation is not null
    order by m.generation desc limit 1) m on true
  where p.generation <> coalesce(m.generation, 0) or p.release is distinct from m.release
  union all
  select 'deliveries of ' || p.application || ' that are live: ' || coalesce(string_agg(d.release, ','), 'none') ||
    ', the pointer is at ' || coalesce(p.release, 'nothing')
  from authoritative.live_pointers p left join projection.deliveries d
    on d.application = p.application and d.row->>'type' = p.type and d.state = 'live'
  group by p.application, p.type, p.release
  having string_agg(d.release, ',') is distinct from p.release
  union all
  select 'command ' || c.command_id || ' is ' || c.status || ', its decision ' || coalesce(d.status, 'is not there')
  from authoritative.commands c left join authoritative.decisions d
    on d.workflow_id = c.workflow_id and d.command_id = c.command_id
  where (c.status = 'done') <> coalesce(d.status = 'complete', false)
    or (c.status = 'accepted') <> coalesce(d.status = 'pending', false)
  union all
  select 'command ' || c.command_id || ' counts ' || count(d.value) || ' times'
  from authoritative.commands c join authoritative.standings s
    on c.workflow_id = 'model/' || s.project || '/' || s.model || '/' || s.submission
    left join lateral jsonb_array_elements(s.row->'decisions') d on d.value->>'commandId' = c.command_id
  group by c.workflow_id, c.command_id, c.status
  having count(d.value) <> (case when c.status = 'done' then 1 else 0 end)`;

/** What only ever grows. */
const GROWING = `
  select (select count(*) from authoritative.audit)::int as audit,
    (select count(*) from authoritative.commands)::int as commands,
    (select count(*) from authoritative.commands where status <> 'open')::int as settled,
    (select count(*) from authoritative.decisions)::int as decisions,
    (select coalesce(sum(revision), 0) from authoritative.standings)::int as revisions,
    (select coalesce(sum(generation), 0) from authoritative.live_pointers)::int as generations,
    (select count(*) from authoritative.releases where announced)::int as announced`;

const EVERY_MS = 100;

/** Checks repeatedly until stopped; then returns each violation once. */
export async function watchAgreement(databaseUrl: string): Promise<{ stop(): Promise<readonly string[]> }> {
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  const seen = new Set<string>();
  const state = { over: false, before: {} as Readonly<Record<string, number>>, looks: 0 };
  const look = async (): Promise<void> => {
    const { rows } = await client.query<{ said: string }>(CONTRADICTIONS);
    for (const { said } of rows) seen.add(said);
    const [now = {}] = (await client.query<Record<string, number>>(GROWING)).rows;
    for (const [what, count] of Object.entries(now))
      if (count < (state.before[what] ?? 0)) seen.add(`${what} went from ${state.before[what]} to ${count}`);
    state.before = now;
    state.looks += 1;
  };
  const running = (async () => {
    while (!state.over) {
      await look();
      await sleep(EVERY_MS);
    }
    await look();
  })();
  running.catch(() => undefined);
  return {
    async stop() {
      state.over = true;
      await running.finally(() => client.end());
      return [...seen];
    },
  };
}
