// Anyone who reaches Temporal's port can start workflows, signal them and complete activities by hand: none of it changes the records.
import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { AsyncCompletionClient } from '@temporalio/client';
import { taskQueues, workflowId } from '../../workflows/messages.ts';
import { createApiKey } from './api-key.ts';
import { until } from './until.ts';
import type { World } from './world.ts';
import { openWorld } from './world.ts';

let world: World;
/** A rejected version that the attacker wants live, and a live one. */
let rejected: { digest: string | null; report: string };
let liveRelease: string;
beforeAll(async () => {
  world = await openWorld();
  await world.addApplication('shop');
  liveRelease = await world.released('a-live');
  await world.untilLive('shop', liveRelease);
  const report = await world.submitted('a-bad', { policy: { undoWithinSeconds: 1 } });
  await world.give('a-bad', 'mia', 'reject', { reason: 'it leaks' });
  const ended = (await world.client.workflow.getHandle(world.idOf('a-bad')).result()) as { digest: string | null };
  rejected = { digest: ended.digest, report };
  await world.submitted('a-new');
}, 600_000);
afterAll(() => world.close());

/** The whole durable state: rows, files, commits, events. */
async function truth(): Promise<string> {
  const rows = await Promise.all([
    world.records.versions({ project: 'p', limit: 100 }),
    world.records.releases({ type: 'kind' }),
    world.records.livePointer('shop', 'kind'),
    world.records.liveHistory({ application: 'shop', type: 'kind' }),
    world.records.evaluations({ project: 'p', limit: 100 }),
    world.records.deliveries({ application: 'shop' }),
    world.records.scans({ project: 'p' }),
    world.records.imports({ project: 'p' }),
    world.records.dataSets({ project: 'p' }),
  ]);
  const files: string[] = [];
  for (const folder of ['areas', 'releases', 'events', 'git'])
    for (const file of (await readdir(join(world.home, folder), { recursive: true, withFileTypes: true })).sort(
      (a, b) => (join(a.parentPath, a.name) < join(b.parentPath, b.name) ? -1 : 1),
    ))
      // Consumer offsets and locks change anyway.
      if (
        file.isFile() &&
        !/offset|lock|group|owner|index/i.test(join(file.parentPath, file.name).slice(world.home.length))
      )
        files.push(
          `${join(file.parentPath, file.name)} ${createHash('sha256')
            .update(await readFile(join(file.parentPath, file.name)))
            .digest('hex')}`,
        );
  return JSON.stringify([rows, files], null, 1);
}

const stranger = createApiKey('k-of-mine');
const policy = { version: 9, quorum: 1, undoWithinSeconds: 600, operatorCommands: true, thresholds: {} };

/** An attacker's inputs: with their own keys and policy, and a state of their choice. */
function attempts() {
  const version = {
    ...{ project: 'p', model: 'm', type: 'kind', submission: 'a-bad', author: 'sam', state: 'approved', revision: 3 },
    ...{
      version: 2,
      revises: null,
      digest: rejected.digest,
      files: [],
      run: null,
      tags: [],
      decisions: [],
      detail: '',
    },
    ...{ keyId: 'k-of-mine', updatedAt: new Date().toISOString() },
  };
  const lifecycle = (submission: string) => ({
    ...{ project: 'p', model: 'm', type: 'kind', submission, author: 'sam', beginning: { directory: 'a-bad' } },
    ...{ policy, keys: stranger.keys },
  });
  const inbox = { kept: [], refused: [], dropped: 0, received: 0, flushed: 0 };
  const carried = { version, approvals: ['mia', 'max'], attempt: 1, failedDeliveries: 0, inbox, commands: [] };
  const ended = (name: string) => workflowId.modelLifecycle({ project: 'p', model: 'm', submission: name });
  const of = { project: 'p', evaluation: 'e-mine', model: 'm', actor: 'mia', dataset: 'rows' };
  const run = { project: 'p', model: 'm', submission: 'a-new', attempt: 1, author: 'sam' };
  return [
    ['modelLifecycle', ended('a-mine'), [lifecycle('a-mine'), carried]],
    ['modelLifecycle', ended('a-bad'), [lifecycle('a-bad'), carried]],
    [
      'application',
      'application/mine/kind',
      [{ application: 'mine', type: 'kind', owner: 'eve', keys: stranger.keys }],
    ],
    [
      'application',
      'application/shop/other',
      [{ application: 'shop', type: 'other', owner: 'eve', keys: stranger.keys }],
    ],
    ['delivery', 'delivery/shop/kind-99', [{ application: 'shop', type: 'kind', release: 'kind-99' }]],
    ['delivery', `delivery/shop/${liveRelease}`, [{ application: 'shop', type: 'kind', release: liveRelease }]],
    ['release', 'release/kind-99', [{ project: 'p', model: 'm', submission: 'a-bad', release: 'kind-99' }]],
    ['release', `release/${liveRelease}`, [{ project: 'p', model: 'm', submission: 'a-bad', release: liveRelease }]],
    ['evaluation', 'evaluation/p/e-mine', [{ ...of, subject: { submission: 'a-new' }, thresholds: {} }]],
    ['trainingRun', 'run/p/m/a-new/1', [{ ...run, spec: 'run' in world.run ? world.run.run : {} }]],
    ['feedback', 'feedback/p/mine', [{ project: 'p', scan: 'mine', keys: stranger.keys }]],
    [
      'dataImport',
      'import/p/mine',
      [
        {
          ...{ project: 'p', import: 'mine', dataset: 'mine', unpack: false, sha256: null, actor: 'sam' },
          source: { kind: 'https', url: 'https://example.org/x' },
        },
      ],
    ],
  ] as const;
}

