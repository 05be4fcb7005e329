// Records over a network that loses connections: at each statement of each call, the final state equals that of an undisturbed run.
import assert from 'node:assert/strict';
import canonicalize from 'canonicalize';
import pg from 'pg';
import { createPostgresRecords } from '../../activities/adapters/postgres/records.ts';
import type { Records } from '../../activities/records.ts';
import { createScene, type Scene } from '../contracts/records/scene.ts';
import { freshDatabase } from '../servers.ts';
import { readingCalls, writingCalls } from './postgres-calls.ts';
import { cuttingProxy, type Cut, type CuttingProxy } from './postgres-proxy.ts';

/** Some twenty cuts, each with a new connection, on a slow machine. */
const CALL_TIMEOUT_MS = 180_000;

interface World {
  readonly proxy: CuttingProxy;
  /** Through the proxy; one connection, so that every statement goes over the one that is cut. */
  readonly records: Records;
  /** Past the proxy. */
  readonly direct: Records;
  readonly sql: pg.Client;
}
let world: World;

beforeAll(async () => {
  const url = await freshDatabase();
  const direct = await createPostgresRecords({ url, poolSize: 2 });
  const proxy = await cuttingProxy(url);
  const records = await createPostgresRecords({ url: proxy.url, poolSize: 1, patienceMs: 60_000 });
  const sql = new pg.Client({ connectionString: url });
  await sql.connect();
  world = { proxy, records, direct, sql };
});
afterAll(async () => {
  await world.sql.end();
  await world.records.close();
  await world.direct.close();
  await world.proxy.close();
});

type Call = (typeof writingCalls)[number][1];

/** Runs the call in its own scene; returns the answer and the scene's rows, without values that differ between runs. */
async function run(prepare: Call, cut?: Cut) {
  const { proxy, records, direct } = world;
  const scene = createScene();
  const call = await prepare(direct, scene);
  const before = await stateOf(scene);
  proxy.arm(cut);
  const answer = await call(records);
  const statements = proxy.statements();
  assert.equal(proxy.hasCut(), cut !== undefined, 'the connection was not cut where it should have been');
  return { answer: comparable(answer, scene), before, after: await stateOf(scene), statements };
}

/** All rows of all tables that mention the scene. */
async function stateOf(scene: Scene): Promise<string> {
  const { rows: tables } = await world.sql.query<{ name: string }>(
    `select schemaname || '.' || tablename as name from pg_tables where schemaname in ('authoritative', 'projection') order by 1`,
  );
  const selects = tables.map(({ name }) => `select '${name}' as name, to_jsonb(t) as row from ${name} t`);
  const { rows } = await world.sql.query<{ name: string; row: unknown }>(
    `select name, row from (${selects.join(' union all ')}) found where row::text like $1`,
    [`%${tagOf(scene)}%`],
  );
  return rows
    .map(({ name, row }) => `${name} ${comparable(row, scene)}`)
    .sort()
    .join('\n');
}

const tagOf = ({ project }: Scene): string => project.slice('p-'.length);

/**
 * Places in the one chain of all tests, the database's own clock, and the words that the database makes of a row (of a
 * run's own tag, too): only whether they are there is compared.
 */
const OWN_TO_A_RUN =
  /^(seq|previous|hash|ordinal|arrival|refusal|minute|words|(created|revoked|moved|deleted|swept|drafted|recorded|registered|settled|closed|retired)(_at|At)|since)$/;
const TIME = /\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)/g;
const DAY_MS = 86_400_000;
/** A time of the clock, around now: what a decision was made at. */
const isOfTheClock = (time: string): boolean => Math.abs(Date.parse(time) - Date.now()) < DAY_MS;

function comparable(value: unknown, scene: Scene): string {
  const withoutOwn: unknown = JSON.parse(
    JSON.stringify(value ?? null, (key, part: unknown) => (OWN_TO_A_RUN.test(key) && part !== null ? 'set' : part)),
  );
  // Members in one order: jsonb has its own.
  return (
    (canonicalize(withoutOwn) ?? '')
      .replaceAll(tagOf(scene), 'TAG')
      .replace(TIME, (time) => (isOfTheClock(time) ? 'NOW' : time))
      // Of what differs from run to run, signed.
      .replace(/(signature[\\":]+)[\w-]{86}/g, '$1SIGNATURE')
      .replace(/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/g, 'UUID')
      .replace(/[0-9a-f]{64}/g, 'DIGEST')
  );
}

describe('a lost connection to PostgreSQL', () => {
  it.each(writingCalls)(
    'at any statement of %s gives the same result as without the loss',
    async (_, prepare) => {
      const undisturbed = await run(prepare);
      const { statements } = undisturbed;
      assert.notEqual(undisturbed.after, undisturbed.before, 'the call writes nothing: the test would show nothing');
      const cuts: Cut[] = [];
      for (let at = 1; at <= statements; at++)
        cuts.push({ at, how: 'before it is sent' }, { at, how: 'before its answer comes' });
      // The last one is the commit, whose outcome is then unknown.
      cuts.push({ at: statements, how: 'as it is sent' });
      for (const cut of cuts) {
        const disturbed = await run(prepare, cut);
        const when = `cut at statement ${cut.at} of ${statements}, ${cut.how}`;
        assert.equal(disturbed.answer, undisturbed.answer, when);
        assert.equal(disturbed.after, undisturbed.after, when);
      }
      assert.equal((await world.direct.verifyAudit()).broken, null);
    },
    CALL_TIMEOUT_MS,
  );

  it.each(readingCalls)(
    'does not change the answer of %s',
    async (_, prepare) => {
      const undisturbed = await run(prepare);
      assert.ok(!['null', '[]'].includes(undisturbed.answer), 'the call answers nothing: the test would show nothing');
      for (const how of ['before it is sent', 'before its answer comes'] as const)
        assert.equal((await run(prepare, { at: 1, how })).answer, undisturbed.answer, how);
    },
    CALL_TIMEOUT_MS,
  );

  // Begin, the first schemas, the tables, the commit.
  it.each([1, 3, 5, 7])('at statement %i of creating the schema leaves no partial schema', async (at) => {
    const proxy = await cuttingProxy(await freshDatabase());
    try {
      proxy.arm({ at, how: 'before its answer comes' });
      const records = await createPostgresRecords({ url: proxy.url });
      assert.ok(proxy.hasCut());
      assert.deepEqual(await records.verifyAudit(), { rows: 0, broken: null, unlinked: 0, overdue: 0 });
      await records.close();
    } finally {
      await proxy.close();
    }
  });
});
