// Training in a lifecycle: failed and retried, withdrawn during the training, cancelled in Temporal.
import { jest } from '@jest/globals';
import { profileBefore } from '../../workflows/domain/compute.ts';
import { until } from './until.ts';
import type { World } from './world.ts';
import { openWorld } from './world.ts';

let world: World;
beforeAll(async () => {
  world = await openWorld();
}, 600_000);
afterAll(() => world.close());
beforeEach(() => Object.assign(world.script, { train: 'succeed' }));

const runOf = (submission: string) => world.client.workflow.getHandle(`run/p/m/${submission}/1`);
const jobsOf = (submission: string) => world.begunJobs.filter((name) => name.includes(`-${submission}-`));
const ended = (submission: string) => world.client.workflow.getHandle(world.idOf(submission)).result();

it('fails, is retried as the next attempt, and becomes new', async () => {
  world.script.train = 'crash';
  await world.startLifecycle('rf-1', world.run);
  const failed = await world.untilState('rf-1', 'failed');
  expect(failed.detail).toMatch(/the job ended with an error \(exit code 1\)\s+ValueError: no such column/);
  expect(await world.give('rf-1', 'mia', 'retry')).toMatchObject({ status: 'refused', reason: 'not-authorized' });
  expect(await world.give('rf-1', 'sam', 'submit')).toMatchObject({ status: 'refused', reason: 'wrong-state' });
  world.script.train = 'succeed';
  // One word moves the run to a GPU.
  expect(await world.give('rf-1', 'sam', 'retry', { compute: 'gpu' })).toMatchObject({ status: 'done' });
  const trained = await world.untilState('rf-1', 'trained');
  expect(trained).toMatchObject({ detail: '', run: { attempt: 2, metrics: { oob_f1: 0.5 } } });
  expect(trained.run?.spec.compute).toBe('gpu');
  expect(trained.run?.placement).toEqual({
    profile: profileBefore('gpu'),
    ...{ pool: 'local', reason: 'pool local is first in order and has free places' },
  });
  expect(failed.detail).toContain('it ran in local (pool local is first in order and has free places)');
  expect(trained.run?.outputs.map(({ name }) => name)).toEqual([
    'model.onnx',
    'model.json',
    'golden.json',
    'metrics.json',
  ]);
  await world.give('rf-1', 'sam', 'submit');
  const fresh = await world.untilState('rf-1', 'new');
  expect(fresh.digest).toBe(trained.run?.outputs[0]?.sha256);
});

it('reports missing outputs of a job', async () => {
  world.script.train = 'empty';
  await world.startLifecycle('rf-2', world.run);
  expect((await world.untilState('rf-2', 'failed')).detail).toContain('model.onnx is missing');
  expect(await world.give('rf-2', 'sam', 'withdraw')).toMatchObject({ status: 'done' });
  expect(await ended('rf-2')).toMatchObject({ state: 'withdrawn' });
});

it('is withdrawn during the training, only by its author: the job is stopped', async () => {
  world.script.train = 'hang';
  await world.startLifecycle('rf-3', world.run);
  await world.untilState('rf-3', 'training');
  // The state begins with the run, which first reads the code and the data; the job starts later.
  const job = await until('the job to begin', async () => jobsOf('rf-3')[0]);
  expect(await world.give('rf-3', 'sue', 'withdraw')).toMatchObject({ status: 'refused', reason: 'not-authorized' });
  expect(await world.give('rf-3', 'sam', 'withdraw', { reason: 'wrong data' })).toMatchObject({ status: 'done' });
  expect(await ended('rf-3')).toMatchObject({ state: 'withdrawn', detail: 'wrong data', version: null });
  const run = runOf('rf-3');
  await expect(run.result()).rejects.toThrow();
  expect((await run.describe()).status.name).toBe('CANCELLED');
  await until('the job to be ended', async () => world.endedJobs.includes(job));
  const audit = await world.auditOf('p/m/rf-3');
  expect(audit.map(({ kind, actor }) => `${kind} by ${actor}`)).toEqual(
    expect.arrayContaining(['version.withdraw by sam', 'command.refused by sue']),
  );
});

it('is withdrawn before its job has started: no job starts', async () => {
  const asked: { answer?: () => void } = {};
  const read = jest
    .spyOn(world.code, 'read')
    .mockImplementation(() => new Promise((resolve) => (asked.answer = () => resolve(undefined))));
  try {
    await world.startLifecycle('rf-9', world.run);
    await world.untilState('rf-9', 'training');
    await until('the code to be looked for', async () => asked.answer);
    expect(await world.give('rf-9', 'sam', 'withdraw')).toMatchObject({ status: 'done' });
    expect(await ended('rf-9')).toMatchObject({ state: 'withdrawn' });
    await expect(runOf('rf-9').result()).rejects.toThrow();
  } finally {
    read.mockRestore();
    asked.answer?.();
  }
  const { events } = await runOf('rf-9').fetchHistory();
  const steps = (events ?? []).flatMap(
    ({ activityTaskScheduledEventAttributes: step }) => step?.activityType?.name ?? [],
  );
  expect(steps).toContain('provisionRun');
  expect(steps).not.toContain('runTraining');
  expect(jobsOf('rf-9')).toEqual([]);
});

it('is withdrawn while it is new: its bytes may be submitted again', async () => {
  await world.submitted('rf-4');
  expect(await world.give('rf-4', 'sam', 'withdraw')).toMatchObject({ status: 'done' });
  expect(await ended('rf-4')).toMatchObject({ state: 'withdrawn' });
  await world.startLifecycle('rf-5', { directory: 'rf-4' });
  const again = await world.untilState('rf-5', 'new');
  const former = await world.records.version('p', 'm', 'rf-4');
  expect(again.digest).toBe(former?.digest);
  expect(again.version).toBeGreaterThan(former?.version ?? Infinity);
});

it('is cancelled by an operator in Temporal: the run has failed, the version continues', async () => {
  world.script.train = 'hang';
  const handle = await world.startLifecycle('rf-6', world.run);
  await world.untilState('rf-6', 'training');
  const run = world.client.workflow.getHandle('run/p/m/rf-6/1');
  await until('the run to begin', async () => {
    const found = await run.describe().catch(() => undefined);
    return found?.status.name === 'RUNNING';
  });
  await handle.cancel();
  expect(await world.untilState('rf-6', 'failed')).toMatchObject({ detail: 'ended by an operator' });
  expect((await handle.describe()).status.name).toBe('RUNNING');
  world.script.train = 'succeed';
  expect(await world.give('rf-6', 'sam', 'retry')).toMatchObject({ status: 'done' });
  expect(await world.untilState('rf-6', 'trained')).toMatchObject({ run: { attempt: 2 } });
});

it('cannot be trained from missing code or data', async () => {
  if (!('run' in world.run)) throw new Error('no run');
  await world.startLifecycle('rf-7', { run: { ...world.run.run, entrypoint: 'nothing.py' } });
  expect((await world.untilState('rf-7', 'failed')).detail).toContain('nothing.py is not in p/code');
  await world.startLifecycle('rf-8', { run: { ...world.run.run, data: ['nowhere'] } });
  expect((await world.untilState('rf-8', 'failed')).detail).toContain('no data set nowhere');
});
