// The sweep: open workflows that do not run are resumed, ended evaluations and imports are closed, and foreign runs are terminated.
import { afterAll, beforeEach, expect, jest, test } from '@jest/globals';
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { auditEntry } from '../../api/audit-entry.ts';
import { GatewayError } from '../../api/gateway.ts';
import type { SweepReport } from '../../api/sweep.ts';
import { keepSweeping, sweep } from '../../api/sweep.ts';
import type { ArtifactUri, Digest } from '../../workflows/domain/names.ts';
import { workflowId } from '../../workflows/messages.ts';
import { inputDigest } from '../../activities/adapters/postgres/starts.ts';
import { seenAs } from './fake-gateway.ts';
import { decides, recordVersion, versionRow } from './passage.ts';
import type { World } from './world.ts';
import { json, openWorld, PROJECT, sha256, TYPE } from './world.ts';

const state: { world?: World } = {};
const world = (): World => {
  if (!state.world) throw new Error('no world');
  return state.world;
};
// A separate world for each test, because the sweep checks everything that is open.
beforeEach(async () => {
  await state.world?.close();
  state.world = await openWorld();
});
afterAll(() => state.world?.close());

const nothing: SweepReport = { restarted: [], waiting: [], ended: [], terminated: [], signalled: 0 };
const swept = (): Promise<SweepReport> => sweep(world().deps);

/** Loses everything that runs, as an emptied Temporal. */
function empty(): void {
  world().deps.workflows.started.clear();
  world().deps.workflows.seen.clear();
}

/** Makes a run stand in Temporal as given. */
function stands(id: string, given: Parameters<typeof seenAs>[2]): void {
  const seen = world().deps.workflows.seen.get(id);
  if (!seen) throw new Error(`${id} does not run`);
  world().deps.workflows.seen.set(id, { ...seen, ...given });
}

const HOUR_AGO = new Date(Date.now() - 3_600_000).toISOString();
const started = (): string[] => [...world().deps.workflows.started.keys()].sort();

async function startVersion(submission = `rf-${randomUUID().slice(0, 8)}`): Promise<string> {
  const path = `/v1/projects/${PROJECT}/models/random-forest/submissions`;
  const made = await world().ask('sam', 'POST', path, { submission, type: TYPE, from: { directory: 'runs' } });
  expect(made.status).toBe(201);
  return workflowId.modelLifecycle({ project: PROJECT, model: 'random-forest', submission });
}

/** Starts one of every root. */
async function startOfEach() {
  const ask: World['ask'] = (...asked) => world().ask(...asked);
  const id = randomUUID().slice(0, 8);
  const lifecycle = await startVersion();
  await world().deps.records.registerDataSet(
    {
      ...{ project: PROJECT, dataset: 'training-1', kind: 'training', registeredBy: 'mia', registeredAt: HOUR_AGO },
      files: [{ name: 'rows.jsonl', uri: 'nowhere' as ArtifactUri, sha256: sha256('rows') as Digest, bytes: 4 }],
    },
    {
      ...{
        key: `test/${id}`,
        project: PROJECT,
        kind: 'test',
        actor: 'mia',
        subject: 'test',
        digest: null,
        report: null,
      },
      ...{ reason: '', detail: {}, at: HOUR_AGO },
    },
  );
  const application = { application: `a-${id}`, types: [TYPE], gates: ['function'] };
  const evaluation = { model: 'random-forest', dataset: 'training-1', subject: { directory: 'runs' } };
  const source = { kind: 'maven', coordinate: 'org.example:rows:1.0' };
  const statuses = [
    await ask('dev', 'POST', `/v1/projects/${PROJECT}/applications`, application),
    await ask('sam', 'POST', `/v1/projects/${PROJECT}/evaluations`, { evaluation: `e-${id}`, ...evaluation }),
    await ask('sam', 'POST', `/v1/projects/${PROJECT}/imports`, { import: `i-${id}`, dataset: `d-${id}`, source }),
  ].map(({ status }) => status);
  expect(statuses).toEqual([201, 201, 201]);
  return {
    lifecycle,
    application: workflowId.application({ application: `a-${id}`, type: TYPE }),
    evaluation: workflowId.evaluation({ project: PROJECT, evaluation: `e-${id}` }),
    dataImport: workflowId.dataImport({ project: PROJECT, import: `i-${id}` }),
  };
}

