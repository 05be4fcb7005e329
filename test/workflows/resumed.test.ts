// Terminate, reset, and the loss of all Temporal data: workflows continue from the records, and nothing happens twice.
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { pino } from 'pino';
import { jobName } from '../../activities/jobs.ts';
import type { SweepReport } from '../../api/sweep.ts';
import { sweep } from '../../api/sweep.ts';
import type { Scan, Version } from '../../workflows/domain/model.ts';
import { newVersion } from '../../workflows/domain/model.ts';
import type { Digest, StorePath } from '../../workflows/domain/names.ts';
import { taskQueues, workflowId } from '../../workflows/messages.ts';
import { collect } from '../contracts/cases.ts';
import { auditEntry } from './passage.ts';
import { until } from './until.ts';
import type { World } from './world.ts';
import { openWorld } from './world.ts';

let world: World;
beforeAll(async () => {
  world = await openWorld();
  await world.addApplication('shop');
}, 600_000);
afterAll(() => world.close());
beforeEach(() => Object.assign(world.script, { train: 'succeed', evaluate: 'pass', service: 'golden' }));

/** The sweep that the API runs every half minute. */
const sweepOver = (workflows: World['gateway']): Promise<SweepReport> =>
  sweep({ records: world.records, workflows, log: pino({ level: 'silent' }) });
const sweepOnce = (): Promise<SweepReport> => sweepOver(world.gateway);
const nothing = { restarted: [], waiting: [], ended: [], terminated: [] };
const terminate = (id: string) => world.client.workflow.getHandle(id).terminate('by mistake');
const statusOf = async (id: string): Promise<string> =>
  (await world.client.workflow.getHandle(id).describe()).status.name;
const applicationId = workflowId.application({ application: 'shop', type: 'kind' });
const historyOf = ({ decisions }: Version): string[] => decisions.map(({ name, actor }) => `${name} by ${actor}`);
/** Revisions of a version in the audit and in the record beside the artifact, each exactly once. */
async function revisionsOf(submission: string) {
  const rows = (await world.auditOf(`p/m/${submission}`)).filter(({ detail }) => 'revision' in detail);
  const { files } = await world.areas.list(`staging/p/models/m/${submission}/record` as never);
  return {
    audit: rows.map(({ detail }) => detail['revision']),
    files: files.map(({ path }) => /(\d{6})\.json$/.exec(path)?.[1]).filter((one) => one !== undefined),
  };
}
const lockCommits = async (): Promise<readonly string[]> =>
  (await world.code.log('p/app-shop', 'main', 100)).map(({ message }) => message).reverse();
/** Waits until a log lies in the areas, and compares it. */
async function untilKept(path: string, text: string): Promise<void> {
  const uri = world.areas.uri(path as StorePath);
  await until(path, async () => (await world.areas.stat(uri)) !== undefined);
  expect((await collect(await world.areas.read(uri))).toString()).toBe(text);
}
const finding = (name: string): Scan['findings'][number] => ({
  ...{ finding: name, name, path: `src/${name}.c`, vulnerable: true, probability: 0.9 },
  ...{ source: 'a'.repeat(64) as Digest, label: null },
});
const scanOf = (scan: string, release: string): Scan => ({
  ...{ scan, project: 'p', application: 'shop', type: 'kind', release, findings: [finding('one'), finding('two')] },
  ...{ state: 'open', revision: 0, commit: null, keyId: 'k1', updatedAt: new Date().toISOString() },
});

