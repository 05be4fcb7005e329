// Deliveries of releases to applications: live, failed with evidence, stopped, ordered; and the manager's options afterwards.
import type { ModelLock } from '../../activities/delivery.ts';
import type { StorePath } from '../../workflows/domain/names.ts';
import { wake, workflowId } from '../../workflows/messages.ts';
import { until } from './until.ts';
import type { World } from './world.ts';
import { openWorld } from './world.ts';

let world: World;
beforeAll(async () => {
  world = await openWorld();
  await world.addApplication('shop');
}, 600_000);
afterAll(() => world.close());
beforeEach(() => Object.assign(world.script, { service: 'golden' }));

const ended = (submission: string) => world.client.workflow.getHandle(world.idOf(submission)).result();
const untilDelivery = (application: string, release: string, state: string) =>
  until(`${release} to be ${state} in ${application}`, async () => {
    const delivery = await world.records.delivery(application, release);
    return delivery?.state === state && delivery;
  });
const untilDetail = (submission: string, detail: string) =>
  until(`${submission} to say ${detail}`, async () => {
    const version = await world.records.version('p', 'm', submission);
    return version?.detail.includes(detail) && version;
  });
/** What the Temporal Web UI shows of a workflow, ended or not. */
async function detailsOf(id: string): Promise<string | undefined> {
  const handle = world.client.workflow.getHandle(id);
  return (await handle.query<{ currentDetails?: string }>('__temporal_workflow_metadata')).currentDetails;
}
const lockOf = async (application: string, branch: string): Promise<ModelLock> => {
  const text = await world.code.read(`p/app-${application}`, branch, 'model.lock');
  return JSON.parse(Buffer.from(text ?? '{}').toString('utf8')) as ModelLock;
};

it('goes live: locked on its branch, then on main; the next release supersedes it', async () => {
  const first = await world.released('v-1');
  await world.untilLive('shop', first);
  const { digest } = await world.untilState('v-1', 'released');
  expect(await world.records.livePointer('shop', 'kind')).toMatchObject({ release: first, generation: 1 });
  for (const branch of [`ocdl/${first}`, 'main'])
    await until(`model.lock on ${branch}`, async () => (await lockOf('shop', branch)).kind?.release === first);
  expect(await lockOf('shop', 'main')).toMatchObject({ kind: { release: first, digest, approvedBy: ['mia'] } });
  await untilDetail('v-1', `${first}: live in shop`);
  const between = new Date().toISOString();
  const second = await world.released('v-2');
  await world.untilLive('shop', second);
  expect(await world.records.delivery('shop', first)).toMatchObject({ state: 'superseded' });
  expect(await world.records.liveAt('shop', 'kind', between)).toMatchObject({ release: first });
  expect(await world.records.liveAt('shop', 'kind', '2020-01-01T00:00:00Z')).toMatchObject({ release: null });
  const history = await world.records.liveHistory({ application: 'shop', type: 'kind' });
  expect(history.rows.map(({ release }) => release)).toEqual([second, first]);
  await untilDetail('v-1', `${first}: superseded in shop`);
});

it('refuses to release an older version over a newer one that is live', async () => {
  expect(await world.give('v-1', 'mia', 'release')).toMatchObject({ status: 'failed', reason: 'Conflict' });
  expect(await world.untilState('v-1', 'released')).toBeDefined();
});

it('shows a failed gate to the manager, who releases the version again under the next number', async () => {
  world.script.service = 'wrong';
  const failed = await world.released('v-3');
  const delivery = await untilDelivery('shop', failed, 'failed');
  expect(delivery.gates).toMatchObject([{ gate: 'function', passed: false }]);
  expect(delivery.detail).toContain('1 of 1 golden samples failed');
  const heard = await untilDetail('v-3', `${failed}: failed in shop`);
  expect(heard.state).toBe('released');
  // The Temporal Web UI shows the same.
  const shown = await detailsOf(workflowId.delivery({ application: 'shop', release: failed }));
  expect(shown).toMatch(new RegExp(`^\\*\\*failed\\*\\* ${failed} into shop gate function: 1 of 1 golden samples`));
  expect(shown).toMatch(/^- function: failed in [\d.]+ s\. 1 of 1 golden samples/m);
  expect((await world.records.livePointer('shop', 'kind')).release).not.toBe(failed);
  expect((await lockOf('shop', 'main')).kind?.release).not.toBe(failed);
  world.script.service = 'golden';
  const again = await world.release('v-3');
  expect(Number(again.split('-')[1])).toBe(Number(failed.split('-')[1]) + 1);
  await world.untilLive('shop', again);
  // Only the newest delivery counts, so the version can no longer be reassigned.
  await untilDetail('v-3', `${again}: live in shop`);
  expect(
    await world.give('v-3', 'mia', 'reassign', { reason: 'r', to: 'sue' }, { report: 'f'.repeat(64) }),
  ).toMatchObject({ status: 'refused', reason: 'wrong-state' });
});

