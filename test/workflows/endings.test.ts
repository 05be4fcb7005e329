// Workflows that end unexpectedly leave nothing open: no unanswered command, no file, no row in a running state.
import { setTimeout as sleep } from 'node:timers/promises';
import { jest } from '@jest/globals';
import { auditEntry } from './passage.ts';
import { until } from './until.ts';
import type { World } from './world.ts';
import { openWorld } from './world.ts';

let world: World;
beforeAll(async () => {
  world = await openWorld();
}, 600_000);
afterAll(() => world.close());
beforeEach(() => Object.assign(world.script, { train: 'succeed' }));
afterEach(() => jest.restoreAllMocks());

const handleOf = (submission: string) => world.client.workflow.getHandle(world.idOf(submission));
/** A promise and its resolve function. */
function gate() {
  const made = { open: (): void => undefined };
  const opened = new Promise<void>((resolve) => (made.open = resolve));
  return { opened, open: () => made.open() };
}

it('refuses a withdrawal that came while an invalid submission was being removed: it is closed', async () => {
  const { opened, open } = gate();
  const remove = world.areas.remove.bind(world.areas);
  const removing = jest.spyOn(world.areas, 'remove').mockImplementation(async (uri) => {
    await opened;
    return remove(uri);
  });
  await world.startLifecycle('n-1', { directory: 'nowhere' });
  await until('the removal to begin', async () => removing.mock.calls.length > 0);
  expect(await world.give('n-1', 'sam', 'withdraw')).toMatchObject({ status: 'refused', reason: 'closed' });
  open();
  expect(await handleOf('n-1').result()).toMatchObject({ state: 'invalid' });
  const kinds = (await world.auditOf('p/m/n-1')).map(({ kind }) => kind);
  expect(kinds.filter((kind) => kind === 'command.refused')).toHaveLength(1);
});

it.each(['terminate', 'cancel'] as const)(
  'a run that an operator ended without its lifecycle (%s) has failed',
  async (how) => {
    world.script.train = 'hang';
    const name = `n-2-${how}`;
    await world.startLifecycle(name, world.run);
    await world.untilState(name, 'training');
    const run = world.client.workflow.getHandle(`run/p/m/${name}/1`);
    await until('the run to begin', async () => (await run.describe()).status.name === 'RUNNING');
    await run[how]();
    const failed = await world.untilState(name, 'failed');
    expect(failed.detail).toBe('ended by an operator');
    world.script.train = 'succeed';
    expect(await world.give(name, 'sam', 'retry')).toMatchObject({ status: 'done' });
    expect(await world.untilState(name, 'trained')).toMatchObject({ run: { attempt: 2 } });
  },
);

it('a validation that an operator cancels is repeated: the cancellation decides nothing', async () => {
  await world.putSubmission('n-3', 'n-3');
  const { opened, open } = gate();
  const write = world.areas.write.bind(world.areas);
  const writing = jest.spyOn(world.areas, 'write').mockImplementation(async (path, source, options) => {
    if (path === 'staging/p/models/m/n-3/model.json') await opened;
    return write(path, source, options);
  });
  const handle = await world.startLifecycle('n-3', { directory: 'n-3' });
  await until('one file to be staged', async () =>
    writing.mock.calls.some(([path]) => path === 'staging/p/models/m/n-3/model.json'),
  );
  await handle.cancel();
  open();
  await world.untilState('n-3', 'new');
  expect((await handle.describe()).status.name).toBe('RUNNING');
  expect((await world.auditOf('p/m/n-3')).filter(({ kind }) => kind === 'workflow.cancelled')).toHaveLength(1);
});

it('a live version whose workflow an operator cancels stays released and live, and takes commands', async () => {
  await world.addApplication('n-shop');
  const release = await world.released('n-6');
  await world.untilLive('n-shop', release);
  await until('n-6 to know that it is live', async () =>
    (await world.records.version('p', 'm', 'n-6'))?.detail.includes('live in n-shop'),
  );
  await handleOf('n-6').cancel();
  await until('the cancellation to be in the audit', async () =>
    (await world.auditOf('p/m/n-6')).some(({ kind }) => kind === 'workflow.cancelled'),
  );
  expect(await world.untilState('n-6', 'released')).toBeDefined();
  expect(await world.records.livePointer('n-shop', 'kind')).toMatchObject({ release });
  expect(await world.give('n-6', 'mia', 'tag', { tags: ['still'] })).toMatchObject({ status: 'done' });
});