describe('after a terminate', () => {
  it('a version is resumed, however often it is terminated', async () => {
    const report = await world.submitted('r-1');
    const id = world.idOf('r-1');
    await terminate(id);
    const before = await world.standing('r-1');
    expect(await sweepOnce()).toMatchObject({ ...nothing, restarted: [id] });
    expect(await sweepOnce()).toMatchObject(nothing);
    expect(await world.standing('r-1')).toEqual(before);
    // A workflow that keeps ending is restarted after a delay.
    await terminate(id);
    expect(await sweepOnce()).toMatchObject({ ...nothing, waiting: [id] });
    expect(await statusOf(id)).toBe('TERMINATED');
    expect((await world.records.start(id))?.restarts).toBe(1);
    await world.records.restarted(id, null);
    expect(await sweepOnce()).toMatchObject({ ...nothing, restarted: [id] });
    expect(await world.give('r-1', 'mia', 'approve', {}, { report })).toMatchObject({ status: 'done' });
    expect(historyOf(await world.untilState('r-1', 'approved'))).toEqual(['approve by mia']);
    await until('the record to be filed', async () => (await revisionsOf('r-1')).files.length === 2);
    expect(await revisionsOf('r-1')).toEqual({ audit: [1, 2], files: ['000001', '000002'] });
  });

  it('a lost start and a lost signal of a command are repeated', async () => {
    await world.putSubmission('r-2', 'r-2');
    const input = { project: 'p', model: 'm', type: 'kind', submission: 'r-2', author: 'sam' };
    const id = world.idOf('r-2');
    await world.records.recordStart(
      {
        ...{ workflowId: id, type: 'modelLifecycle', askedBy: 'sam', roles: ['scientist'], project: 'p' },
        input: { ...input, beginning: { directory: 'r-2' } },
      },
      auditEntry('version.started'),
      [
        {
          kind: 'version',
          row: newVersion({ ...input, beginning: { directory: 'r-2' } }, 'k', new Date().toISOString()),
        },
      ],
    );
    expect(await sweepOnce()).toMatchObject({ ...nothing, restarted: [id] });
    const { revision, digest } = await world.untilState('r-2', 'new');
    const sent = world.signed({
      ...{ workflowId: id, name: 'tag', actor: 'mia', revision, digest, args: { tags: ['kept'] } },
    });
    await world.records.recordCommand(sent, { project: 'p', subject: 'p/m/r-2' });
    // The sender of a new command may be about to signal it.
    expect(await sweepOnce()).toMatchObject({ signalled: 0 });
    await sleep(5_500);
    expect(await sweepOnce()).toMatchObject({ signalled: 1 });
    expect(await world.settled(id, sent.body.commandId)).toMatchObject({ status: 'done' });
    expect((await world.untilState('r-2', 'new')).tags).toEqual(['kept']);
    expect(await sweepOnce()).toMatchObject({ ...nothing, signalled: 0 });
  });

  it('an evaluation has failed, and its job is stopped', async () => {
    await world.submitted('r-3');
    world.script.evaluate = 'hang';
    const id = await world.startEvaluation('hangs', { submission: 'r-3' });
    await until('the evaluation to run', async () => world.begunJobs.some((name) => name.includes('hangs')));
    const tokens = () => world.records.tokens(jobName(id));
    expect(await tokens()).toMatchObject([{ revokedAt: null }]);
    await terminate(id);
    expect(await sweepOnce()).toMatchObject({ ...nothing, ended: [id] });
    const failed = { state: 'failed', detail: 'ended by an operator: start another one', report: null };
    await until('it to be over', async () => (await world.records.evaluation('p', 'hangs'))?.state !== 'running');
    expect(await world.records.evaluation('p', 'hangs')).toMatchObject(failed);
    expect((await tokens()).filter(({ revokedAt }) => revokedAt === null)).toEqual([]);
    await until('its job to be ended', async () => world.endedJobs.some((name) => name.includes('hangs')));
    await untilKept('staging/p/models/m/r-3/reports/hangs.log.txt', 'epoch 1 of 1000\n(interrupted)\n');
    expect(await sweepOnce()).toMatchObject(nothing);
    expect(await statusOf(id)).toBe('COMPLETED');
    expect(await world.records.evaluation('p', 'hangs')).toMatchObject(failed);
    world.script.evaluate = 'pass';
    expect(await world.evaluation('r-3')).toMatchObject({ state: 'done' });
  });

  it('a training run has failed, and its author retries it', async () => {
    world.script.train = 'hang';
    await world.startLifecycle('r-4', world.run);
    await until('the run to begin', async () => world.begunJobs.some((name) => name.includes('-r-4-1-')));
    await terminate('run/p/m/r-4/1');
    expect(await world.untilState('r-4', 'failed')).toMatchObject({ detail: 'ended by an operator' });
    expect(await sweepOnce()).toMatchObject(nothing);
    await until('its job to be ended', async () => world.endedJobs.some((name) => name.includes('-r-4-1-')));
    await untilKept('private/p/sam/runs/r-4-1/log.txt', 'epoch 1 of 1000\n(interrupted)\n');
    const left = await world.records.tokens(jobName('run/p/m/r-4/1'));
    expect(left.map(({ revokedAt }) => typeof revokedAt)).toEqual(['string']);
    world.script.train = 'succeed';
    expect(await world.give('r-4', 'sam', 'retry')).toMatchObject({ status: 'done' });
    expect((await world.untilState('r-4', 'trained')).run).toMatchObject({ attempt: 2 });
  });

  it('a version resumes its current training run, whose job goes on, and does not repeat a finished one', async () => {
    world.script.train = 'hang';
    await world.startLifecycle('r-5', world.run);
    const begun = () => world.begunJobs.filter((name) => name.includes('-r-5-1-')).length;
    await until('the run to begin', async () => begun() === 1);
    await terminate(world.idOf('r-5'));
    expect(await sweepOnce()).toMatchObject({ ...nothing, restarted: [world.idOf('r-5')] });
    world.script.reachEnd = ['-r-5-1-'];
    expect((await world.untilState('r-5', 'trained')).run).toMatchObject({ attempt: 1 });
    expect(begun()).toBe(1);
    await terminate(world.idOf('r-5'));
    await world.records.restarted(world.idOf('r-5'), null);
    await sweepOnce();
    expect(await world.give('r-5', 'sam', 'submit')).toMatchObject({ status: 'done' });
    await world.untilState('r-5', 'new');
    expect(begun()).toBe(1);
  });

  it('an application keeps its live release, and a running delivery is restarted', async () => {
    const first = await world.released('r-6');
    await world.untilLive('shop', first);
    world.script.service = 'slow';
    const second = await world.released('r-7');
    await until('the gate', async () => (await world.records.delivery('shop', second))?.state === 'gating');
    await terminate(applicationId);
    const pointer = await world.records.livePointer('shop', 'kind');
    expect(pointer.release).toBe(first);
    world.script.service = 'golden';
    expect(await sweepOnce()).toMatchObject({ ...nothing, restarted: [applicationId] });
    await world.untilLive('shop', second);
    expect(await world.records.livePointer('shop', 'kind')).toMatchObject({
      ...{ release: second, generation: pointer.generation + 1 },
    });
    await until('the main branch', async () => (await lockCommits()).some((message) => message.includes(second)));
    expect((await lockCommits()).filter((message) => message.includes(second))).toHaveLength(1);
    expect(await world.revert('shop', 'dev', first)).toMatchObject({ status: 'done' });
    expect(await world.revert('shop', 'dev', second)).toMatchObject({ status: 'done' });
  });

  it.each(['terminate', 'cancel'] as const)('a delivery starts again (%s), with an audit row', async (how) => {
    world.script.service = 'slow';
    const release = await world.released(`r-8-${how}`);
    await until('the gate', async () => (await world.records.delivery('shop', release))?.state === 'gating');
    const { generation } = await world.records.livePointer('shop', 'kind');
    world.script.service = 'golden';
    await world.client.workflow.getHandle(workflowId.delivery({ application: 'shop', release }))[how]();
    await world.untilLive('shop', release);
    expect(await world.records.livePointer('shop', 'kind')).toMatchObject({ release, generation: generation + 1 });
    const noted = (await world.auditOf('shop/kind')).filter(({ kind }) => kind === 'workflow.interrupted');
    expect(noted.map(({ reason }) => reason)).toContain(
      `the delivery of ${release} was ended in Temporal: it starts again`,
    );
    expect(await sweepOnce()).toMatchObject(nothing);
  });

  it('a feedback is resumed', async () => {
    const { release } = await world.records.livePointer('shop', 'kind');
    const id = await world.startFeedback(scanOf('scan-1', release ?? ''));
    const label = (name: string, findings: readonly string[], revision: number) =>
      world.send(world.signed({ workflowId: id, name, actor: 'eve', revision, args: { findings } }));
    expect(await label('confirm', ['one'], 0)).toMatchObject({ status: 'done' });
    await terminate(id);
    expect(await sweepOnce()).toMatchObject({ ...nothing, restarted: [id] });
    expect(await label('deny', ['two'], 1)).toMatchObject({ status: 'done' });
    expect(await world.records.scan('p', 'scan-1')).toMatchObject({ state: 'labelled', revision: 2 });
    const commits = (await world.code.log('p/labels', 'main', 10)).map(({ message }) => message);
    expect(commits.filter((message) => message.includes('labels of shop'))).toHaveLength(2);
  });

  it('a foreign workflow with an id of the platform is terminated, and the platform’s is resumed', async () => {
    await world.submitted('r-9');
    const id = world.idOf('r-9');
    await terminate(id);
    const { firstExecutionRunId } = await world.client.workflow.start('modelLifecycle', {
      ...{ workflowId: id, taskQueue: 'of-somebody-else', args: [{}] },
    });
    expect(await sweepOnce()).toMatchObject({ ...nothing, restarted: [id], terminated: [id] });
    const foreign = await world.client.workflow.getHandle(id, firstExecutionRunId).describe();
    expect(foreign.status.name).toBe('TERMINATED');
    const noted = (await world.auditOf(id)).filter(({ kind }) => kind === 'workflow.terminated');
    expect(noted).toHaveLength(1);
    expect(await world.give('r-9', 'mia', 'tag', { tags: ['ours'] })).toMatchObject({ status: 'done' });
    expect((await world.client.workflow.getHandle(id).describe()).taskQueue).toBe(taskQueues.core);
  });
});

