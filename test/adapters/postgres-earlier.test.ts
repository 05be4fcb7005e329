// A database from before starts, commands and decisions were recorded: open work continues, and decisions stay valid and verifiable.
import assert from 'node:assert/strict';
import canonicalize from 'canonicalize';
import pg from 'pg';
import { openDatabase } from '../../activities/adapters/postgres/connection.ts';
import { migrate } from '../../activities/adapters/postgres/migrations.ts';
import { createPostgresRecords } from '../../activities/adapters/postgres/records.ts';
import { inputDigest } from '../../activities/adapters/postgres/starts.ts';
import type { Records } from '../../activities/records.ts';
import type { CommandArgs, SignedCommand } from '../../workflows/domain/command.ts';
import { workflowId } from '../../workflows/domain/ids.ts';
import { newImport } from '../../workflows/domain/import.ts';
import type { Decision, NamedArtifact, RunSpec, Version } from '../../workflows/domain/model.ts';
import { defaultPolicy } from '../../workflows/domain/model.ts';
import type { ArtifactUri } from '../../workflows/domain/names.ts';
import { sceneKeys, signed } from '../contracts/records/lifecycle-scene.ts';
import type { Scene } from '../contracts/records/scene.ts';
import {
  createScene,
  deliveryRow,
  digestOf,
  evaluationRow,
  fails,
  scanRow,
  START,
  versionRow,
} from '../contracts/records/scene.ts';
import { freshDatabase } from '../servers.ts';

/** The last version of the schema that knew no starts, commands or decisions. */
const BEFORE = 3;
const spec: RunSpec = {
  ...{ code: { repository: 'p/code', commit: 'a'.repeat(40) }, entrypoint: 'train.py', lock: 'lock', data: [] },
  ...{ parameters: {}, seed: 1, compute: 'cpu', deadlineSeconds: 60 },
};

/** A database as left by the earlier program, written row by row. */
async function createEarlier(scene: Scene) {
  const url = await freshDatabase();
  const { db } = openDatabase({ url, poolSize: 1, statementMs: 30_000, onWarn: () => undefined });
  await migrate(db, BEFORE);
  await db.destroy();
  const sql = new pg.Client({ connectionString: url });
  await sql.connect();
  const { project, type, application } = scene;
  const insert = (table: string, row: Record<string, unknown>) => {
    const values = Object.values(row).map((value) =>
      typeof value === 'object' && value !== null ? JSON.stringify(value) : value,
    );
    const columns = Object.keys(row).join(', ');
    const places = values.map((_, n) => `$${n + 1}`).join(', ');
    return sql.query(`insert into ${table} (${columns}) values (${places})`, values);
  };
  let seq = 0;
  const audit = async (key: string, kind: string, given: object, subject = project) => {
    const entry = { ...scene.entry({ key, kind, subject }), ...given };
    seq += 1;
    const row = { seq, previous: 'p'.repeat(64), hash: 'h'.repeat(64), key, project, subject };
    await insert('authoritative.audit', { ...row, entry: canonicalize(entry) });
  };
  const decided = async (
    submission: string,
    name: string,
    actor: string,
    { kind = `version.${name}`, args = {}, to = 'x' }: { kind?: string; args?: CommandArgs; to?: string } = {},
  ): Promise<{ command: SignedCommand; decision: Decision }> => {
    const id = workflowId.modelLifecycle({ project, model: 'forest', submission });
    const commandId = `${name}-${submission}-${actor}`;
    const command = signed({ workflowId: id, commandId, name, actor, args, digest: digestOf(submission), revision: 1 });
    await audit(`${id}/${seq}`, kind, {
      actor,
      reason: args.reason ?? 'why',
      detail: { to, reason: 'Conflict', command },
    });
    const reason = args.reason ?? '';
    return { command, decision: { commandId, name, actor, reason, report: null, at: START } };
  };
  const version = async (submission: string, given: Partial<Version>) => {
    const row = versionRow(scene, { submission, digest: digestOf(submission), ...given });
    const { model, state, author, revision, updatedAt } = row;
    const columns = { project, model, submission, state, author, revision, updated_at: updatedAt };
    await insert('projection.versions', { ...columns, row });
  };
  const release = async (submission: string, sequence: number, announced: boolean) => {
    const commandId = `release-${submission}-mia`;
    const name = `${type}-${sequence}`;
    const row = {
      ...{ release: name, type, sequence, project, model: 'forest', submission, version: sequence, files: [] },
      ...{ digest: digestOf(submission), report: null, approvedBy: ['mia'], releasedBy: 'mia', releasedAt: START },
    };
    const columns = { release: name, command_id: commandId, type, sequence, project, model: 'forest', submission };
    await insert('authoritative.releases', {
      ...columns,
      version: sequence,
      announced,
      row: { ...row, state: 'allotted' },
    });
    return name;
  };
  return { url, sql, insert, audit, decided, version, release, project, type, application };
}

