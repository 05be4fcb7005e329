// A store that is unavailable during a release: the release waits, reports why, and continues automatically.
import { rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createWorkflowGateway } from '../../api/temporal.ts';
import { until } from './until.ts';
import type { World } from './world.ts';
import { openWorld } from './world.ts';

let world: World;
beforeAll(async () => {
  world = await openWorld();
}, 600_000);
afterAll(() => world.close());

it('reports which step of a child workflow fails, until the step succeeds', async () => {
  const gateway = createWorkflowGateway(world.client);
  await world.approved('v-1');
  const id = world.idOf('v-1');
  expect(await gateway.waiting(id, 10_000)).toEqual([]);
  const [store, aside] = [join(world.home, 'releases'), join(world.home, 'releases-aside')];
  await rename(store, aside);
  await writeFile(store, '');
  const releasing = world.release('v-1');
  const [step] = await until('the release to wait', async () => {
    const waiting = await gateway.waiting(id, 10_000);
    return waiting.length > 0 && waiting;
  });
  expect(step?.step).toBe('publishRelease');
  expect(step?.attempts).toBeGreaterThan(0);
  expect(step?.reason).toContain(store);
  await rm(store);
  await rename(aside, store);
  expect(await releasing).toBe('kind-1');
  expect(await gateway.waiting(id, 10_000)).toEqual([]);
  expect(await gateway.waiting('model/p/m/none', 10_000)).toEqual([]);
});

it('waits visibly if Records are unavailable when a workflow begins', async () => {
  const gateway = createWorkflowGateway(world.client);
  const keys = world.records.keys.bind(world.records);
  const failing = world.records as { keys: typeof keys };
  failing.keys = () => Promise.reject(new Error('Records are unavailable'));
  try {
    await world.startLifecycle('v-2', world.run);
    const id = world.idOf('v-2');
    const step = await until('the lifecycle to wait', async () => (await gateway.waiting(id, 10_000))[0]);
    expect(step).toMatchObject({ step: 'begin', reason: expect.stringContaining('Records are unavailable') as string });
    expect(await gateway.look(id)).toMatchObject({ isComing: true });
  } finally {
    failing.keys = keys;
  }
  await world.untilState('v-2', 'trained');
});
