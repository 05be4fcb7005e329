// Signals are hostile input: the workflow survives all of them, refusals are in the audit, and valid commands still work.
import { randomUUID } from 'node:crypto';
import type { CommandBody, SignedCommand } from '../../workflows/domain/command.ts';
import { wake } from '../../workflows/messages.ts';
import { createApiKey } from './api-key.ts';
import { jsonPayload, junk, sendRaw } from './raw-signals.ts';
import { until } from './until.ts';
import type { World } from './world.ts';
import { openWorld } from './world.ts';

let world: World;
let id: string;
beforeAll(async () => {
  world = await openWorld();
  id = world.idOf('h-1');
  await world.submitted('h-1');
}, 600_000);
afterAll(() => world.close());

/** Checks that the workflow still carries out a valid command. */
async function answers(submission = 'h-1'): Promise<void> {
  expect(await world.give(submission, 'mia', 'tag', { tags: [`t-${randomUUID().slice(0, 8)}`] })).toMatchObject({
    status: 'done',
  });
  const { status } = await world.client.workflow.getHandle(world.idOf(submission)).describe();
  expect(status.name).toBe('RUNNING');
}
const refusals = async (subject = 'p/m/h-1') =>
  (await world.auditOf(subject)).filter(({ kind }) => kind === 'command.refused');
/** Sends a signal, waits for one more refusal and returns its row. */
async function refused(send: () => Promise<unknown>, subject = 'p/m/h-1') {
  const before = (await refusals(subject)).length;
  await send();
  return until('a refusal in the audit', async () => (await refusals(subject)).slice(before).at(-1));
}
const send = (sent: unknown) => world.client.workflow.getHandle(id).signal('command', sent);
async function valid(more: Partial<CommandBody> = {}): Promise<SignedCommand> {
  const { revision, digest } = await world.untilState('h-1', 'new');
  return world.signed({ workflowId: id, name: 'tag', actor: 'mia', args: { tags: ['x'] }, revision, digest, ...more });
}

it.each(Object.keys(junk))('refuses %s', async (what) => {
  const row = await refused(() => sendRaw(world, id, 'command', junk[what] ?? []));
  expect(row).toMatchObject({ actor: 'unproven', detail: { reason: 'malformed', signed: false } });
  expect(row.reason.length).toBeLessThan(300);
  await answers();
});

it('uses only the first argument, even if the second is undecodable', async () => {
  const sent = await valid();
  await sendRaw(world, id, 'command', [jsonPayload(sent), { encoding: 'json/plain', data: '{' }]);
  expect(await world.settled(id, sent.body.commandId)).toMatchObject({ status: 'done' });
  const other = await valid();
  await refused(() => sendRaw(world, id, 'command', [{ encoding: 'json/plain', data: '{' }, jsonPayload(other)]));
  expect(await world.records.command(id, other.body.commandId)).toBeUndefined();
  await answers();
});

it.each([
  ['of an unknown name', 'approve'],
  ['of a name reserved by the SDK', '__temporal_default'],
  ['of another reserved name', '__temporal_workflow_metadata'],
  ['named like a query of the SDK', '__stack_trace'],
  ['named like a property of every object', 'constructor'],
  ['of a very long name', 'n'.repeat(900)],
])('ignores a signal that is %s', async (_, name) => {
  await sendRaw(world, id, name, [jsonPayload({ digest: 'x' })]);
  await sendRaw(world, id, name, [{ encoding: 'json/plain', data: '{' }]);
  await answers();
});

it('reads the records again when woken, with any payload', async () => {
  for (const payloads of Object.values(junk)) await sendRaw(world, id, wake.name, payloads);
  await answers();
});

it('answers queries with junk arguments', async () => {
  const handle = world.client.workflow.getHandle(id);
  expect(await handle.query('status', { not: 'anything' })).toMatchObject({ version: { state: 'new' } });
  expect(await handle.query('status', 'constructor')).toMatchObject({ version: { state: 'new' } });
  await expect(handle.query('outcome', 'constructor')).rejects.toThrow();
  await answers();
});