async function withRecords(url: string, work: (records: Records) => Promise<void>): Promise<void> {
  const records = await createPostgresRecords({ url });
  try {
    await records.registerKeys(sceneKeys);
    await work(records);
  } finally {
    await records.close();
  }
}

/** Everything that could exist, in every state. */
async function fill(scene: Scene) {
  const earlier = await createEarlier(scene);
  const { insert, audit, decided, version, release, project, type, application, sql } = earlier;
  const policy = { ...defaultPolicy, quorum: 2, operatorCommands: true };
  await insert('authoritative.projects', { project, policy });
  await insert('authoritative.types', { type, project, position: 0 });
  for (const [user, roles] of [
    ['mia', ['manager']],
    ['max', ['manager']],
    ['sam', ['scientist']],
  ] as const) {
    await insert('authoritative.users', { name: user, admin: false });
    await insert('authoritative.members', { project, name: user, roles });
  }
  const set = { project, dataset: 'held-out', kind: 'test', files: [], registeredBy: 'max', registeredAt: START };
  await insert('authoritative.data_sets', { project, dataset: 'held-out', row: set });
  const run = { beginning: { run: spec } };
  for (const id of ['rf-provisioning', 'rf-training'])
    await audit(`version.started/model/${project}/forest/${id}`, 'version.started', { detail: { request: run } });
  await version('rf-provisioning', { state: 'provisioning', version: null, digest: null });
  await version('rf-training', { state: 'training', version: null, digest: null, detail: 'attempt 2' });
  await version('rf-validating', { state: 'validating', version: null, digest: null });
  // Closing a version freed its bytes, whether it had any or not.
  const claim = { project, model: 'forest', digest: null, freed: true };
  await version('rf-withdrawn', { state: 'withdrawn' });
  await insert('authoritative.digest_claims', { ...claim, submission: 'rf-withdrawn' });
  // Two whose lifecycle had only to close them when the program stopped.
  await version('rf-closing', { state: 'withdrawn' });
  const digest = digestOf('rf-closing');
  await insert('authoritative.digest_claims', { ...claim, submission: 'rf-closing', digest, freed: false });
  await version('rf-untrained', { state: 'withdrawn', version: null, digest: null });
  const first = await decided('rf-new', 'approve', 'mia', { to: 'new' });
  await version('rf-new', { state: 'new', revision: 2, decisions: [first.decision] });
  const rejected = await decided('rf-rejected', 'reject', 'mia', { args: { reason: 'no' }, to: 'rejected' });
  const lately = { ...rejected.decision, at: new Date(Date.now() - 60_000).toISOString() };
  await version('rf-rejected', { state: 'rejected', revision: 2, decisions: [lately] });
  const failed = await decided('rf-rejected', 'undo', 'max', { kind: 'command.failed' });
  for (const [n, id] of ['rf-1', 'rf-2'].entries()) {
    const { decision } = await decided(id, 'approve', 'mia', { to: 'approved' });
    const { decision: out } = await decided(id, 'release', 'mia', { to: 'released' });
    await version(id, { state: 'released', revision: 3, version: n + 1, decisions: [decision, out] });
    await release(id, n + 1, true);
  }
  const { decision } = await decided('rf-3', 'approve', 'max', { to: 'approved' });
  await version('rf-3', { state: 'approved', revision: 2, version: 3, decisions: [decision] });
  await release('rf-3', 3, false);
  // Announced, and its lifecycle was about to write so: its command is in no row.
  const { decision: fourth } = await decided('rf-4', 'approve', 'max', { to: 'approved' });
  await version('rf-4', { state: 'approved', revision: 2, version: 4, decisions: [fourth] });
  await release('rf-4', 4, true);

  const app = { application, project, owner: 'dan', types: [type], gates: ['integrity'], repository: 'p/app' };
  await insert('authoritative.applications', { application, project, row: app });
  await insert('authoritative.live_pointers', {
    application,
    type,
    generation: 3,
    release: `${type}-1`,
    moved_at: START,
  });
  const pointer = workflowId.application({ application, type });
  const revert = signed({
    ...{ workflowId: pointer, commandId: 'revert-to-1', name: 'revert', actor: 'mia', revision: 2 },
    args: { reason: 'it was better', release: `${type}-1` },
  });
  const moves = [
    [1, `delivery/${application}/${type}-1/live`],
    [2, `delivery/${application}/${type}-2/live`],
    [1, `${pointer}/revert-to-1`],
  ] as const;
  for (const [n, [sequence, key]] of moves.entries())
    await insert('authoritative.moves', {
      ...{ key, application, type, release: `${type}-${sequence}`, generation: n + 1, moved_at: START, refused: null },
    });
  await audit(`${pointer}/revert-to-1`, 'application.revert', { actor: 'mia', detail: { command: revert } });
  for (const [n, state] of (['live', 'gating'] as const).entries()) {
    const gates = [{ gate: 'integrity', passed: true, detail: 'same', seconds: 1 }];
    const row = deliveryRow(scene, `${type}-${n + 1}`, { state, gates });
    const columns = { application, release: row.release, state, standing: n, updated_at: START };
    await insert('projection.deliveries', { ...columns, row });
  }
  const report = {
    ...{ name: 'e-1.json', uri: `local:areas/staging/${project}/e-1.json` as ArtifactUri, sha256: digestOf('report') },
    bytes: 1,
  };
  for (const row of [
    evaluationRow(scene, {
      evaluation: 'e-1',
      submission: 'rf-new',
      state: 'done',
      digest: digestOf('rf-new'),
      report,
    }),
    evaluationRow(scene, { evaluation: 'e-2', submission: 'rf-new' }),
  ]) {
    const columns = { project, evaluation: row.evaluation, model: row.model, submission: row.submission, standing: 0 };
    await insert('projection.evaluations', { ...columns, updated_at: START, row });
  }
  const label = signed({
    ...{ workflowId: `feedback/${project}/s-1`, commandId: 'confirm-1', name: 'confirm', actor: 'eve' },
    args: { findings: ['f-1'] },
  });
  await audit('feedback/confirm-1', 'finding.confirm', {
    actor: 'eve',
    detail: { commit: 'c'.repeat(40), command: label },
  });
  await insert('projection.scans', {
    ...{ project, scan: 's-1', application, revision: 1, standing: 0, updated_at: START },
    row: scanRow(scene, { revision: 1 }),
  });
  for (const [n, state] of (['fetching', 'done'] as const).entries()) {
    const source = { kind: 'maven', coordinate: 'org.example:rows:1' } as const;
    const given = { project, import: `i-${n + 1}`, dataset: 'd', unpack: false, actor: 'sam', source };
    await insert('projection.imports', {
      ...{ project, import: given.import, standing: n, updated_at: START, row: newImport(given, state, START) },
    });
  }
  const head = `select seq, hash from authoritative.audit order by seq desc limit 1`;
  await sql.query(`update authoritative.audit_head set (seq, hash) = (${head})`);
  await sql.end();
  return { ...earlier, commands: { first, rejected, failed, revert, label } };
}

