// A database of an earlier program: the newer program's queries find its existing rows.
import assert from 'node:assert/strict';
import pg from 'pg';
import { openDatabase } from '../../activities/adapters/postgres/connection.ts';
import { migrate, migrations } from '../../activities/adapters/postgres/migrations.ts';
import { createPostgresRecords } from '../../activities/adapters/postgres/records.ts';
import type { Records } from '../../activities/records.ts';
import { createScene, evaluationRow, START, versionRow } from '../contracts/records/scene.ts';
import type { Scene } from '../contracts/records/scene.ts';
import { freshDatabase } from '../servers.ts';

/** A database as it was before the migration that holds `word`, filled by `fill`, then opened by this program. */
async function upgraded(
  word: string,
  fill: (sql: pg.Client) => Promise<void>,
  work: (records: Records) => Promise<void>,
): Promise<void> {
  const url = await freshDatabase();
  const count = migrations.findIndex((statements) => typeof statements === 'string' && statements.includes(word));
  assert.ok(count > 0, `no migration holds ${word}`);
  const { db } = openDatabase({ url, poolSize: 1, statementMs: 30_000, onWarn: () => undefined });
  await migrate(db, count).finally(() => db.destroy());
  const sql = new pg.Client({ connectionString: url });
  await sql.connect();
  try {
    await fill(sql);
  } finally {
    await sql.end();
  }
  const records = await createPostgresRecords({ url });
  try {
    await work(records);
  } finally {
    await records.close();
  }
}

async function insertPassage(sql: pg.Client, scene: Scene): Promise<void> {
  const { project, type, application } = scene;
  await sql.query(`insert into authoritative.users values ('mia', true)`);
  await sql.query(`insert into authoritative.projects values ($1, '{}')`, [project]);
  await sql.query(`insert into authoritative.types values ($1, $2, 0)`, [type, project]);
  const row = { application, project, owner: 'mia', types: [type], gates: ['function'], repository: 'r' };
  await sql.query(`insert into authoritative.applications values ($1, $2, $3)`, [application, project, row]);
  for (const dataset of ['trained', 'training', 'tested'])
    await sql.query(`insert into authoritative.data_sets values ($1, $2, $3)`, [
      project,
      dataset,
      { project, dataset, kind: 'training', files: [], registeredBy: 'mia', registeredAt: START },
    ]);
  const versions = [
    { ...versionRow(scene, { submission: 'done' }), run: { spec: { data: ['trained', 'never-there'] } } },
    versionRow(scene, { submission: 'under-way', state: 'training' }),
  ];
  for (const version of versions)
    await sql.query(
      `insert into projection.versions (project, model, submission, state, author, revision, updated_at, row)
       values ($1, 'forest', $2, $3, 'sam', 1, $4, $5)`,
      [project, version.submission, version.state, START, version],
    );
  const asked = { detail: { request: { beginning: { run: { data: ['training'] } } } } };
  const key = `version.started/model/${project}/forest/under-way`;
  await sql.query(`insert into authoritative.audit values (1, 'p', 'h', $1, $2, 's', $3)`, [
    key,
    project,
    JSON.stringify(asked),
  ]);
  // A hostile command's entry, which is text that jsonb refuses.
  await sql.query(`insert into authoritative.audit values (2, 'h', 'i', 'hostile', $1, 's', $2)`, [
    project,
    JSON.stringify({ reason: 'a\0b' }),
  ]);
  await sql.query(
    `insert into projection.evaluations (project, evaluation, model, submission, standing, updated_at, row)
     values ($1, 'e-1', 'forest', 'done', 0, $2, $3)`,
    [project, START, evaluationRow(scene, { submission: 'done', dataset: 'tested' })],
  );
}

it('after an upgrade, references of runs and evaluations are known, applications have revision 0, and no user is disabled', async () => {
  const scene = createScene();
  await upgraded(
    'data_set_uses',
    (sql) => insertPassage(sql, scene),
    async (records) => {
      const references = async (dataset: string) =>
        (await records.deleteDataSet(scene.project, dataset, scene.entry())).references;
      assert.deepEqual(await references('trained'), [{ kind: 'run', name: 'forest/done' }]);
      assert.deepEqual(await references('training'), [{ kind: 'run', name: 'forest/under-way' }]);
      assert.deepEqual(await references('tested'), [{ kind: 'evaluation', name: 'e-1' }]);
      assert.equal((await records.application(scene.application))?.revision, 0);
      assert.deepEqual(await records.users(), [{ user: 'mia', admin: true, disabled: false }]);
    },
  );
});

it('waits longer for a migration than for other statements', async () => {
  const url = await freshDatabase();
  const { db } = openDatabase({ url, poolSize: 1, statementMs: 30_000, onWarn: () => undefined });
  const at = migrations.findIndex(
    (one) => typeof one === 'string' && one.includes('function projection.version_terms'),
  );
  await migrate(db, at).finally(() => db.destroy());
  const sql = new pg.Client({ connectionString: url });
  await sql.connect();
  try {
    await sql.query('begin');
    await sql.query('lock table projection.version_index in access exclusive mode');
    const opening = createPostgresRecords({ url, statementMs: 300, patienceMs: 0 });
    // Four times as long as any other statement may take.
    await sql.query('select pg_sleep(1.2)');
    await sql.query('commit');
    await (await opening).close();
  } finally {
    await sql.end();
  }
});