/** Resets a workflow to one of its completed workflow tasks; returns the run that follows. */
async function reset(id: string, which: 'first' | 'last'): Promise<string> {
  const { runId } = await world.client.workflow.getHandle(id).describe();
  const { events } = await world.client.workflow.getHandle(id).fetchHistory();
  const tasks = (events ?? []).filter((event) => event.workflowTaskCompletedEventAttributes);
  const { runId: next } = await world.client.workflowService.resetWorkflowExecution({
    ...{ namespace: world.namespace, workflowExecution: { workflowId: id, runId }, reason: 'by mistake' },
    ...{ workflowTaskFinishEventId: tasks.at(which === 'first' ? 0 : -1)?.eventId, requestId: randomUUID() },
  });
  expect(next).not.toBe(runId);
  return next;
}

it('a reset run is left alone while its worker is stopped, and while it waits for people after its first step', async () => {
  await world.submitted('r-14');
  const id = world.idOf('r-14');
  await world.stopWorkers();
  const first = await reset(id, 'first');
  expect(await world.gateway.look(id)).toMatchObject({ runId: first, isComing: true });
  expect((await world.records.start(id))?.runId).not.toBe(first);
  expect(await sweepOnce()).toMatchObject(nothing);
  await world.startWorkers();
  await until('the new run to begin', async () => (await world.records.start(id))?.runId === first);
  expect((await world.standing('r-14')).version.state).toBe('new');
  await until('its tasks to be done', async () => (await world.gateway.look(id))?.isComing === false);

  // From the last task on it calls no activity: nothing records the new run.
  expect(await world.give('r-14', 'mia', 'tag', { tags: ['early'] })).toMatchObject({ status: 'done' });
  await until('its tasks to be done', async () => (await world.gateway.look(id))?.isComing === false);
  const last = await reset(id, 'last');
  await until('its tasks to be done', async () => (await world.gateway.look(id))?.isComing === false);
  expect((await world.records.start(id))?.runId).toBe(first);
  expect(await sweepOnce()).toMatchObject(nothing);
  expect(await world.gateway.look(id)).toMatchObject({ runId: last, isRunning: true });
  expect(await world.give('r-14', 'mia', 'tag', { tags: ['kept'] })).toMatchObject({ status: 'done' });
  expect((await world.records.start(id))?.runId).toBe(last);
});

