// Reverts of an application to an earlier release and back; a release that was never live there is not a valid target.
import { randomUUID } from 'node:crypto';
import type { ModelLock } from '../../activities/delivery.ts';
import { auditEntry } from './passage.ts';
import { until } from './until.ts';
import type { World } from './world.ts';
import { openWorld } from './world.ts';

let world: World;
let first: string;
let second: string;
beforeAll(async () => {
  world = await openWorld();
  await world.addApplication('shop');
  first = await world.released('w-1');
  await world.untilLive('shop', first);
  second = await world.released('w-2');
  await world.untilLive('shop', second);
}, 600_000);
afterAll(() => world.close());

const mainLock = async (): Promise<ModelLock> => {
  const text = await world.code.read('p/app-shop', 'main', 'model.lock');
  return JSON.parse(Buffer.from(text ?? '{}').toString('utf8')) as ModelLock;
};

it('refuses unauthorised actors and invalid reverts', async () => {
  expect(await world.revert('shop', 'sam', first)).toMatchObject({ status: 'refused', reason: 'not-authorized' });
  expect(await world.revert('shop', 'eve', first)).toMatchObject({ status: 'refused', reason: 'not-authorized' });
  expect(await world.revert('shop', 'dev', undefined)).toMatchObject({ status: 'refused', reason: 'invalid' });
  expect(await world.revert('shop', 'dev', first, { args: { release: first } })).toMatchObject({ reason: 'invalid' });
  expect(await world.revert('shop', 'dev', first, { revision: 1 })).toMatchObject({ reason: 'stale' });
  expect(await world.revert('shop', 'dev', first, { name: 'approve' })).toMatchObject({ reason: 'wrong-state' });
  expect(await world.revert('shop', 'dev', second)).toMatchObject({ status: 'failed', reason: 'Conflict' });
  expect(await world.revert('shop', 'dev', 'kind-99')).toMatchObject({ status: 'failed', reason: 'Conflict' });
  expect(await world.records.livePointer('shop', 'kind')).toMatchObject({ release: second, generation: 2 });
  const failures = (await world.auditOf('shop/kind')).filter(({ kind }) => kind === 'command.failed');
  expect(failures).toHaveLength(2);
});

it('is reverted by its owner, and reverted back by a manager', async () => {
  expect(await world.revert('shop', 'dev', first)).toMatchObject({ status: 'done' });
  expect(await world.records.livePointer('shop', 'kind')).toMatchObject({ release: first, generation: 3 });
  expect((await mainLock()).kind?.release).toBe(first);
  expect(await world.records.delivery('shop', second)).toMatchObject({ state: 'reverted' });
  expect(await world.records.delivery('shop', first)).toMatchObject({ state: 'live' });
  expect(await world.revert('shop', 'mia', second)).toMatchObject({ status: 'done' });
  expect(await world.records.livePointer('shop', 'kind')).toMatchObject({ release: second, generation: 4 });
  expect((await mainLock()).kind?.release).toBe(second);
});

it('applies a command that is sent twice once', async () => {
  const commandId = randomUUID();
  const sent = world.signed({
    workflowId: 'application/shop/kind',
    name: 'revert',
    actor: 'dev',
    args: { release: first, reason: 'twice' },
    revision: 4,
    commandId,
  });
  const handle = world.client.workflow.getHandle('application/shop/kind');
  await handle.signal('command', sent);
  expect(await world.send(sent)).toMatchObject({ status: 'done' });
  await handle.signal('command', sent);
  expect(await world.send(sent)).toMatchObject({ status: 'done' });
  expect(await world.records.livePointer('shop', 'kind')).toMatchObject({ release: first, generation: 5 });
});