it('migrates open workflows with their start and state, and leaves closed ones closed', async () => {
  const scene = createScene();
  const { url, project, type, application } = await fill(scene);
  await withRecords(url, async (records) => {
    const { rows } = await records.openStarts({ limit: 100 });
    const closing = ['closing', 'untrained'];
    const versions = [...closing, 'provisioning', 'training', 'validating', 'new', 'rejected', '1', '2', '3', '4'];
    assert.deepEqual(
      rows.map(({ workflowId: id }) => id).sort(),
      [
        ...versions.map((id) => `model/${project}/forest/rf-${id}`),
        `application/${application}/${type}`,
        `evaluation/${project}/e-2`,
        `feedback/${project}/s-1`,
        `import/${project}/i-1`,
      ].sort(),
    );
    assert.ok(rows.every(({ earlier, closedAt, parent }) => earlier && closedAt === null && parent === null));
    // Children continue, too, as children.
    for (const [id, parent] of [
      [`run/${project}/forest/rf-training/2`, `model/${project}/forest/rf-training`],
      [`release/${type}-3`, `model/${project}/forest/rf-3`],
      [`release/${type}-4`, `model/${project}/forest/rf-4`],
      [`delivery/${application}/${type}-2`, `application/${application}/${type}`],
    ] as const)
      assert.equal((await records.start(id))?.parent, parent, id);
    assert.equal(await records.start(`model/${project}/forest/rf-withdrawn`), undefined);
    assert.equal(await records.start(`release/${type}-1`), undefined);
    // Its report is evidence if a manager asked for it.
    assert.deepEqual((await records.start(`evaluation/${project}/e-2`))?.roles, ['manager']);
    const [running] = rows.filter(({ workflowId: id }) => id.endsWith('rf-provisioning'));
    assert.deepEqual((running?.input as { beginning?: unknown }).beginning, { run: spec });
    // A run of before has another input; from the next one on it is the recorded one.
    const id = running?.workflowId ?? '';
    const seen = { workflowId: id, type: 'modelLifecycle', runId: 'r' };
    assert.equal(await records.admit({ ...seen, digest: 'of-before' }), 'admitted');
    assert.equal(await records.admit({ ...seen, digest: inputDigest(running?.input ?? {}) }), 'admitted');
    assert.equal(await records.admit({ ...seen, digest: 'of-before' }), 'other-input');
    // Results of its earlier steps are still not recorded.
    assert.equal((await records.start(id))?.broughtOver, true);

    const standing = (submission: string) => records.versionStanding({ project, model: 'forest', submission });
    const fresh = await standing('rf-new');
    assert.deepEqual([fresh.counting, fresh.quorum, fresh.version.state], [['mia'], 2, 'new']);
    assert.equal((await standing('rf-training')).attempt, 2);
    for (const id of ['withdrawn', ...closing]) assert.equal((await standing(`rf-${id}`)).closed, true, id);
    const { undoUntil } = await standing('rf-rejected');
    assert.ok(undoUntil !== null && Date.parse(undoUntil) > Date.now());
    assert.deepEqual((await records.project(project))?.policy, { ...defaultPolicy, quorum: 2 });
    const gates = await records.missingGates({ application, type, release: `${type}-2` });
    assert.deepEqual(gates, []);
  });
});

