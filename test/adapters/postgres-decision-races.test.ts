// Records on PostgreSQL: calls that another one overtakes between a read and what follows from it.
import assert from 'node:assert/strict';
import pg from 'pg';
import { createPostgresRecords } from '../../activities/adapters/postgres/records.ts';
import type { Records } from '../../activities/records.ts';
import { workflowId } from '../../workflows/domain/ids.ts';
import { openLifecycle } from '../contracts/records/lifecycle-scene.ts';
import { createScene } from '../contracts/records/scene.ts';
import { freshDatabase } from '../servers.ts';

const opened: { url?: string; records?: Records; sql?: pg.Client } = {};
beforeAll(async () => {
  const url = await freshDatabase();
  const sql = new pg.Client({ connectionString: url });
  await sql.connect();
  Object.assign(opened, { url, sql, records: await createPostgresRecords({ url }) });
});
afterAll(async () => {
  await opened.sql?.end();
  await opened.records?.close();
});

function world(): { records: Records; sql: pg.Client } {
  const { records, sql } = opened;
  assert.ok(records && sql, 'PostgreSQL could not be opened: see the failure of beforeAll');
  return { records, sql };
}

/** Waits until so many sessions of this database wait for a lock, or the call has ended. */
async function untilWaiting(sql: pg.Client, sessions: number, call?: Promise<unknown>): Promise<void> {
  const state = { over: false };
  void call?.finally(() => (state.over = true));
  const waiting = `select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`;
  for (const until = Date.now() + 10_000; Date.now() < until;)
    if (((await sql.query(waiting)).rowCount ?? 0) >= sessions || state.over) return;
  assert.fail(`fewer than ${sessions} calls wait`);
}

it('a run that asks while another run closes the start is refused, and the start stays the other’s', async () => {
  const { records, sql } = world();
  const { project, entry } = createScene();
  const input = { project, scan: 's-1' };
  const id = workflowId.feedback(input);
  await records.recordStart(
    { workflowId: id, type: 'feedback', input, askedBy: 'shop', roles: [], project },
    entry(),
    [],
  );
  const { rows } = await sql.query<{ digest: string }>(
    `select input_digest as digest from authoritative.starts where workflow_id = $1`,
    [id],
  );
  const run = { workflowId: id, type: 'feedback', digest: rows[0]?.digest ?? '' };
  assert.equal(await records.admit({ ...run, runId: 'run-1' }), 'admitted');
  await sql.query('begin');
  await sql.query(`update authoritative.starts set closed_at = now() where workflow_id = $1`, [id]);
  const other = records.admit({ ...run, runId: 'run-2' });
  await untilWaiting(sql, 1);
  await sql.query('commit');
  assert.equal(await other, 'closed');
  assert.equal((await records.start(id))?.runId, 'run-1');
  // Another run stays refused, and the run that closed the start may still clean up.
  assert.equal(await records.admit({ ...run, runId: 'run-2' }), 'closed');
  assert.equal(await records.admit({ ...run, runId: 'run-1' }), 'admitted');
});

it('a person is disabled before or after their decision in progress, not during it', async () => {
  const { records, sql } = world();
  const scene = createScene();
  const { submit, evaluate, about, record, decide, outcomeOf } = await openLifecycle(records, scene);
  await submit('rf-1');
  const command = await about('rf-1', 'approve', 'mia', { report: await evaluate('rf-1') });
  await record(command);
  const pause = `hashtextextended('ocdl:pause', 0)`;
  // The decision has read who counts, and waits.
  await sql.query(`select pg_advisory_lock(${pause})`);
  const decided = decide(command);
  await untilWaiting(sql, 1);
  const seen: string[] = [];
  const disabled = records
    .changeUser('mia', { disabled: true }, scene.entry())
    .then(async () => seen.push(await outcomeOf(command)));
  await untilWaiting(sql, 2, disabled);
  await sql.query(`select pg_advisory_unlock(${pause})`);
  await Promise.all([decided, disabled]);
  // Whoever has been told that mia is disabled sees no approval by her appear afterwards.
  assert.deepEqual(seen, ['done']);
  const later = await about('rf-1', 'reject', 'mia', { args: { reason: 'no' } });
  await record(later);
  assert.equal(await outcomeOf(later), 'not-authorized');
  // She is a member in the other scenes, too.
  await records.changeUser('mia', { disabled: false }, scene.entry());
});

it('an application’s owner is changed before or after their revert in progress, not during it', async () => {
  const { records, sql } = world();
  const scene = createScene();
  const { released, addApplication, deliver, record, outcomeOf, pointerId, signed } = await openLifecycle(
    records,
    scene,
  );
  await addApplication();
  const [first, second] = [await released('rf-1'), await released('rf-2')];
  await deliver(first);
  await deliver(second);
  const command = signed({
    ...{ workflowId: pointerId, name: 'revert', actor: 'dan', revision: 2 },
    args: { reason: 'it was better', release: first },
  });
  await record(command);
  const pause = `hashtextextended('ocdl:pause', 0)`;
  await sql.query(`select pg_advisory_lock(${pause})`);
  const decided = records.decidePointer(pointerId, command);
  await untilWaiting(sql, 1);
  const found = (await records.application(scene.application)) ?? assert.fail('no application');
  const seen: string[] = [];
  const changed = records
    .changeApplication({ ...found, owner: 'eve', revision: found.revision + 1 }, scene.entry())
    .then(async () => seen.push(await outcomeOf(command)));
  await untilWaiting(sql, 2, changed);
  await sql.query(`select pg_advisory_unlock(${pause})`);
  await Promise.all([decided, changed]);
  assert.deepEqual(seen, ['accepted']);
});

it('a gate is configured before or after a release goes live, not during it', async () => {
  const { records, sql } = world();
  const scene = createScene();
  const { application, type, entry } = scene;
  const { released, addApplication, pointerId } = await openLifecycle(records, scene);
  await addApplication();
  const release = await released('rf-1');
  await records.openDelivery(pointerId);
  const other = createScene();
  await (await openLifecycle(records, other)).addApplication();
  const move = { key: pointerId, application, type, generation: 0, release, revert: false };
  const blocker = new pg.Client({ connectionString: opened.url });
  await blocker.connect();
  // The move has looked at the gates, and waits to write itself down.
  await blocker.query('begin');
  await blocker.query(
    `insert into authoritative.moves (key, application, type, release, refused) values ($1, $2, $3, $4, 'older')`,
    [pointerId, other.application, other.type, release],
  );
  const moved = records.moveLivePointer(move, entry({ key: pointerId }));
  await untilWaiting(sql, 1);
  const found = (await records.application(application)) ?? assert.fail('no application');
  const seen: (string | null)[] = [];
  const changed = records
    .changeApplication({ ...found, gates: ['function'], revision: found.revision + 1 }, entry())
    .then(async () => seen.push((await records.livePointer(application, type)).release));
  await untilWaiting(sql, 2, changed);
  await blocker.query('rollback');
  await blocker.end();
  assert.ok((await moved).moved);
  await changed;
  assert.deepEqual(seen, [release]);
});