it('an evaluation that an operator cancels is recorded as failed', async () => {
  await world.submitted('n-4');
  const { opened, open } = gate();
  const report = 'staging/p/models/m/n-4/reports/e-cancelled.json';
  const write = world.areas.write.bind(world.areas);
  const writing = jest.spyOn(world.areas, 'write').mockImplementation(async (path, source, options) => {
    if (path === report) await opened;
    return write(path, source, options);
  });
  const id = await world.startEvaluation('e-cancelled', { submission: 'n-4' });
  const handle = world.client.workflow.getHandle(id);
  await until('it to run', async () => writing.mock.calls.some(([path]) => path === report));
  await handle.cancel();
  expect(await handle.result()).toMatchObject({ state: 'failed' });
  open();
  expect(await world.records.evaluation('p', 'e-cancelled')).toMatchObject({
    state: 'failed',
    detail: 'ended by an operator: start another one',
  });
});

/** Holds the next call of a write to Records until the test opens it. */
function held(name: 'endEvaluation' | 'announced') {
  const { opened, open } = gate();
  const entered = gate();
  const records = world.records as unknown as Record<string, (...given: unknown[]) => Promise<unknown>>;
  const write = records[name];
  records[name] = async (...given) => {
    records[name] = write ?? (() => Promise.reject(new Error(`Records have no ${name}`)));
    entered.open();
    await opened;
    return records[name](...given);
  };
  return { reached: entered.opened, open };
}

const cancellationsOf = async (subject: string) =>
  (await world.auditOf(subject)).filter(({ kind }) => kind === 'workflow.cancelled');

it.each([
  ['an operator', 1],
  ['a person, through the API,', 0],
])(
  'an evaluation that %s cancels while its report is being recorded is done; the audit has it once',
  async (who, count) => {
    await world.submitted(`n-7-${count}`);
    const { reached, open } = held('endEvaluation');
    const name = `e-late-${count}`;
    const id = await world.startEvaluation(name, { submission: `n-7-${count}` });
    await reached;
    if (who !== 'an operator') {
      const entry = { ...auditEntry('evaluation.cancel'), actor: 'mia', subject: `p/evaluations/${name}` };
      await world.records.record([{ ...entry, key: `evaluation.cancel/${id}/mia` }], []);
    }
    const handle = world.client.workflow.getHandle(id);
    await handle.cancel();
    open();
    expect(await handle.result()).toMatchObject({ state: 'done' });
    expect(await cancellationsOf(id)).toHaveLength(count);
  },
);

it('a release that an operator cancels while it is being recorded as announced is announced, with an audit row', async () => {
  await world.approved('n-8');
  const { reached, open } = held('announced');
  const releasing = world.release('n-8');
  await reached;
  const [{ release } = { release: '' }] = await world.records.releasesOf('p', 'm', 'n-8');
  await world.client.workflow.getHandle(`release/${release}`).cancel();
  open();
  expect(await releasing).toBe(release);
  expect(await cancellationsOf(`release/${release}`)).toHaveLength(1);
});

it('does not extend the undo window when a tag follows the rejection', async () => {
  await world.submitted('n-5', { policy: { undoWithinSeconds: 60 } });
  await world.give('n-5', 'mia', 'reject', { reason: 'no' });
  await sleep(2_000);
  expect(await world.give('n-5', 'mia', 'tag', { tags: ['slow'] })).toMatchObject({ status: 'done' });
  const timers = await until('the last timer', async () => {
    const { events } = await handleOf('n-5').fetchHistory();
    const started = (events ?? []).flatMap(({ timerStartedEventAttributes: timer }) => (timer ? [timer] : []));
    return started.length > 1 && started;
  });
  const { seconds, nanos } = timers.at(-1)?.startToFireTimeout ?? {};
  expect(Number(seconds ?? 0) + Number(nanos ?? 0) / 1e9).toBeLessThanOrEqual(58);
});
