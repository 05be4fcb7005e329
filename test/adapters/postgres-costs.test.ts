// The cost of queries: one statement each, regardless of the data size, counted by the connection-cutting proxy.
import assert from 'node:assert/strict';
import pg from 'pg';
import { createPostgresRecords } from '../../activities/adapters/postgres/records.ts';
import type { Records, VersionFilter } from '../../activities/records.ts';
import {
  allot,
  createScene,
  evaluationRow,
  setApplication,
  versionRow,
  type Scene,
} from '../contracts/records/scene.ts';
import { workflowId } from '../../workflows/messages.ts';
import { freshDatabase } from '../servers.ts';
import { cuttingProxy, type CuttingProxy } from './postgres-proxy.ts';

const MANY = 2_000;

interface World {
  readonly proxy: CuttingProxy;
  readonly records: Records;
  readonly sql: pg.Client;
  readonly url: string;
  readonly scene: Scene;
}
let world: World;

beforeAll(async () => {
  const url = await freshDatabase();
  const proxy = await cuttingProxy(url);
  const records = await createPostgresRecords({ url: proxy.url, poolSize: 1 });
  const sql = new pg.Client({ connectionString: url });
  await sql.connect();
  const scene = createScene();
  await setApplication(records, scene);
  world = { proxy, records, sql, url, scene };
  await fill(world);
});
afterAll(async () => {
  await world.sql.end();
  await world.records.close();
  await world.proxy.close();
});

/** Many versions and evaluations, and many releases that the application has dealt with. */
async function fill({ records, sql, scene }: World): Promise<void> {
  const { project, type, application } = scene;
  await sql.query(
    `insert into projection.versions (project, model, submission, state, author, revision, updated_at, row)
     select $1, 'forest', 's' || g, 'retired', 'sam', 9, now(), $2::jsonb || jsonb_build_object('submission', 's' || g, 'version', g)
     from generate_series(1, $3::int) g`,
    [project, JSON.stringify(versionRow(scene)), MANY],
  );
  await sql.query(
    `insert into projection.evaluations (project, evaluation, model, submission, author, standing, updated_at, row)
     select $1, 'e' || g, 'forest', 's' || g, 'sam', 1, now(), $2::jsonb || jsonb_build_object('evaluation', 'e' || g)
     from generate_series(1, $3::int) g`,
    [project, JSON.stringify(evaluationRow(scene)), MANY],
  );
  const one = await allot(records, scene, 1);
  await sql.query(
    `insert into authoritative.releases (release, command_id, type, sequence, project, model, submission, version, announced, row)
     select $1 || '-' || g, 'c' || g, $1, g, $2, 'forest', 's' || g, 1, true, $3::jsonb || jsonb_build_object('release', $1 || '-' || g, 'sequence', g)
     from generate_series(2, $4::int) g`,
    [type, project, JSON.stringify(one), MANY],
  );
  await sql.query(
    `insert into projection.deliveries (application, release, state, standing, updated_at, row)
     select $1, release, 'superseded', 5, now(), '{}' from authoritative.releases where type = $2 and sequence < $3`,
    [application, type, MANY],
  );
}

type Ask = (records: Records, scene: Scene) => Promise<unknown>;

it.each<[string, Ask]>([
  ['a page of releases', (records, { type }) => records.releases({ type, limit: 500 })],
  ['the releases of a version', (records, { project }) => records.releasesOf(project, 'forest', 'rf-1')],
  ['a version by its number', (records, { project }) => records.versionByNumber(project, 'forest', 7)],
  ['a page of versions', (records, { project }) => records.versions({ project, text: 'forest', tag: 'x', limit: 500 })],
  [
    'a page of evaluations',
    (records, { project }) => records.evaluations({ project, limit: 500, seenBy: { user: 'sam', all: false } }),
  ],
  ['a page of the audit', (records, { project }) => records.audit({ project })],
  ['an audit entry', (records) => records.audited('none')],
  [
    'a refused request',
    (records, { entry }) => records.recordRefused(entry(), { principal: 'u', action: 'a', request: 'r' }),
  ],
  ['entries of the audit', (records, { entry }) => records.record([entry(), entry()], [])],
])('%s takes one statement', async (_, ask) => {
  const { proxy, records, scene } = world;
  proxy.arm(undefined);
  await ask(records, scene);
  assert.equal(proxy.statements(), 1);
});

it('concurrent calls share statements', async () => {
  const { proxy, records, scene } = world;
  proxy.arm(undefined);
  const entries = Array.from({ length: 50 }, () => scene.entry());
  await Promise.all(entries.map((entry) => records.record([entry, entry], [])));
  assert.ok(proxy.statements() <= 6, `${proxy.statements()} statements for 50 entries`);
  for (const { key } of entries) assert.equal((await records.audited(key))?.key, key);
});

it('of concurrent calls, only the one with a refused entry fails', async () => {
  const { records, scene } = world;
  const entries = Array.from({ length: 20 }, (_, i) => scene.entry(i === 11 ? { subject: 'a\u0000b' } : {}));
  const ends = await Promise.allSettled(entries.map((entry) => records.record([entry], [])));
  assert.deepEqual(
    ends.flatMap(({ status }, i) => (status === 'rejected' ? [i] : [])),
    [11],
  );
  for (const [i, { key }] of entries.entries()) assert.equal((await records.audited(key)) !== undefined, i !== 11);
});

it('finds the one remaining release among many', async () => {
  const { records, scene } = world;
  const { release } = await records.openDelivery(workflowId.application(scene));
  assert.equal(release?.sequence, MANY);
});

type Filter = Omit<VersionFilter, 'project'>;

it.each<[string, Filter]>([
  ['nothing', {}],
  ['model', { model: 'forest' }],
  ['state', { state: 'retired' }],
  ['author', { author: 'sam' }],
  ['number', { order: 'number' }],
  ['number, of a model', { order: 'number', model: 'forest' }],
  ['a tag that no version has', { tag: 'none' }],
])('a page of versions by %s reads only the rows it shows', async (_, filter) => {
  const { sql, url, scene } = world;
  await sql.query('analyze');
  const read = async () => (await rowsRead(sql, 'versions')) + (await rowsRead(sql, 'version_index'));
  const [before, others] = [await read(), await connections(sql)];
  // PostgreSQL reports its counts when the connection ends.
  const records = await createPostgresRecords({ url, poolSize: 1 });
  const { rows } = await records.versions({ project: scene.project, limit: 20, ...filter });
  await records.close();
  for (const until = Date.now() + 10_000; (await connections(sql)) > others;)
    assert.ok(Date.now() < until, 'the connection did not end');
  const all = (await read()) - before;
  // Each is read as a version and in the index's table, or, once that is vacuumed, in the index alone.
  assert.ok(all >= rows.length, `only ${all} were counted: the figures are missing`);
  // One more than a page.
  assert.ok(all <= 2 * (rows.length + 20), `${all} rows were read for ${rows.length}`);
});

async function connections(sql: pg.Client): Promise<number> {
  const { rowCount } = await sql.query('select 1 from pg_stat_activity where datname = current_database()');
  return rowCount ?? 0;
}

async function rowsRead(sql: pg.Client, table: string): Promise<number> {
  const { rows } = await sql.query<{ read: string }>(
    `select seq_tup_read + idx_tup_fetch as read from pg_stat_user_tables where schemaname = 'projection' and relname = $1`,
    [table],
  );
  return Number(rows[0]?.read);
}