it('refuses commands that the API did not sign, and records the actor as a claim', async () => {
  const sent = await valid({ name: 'withdraw', actor: 'sam', roles: ['scientist'] });
  const unsigned = { reason: 'unsigned', signed: false };
  const stranger = createApiKey('k1');
  const unknown = createApiKey('k2');
  for (const hostile of [
    { ...sent, signature: '' },
    { ...sent, signature: 'A'.repeat(86) },
    { ...sent, signature: `${sent.signature}=` },
    { ...sent, signature: '%'.repeat(86) },
    { ...sent, body: { ...sent.body, actor: 'moe' } },
    { ...sent, body: { ...sent.body, roles: ['manager'] } },
    stranger.signed(sent.body),
    unknown.signed({ ...sent.body, keyId: 'k2' }),
    { ...sent, body: { ...sent.body, keyId: 'constructor' } },
  ]) {
    const row = await refused(() => send(hostile));
    expect(row).toMatchObject({ actor: 'unproven', detail: unsigned });
  }
  await answers();
});

it('carries out a command by a key that the platform got after the workflow began', async () => {
  const later = createApiKey('k-later');
  const { body } = await valid();
  const sent = later.signed({ ...body, keyId: 'k-later' });
  await world.records.registerKeys(later.keys);
  await world.records.recordCommand(sent, { project: 'p', subject: 'p/m/h-1' });
  await send(sent);
  expect(await world.settled(id, sent.body.commandId)).toMatchObject({ status: 'done' });
  await answers();
});

it('refuses signed commands for another workflow, state, person or kind', async () => {
  await world.submitted('h-2');
  const { revision, digest } = await world.untilState('h-1', 'new');
  const base = { workflowId: id, actor: 'mia', revision, digest };
  const cases: readonly (readonly [Partial<CommandBody>, string])[] = [
    [{ ...base, name: 'tag', workflowId: world.idOf('h-2'), args: { tags: [] } }, 'wrong-workflow'],
    [{ ...base, name: 'tag', revision: revision - 1, args: { tags: [] } }, 'stale'],
    [{ ...base, name: 'tag', revision: revision + 1, args: { tags: [] } }, 'stale'],
    [{ ...base, name: 'release' }, 'wrong-state'],
    [{ ...base, name: 'constructor' }, 'wrong-state'],
    [{ ...base, name: 'revert', args: { release: 'kind-1' } }, 'wrong-state'],
    [{ ...base, name: 'reject', actor: 'sam', args: { reason: 'r' } }, 'not-authorized'],
    [{ ...base, name: 'reject', digest: 'f'.repeat(64), args: { reason: 'r' } }, 'wrong-digest'],
    [{ ...base, name: 'reject', args: {} }, 'invalid'],
  ];
  for (const [body, reason] of cases) {
    const sent = world.signed({ name: '', actor: '', ...body, workflowId: body.workflowId ?? '' });
    const row = await refused(() => send(sent));
    const isForHere = reason !== 'wrong-workflow';
    expect(row).toMatchObject({ actor: isForHere ? sent.body.actor : 'unproven', detail: { reason } });
    if (isForHere)
      expect(await world.records.command(id, sent.body.commandId)).toMatchObject({
        outcome: { status: 'refused', reason },
      });
  }
  await answers();
});

