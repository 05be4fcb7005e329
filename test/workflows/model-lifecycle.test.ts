// A version's lifecycle in real workflows: trained, submitted, approved and released.
import type { World } from './world.ts';
import { until } from './until.ts';
import { openWorld } from './world.ts';

let world: World;
beforeAll(async () => {
  world = await openWorld();
}, 600_000);
afterAll(() => world.close());

it('trains, submits, is approved and released', async () => {
  await world.startLifecycle('rf-1', world.run);
  const trained = await world.untilState('rf-1', 'trained');
  expect(trained.run).toMatchObject({ attempt: 1, metrics: { oob_f1: 0.5 } });
  expect(await world.give('rf-1', 'sam', 'submit')).toMatchObject({ status: 'done' });
  const fresh = await world.untilState('rf-1', 'new');
  expect(fresh).toMatchObject({ version: 1, author: 'sam' });
  const report = await world.evaluate('rf-1');
  expect(await world.give('rf-1', 'mia', 'approve', {}, { report })).toMatchObject({ status: 'done' });
  expect(await world.give('rf-1', 'mia', 'release')).toEqual({ status: 'done', message: 'released as kind-1' });
  expect(await world.records.release('kind-1')).toMatchObject({
    state: 'announced',
    version: 1,
    approvedBy: ['mia'],
    releasedBy: 'mia',
  });
  expect(
    await until('the record', () => world.records.version('p', 'm', 'rf-1').then((v) => v?.state === 'released' && v)),
  ).toMatchObject({ version: 1 });
});