/** The pause before its next restart has passed. */
async function inDatabase(statement: string, ...values: readonly string[]): Promise<void> {
  const sql = new pg.Client({ connectionString: world().databaseUrl });
  await sql.connect();
  await sql.query(statement, [...values]);
  await sql.end();
}
const itsTimeComes = (id: string): Promise<void> =>
  inDatabase('update authoritative.starts set restart_at = now() where workflow_id = $1', id);

test('a version that was closed, and whose last decision is not stored beside it, runs once more', async () => {
  const id = await startVersion('rf-last');
  const { records } = world().deps;
  await records.closeStart(id, 'withdrawn');
  empty();
  expect(await swept()).toEqual(nothing);
  await inDatabase(
    `insert into authoritative.transitions (project, model, submission, revision, entry) values ($1, 'random-forest', 'rf-last', 9, '{}')`,
    PROJECT,
  );
  expect(await swept()).toEqual(nothing);
  await inDatabase(
    `update authoritative.starts set closed_at = now() - interval '6 minutes' where workflow_id = $1`,
    id,
  );
  expect(await swept()).toEqual({ ...nothing, restarted: [id] });
});

test('leaves running workflows alone', async () => {
  await startOfEach();
  const before = started();
  expect(await swept()).toEqual(nothing);
  expect([started(), world().deps.workflows.terminated]).toEqual([before, []]);
});

test('restarts everything that an emptied server has lost, with the recorded input', async () => {
  const ids = await startOfEach();
  const inputs = new Map(world().deps.workflows.started);
  empty();
  const report = await swept();
  expect([...report.restarted].sort()).toEqual(Object.values(ids).sort());
  expect({ ...report, restarted: [] }).toEqual(nothing);
  expect(new Map(world().deps.workflows.started)).toEqual(inputs);
  expect(await swept()).toEqual(nothing);
});

test('handles more than one page', async () => {
  const ids = await Promise.all(Array.from({ length: 60 }, () => startVersion()));
  empty();
  expect([...(await swept()).restarted].sort()).toEqual([...ids].sort());
});

test('leaves closed workflows alone, and children, which their parents resume', async () => {
  const { records, workflows } = world().deps;
  const id = await startVersion('rf-done');
  workflows.onCommand = decides(world());
  const command = { name: 'withdraw', revision: 0 };
  const path = `/v1/projects/${PROJECT}/models/random-forest/submissions/rf-done/commands`;
  expect((await world().ask('sam', 'POST', path, command, { prefer: 'wait=5' })).status).toBe(200);
  const child = { project: PROJECT, model: 'random-forest', submission: 'rf-done', release: `${TYPE}-1` };
  await records.recordStart(
    {
      ...{ workflowId: workflowId.release(child), type: 'release', input: child, askedBy: 'mia', roles: [] },
      ...{ project: PROJECT, parent: id },
    },
    {
      ...{ key: 'test/child', project: PROJECT, kind: 'test', actor: 'mia', subject: 'test', digest: null },
      ...{ report: null, reason: '', detail: {}, at: HOUR_AGO },
    },
    [],
  );
  empty();
  expect(await swept()).toEqual(nothing);
});

test.each(['TERMINATED', 'CANCELED', 'FAILED', 'TIMED_OUT'])(
  'after an operator ends workflows (%s): evaluations and imports clean up and end, everything else resumes',
  async (status) => {
    const ids = await startOfEach();
    for (const id of Object.values(ids)) stands(id, { isRunning: false, status });
    const report = await swept();
    expect([...report.ended].sort()).toEqual([ids.evaluation, ids.dataImport].sort());
    expect([...report.restarted].sort()).toEqual([ids.lifecycle, ids.application].sort());
    const { records } = world().deps;
    const stopped = { why: 'ended by an operator: start another one' };
    // Everything runs; these two clean up and end, as their record tells them.
    expect(started()).toEqual(Object.values(ids).sort());
    for (const [name, id] of Object.entries(ids))
      expect(await records.step(id, 'stopped')).toEqual(
        name === 'evaluation' || name === 'dataImport' ? stopped : undefined,
      );
    expect(await swept()).toEqual(nothing);
    // Ended once more, they are started again like everything else: they have not cleaned up yet.
    stands(ids.dataImport, { isRunning: false, status });
    expect(await swept()).toEqual({ ...nothing, restarted: [ids.dataImport] });
  },
);

