// What a page of versions costs among many: whatever is asked for, a bounded number of rows and index entries is read.
import assert from 'node:assert/strict';
import pg from 'pg';
import { createPostgresRecords } from '../../activities/adapters/postgres/records.ts';
import type { VersionFilter } from '../../activities/records.ts';
import { createScene, versionRow } from '../contracts/records/scene.ts';
import { freshDatabase } from '../servers.ts';

const MANY = 14_000;
const LIMIT = 20;
/** As many are walked over in the list's order before the index of terms is asked, and a page: entries and rows. */
const BOUND = 2 * 6_000 + 10 * (LIMIT + 1);

let url = '';
const scene = createScene();
const { project } = scene;

/** The older half is retired and has the tag `early`, the newer half is new and has the tag `late`. */
beforeAll(async () => {
  url = await freshDatabase();
  await (await createPostgresRecords({ url, poolSize: 1 })).close();
  await sql(
    `insert into projection.versions (project, model, submission, state, author, revision, updated_at, row)
     select $1, 'm-' || g % 10, 's' || g, state, 'sam', 9, now() - ($3 - g) * interval '1 second',
       $2::jsonb || jsonb_build_object('submission', 's' || g, 'version', g, 'type', 't-' || g % 3,
         'tags', jsonb_build_array(tag), 'detail', case g when 70 then 'odd ' else '' end || tag)
     from (select g, case when g <= $3 / 2 then 'retired' else 'new' end as state,
         case when g <= $3 / 2 then 'early' else 'late' end as tag from generate_series(1, $3::int) g) made`,
    [project, JSON.stringify(versionRow(scene)), MANY],
  );
  for (const table of ['versions', 'version_index', 'version_tags']) await sql(`vacuum analyze projection.${table}`);
});

type Filter = Omit<VersionFilter, 'project' | 'limit'>;

it.each<[string, number, Filter]>([
  ['a tag of half of them, the older ones', LIMIT, { tag: 'early' }],
  ['a tag and a state that exclude each other', 0, { tag: 'early', state: 'new' }],
  ['a tag, a type and a state that exclude each other', 0, { tag: 'late', state: 'retired', type: 't-1' }],
  ['a tag and a model', LIMIT, { tag: 'early', model: 'm-3' }],
  ['a tag, oldest first', LIMIT, { tag: 'late', order: 'oldest' }],
  ['a tag, by number', LIMIT, { tag: 'early', order: 'number' }],
  ['a word that all begin with', LIMIT, { text: 's' }],
  ['a word that nothing has', 0, { text: 'none' }],
  ['a sign that is no word', 0, { text: '\u{1f642}' }],
  ['a dash, which is no word', 0, { text: '\u2014' }],
  ['words that all have and one that nothing has', 0, { text: 'm s none' }],
  ['a word that one has, the 70th of all', 1, { text: 'odd' }],
  ['longer words than the index has', 1, { text: 's70 m 0 odd', model: 'm-0' }],
  ['a word and a state that exclude each other', 0, { text: 'early', state: 'new' }],
  ['a word, all else, and a tag', LIMIT, { text: 's1', model: 'm-3', state: 'retired', author: 'sam', tag: 'early' }],
  ['a type, a state and an author', LIMIT, { type: 't-2', state: 'retired', author: 'sam' }],
])('a page of versions by %s reads a bounded number', async (_, expected, filter) => {
  const before = await entriesRead();
  const records = await createPostgresRecords({ url, poolSize: 1 });
  const { rows } = await records.versions({ project, limit: LIMIT, ...filter });
  await records.close();
  assert.equal(rows.length, expected);
  const read = (await entriesRead()) - before;
  assert.ok(read > 0, 'nothing was counted: the figures are missing');
  assert.ok(read <= BOUND, `${read} rows and index entries were read`);
});

it('a text without words is in no version, and asks for nothing', async () => {
  const records = await createPostgresRecords({ url, poolSize: 1 });
  assert.deepEqual(await records.versions({ project, text: '!!!' }), { rows: [] });
  await records.close();
});

it('pages of versions that are found only in the index of terms follow each other', async () => {
  const records = await createPostgresRecords({ url, poolSize: 1 });
  const found: string[] = [];
  let after: string | undefined;
  for (let page = 0; page < 3; page += 1) {
    const { rows, next } = await records.versions({
      ...{ project, text: 'early', limit: LIMIT },
      ...(after !== undefined && { after }),
    });
    found.push(...rows.map(({ submission }) => submission));
    after = next;
  }
  await records.close();
  assert.deepEqual(
    found,
    Array.from({ length: 3 * LIMIT }, (_, i) => `s${MANY / 2 - i}`),
  );
});

/** Rows and index entries that were read so far. A connection's counts arrive when it has ended. */
async function entriesRead(): Promise<number> {
  const others = `select count(*) as number from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()`;
  for (const until = Date.now() + 10_000; (await sql(others)) > 0;)
    assert.ok(Date.now() < until, 'the connection did not end');
  return sql(
    `select (select sum(seq_tup_read + idx_tup_fetch) from pg_stat_user_tables where relname like 'version%')
       + (select sum(idx_tup_read) from pg_stat_user_indexes where relname like 'version%') as number`,
  );
}

/** Runs a statement in a connection of its own; returns its number, if it has one. */
async function sql(statement: string, values?: readonly unknown[]): Promise<number> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    const { rows } = await client.query<{ number?: string }>(statement, values && [...values]);
    return Number(rows[0]?.number);
  } finally {
    await client.end();
  }
}
