// Far more signals than a workflow task can process: nothing hangs, no valid command is lost, the workflow continues as new.
import { randomUUID } from 'node:crypto';
import type { SignedCommand } from '../../workflows/domain/command.ts';
import { command } from '../../workflows/messages.ts';
import { jsonPayload, junk, sendRaw } from './raw-signals.ts';
import { until } from './until.ts';
import type { World } from './world.ts';
import { openWorld } from './world.ts';

let world: World;
beforeAll(async () => {
  world = await openWorld();
}, 600_000);
afterAll(() => world.close(), 600_000);

/** Runs `work` over all items, some at a time. */
async function some<T>(items: readonly T[], atOnce: number, work: (item: T) => Promise<unknown>): Promise<void> {
  const queue = [...items];
  await Promise.all(
    Array.from({ length: atOnce }, async () => {
      for (let item = queue.shift(); item !== undefined; item = queue.shift()) await work(item);
    }),
  );
}
const runIdOf = async (id: string) => (await world.client.workflow.getHandle(id).describe()).runId;

it('survives 6,000 signals that arrived while no worker was running', async () => {
  await world.submitted('o-1');
  const id = world.idOf('o-1');
  const { revision, digest } = await world.untilState('o-1', 'new');
  const first = await runIdOf(id);
  await world.stopWorkers();
  const base = { workflowId: id, name: 'tag', actor: 'mia', digest };
  // 4,000 signed by the API, stale or in the wrong state, among 2,000 malformed ones.
  const nothing = Object.values(junk).filter((payloads) => payloads.every(({ data }) => data.length < 10_000));
  const signals = Array.from({ length: 6_000 }, (_, i) => {
    if (i % 3 === 2) return nothing[i % nothing.length] ?? [];
    const more = i % 2 ? { revision: revision + 1 } : { revision, name: 'release' };
    return [jsonPayload(world.signed({ ...base, ...more }))];
  });
  await some(signals, 50, (payloads) => sendRaw(world, id, 'command', payloads));
  const valid = world.signed({ ...base, revision, args: { tags: ['after'] } });
  const handle = world.client.workflow.getHandle(id);
  await world.records.recordCommand(valid, { project: 'p', subject: 'p/m/o-1' });
  await handle.signal(command, valid);
  await world.startWorkers();
  // After so many signals it is not even verified: its row stays open, and it is sent again.
  const refusals = async () => (await world.auditOf('p/m/o-1')).filter(({ kind }) => kind === 'command.refused');
  await until('the flood to be looked at', async () => (await refusals()).length > 0, 240_000);
  expect(await world.records.command(id, valid.body.commandId)).toMatchObject({ isOpen: true });
  await until('the command to be done', async () => {
    await handle.signal(command, valid);
    return (await world.records.command(id, valid.body.commandId))?.outcome.status === 'done';
  });
  expect(await world.untilState('o-1', 'new')).toMatchObject({ tags: ['after'] });
  expect((await handle.describe()).status.name).toBe('RUNNING');
  await until('the history to be cut', async () => (await runIdOf(id)) !== first);
  expect(await world.untilState('o-1', 'new')).toMatchObject({ tags: ['after'], digest });
  const rows = (await world.auditOf('p/m/o-1')).filter(({ kind }) => kind === 'command.refused');
  // Bounded: the first hundred are recorded in detail, the others as a count.
  const dropped = rows.reduce((sum, { detail }) => sum + (typeof detail.dropped === 'number' ? detail.dropped : 0), 0);
  expect(rows.length).toBeLessThan(500);
  expect(rows.filter(({ detail }) => detail.dropped === undefined).length + dropped).toBeGreaterThanOrEqual(6_001);
}, 600_000);

it('continues as new after 500 commands and keeps state, outcomes and waiting commands', async () => {
  const policy = { quorum: 2 };
  const report = await world.submitted('o-2', { policy });
  const id = world.idOf('o-2');
  const handle = world.client.workflow.getHandle(id);
  await world.give('o-2', 'mia', 'tag', { tags: ['kept'] });
  const approve = await world.give('o-2', 'mia', 'approve', {}, { report });
  expect(approve).toMatchObject({ message: 'approval 1 of 2' });
  const first = await runIdOf(id);
  const sent: SignedCommand[] = [];
  const giveValid = async (): Promise<unknown> => {
    const { revision, digest } = (await world.standing('o-2')).version;
    const tags = [`n-${sent.length}`];
    const one = world.signed({ workflowId: id, name: 'tag', actor: 'max', args: { tags }, revision, digest });
    sent.push(one);
    return world.send(one);
  };
  const early = world.signed({ workflowId: id, name: 'tag', actor: 'mia', args: { tags: ['x'] }, revision: 0 });
  await handle.signal(command, early);
  // The longest valid findings and reasons: the carried state must not grow with them.
  const args = { findings: Array.from({ length: 200 }, () => 'f'.repeat(64)), reason: 'r'.repeat(1_500) };
  for (let portion = 0; portion < 6; portion += 1) {
    const stale = Array.from({ length: 100 }, () =>
      world.signed({ workflowId: id, name: 'tag', actor: 'mia', args, revision: 0, commandId: randomUUID() }),
    );
    await some(stale, 10, (one) => handle.signal(command, one));
    expect(await giveValid()).toMatchObject({ status: 'done' });
  }
  await until('the history to be cut', async () => (await runIdOf(id)) !== first);
  for (const { body } of sent)
    expect(await world.records.command(id, body.commandId)).toMatchObject({ outcome: { status: 'done' } });
  expect(await world.standing('o-2')).toMatchObject({
    version: { state: 'new', tags: ['n-5'] },
    counting: ['mia'],
  });
  // Sent again in the new run, the command is still known, and the earlier approval still counts.
  const again = sent.at(-1);
  const { revision } = await world.untilState('o-2', 'new');
  await handle.signal(command, again);
  expect(await world.give('o-2', 'max', 'approve', {}, { report })).toMatchObject({ message: 'approval 2 of 2' });
  expect(await world.untilState('o-2', 'approved')).toMatchObject({ revision: revision + 1, tags: ['n-5'] });
}, 600_000);

it('continues as new when signals with unknown names have filled its history', async () => {
  await world.submitted('o-3');
  const id = world.idOf('o-3');
  const first = await runIdOf(id);
  await world.stopWorkers();
  await some(
    Array.from({ length: 5_000 }, (_, i) => i),
    50,
    (i) => sendRaw(world, id, `approve-${i % 7}`, [jsonPayload(i)]),
  );
  await world.startWorkers();
  await until('the history to be cut', async () => (await runIdOf(id)) !== first, 240_000);
  expect(await world.give('o-3', 'mia', 'tag', { tags: ['after'] })).toMatchObject({ status: 'done' });
}, 600_000);