it('refuses texts that stores cannot keep, signed or not', async () => {
  for (const reason of ['a\u0000b', 'bell \u0007']) {
    const sent = await valid({ name: 'reject', args: { reason } });
    expect(await refused(() => send(sent))).toMatchObject({ detail: { reason: 'malformed' } });
  }
  // RFC 8785 forbids unpaired surrogates, so such texts cannot be signed.
  const { body, signature } = await valid();
  for (const change of [{ actor: '\ud800' }, { args: { 'a\u0000\ud800': 1 } }, { name: '\u0000' }]) {
    const row = await refused(() => send({ body: { ...body, ...change }, signature }));
    expect(row).toMatchObject({ detail: { reason: 'malformed' } });
    expect(row.reason).toMatch(/^[\x20-\x7e]+$/);
  }
  const lines = await valid({ args: { tags: ['x'], reason: 'two\nlines,\ttabs, é, 漢字, 😀 and \\u0000' } });
  await send(lines);
  expect(await world.settled(id, lines.body.commandId)).toMatchObject({ status: 'done' });
  await answers();
});

it('keeps the first command with an id, and applies it once', async () => {
  const sent = await valid({ args: { tags: ['first'] } });
  await send(sent);
  expect(await world.settled(id, sent.body.commandId)).toMatchObject({ status: 'done' });
  const { revision } = await world.untilState('h-1', 'new');
  await send(sent);
  const other = await valid({ commandId: sent.body.commandId, args: { tags: ['second'] } });
  await send(other);
  await expect(world.records.recordCommand(other, { project: 'p', subject: 'p/m/h-1' })).rejects.toThrow(
    'exists with other content',
  );
  expect(await world.untilState('h-1', 'new')).toMatchObject({ revision, tags: ['first'] });
});

it('does not take a command of one version for another of the same bytes', async () => {
  await world.putSubmission('same', 'same');
  await world.startLifecycle('h-3', { directory: 'same' });
  const first = await world.untilState('h-3', 'new');
  const reject = world.signed({
    workflowId: world.idOf('h-3'),
    name: 'reject',
    actor: 'mia',
    args: { reason: 'r' },
    revision: first.revision,
    digest: first.digest,
  });
  await world.give('h-3', 'sam', 'withdraw');
  await world.client.workflow.getHandle(world.idOf('h-3')).result();
  await world.startLifecycle('h-4', { directory: 'same' });
  const second = await world.untilState('h-4', 'new');
  expect(second).toMatchObject({ digest: first.digest, revision: first.revision });
  const row = await refused(
    () => world.client.workflow.getHandle(world.idOf('h-4')).signal('command', reject),
    'p/m/h-4',
  );
  expect(row).toMatchObject({ detail: { reason: 'wrong-workflow' } });
  await answers('h-4');
});

it('harms neither applications nor feedback', async () => {
  await world.addApplication('shop');
  const report = await world.evaluate('h-2');
  await world.give('h-2', 'mia', 'approve', {}, { report });
  const release = await world.release('h-2');
  await world.untilLive('shop', release);
  const now = new Date().toISOString();
  const scan = { scan: 's-1', project: 'p', application: 'shop', type: 'kind', release, findings: [] } as const;
  const feedback = await world.startFeedback({
    ...scan,
    ...{ state: 'open', revision: 0, commit: null, keyId: 'k1', updatedAt: now },
  });
  for (const target of ['application/shop/kind', feedback]) {
    for (const payloads of Object.values(junk)) await sendRaw(world, target, 'command', payloads);
    for (const payloads of Object.values(junk)) await sendRaw(world, target, wake.name, payloads);
    for (const name of ['approve', '__temporal_default']) await sendRaw(world, target, name, [jsonPayload(1)]);
    const { status } = await world.client.workflow.getHandle(target).describe();
    expect(status.name).toBe('RUNNING');
  }
  expect(await world.revert('shop', 'dev', release)).toMatchObject({ status: 'failed', reason: 'Conflict' });
  const count = Object.keys(junk).length;
  for (const subject of ['shop/kind', 'p/scans/s-1'])
    await until(`the refusals of ${subject}`, async () => (await refusals(subject)).length === count);
  const label = world.signed({ workflowId: feedback, name: 'confirm', actor: 'eve', args: { findings: ['x'] } });
  expect(await world.send(label)).toMatchObject({ status: 'refused', reason: 'invalid' });
});