test('an evaluation that completes during the check does not count as ended by an operator', async () => {
  const { deps } = world();
  const { evaluation: id } = await startOfEach();
  const row = await deps.records.evaluation(PROJECT, id.slice(id.lastIndexOf('/') + 1));
  if (!row) throw new Error('not recorded');
  const look = async (looked: string, runId?: string) => {
    if (looked === id)
      await deps.records.endEvaluation({ ...row, state: 'done', detail: 'well' }, { inStaging: false });
    if (looked === id) stands(id, { isRunning: false, status: 'COMPLETED' });
    return deps.workflows.look(looked, runId);
  };
  expect(await sweep({ ...deps, workflows: { ...deps.workflows, look } })).toEqual(nothing);
  expect(await deps.records.step(id, 'stopped')).toBeUndefined();
});

test('a completed evaluation and import are closed, and do not count as ended by an operator', async () => {
  const { records } = world().deps;
  const ids = await startOfEach();
  const of = (id: string): string => id.slice(id.lastIndexOf('/') + 1);
  const evaluation = await records.evaluation(PROJECT, of(ids.evaluation));
  const fetched = await records.import(PROJECT, of(ids.dataImport));
  if (!evaluation || !fetched) throw new Error('not recorded');
  await records.endEvaluation({ ...evaluation, state: 'done', detail: 'well' }, { inStaging: false });
  await records.recordImport({ ...fetched, state: 'done', detail: 'there' }, null);
  for (const id of [ids.evaluation, ids.dataImport]) stands(id, { isRunning: false, status: 'COMPLETED' });
  expect(await swept()).toEqual(nothing);
  expect(await records.evaluation(PROJECT, of(ids.evaluation))).toMatchObject({ state: 'done', detail: 'well' });
  expect(await records.import(PROJECT, of(ids.dataImport))).toMatchObject({ state: 'done', detail: 'there' });
});

test.each<[string, Parameters<typeof seenAs>[2]]>([
  ['of another type', { type: 'evaluation' }],
  ['on another queue', { taskQueue: 'of-somebody' }],
  [
    'that no step waits for, and that is not the recorded run',
    { runId: 'a-foreign-run', firstRunId: 'a-foreign-run', isComing: false },
  ],
])(
  'a run under an id of the platform %s is terminated, with an audit row, and the recorded one starts',
  async (_, given) => {
    const { records, workflows } = world().deps;
    const id = await startVersion();
    const row = await records.start(id);
    const admitted = {
      workflowId: id,
      type: 'modelLifecycle',
      digest: inputDigest(row?.input ?? {}),
      runId: 'our-run',
    };
    expect(await records.admit(admitted)).toBe('admitted');
    stands(id, { runId: 'our-run', ...given });
    const runId = workflows.seen.get(id)?.runId ?? '';
    const report = await swept();
    expect([report.terminated, report.restarted]).toEqual([[id], [id]]);
    expect(workflows.terminated).toMatchObject([{ workflowId: id, runId }]);
    const { rows } = await records.audit({ subject: id });
    expect(rows.map(({ entry }) => entry)).toMatchObject([
      { kind: 'workflow.terminated', actor: 'platform', project: PROJECT, detail: { seen: { runId } } },
    ]);
    expect(started()).toContain(id);
  },
);

test('an unrecorded run that waits for nothing of the platform does not block the id of a start', async () => {
  const id = await startVersion();
  stands(id, { runId: 'a-foreign-run', firstRunId: 'a-foreign-run', isComing: false });
  expect(await swept()).toMatchObject({ terminated: [id], restarted: [id] });
});

test.each<[string, Parameters<typeof seenAs>[2]]>([
  ['waits for a worker, however long', { runId: 'the-next-run', firstRunId: 'the-next-run', isComing: true }],
  ['results from it by a reset, and waits for people', { runId: 'the-next-run', firstRunId: 'first', isComing: false }],
  ['was the first', { runId: 'the-next-run', firstRunId: 'the-run-before', isComing: false }],
])('a run that is not the recorded one, but %s, is left alone', async (_, given) => {
  const { records, workflows } = world().deps;
  const id = await startVersion();
  const digest = inputDigest((await records.start(id))?.input ?? {});
  await records.admit({ workflowId: id, type: 'modelLifecycle', digest, runId: 'the-run-before' });
  const former = seenAs('modelLifecycle', id, { runId: 'the-run-before', firstRunId: 'first', isRunning: false });
  workflows.former.set(former.runId, former);
  stands(id, given);
  expect(await swept()).toEqual(nothing);
  expect(workflows.terminated).toEqual([]);
});