it('a foreign run that waits for a start delay under an id of the platform is terminated', async () => {
  await world.submitted('r-15');
  const id = world.idOf('r-15');
  await terminate(id);
  const { firstExecutionRunId } = await world.client.workflow.start('modelLifecycle', {
    ...{ workflowId: id, taskQueue: taskQueues.core, args: [{}], startDelay: '1 day' },
  });
  expect(await sweepOnce()).toMatchObject({ ...nothing, restarted: [id], terminated: [id] });
  expect((await world.client.workflow.getHandle(id, firstExecutionRunId).describe()).status.name).toBe('TERMINATED');
  expect(await world.give('r-15', 'mia', 'tag', { tags: ['ours'] })).toMatchObject({ status: 'done' });
});

it('a lifecycle that is reset to its beginning adopts the recorded state and continues', async () => {
  const report = await world.submitted('r-10');
  expect(await world.give('r-10', 'mia', 'tag', { tags: ['early'] })).toMatchObject({ status: 'done' });
  const id = world.idOf('r-10');
  const before = await world.standing('r-10');
  const next = await reset(id, 'first');
  await until('the new run to begin', async () => (await world.records.start(id))?.runId === next);
  expect(await world.give('r-10', 'mia', 'approve', {}, { report })).toMatchObject({ status: 'done' });
  const version = await world.untilState('r-10', 'approved');
  // Each command was decided once, although both runs received its signal.
  expect(historyOf(version)).toEqual(['tag by mia', 'approve by mia']);
  expect(version.revision).toBe(before.version.revision + 1);
  await until('the record to be filed', async () => (await revisionsOf('r-10')).files.length === version.revision);
  expect((await revisionsOf('r-10')).audit).toEqual([1, 2, 3]);
  expect(await sweepOnce()).toMatchObject(nothing);
  const release = await world.release('r-10');
  await world.untilLive('shop', release);
});