it('lets a lifecycle that had only to close end, and its bytes are submitted again', async () => {
  const scene = createScene();
  const { url, project, type } = await fill(scene);
  await withRecords(url, async (records) => {
    const id = `model/${project}/forest/rf-closing`;
    const run = { workflowId: id, type: 'modelLifecycle', digest: 'of-before', runId: 'r' };
    assert.equal(await records.admit(run), 'admitted');
    assert.equal((await records.start(id))?.broughtOver, true);
    // What `begin` does, after which only this run cleans up.
    await records.closeStart(id, 'withdrawn');
    assert.equal(await records.admit(run), 'admitted');
    assert.equal(await records.admit({ ...run, runId: 'another' }), 'closed');

    const key = { project, model: 'forest', submission: 'rf-again' };
    const input = { ...key, type, author: 'sam', beginning: { directory: 'd' } };
    const row = versionRow(scene, { submission: 'rf-again', state: 'validating', version: null, digest: null });
    const again = workflowId.modelLifecycle(key);
    const start = { workflowId: again, type: 'modelLifecycle', input, askedBy: 'sam', roles: [], project } as const;
    await records.recordStart(start, scene.entry(), [{ kind: 'version', row }]);
    const file = { name: 'model.onnx', uri: 'memory:x' as ArtifactUri, sha256: digestOf('rf-closing'), bytes: 1 };
    await records.recordStaged(key, [file]);
    await records.recordValidation(key, { digest: digestOf('rf-closing'), revises: null });
    const { version } = await records.advanceVersion(again, { revision: row.revision });
    assert.equal(version.state, 'new', version.detail);
  });
});