test('a run that records itself during the check is left alone', async () => {
  const { deps } = world();
  const id = await startVersion();
  const digest = inputDigest((await deps.records.start(id))?.input ?? {});
  const admit = (runId: string) => deps.records.admit({ workflowId: id, type: 'modelLifecycle', digest, runId });
  await admit('the-run-before');
  stands(id, { runId: 'the-next-run', firstRunId: 'the-next-run', isComing: false });
  const look = async (looked: string, runId?: string) => {
    await admit('the-next-run');
    return deps.workflows.look(looked, runId);
  };
  expect(await sweep({ ...deps, workflows: { ...deps.workflows, look } })).toEqual(nothing);
});

test('a workflow that keeps failing is restarted with growing delays, which are reset once it stays up', async () => {
  const { records } = world().deps;
  const id = await startVersion();
  const pauses: number[] = [];
  for (let restart = 0; restart < 9; restart++) {
    empty();
    expect((await swept()).restarted).toEqual([id]);
    const row = await records.start(id);
    expect(row?.restarts).toBe(restart + 1);
    pauses.push(Math.round((Date.parse(row?.restartAt ?? '') - Date.now()) / 60_000));
    empty();
    expect(await swept()).toEqual({ ...nothing, waiting: [id] });
    // Its time has come.
    await itsTimeComes(id);
  }
  expect(pauses).toEqual([1, 2, 4, 8, 16, 32, 60, 60, 60]);
  empty();
  await swept();
  // Up for a moment is not up yet.
  await swept();
  expect((await records.start(id))?.restarts).toBe(10);
  await itsTimeComes(id);
  expect(await swept()).toEqual(nothing);
  expect(await records.start(id)).toMatchObject({ restarts: 0, restartAt: null });
});

test('open commands are signalled again to their workflow until they are decided', async () => {
  const { workflows } = world().deps;
  const row = versionRow({ submission: 'rf-9', digest: sha256('rf-9') as Digest });
  await recordVersion(world(), row);
  const id = workflowId.modelLifecycle(row);
  workflows.seen.set(id, seenAs('modelLifecycle', id));
  const path = `/v1/projects/${PROJECT}/models/random-forest/submissions/rf-9/commands`;
  workflows.throws.send = 'unavailable';
  const tag = { name: 'tag', revision: 3, args: { tags: ['tried'] }, commandId: 'tag-again' };
  expect((await world().ask('mia', 'POST', path, tag)).status).toBe(202);
  expect((await swept()).signalled).toBe(0);
  delete workflows.throws.send;
  // One that has only just been given is on its way by itself.
  expect(await swept()).toEqual(nothing);
  await sleep(5_100);
  expect(await swept()).toEqual({ ...nothing, signalled: 1 });
  expect(workflows.sent.map(({ workflowId: to, command }) => [to, command.body.commandId])).toEqual([
    [id, 'tag-again'],
  ]);
  workflows.onCommand = decides(world());
  expect((await swept()).signalled).toBe(1);
  expect(await swept()).toEqual(nothing);
  expect(await json(world().ask('mia', 'GET', `${path}/tag-again`))).toMatchObject({ outcome: { status: 'done' } });
});