it('retires a version once it is live nowhere; then no application can revert to it', async () => {
  // w-2 is live nowhere now.
  expect(await world.give('w-2', 'mia', 'retire')).toMatchObject({ status: 'done' });
  expect(await world.client.workflow.getHandle(world.idOf('w-2')).result()).toMatchObject({ state: 'retired' });
  expect(await world.revert('shop', 'dev', second)).toMatchObject({ status: 'failed', reason: 'Conflict' });
  expect(await world.records.livePointer('shop', 'kind')).toMatchObject({ release: first });
});

it('receives the next release after a revert', async () => {
  const third = await world.released('w-3');
  await world.untilLive('shop', third);
  expect(await world.records.livePointer('shop', 'kind')).toMatchObject({ release: third, generation: 6 });
});

it('takes down the live release with a reason; then it can be retired, and the next release goes live', async () => {
  const { release: live } = await world.records.livePointer('shop', 'kind');
  const takeDown = (actor: string, args: { reason?: string }) =>
    world.revert('shop', actor, undefined, { name: 'take-down', args });
  expect(await takeDown('sam', { reason: 'r' })).toMatchObject({ status: 'refused', reason: 'not-authorized' });
  expect(await takeDown('dev', {})).toMatchObject({ status: 'refused', reason: 'invalid' });
  await until('w-3 to know that it is live', async () =>
    (await world.records.version('p', 'm', 'w-3'))?.detail.includes('live in shop'),
  );
  expect(await world.give('w-3', 'mia', 'retire')).toMatchObject({
    status: 'failed',
    message: 'p/m/w-3 is live in shop: revert or take it down there first, then retire',
  });
  expect(await takeDown('dev', { reason: 'it leaks' })).toEqual({
    status: 'done',
    message: 'no release is live',
  });
  expect(await world.records.livePointer('shop', 'kind')).toMatchObject({ release: null, generation: 7 });
  expect(await world.records.delivery('shop', live ?? '')).toMatchObject({ state: 'taken-down' });
  expect(await mainLock()).toEqual({});
  expect(await takeDown('dev', { reason: 'again' })).toMatchObject({ status: 'refused', reason: 'wrong-state' });
  const [row] = (await world.auditOf('shop/kind')).filter(({ kind }) => kind === 'application.take-down');
  expect(row).toMatchObject({ actor: 'dev', reason: 'it leaks', detail: { release: null, former: live } });
  await until('w-3 to know that it is not', async () =>
    (await world.records.version('p', 'm', 'w-3'))?.detail.includes('taken-down in shop'),
  );
  expect(await world.give('w-3', 'mia', 'retire')).toMatchObject({ status: 'done' });
  const next = await world.released('w-4');
  await world.untilLive('shop', next);
});

it('announces a withdrawal once', async () => {
  const events: { id: string; type: string; data: unknown }[] = [];
  const seen = await world.bus.subscribe({
    topic: 'kind',
    group: 'a-test',
    handle: async ({ value }) => void events.push(value as (typeof events)[number]),
  });
  const withdrawn = await until('the withdrawals', async () => {
    const found = events.filter(({ type }) => type === 'io.ocdl.model.withdrawn.v1');
    return found.length >= 2 && found;
  });
  await seen.stop();
  expect(withdrawn.map(({ id }) => id)).toEqual(expect.arrayContaining([`${second}-withdrawn`]));
  expect(new Set(withdrawn.map(({ id }) => id)).size).toBe(withdrawn.length);
  expect(withdrawn[0]?.data).toMatchObject({ release: second, decision: 'retire', withdrawnBy: 'mia' });
});

it('writes the main branch after a move that an activity of an ended run made', async () => {
  const { generation } = await world.records.livePointer('shop', 'kind');
  const entry = auditEntry('application.live');
  const move = { key: entry.key, application: 'shop', type: 'kind', generation, release: first, revert: true };
  expect(await world.records.moveLivePointer(move, entry)).toMatchObject({ moved: true });
  await world.gateway.wake('application/shop/kind');
  await until('main to follow', async () => (await mainLock()).kind?.release === first);
});
