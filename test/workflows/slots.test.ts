// Long jobs do not block others: evaluations overtake trainings, one project's trainings overtake another's backlog, hanging jobs can be cancelled.
import type { TrainingRunInput } from '../../workflows/messages.ts';
import { taskQueues, workflowId } from '../../workflows/messages.ts';
import { places } from '../../workers/pools.ts';
import { auditEntry } from './passage.ts';
import { until } from './until.ts';
import type { World } from './world.ts';
import { openWorld } from './world.ts';

let world: World;
beforeAll(async () => {
  world = await openWorld();
}, 600_000);
afterAll(() => world.close());
beforeEach(() => Object.assign(world.script, { train: 'succeed', evaluate: 'pass', service: 'golden' }));

async function startRun(project: string, submission: string) {
  if (!('run' in world.run)) throw new Error('no run');
  const spec = world.run.run;
  const input: TrainingRunInput = { project, model: 'm', submission, attempt: 1, author: 'sam', spec };
  const id = workflowId.trainingRun(input);
  await world.records.recordStart(
    { workflowId: id, type: 'trainingRun', input, askedBy: 'sam', roles: ['scientist'], project },
    auditEntry('run.started'),
    [],
  );
  return world.client.workflow.start('trainingRun', {
    ...{ workflowId: id, taskQueue: taskQueues.core, args: [input] },
  });
}
/** These runs have no lifecycle, so nobody records that they have ended: a lost run's job would wait to be resumed. */
async function cancel(run: Awaited<ReturnType<typeof startRun>>): Promise<void> {
  await run.cancel();
  await world.records.closeStart(run.workflowId, 'cancelled');
}
const begun = (submission: string): boolean => world.begunJobs.some((name) => name.includes(`-${submission}-1-`));
const backlog = async (): Promise<number> => (await world.records.queuedJobs({ limit: 100 })).length;

it('evaluates while trainings occupy all of their slots', async () => {
  await world.putSubmission('s-1', 's-1');
  await world.startLifecycle('s-1', { directory: 's-1' });
  await world.untilState('s-1', 'new');
  world.script.train = 'hang';
  const names = Array.from({ length: places.local.training }, (_, i) => `t-${i}`);
  const runs = await Promise.all(names.map((submission) => startRun('p', submission)));
  await until('every slot to be taken', async () => names.every(begun));
  expect(await world.evaluation('s-1')).toMatchObject({ state: 'done', detail: '' });
  for (const run of runs) await cancel(run);
  for (const run of runs) await run.result().catch(() => undefined);
});

it('runs another project’s training before the backlog of the first', async () => {
  await world.records.createProject(
    { project: 'q', types: ['other'], policy: { ...(await policyOf()), version: 1 } },
    auditEntry('project.created'),
  );
  world.script.train = 'hang';
  const many = Array.from({ length: 12 }, (_, i) => `many-${i}`);
  const runs = [];
  for (const submission of many) runs.push(await startRun('p', submission));
  const waiting = many.length - places.local.training;
  await until('every slot to be taken', async () => many.filter(begun).length === places.local.training);
  await until('a backlog', async () => (await backlog()) === waiting);
  const other = await startRun('q', 'single');
  await until('the other project’s to wait, too', async () => (await backlog()) === waiting + 1);
  // From now on each job ends; hanging ones are cancelled one by one, each of which frees a slot.
  const finished = runs.filter((_, i) => begun(`many-${i}`));
  world.script.train = 'succeed';
  for (const run of finished) await cancel(run);
  await other.result();
  const order = world.begunJobs.filter((name) => /-(many-\d+|single)-1-/.test(name));
  const place = order.findIndex((name) => name.includes('-single-'));
  // In order of arrival it would be the thirteenth and last.
  expect(place).toBeGreaterThanOrEqual(places.local.training);
  expect(place).toBeLessThan(places.local.training + 4);
  for (const run of runs) await run.result().catch(() => undefined);
});

it('stops a hanging evaluation when it is cancelled, and records who cancelled it', async () => {
  await world.submitted('s-2');
  world.script.evaluate = 'hang';
  for (const [id, by] of [
    ['hangs-1', 'mia'],
    ['hangs-2', null],
  ] as const) {
    const handle = world.client.workflow.getHandle(await world.startEvaluation(id, { submission: 's-2' }));
    await until('the evaluation to run', async () => world.begunJobs.some((name) => name.includes(id)));
    const entry = { ...auditEntry('evaluation.cancel'), actor: by ?? '', subject: `p/evaluations/${id}` };
    if (by !== null) await world.records.record([entry], []);
    await handle.cancel();
    const ended = {
      state: 'failed',
      detail: by === null ? 'ended by an operator: start another one' : 'cancelled by mia',
    };
    expect(await handle.result()).toMatchObject(ended);
    expect(await world.records.evaluation('p', id)).toMatchObject(ended);
    await until('its job to be ended', async () => world.endedJobs.some((name) => name.includes(id)));
  }
});

it('fails the gate of a model that never answers, and continues with the next release', async () => {
  await world.addApplication('shop');
  world.script.service = 'endless';
  const endless = await world.released('s-3');
  const failed = await until('the gate to fail', async () => {
    const delivery = await world.records.delivery('shop', endless);
    return delivery?.state === 'failed' && delivery;
  });
  expect(failed.detail).toBe('gate function: sample 0: no answer within 30 s');
  world.script.service = 'golden';
  await world.untilLive('shop', await world.released('s-4'));
});

const policyOf = async () => {
  const project = await world.records.project('p');
  if (!project) throw new Error('no project p');
  return project.policy;
};