test('a command that stays undecided is signalled less and less often, another one at once', async () => {
  const { workflows } = world().deps;
  const row = versionRow({ submission: 'rf-7', digest: sha256('rf-7') as Digest });
  await recordVersion(world(), row);
  const id = workflowId.modelLifecycle(row);
  workflows.seen.set(id, seenAs('modelLifecycle', id));
  const path = `/v1/projects/${PROJECT}/models/random-forest/submissions/rf-7/commands`;
  workflows.throws.send = 'unavailable';
  const tag = (commandId: string) =>
    world().ask('mia', 'POST', path, { name: 'tag', revision: 3, args: { tags: ['tried'] }, commandId });
  expect((await tag('tag-less-often')).status).toBe(202);
  await sleep(5_100);
  delete workflows.throws.send;
  const earlier = new Map<string, { readonly next: number; readonly pauseMs: number }>();
  const again = async () => (await sweep(world().deps, earlier)).signalled;
  expect([await again(), await again(), await again()]).toEqual([1, 0, 0]);
  // The pauses double up to an hour: a day without workers is about thirty signals.
  const now = jest.spyOn(performance, 'now');
  try {
    let [time, count] = [performance.now(), 0];
    now.mockImplementation(() => time);
    for (const day = time + 86_400_000; time < day; time += 600_000) count += await again();
    expect(count).toBeGreaterThan(20);
    expect(count).toBeLessThan(40);
    // The next one would be due in an hour. A run that replaces a lost one has none of them.
    expect(await again()).toBe(0);
    workflows.seen.delete(id);
    expect(await again()).toBe(1);
    workflows.seen.set(id, seenAs('modelLifecycle', id));
    expect(await again()).toBe(0);
    // One that could not be delivered is not counted.
    time += 3_600_000;
    workflows.throws.send = 'missing';
    expect(await again()).toBe(0);
    delete workflows.throws.send;
    expect(await again()).toBe(1);
  } finally {
    now.mockRestore();
  }
  workflows.onCommand = decides(world());
  expect((await swept()).signalled).toBe(1);
  expect(await again()).toBe(0);
  expect(earlier.size).toBe(0);
}, 60_000);

test('a type of an application whose start was not recorded is started', async () => {
  const { records, workflows } = world().deps;
  const made = await world().ask('dan', 'POST', `/v1/projects/${PROJECT}/applications`, {
    ...{ application: 'behind', types: [TYPE], gates: ['function'] },
  });
  expect(made.status).toBe(201);
  const found = await records.application('behind');
  if (!found) throw new Error('no application');
  await records.addTypes(
    PROJECT,
    [`${TYPE}-b`],
    auditEntry({ key: randomUUID(), project: PROJECT, kind: 'types', actor: 'ada', subject: PROJECT }),
  );
  // The API ends between the change and the start.
  const changed = { ...found, revision: found.revision + 1, types: [TYPE, `${TYPE}-b`] };
  await records.changeApplication(
    changed,
    auditEntry({ key: randomUUID(), project: PROJECT, kind: 'application.changed', actor: 'dan', subject: 'behind' }),
  );
  const id = workflowId.application({ application: 'behind', type: `${TYPE}-b` });
  expect(workflows.started.has(id)).toBe(false);
  expect((await swept()).restarted).toEqual([id]);
  expect(workflows.started.has(id)).toBe(true);
  expect(await records.start(id)).toMatchObject({ type: 'application', askedBy: 'dan', closedAt: null });
  expect(await swept()).toEqual(nothing);
});

test('many commands that no workflow takes do not keep later ones from theirs', async () => {
  const { workflows, records, signer } = world().deps;
  const rows = ['rf-8', 'rf-9'].map((submission) => versionRow({ submission, digest: sha256(submission) as Digest }));
  const [stuck, running] = rows.map((row) => workflowId.modelLifecycle(row));
  if (stuck === undefined || running === undefined) throw new Error('no ids');
  for (const row of rows) await recordVersion(world(), row);
  const send = workflows.sendCommand.bind(workflows);
  workflows.sendCommand = async (id, command) => {
    if (id === stuck) throw new GatewayError('missing', `${id} does not run`);
    return send(id, command);
  };
  const give = (id: string, commandId: string) => {
    const { newest: keyId } = signer;
    const body = {
      v: 1,
      keyId,
      workflowId: id,
      commandId,
      name: 'tag',
      args: { tags: ['tried'] },
      actor: 'mia',
    } as const;
    const rest = { roles: ['manager'], policyVersion: 1, revision: 3, digest: null, report: null } as const;
    const signed = signer.sign({ ...body, ...rest, issuedAt: new Date().toISOString() });
    return records.recordCommand(signed, { project: PROJECT, subject: `${PROJECT}/random-forest` });
  };
  const given = await Promise.all(Array.from({ length: 500 }, (_, i) => give(stuck, `tag-${i}`)));
  expect(given.every(({ isOpen }) => isOpen)).toBe(true);
  await give(running, 'tag-last');
  workflows.seen.set(running, seenAs('modelLifecycle', running));
  await sleep(5_100);
  expect((await swept()).signalled).toBe(1);
  expect(workflows.sent.map(({ command }) => command.body.commandId)).toEqual(['tag-last']);
}, 60_000);