it('reassigns a failed version: another scientist gets the bytes, and applications no longer receive it', async () => {
  world.script.service = 'absent';
  const report = await world.approved('v-4');
  const failed = await world.release('v-4');
  expect((await untilDelivery('shop', failed, 'failed')).detail).toContain('no node has room for the service');
  await untilDetail('v-4', 'failed in shop');
  const reassign = (to: string) => world.give('v-4', 'mia', 'reassign', { reason: 'have a look', to }, { report });
  expect(await reassign('eve')).toMatchObject({ status: 'failed', reason: 'InvalidInput' });
  // A failed command changes nothing.
  expect(await world.records.fenced(failed)).toBe(false);
  await world.untilState('v-4', 'released');
  expect(await reassign('sue')).toMatchObject({ status: 'done', message: 'in returned/m/v-4 of sue' });
  const { digest } = (await ended('v-4')) as { digest: string };
  const copy = world.areas.uri('private/p/sue/returned/m/v-4/model.onnx' as StorePath);
  expect(await world.areas.digest(copy)).toBe(digest);
  expect(await world.records.fenced(failed)).toBe(true);
});

it('does not reject a version that is live in an application', async () => {
  const { release } = await world.records.livePointer('shop', 'kind');
  expect(await world.give('v-3', 'mia', 'reject', { reason: 'no' })).toMatchObject({
    status: 'failed',
    reason: 'Conflict',
    message: 'p/m/v-3 is live in shop: revert or take it down there first, then reject',
  });
  expect(await world.records.fenced(release ?? '')).toBe(false);
  expect(await world.give('v-3', 'mia', 'retire')).toMatchObject({ status: 'failed' });
});

it('stops a running delivery when its version is rejected', async () => {
  world.script.service = 'slow';
  const slow = await world.released('v-5');
  await untilDelivery('shop', slow, 'gating');
  const before = await world.records.livePointer('shop', 'kind');
  expect(await world.give('v-5', 'mia', 'reject', { reason: 'found a leak' })).toMatchObject({ status: 'done' });
  expect((await untilDelivery('shop', slow, 'failed')).detail).toBe('withdrawn by a manager');
  expect(await world.records.livePointer('shop', 'kind')).toEqual(before);
  // After an undo and a new approval it may be released under a new id.
  world.script.service = 'golden';
  expect(await world.give('v-5', 'mia', 'undo')).toMatchObject({ status: 'done' });
  const report = await world.evaluate('v-5');
  expect(await world.give('v-5', 'mia', 'approve', {}, { report })).toMatchObject({ status: 'done' });
  const again = await world.release('v-5');
  expect(again).not.toBe(slow);
  await world.untilLive('shop', again);
});

it('delivers to each application independently: live in one, failed in the other', async () => {
  await world.addApplication('bank', ['nowhere']);
  await world.addApplication('club');
  const release = await world.released('v-6');
  await world.untilLive('shop', release);
  await world.untilLive('club', release);
  expect((await untilDelivery('bank', release, 'failed')).detail).toContain('there is no gate "nowhere"');
  for (const line of ['failed in bank', `${release}: live in club`, `${release}: live in shop`])
    await untilDetail('v-6', line);
  const { rows } = await world.records.evaluations({ project: 'p', model: 'm', submission: 'v-6' });
  const report = rows[0]?.report?.sha256 ?? null;
  expect(await world.give('v-6', 'mia', 'reassign', { reason: 'r', to: 'sue' }, { report })).toMatchObject({
    status: 'failed',
    message: 'p/m/v-6 is live in club, shop: revert or take it down there first, then reassign',
  });
});

it('delivers the newest release to a new application', async () => {
  const { release } = await world.records.livePointer('shop', 'kind');
  await world.addApplication('park');
  await world.untilLive('park', release ?? '');
  expect((await world.records.deliveries({ application: 'park' })).rows).toHaveLength(1);
});

it('repeats nothing, however often it is woken', async () => {
  const id = workflowId.application({ application: 'shop', type: 'kind' });
  const before = await world.records.livePointer('shop', 'kind');
  const { rows } = await world.records.deliveries({ application: 'shop' });
  const look = () => world.client.workflow.getHandle(id).describe();
  const { historyLength } = await look();
  for (let i = 0; i < 5; i += 1) await world.client.workflow.getHandle(id).signal(wake);
  await world.client.workflow.getHandle(world.idOf('v-6')).signal(wake);
  await until('the wake-ups to be dealt with', async () => {
    const { historyLength: now, status, raw } = await look();
    const under = (raw.pendingActivities ?? []).length + (raw.pendingChildren ?? []).length;
    return now >= historyLength + 5 && status.name === 'RUNNING' && under === 0 && !raw.pendingWorkflowTask;
  });
  expect(await world.records.livePointer('shop', 'kind')).toEqual(before);
  expect((await world.records.deliveries({ application: 'shop' })).rows).toEqual(rows);
});

it('keeps an audit that cannot be rewritten', async () => {
  expect(await world.records.verifyAudit()).toMatchObject({ broken: null });
});