it('migrated workflows can finish: earlier approvals and evidence count', async () => {
  const scene = createScene();
  const { url, project } = await fill(scene);
  await withRecords(url, async (records) => {
    const id = `model/${project}/forest/rf-new`;
    const given = { revision: 2, digest: digestOf('rf-new'), report: digestOf('report') };
    const command = signed({ workflowId: id, name: 'approve', actor: 'max', ...given });
    assert.ok((await records.recordCommand(command, { project, subject: id })).isOpen);
    const { version } = await records.decideVersion(id, command, { place: (_, file) => file });
    assert.equal(version.state, 'approved', JSON.stringify(await records.command(id, command.body.commandId)));
    assert.deepEqual((await records.verifyDecisions()).problems, []);
  });
});

it('migrates the commands of the audit: their ids are known, and their decisions verify', async () => {
  const scene = createScene();
  const { url, project, type, application, commands } = await fill(scene);
  await withRecords(url, async (records) => {
    const { first, rejected, failed, revert, label } = commands;
    const outcome = async ({ body }: SignedCommand) =>
      (await records.command(body.workflowId, body.commandId))?.outcome;
    assert.deepEqual(await outcome(first.command), { status: 'done', message: 'approve: new' });
    assert.deepEqual(await outcome(rejected.command), { status: 'done', message: 'reject: rejected' });
    assert.deepEqual(await outcome(failed.command), { status: 'failed', reason: 'Conflict', message: 'why' });
    assert.deepEqual(await outcome(revert), { status: 'done', message: `${type}-1 is live again` });
    assert.equal((await outcome(label))?.status, 'done');
    const release = await records.decision(`model/${project}/forest/rf-1`, 'release-rf-1-mia');
    assert.deepEqual([release?.status, release?.detail], ['complete', { release: `${type}-1` }]);
    assert.equal((await records.decision(label.body.workflowId, 'confirm-1'))?.detail.commit, 'c'.repeat(40));
    assert.equal(await records.decision(failed.command.body.workflowId, failed.command.body.commandId), undefined);
    // A repeat returns the earlier command; a different one, or one by another person, is refused.
    const about = { project, subject: project };
    assert.equal((await records.recordCommand(first.command, about)).outcome.status, 'done');
    await fails(records.recordCommand(signed({ ...first.command.body, actor: 'max' }), about), 'Conflict');
    const { checked, problems } = await records.verifyDecisions();
    // Two approvals and releases, three more approvals, a rejection, a revert, a label.
    assert.deepEqual([checked, problems], [10, []]);
    assert.equal((await records.livePointer(application, type)).release, `${type}-1`);
  });
});