test('concurrent processes restart each workflow once', async () => {
  const ids = await Promise.all(Array.from({ length: 12 }, () => startVersion()));
  empty();
  const starts: string[] = [];
  const { deps } = world();
  const counting = {
    ...deps,
    workflows: {
      ...deps.workflows,
      startLifecycle: async (input: Parameters<typeof deps.workflows.startLifecycle>[0]) => {
        starts.push(workflowId.modelLifecycle(input));
        return deps.workflows.startLifecycle(input);
      },
    },
  };
  const reports = await Promise.all([1, 2, 3].map(() => sweep(counting)));
  expect(reports.flatMap(({ restarted }) => restarted).sort()).toEqual([...ids].sort());
  expect(starts.sort()).toEqual([...ids].sort());
});

/** Cuts the connections that hold an exclusive lock. */
async function cutLocks(): Promise<void> {
  const sql = new pg.Client({ connectionString: world().databaseUrl });
  await sql.connect();
  await sql.query(
    `select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and database =
       (select oid from pg_database where datname = current_database()) and pid <> pg_backend_pid()`,
  );
  await sql.end();
}

test('a sweep that loses its lock stops before its next step, and another one finishes', async () => {
  const ids = await Promise.all(Array.from({ length: 3 }, () => startVersion()));
  empty();
  const { deps } = world();
  const looked: string[] = [];
  const look = async (id: string) => {
    looked.push(id);
    await cutLocks();
    await sleep(500);
    return deps.workflows.look(id);
  };
  await expect(sweep({ ...deps, workflows: { ...deps.workflows, look } })).rejects.toThrow(/lock "sweep" was lost/);
  expect([looked.length, started()]).toEqual([1, []]);
  expect([...(await swept()).restarted].sort()).toEqual([...ids].sort());
});

test('holds no transaction while it asks the workflow server', async () => {
  await startVersion();
  const { deps } = world();
  const sql = new pg.Client({ connectionString: world().databaseUrl });
  await sql.connect();
  const open: unknown[] = [];
  const look = async (id: string) => {
    const { rows } = await sql.query(
      `select state, query from pg_stat_activity
       where datname = current_database() and xact_start is not null and pid <> pg_backend_pid() and backend_type = 'client backend'`,
    );
    open.push(...(rows as unknown[]));
    return deps.workflows.look(id);
  };
  await sweep({ ...deps, workflows: { ...deps.workflows, look } });
  await sql.end();
  expect(open).toEqual([]);
});

test('while the server is down nothing changes, and the sweep does not wait for it repeatedly', async () => {
  const ids = await startOfEach();
  const { workflows, records } = world().deps;
  let looks = 0;
  workflows.throws.look = 'unavailable';
  const look = workflows.look.bind(workflows);
  const counting = { ...world().deps, workflows: { ...workflows, look: (id: string) => ((looks += 1), look(id)) } };
  expect(await sweep(counting)).toEqual(nothing);
  expect(looks).toBe(1);
  for (const id of Object.values(ids)) expect(await records.start(id)).toMatchObject({ restarts: 0, closedAt: null });
});

test('a workflow that cannot be resumed does not delay others', async () => {
  const [one, two] = [await startVersion(), await startVersion()];
  empty();
  const { deps } = world();
  const startLifecycle = async (input: Parameters<typeof deps.workflows.startLifecycle>[0]) => {
    if (workflowId.modelLifecycle(input) === one) throw new Error('its input is too large');
    return deps.workflows.startLifecycle(input);
  };
  const report = await sweep({ ...deps, workflows: { ...deps.workflows, startLifecycle } });
  expect(report.restarted).toEqual([two]);
  expect(world().lines.find((line) => line['workflowId'] === one)).toMatchObject({ msg: 'could not be resumed yet' });
});

test('an administrator can start it immediately', async () => {
  const id = await startVersion();
  empty();
  const answer = await world().ask('admin', 'POST', '/v1/platform/sweep');
  expect([answer.status, await json(answer)]).toEqual([200, { ...nothing, restarted: [id] }]);
  expect((await world().ask('mia', 'POST', '/v1/platform/sweep')).status).toBe(403);
});

test('runs immediately when started, and stops on request', async () => {
  const id = await startVersion();
  empty();
  const sweeping = keepSweeping(world().deps);
  for (const until = Date.now() + 30_000; !started().includes(id) && Date.now() < until;) await sleep(20);
  await sweeping.stop();
  expect(started()).toEqual([id]);
});