it('an application that finds the pointer moved by an earlier run tells the versions', async () => {
  const releases: string[] = [];
  for (const submission of ['r-20', 'r-21']) {
    await world.approved(submission);
    releases.push(await world.release(submission));
    await world.untilLive('shop', releases.at(-1) ?? '');
  }
  const isLive = async (submission: string) =>
    (await world.records.version('p', 'm', submission))?.detail.includes('live in shop') === true;
  await until('the newer one to know', () => isLive('r-21'));
  const { generation } = await world.records.livePointer('shop', 'kind');
  const of = { application: 'shop', type: 'kind', generation, release: releases[0] ?? '', revert: true };
  // As an activity does whose run was reset meanwhile: nobody gets its result.
  const entry = auditEntry('by-an-earlier-run');
  expect(await world.records.moveLivePointer({ ...of, key: 'by-an-earlier-run' }, entry)).toMatchObject({
    moved: true,
  });
  await world.client.workflow.getHandle(applicationId).signal('wake');
  await until('the older one to know', () => isLive('r-20'));
  await until('the newer one to know', async () => !(await isLive('r-21')));
});

it('an emptied Temporal gets all open workflows back, and each can be finished', async () => {
  const report = await world.submitted('r-11');
  await world.approved('r-12');
  world.script.evaluate = 'hang';
  await world.startEvaluation('gone', { submission: 'r-11' });
  await until('the evaluation to run', async () => world.begunJobs.some((name) => name.includes('gone')));
  world.script.train = 'hang';
  await world.startLifecycle('r-13', world.run);
  await until('the run to begin', async () => world.begunJobs.some((name) => name.includes('-r-13-1-')));
  const pointer = await world.records.livePointer('shop', 'kind');
  const scan = workflowId.feedback({ project: 'p', scan: 'scan-1' });
  const openBefore = (await world.records.openStarts({ limit: 100 })).rows.map(({ workflowId: id }) => id);
  expect(openBefore).toEqual(expect.arrayContaining([world.idOf('r-11'), world.idOf('r-12'), applicationId, scan]));
  // Recently restarted workflows would have to wait.
  for (const id of openBefore) await world.records.restarted(id, null);

  const after = await world.emptyTemporal();
  // Their jobs have gone on.
  Object.assign(world.script, { train: 'succeed', evaluate: 'pass', reachEnd: ['gone', '-r-13-1-'] });
  const swept = await sweepOver(after.gateway);
  expect([...swept.restarted].sort()).toEqual([...openBefore].sort());
  expect(swept).toMatchObject({ ended: [], terminated: [], waiting: [] });
  expect(await world.records.livePointer('shop', 'kind')).toEqual(pointer);
  expect((await after.standing('r-11')).version.state).toBe('new');
  // Running workflows were lost and are restarted.
  const evaluated = await until('the evaluation to end', async () => {
    const row = await world.records.evaluation('p', 'gone');
    return row?.state !== 'running' && row;
  });
  expect(evaluated).toMatchObject({ state: 'done' });
  expect((await after.untilState('r-13', 'trained')).run).toMatchObject({ attempt: 1 });

  expect(await after.give('r-11', 'mia', 'approve', {}, { report })).toMatchObject({ status: 'done' });
  await after.untilLive('shop', await after.release('r-11'));
  const next = await after.release('r-12');
  await after.untilLive('shop', next);
  expect(await world.records.livePointer('shop', 'kind')).toMatchObject({
    ...{ release: next, generation: pointer.generation + 2 },
  });
  // Until it has heard, a command may be about a revision that is no longer the newest.
  await until('r-11 to hear that it was superseded', async () =>
    (await world.records.version('p', 'm', 'r-11'))?.detail.includes('superseded in shop'),
  );
  expect(await after.give('r-11', 'mia', 'retire')).toMatchObject({ status: 'done' });
  const ended: unknown = await after.client.workflow.getHandle(after.idOf('r-11')).result();
  expect(ended).toMatchObject({ state: 'retired' });
  expect(await after.give('r-13', 'sam', 'submit')).toMatchObject({ status: 'done' });
  await after.untilState('r-13', 'new');
  expect(await sweepOver(after.gateway)).toMatchObject(nothing);
  expect(await world.records.verifyAudit()).toMatchObject({ broken: null });
});