describe('a release in progress during the migration', () => {
  /** Its command, as its lifecycle brings it along in the migration. */
  const release = (project: string, submission: string, actor = 'mia') =>
    signed({
      ...{ workflowId: `model/${project}/forest/${submission}`, commandId: `release-${submission}-mia` },
      ...{ name: 'release', actor, revision: 2, digest: digestOf(submission) },
    });
  const place = (_: string, file: NamedArtifact): NamedArtifact => file;

  it.each([
    ['rf-3', 3],
    ['rf-4', 4],
  ])('gets its decision once its lifecycle has migrated: %s', async (submission, sequence) => {
    const scene = createScene();
    const { url, project, type } = await fill(scene);
    await withRecords(url, async (records) => {
      const command = release(project, submission);
      const { workflowId: id, commandId } = command.body;
      const { pending } = await records.decideVersion(id, command, { place });
      assert.equal(pending?.release, `${type}-${sequence}`);
      await records.announced(`${type}-${sequence}`);
      assert.equal((await records.completeDecision(id, commandId)).version.state, 'released');
      assert.deepEqual((await records.decision(id, commandId))?.detail, { release: `${type}-${sequence}` });
      assert.deepEqual((await records.verifyDecisions()).problems, []);
    });
  });

  it('is not announced if its command is refused, and is reported if it already was', async () => {
    const scene = createScene();
    const { url, project, type } = await fill(scene);
    await withRecords(url, async (records) => {
      for (const submission of ['rf-3', 'rf-4']) {
        const command = release(project, submission, 'sam');
        await records.decideVersion(command.body.workflowId, command, { place });
        const row = await records.command(command.body.workflowId, command.body.commandId);
        assert.equal(row?.outcome.status, 'refused');
      }
      assert.deepEqual([await records.fenced(`${type}-3`), await records.fenced(`${type}-4`)], [true, true]);
      assert.deepEqual((await records.verifyDecisions()).problems, [`release ${type}-4 has no decision`]);
    });
  });

  it.each<[string, string]>([
    ['without an approval', `delete from authoritative.decisions where name = 'approve' and workflow_id like '%/rf-4'`],
    ['of other bytes', `update authoritative.releases set row = jsonb_set(row, '{digest}', '"f"') where sequence = 4`],
    ['without a start', `delete from authoritative.starts where workflow_id like 'release/%-4'`],
    [
      'whose start was written later',
      `update authoritative.starts set recorded_at = now() where workflow_id like 'release/%-4'`,
    ],
    ['whose start is closed', `update authoritative.starts set closed_at = now() where workflow_id like 'release/%-4'`],
    [
      'of a version whose state went back',
      `update authoritative.standings set state = 'new' where submission = 'rf-4'`,
    ],
  ])('is reported %s', async (_, statement) => {
    const scene = createScene();
    const { url, type } = await fill(scene);
    await withRecords(url, async (records) => {
      const sql = new pg.Client({ connectionString: url });
      await sql.connect();
      await sql.query(statement);
      await sql.end();
      const { problems } = await records.verifyDecisions();
      assert.ok(problems.includes(`release ${type}-4 has no decision`), problems.join('\n'));
    });
  });
});

describe('rows written without a decision are reported', () => {
  it.each<[string, string, RegExp]>([
    [
      'an approver',
      `update authoritative.decisions set actor = 'eve' where name = 'approve'`,
      /differs from its command in .*actor/,
    ],
    ['a digest', `update authoritative.decisions set digest = repeat('0', 64) where name = 'release'`, /digest/],
    ['a command', `update authoritative.commands set command = replace(command, '"mia"', '"eve"')`, /not signed/],
    ['a malformed command', `update authoritative.commands set command = '{'`, /malformed command/],
    ['a key', `delete from authoritative.signing_keys`, /not a key of the platform/],
    [
      'an approval without a decision',
      `delete from authoritative.decisions where name = 'approve'`,
      /approval approve-rf-new-mia of .*rf-new by mia has no decision/,
    ],
    [
      'a state without an approval',
      `update authoritative.standings set row = jsonb_set(row, '{decisions}', '[]'), approvals = '[]' where state = 'approved'`,
      /is approved without an approval/,
    ],
    ['a release', `delete from authoritative.decisions where name = 'release'`, /release .*-1 has no decision/],
    ['a revert', `delete from authoritative.decisions where name = 'revert'`, /move 3 of .* to .*-1 has no decision/],
    [
      'a pointer',
      `update authoritative.live_pointers set release = (select max(release) from authoritative.releases)`,
      /the live pointer of .* does not match its last move/,
    ],
    [
      'an emptied pointer',
      `update authoritative.live_pointers set release = null, generation = 4`,
      /the live pointer of .* does not match its last move/,
    ],
  ])('%s', async (_, statement, problem) => {
    const scene = createScene();
    const { url } = await fill(scene);
    await withRecords(url, async (records) => {
      assert.deepEqual((await records.verifyDecisions()).problems, []);
      const sql = new pg.Client({ connectionString: url });
      await sql.connect();
      await sql.query(statement);
      await sql.end();
      assert.match((await records.verifyDecisions()).problems.join('\n'), problem);
    });
  });
});