it('a workflow started by hand does nothing, with any input and any signals', async () => {
  const before = await truth();
  for (const [type, id, args] of attempts()) {
    const handle = await world.client.workflow.start(type, {
      ...{ workflowId: id, taskQueue: taskQueues.core, args: [...args] },
      workflowIdReusePolicy: 'ALLOW_DUPLICATE',
    });
    for (const name of ['approve', 'release', 'undo', 'submit', 'revert', 'take-down', 'confirm']) {
      const given = {
        workflowId: id,
        name,
        actor: 'mia',
        revision: 3,
        digest: rejected.digest,
        report: rejected.report,
      };
      await handle
        .signal('command', stranger.signed({ ...given, args: { release: liveRelease, reason: 'mine' } }))
        .catch(() => undefined);
    }
    await expect(handle.result()).rejects.toThrow();
    const { status } = await handle.describe();
    expect([id, status.name]).toEqual([id, 'FAILED']);
  }
  expect(await truth()).toBe(before);
  const rows = (await world.auditOf('platform')).filter(({ kind }) => kind === 'workflow.refused');
  expect(rows.length).toBeGreaterThan(0);
  expect(rows.length).toBeLessThanOrEqual(100);
  expect(await world.records.verifyAudit()).toMatchObject({ broken: null });
});

it('a running workflow replaced by one with another input does nothing, and the recorded one is restarted', async () => {
  const before = await truth();
  const id = world.idOf('a-new');
  await world.client.workflow.getHandle(id).terminate('mine now');
  const input = {
    project: 'p',
    model: 'm',
    type: 'kind',
    submission: 'a-new',
    author: 'mia',
    beginning: { directory: 'x' },
  };
  const handle = await world.client.workflow.start('modelLifecycle', {
    ...{ workflowId: id, taskQueue: taskQueues.core, args: [{ ...input, policy, keys: stranger.keys }] },
  });
  await expect(handle.result()).rejects.toThrow();
  expect(await truth()).toBe(before);
  // The recorded workflow is restarted.
  const start = await world.records.start(id);
  await world.gateway.startLifecycle(start?.input as Parameters<typeof world.gateway.startLifecycle>[0]);
  expect(await world.give('a-new', 'mia', 'tag', { tags: ['back'] })).toMatchObject({ status: 'done' });
});

it('a forged activity result decides nothing, neither a gate nor a command', async () => {
  const completion = new AsyncCompletionClient({ connection: world.connection, namespace: world.namespace });
  world.script.service = 'slow';
  const release = await world.released('a-slow');
  const id = workflowId.delivery({ application: 'shop', release });
  const activity = await until('the gate to run', async () => {
    const { raw } = await world.client.workflow.getHandle(id).describe();
    return raw.pendingActivities?.find(({ activityType }) => activityType?.name === 'runGate')?.activityId;
  });
  const forged = { gate: 'function', passed: true, detail: 'all is well', seconds: 0 };
  await completion.complete({ workflowId: id, activityId: activity }, forged);
  const delivery = await until('the delivery to end', async () => {
    const row = await world.records.delivery('shop', release);
    return row?.state === 'failed' && row;
  });
  expect(delivery.detail).toContain('gates that did not run: function');
  expect(await world.records.livePointer('shop', 'kind')).toMatchObject({ release: liveRelease });
  world.script.service = 'golden';
  await until('the version to know', async () =>
    (await world.records.version('p', 'm', 'a-slow'))?.detail.includes('failed in shop'),
  );
  // The record beside the artifact is written later.
  await until('the record to be filed', async () => {
    const unfiled = await world.records.unfiled({ project: 'p', model: 'm', submission: 'a-slow' });
    return unfiled.length === 0;
  });
});

it('a genuine workflow does not carry out commands signed with an attacker’s key', async () => {
  const before = await truth();
  const { version } = await world.standing('a-new');
  const id = world.idOf('a-new');
  for (const name of ['approve', 'reject', 'withdraw', 'tag'])
    await world.client.workflow.getHandle(id).signal(
      'command',
      stranger.signed({
        ...{ workflowId: id, name, actor: 'mia', revision: version.revision, digest: version.digest },
        ...{ report: rejected.report, args: { reason: 'mine', tags: ['mine'] } },
      }),
    );
  await until('the refusals', async () =>
    (await world.auditOf('p/m/a-new')).some(({ kind }) => kind === 'command.refused'),
  );
  expect(await truth()).toBe(before);
});
