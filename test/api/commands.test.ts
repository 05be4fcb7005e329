// Commands: signed and recorded before they are signalled, refused at once by the record, and answered by what their row says.
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { ed25519 } from '@noble/curves/ed25519.js';
import canonicalize from 'canonicalize';
import { randomUUID } from 'node:crypto';
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { createSigner } from '../../activities/signing.ts';
import { createApp } from '../../api/app.ts';
import { auditEntry } from '../../api/audit-entry.ts';
import { issueToken } from '../../api/tokens.ts';
import type { CommandBody } from '../../workflows/domain/command.ts';
import { parseSignedCommand } from '../../workflows/domain/command.ts';
import type { SignedCommand } from '../../workflows/domain/command.ts';
import type { Version } from '../../workflows/domain/model.ts';
import type { Digest } from '../../workflows/domain/names.ts';
import { isSigned } from '../../workflows/signature.ts';
import { decides, DIGEST, populatePassage, recordVersion, REPORT, versionRow } from './passage.ts';
import type { World } from './world.ts';
import { json, openWorld, PROJECT, sha256, TYPE } from './world.ts';

const state: { world?: World } = {};
const world = (): World => {
  if (!state.world) throw new Error('no world');
  return state.world;
};
beforeAll(async () => {
  state.world = await openWorld();
  await populatePassage(state.world);
});
afterAll(() => state.world?.close());
beforeEach(() => {
  const { workflows } = world().deps;
  workflows.onCommand = async () => undefined;
  workflows.sent.length = 0;
  delete workflows.throws.send;
});

const submission = `/v1/projects/${PROJECT}/models/random-forest/submissions/rf-1`;
const ofPointer = `/v1/applications/scanner/types/${TYPE}`;
const ofScan = `/v1/projects/${PROJECT}/scans/scan-1`;
const approve = { name: 'approve', revision: 3, digest: DIGEST, report: sha256(REPORT) };
const tag = { name: 'tag', revision: 3, args: { tags: ['tried'] } };
const WAIT = { prefer: 'wait=5' };

const give = (who: string, body: object, headers: Record<string, string> = {}, path = submission) =>
  world().ask(who, 'POST', `${path}/commands`, body, headers);
const sent = (): readonly string[] => world().deps.workflows.sent.map(({ command }) => command.body.commandId);
const last = (): { workflowId: string; command: SignedCommand } => {
  const one = world().deps.workflows.sent.at(-1);
  if (!one) throw new Error('nothing was sent');
  return one;
};
const refusals = async (subject: string) =>
  (await world().deps.records.audit({ subject, limit: 500 })).rows
    .map(({ entry }) => entry)
    .filter(({ kind }) => kind === 'command.refused');

/** A version of its own, with the path of its submission. */
async function another(given: Partial<Version> = {}): Promise<string> {
  const id = `rf-${randomUUID().slice(0, 8)}`;
  await recordVersion(world(), versionRow({ submission: id, digest: sha256(id) as Digest, ...given }));
  return submission.replace('rf-1', id);
}

/** The approval of another one, by its bytes. */
const approveOf = (path: string) => ({ ...approve, digest: sha256(path.slice(path.lastIndexOf('/') + 1)) });

describe('the signature', () => {
  test('is one that the workflow accepts, over exactly what was asked', async () => {
    const response = await give('mia', { ...approve, commandId: 'approve-1' });
    expect(response.status).toBe(202);
    const { workflowId, command } = last();
    expect(Math.abs(Date.parse(command.body.issuedAt) - Date.now())).toBeLessThan(60_000);
    expect(workflowId).toBe(`model/${PROJECT}/random-forest/rf-1`);
    expect(parseSignedCommand(command)).toEqual({ command });
    expect(command.body).toEqual({
      ...{ v: 1, keyId: world().deps.signer.newest, workflowId, commandId: 'approve-1', name: 'approve', args: {} },
      ...{ actor: 'mia', roles: ['manager'], policyVersion: 1, revision: 3, digest: DIGEST, report: sha256(REPORT) },
      issuedAt: command.body.issuedAt,
    });
    const key = world().deps.signer.publicKeys()[command.body.keyId] ?? '';
    const message = new TextEncoder().encode(canonicalize(command.body));
    expect(ed25519.verify(Buffer.from(command.signature, 'base64url'), message, Buffer.from(key, 'hex'))).toBe(true);
    expect(isSigned(command, world().deps.signer.publicKeys())).toBe(true);
    const forged = { ...command, body: { ...command.body, actor: 'sam' } };
    expect(isSigned(forged, world().deps.signer.publicKeys())).toBe(false);
  });

  test('keys stay over a restart, are for this user alone, and a second process on the folder agrees', async () => {
    const folder = join(world().folder, 'keys');
    const again = await createSigner(folder);
    expect(again.publicKeys()).toEqual(world().deps.signer.publicKeys());
    expect((await stat(folder)).mode & 0o777).toBe(0o700);
    const [name = ''] = await readdir(folder);
    expect(name).toBe(`${again.newest}.json`);
    expect((await stat(join(folder, name))).mode & 0o777).toBe(0o600);
    const body = { keyId: 'f'.repeat(16) } as CommandBody;
    expect(() => again.sign(body)).toThrow('is not in');
  });

  test('is by the newest key, whichever a version was started with', async () => {
    const path = await another({ keyId: 'f'.repeat(16) });
    expect((await give('mia', tag, {}, path)).status).toBe(202);
    expect(last().command.body.keyId).toBe(world().deps.signer.newest);
  });

  test('by a key that is not registered with the record is not taken: nothing is recorded, nothing sent', async () => {
    const { deps } = world();
    const stranger = await createSigner(join(world().folder, 'strange-keys'));
    const { app } = createApp({ ...deps, signer: stranger });
    const token = world().tokens['mia'] ?? '';
    const response = await app.request(`http://localhost${submission}/commands`, {
      method: 'POST',
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
      body: JSON.stringify({ ...tag, commandId: 'from-a-stranger' }),
    });
    expect(response.status).toBeGreaterThanOrEqual(400);
    expect(await response.text()).not.toContain(world().folder);
    expect(deps.workflows.sent).toEqual([]);
    expect(await deps.records.command(`model/${PROJECT}/random-forest/rf-1`, 'from-a-stranger')).toBeUndefined();
  });
});

describe('what is answered', () => {
  test('accepted: 202 with where to ask', async () => {
    const response = await give('mia', { ...approve, commandId: 'approve-2' });
    expect(response.status).toBe(202);
    const address = response.headers.get('location') ?? '';
    expect(address).toBe(`${submission}/commands/approve-2`);
    const outcome = { commandId: 'approve-2', outcome: { status: 'accepted' }, address };
    expect(await json(response)).toEqual(outcome);
    expect(await json(world().ask('mia', 'GET', address))).toEqual(outcome);
  });

  test.each([['unavailable'], ['closed'], ['missing']] as const)(
    'the signal does not get through (%s): 202, since it is recorded, and the log says so',
    async (kind) => {
      world().deps.workflows.throws.send = kind;
      const commandId = `unsent-${kind}`;
      const response = await give('mia', { ...approve, commandId });
      expect([response.status, await json(response)]).toMatchObject([202, { outcome: { status: 'accepted' } }]);
      const before = new Date(Date.now() + 60_000).toISOString();
      const open = await world().deps.records.openCommands({ before, limit: 1000 });
      expect(open.map(({ body }) => body.commandId)).toContain(commandId);
      expect(world().lines.find((line) => line['commandId'] === commandId)).toMatchObject({
        msg: 'a command is recorded and not signalled yet',
      });
    },
  );

  test.each<[string, string, string, object]>([
    ['stale', 'mia', 'stale', { ...approve, revision: 2 }],
    ['wrong-digest', 'mia', 'wrong-digest', { ...approve, digest: 'a'.repeat(64) }],
    ['wrong-state', 'mia', 'wrong-state', { ...approve, name: 'retire' }],
    ['invalid', 'mia', 'invalid', { ...approve, report: null }],
    ["not-authorized: another scientist's version", 'sid', 'not-authorized', { name: 'withdraw', revision: 3 }],
  ])('%s: 409 at once from the record, without any signal, and it stays so', async (_, who, reason, command) => {
    const commandId = `refused-${reason}`;
    const response = await give(who, { ...command, commandId });
    expect(response.headers.get('content-type')).toBe('application/problem+json');
    const body = await json(response);
    const outcome = { status: 'refused', reason, message: expect.any(String) as unknown };
    expect([response.status, body]).toMatchObject([409, { type: `urn:ocdl:problem:command-${reason}`, outcome }]);
    expect(sent()).toEqual([]);
    const row = (await refusals(`${PROJECT}/random-forest/rf-1`)).find(
      ({ detail }) => detail['commandId'] === commandId,
    );
    expect(row).toMatchObject({ actor: who, detail: { refused: reason, command: { body: { commandId } } } });
    // Asked for later, and sent again, it is as it was.
    expect(await json(world().ask('mia', 'GET', `${submission}/commands/${commandId}`))).toMatchObject({ outcome });
    expect([(await give(who, { ...command, commandId })).status, sent()]).toEqual([409, []]);
  });

  test('closed: a version that has ended takes nothing more', async () => {
    const path = await another();
    world().deps.workflows.onCommand = decides(world());
    expect((await give('sam', { name: 'withdraw', revision: 3 }, WAIT, path)).status).toBe(200);
    world().deps.workflows.sent.length = 0;
    const response = await give('mia', { ...approve, revision: 4 }, {}, path);
    expect([response.status, await json(response)]).toMatchObject([
      409,
      { type: 'urn:ocdl:problem:command-closed', detail: expect.stringContaining('withdrawn') as unknown },
    ]);
    expect(sent()).toEqual([]);
  });

  test('what is decided in the end may still be a refusal', async () => {
    const path = await another();
    const { records, workflows } = world().deps;
    const decide = decides(world());
    // Somebody was faster, between the record of this one and its decision.
    workflows.onCommand = async (id, command) => {
      workflows.onCommand = decide;
      await give('mia', { ...tag, commandId: 'faster-tag' }, WAIT, path);
      await decide(id, command);
    };
    const response = await give('mia', { ...approveOf(path), commandId: 'slower-one' }, WAIT, path);
    expect([response.status, await json(response)]).toMatchObject([409, { outcome: { reason: 'stale' } }]);
    const id = last().workflowId;
    expect(await records.command(id, 'faster-tag')).toMatchObject({ outcome: { status: 'done' } });
  });

  test('failed: 409 with the reason', async () => {
    world().deps.workflows.onCommand = decides(world());
    const path = await another();
    const response = await give('mia', { ...approveOf(path), report: 'b'.repeat(64) }, WAIT, path);
    expect([response.status, await json(response)]).toMatchObject([
      409,
      {
        type: 'urn:ocdl:problem:command-failed',
        detail: expect.stringContaining('no evaluation') as unknown,
        outcome: { status: 'failed', reason: 'EvidenceMissing' },
      },
    ]);
  });

  test('Prefer: wait=N waits until it is done, and no longer than N', async () => {
    const path = await another();
    const { workflows } = world().deps;
    const late: Promise<unknown>[] = [];
    workflows.onCommand = async (id, command) => {
      late.push(new Promise((resolve) => setTimeout(resolve, 100)).then(() => decides(world())(id, command)));
    };
    const done = await give('mia', tag, { prefer: 'respond-async, wait=5' }, path);
    expect([done.status, done.headers.get('preference-applied')]).toEqual([200, 'wait=5']);
    await Promise.all(late);
    workflows.onCommand = async () => undefined;
    const begun = Date.now();
    const waited = await give('mia', { ...tag, revision: 4 }, { prefer: 'wait=1' }, path);
    expect(waited.status).toBe(202);
    expect(Date.now() - begun).toBeGreaterThanOrEqual(950);
    expect(Date.now() - begun).toBeLessThan(30_000);
  });

  test('without a grant: 403, nothing recorded or sent, and the audit has it', async () => {
    const response = await give('eng', { ...approve, commandId: 'not-mine-to-give' });
    expect(response.status).toBe(403);
    expect(sent()).toEqual([]);
    const id = `model/${PROJECT}/random-forest/rf-1`;
    expect(await world().deps.records.command(id, 'not-mine-to-give')).toBeUndefined();
    const row = (await refusals(`${PROJECT}/random-forest/rf-1`)).find(({ actor }) => actor === 'eng');
    expect(row?.detail).toMatchObject({ commandId: 'not-mine-to-give', name: 'approve', refused: 'not-authorized' });
  });

  test.each([
    ['mia', submission],
    ['dev', ofPointer],
    ['eng', ofScan],
  ])("an unknown command's address is 404 to %s at %s", async (who, path) => {
    expect((await world().ask(who, 'GET', `${path}/commands/never-given`)).status).toBe(404);
  });
});

describe('the same command id', () => {
  test('again is the same command, also once it is done: recorded once, signalled while it is open', async () => {
    const path = await another();
    const command = { ...tag, commandId: 'tag-twice' };
    expect((await give('mia', command, {}, path)).status).toBe(202);
    expect((await give('mia', command, {}, path)).status).toBe(202);
    expect(sent()).toEqual(['tag-twice', 'tag-twice']);
    // Two signals of one command are the same one.
    expect(world().deps.workflows.sent[1]?.workflowId).toBe(world().deps.workflows.sent[0]?.workflowId);
    await decides(world())(last().workflowId, last().command);
    world().deps.workflows.sent.length = 0;
    const again = await give('mia', command, {}, path);
    expect([again.status, await json(again)]).toMatchObject([200, { outcome: { status: 'done' } }]);
    expect(sent()).toEqual([]);
  });

  test.each<[string, string, object]>([
    ['from another person', 'max', {}],
    ['with another reason', 'mia', { args: { tags: ['other'] } }],
    ['at another revision', 'mia', { revision: 4 }],
    ['as another command', 'mia', { ...approve }],
  ])('%s: 409 repeated, nothing sent, and the first one stands', async (_, who, change) => {
    const path = await another();
    const commandId = 'one-id-for-two';
    const caller = who === 'max' ? await anotherManager() : who;
    expect((await give('mia', { ...tag, commandId }, {}, path)).status).toBe(202);
    const { workflowId } = last();
    world().deps.workflows.sent.length = 0;
    const response = await give(caller, { ...tag, commandId, ...change }, {}, path);
    expect([response.status, await json(response)]).toMatchObject([
      409,
      { type: 'urn:ocdl:problem:command-repeated', commandId, outcome: { status: 'refused', reason: 'repeated' } },
    ]);
    expect(sent()).toEqual([]);
    const row = await world().deps.records.command(workflowId, commandId);
    expect(row).toEqual({ commandId, actor: 'mia', isOpen: true, outcome: { status: 'accepted' } });
  });

  test('of two people at once: one is accepted, the other is told', async () => {
    const path = await another();
    const max = await anotherManager();
    const statuses = await Promise.all(
      ['mia', max, 'mia', max].map(
        async (who) => (await give(who, { ...tag, commandId: 'a-race-of-two' }, {}, path)).status,
      ),
    );
    expect([...statuses].sort()).toEqual([202, 202, 409, 409]);
    expect(new Set(world().deps.workflows.sent.map(({ command }) => command.body.actor)).size).toBe(1);
  });

  test('to two versions is two commands', async () => {
    const [one, two] = [await another(), await another()];
    expect((await give('mia', { ...tag, commandId: 'same-in-both' }, {}, one)).status).toBe(202);
    expect((await give('mia', { ...tag, commandId: 'same-in-both' }, {}, two)).status).toBe(202);
  });
});

/** Max, a manager beside mia: his token. */
async function anotherManager(): Promise<string> {
  const { records } = world().deps;
  const entry = (key: string) =>
    auditEntry({ key: `test/${key}/max`, project: PROJECT, kind: 'test', actor: 'test', subject: 'test' });
  await records.createUser('max', false, entry('user'));
  await records.setMember(PROJECT, { user: 'max', roles: ['manager'] }, entry('member'));
  return (await issueToken(records, { kind: 'user', name: 'max', actor: 'test' })).token;
}

test('moves of the live pointer and labels go to their own workflows', async () => {
  const revert = { name: 'revert', revision: 0, args: { release: `${TYPE}-1`, reason: 'it was better' } };
  expect((await give('dev', revert, {}, ofPointer)).status).toBe(202);
  expect(last().workflowId).toBe(`application/scanner/${TYPE}`);
  expect(last().command.body).toMatchObject({ name: 'revert', revision: 0, roles: ['developer'], actor: 'dev' });
  const label = { name: 'deny', revision: 0, args: { findings: ['f-1'] } };
  expect((await give('eng', label, {}, ofScan)).status).toBe(202);
  expect(last().workflowId).toBe(`feedback/${PROJECT}/scan-1`);
  expect(isSigned(last().command, world().deps.signer.publicKeys())).toBe(true);
});

test.each<[string, string, object]>([
  ['wrong-state', ofPointer, { name: 'take-down', revision: 0, args: { reason: 'it harms' } }],
  ['stale', ofPointer, { name: 'revert', revision: 1, args: { release: `${TYPE}-1`, reason: 'r' } }],
  ['invalid', ofPointer, { name: 'revert', revision: 0, args: { reason: 'r' } }],
  ['stale', ofScan, { name: 'confirm', revision: 7, args: { findings: ['f-1'] } }],
  ['invalid', ofScan, { name: 'confirm', revision: 0, args: { findings: ['f-9'] } }],
])('what cannot be is refused there, too: %s at %s', async (reason, path, command) => {
  const response = await give(path === ofScan ? 'eng' : 'dev', command, {}, path);
  expect([response.status, await json(response), sent()]).toMatchObject([409, { outcome: { reason } }, []]);
});

test('what a version waits for is told, with the reason', async () => {
  const waiting = [{ step: 'publishRelease', attempts: 3, reason: 'S3 does not answer', nextTryAt: null }];
  world().deps.workflows.pending = waiting;
  expect((await json(world().ask('sam', 'GET', submission)))['waiting']).toEqual(waiting);
  world().deps.workflows.pending = [];
  expect((await json(world().ask('sam', 'GET', submission)))['waiting']).toEqual([]);
});

test('a version is shown as the record has it: approvals of how many, which lapsed, until when, and closed', async () => {
  const { records, workflows } = world().deps;
  workflows.onCommand = decides(world());
  const shown = async (path = submission) => json(world().ask('sam', 'GET', path));
  const first = await shown();
  expect(first).toMatchObject({ busy: null, approvals: [], quorum: 1, lapsed: [], undoUntil: null, closed: false });
  expect(first['version']).toMatchObject({ state: 'new', revision: 3 });
  expect(Object.keys(first).sort()).toEqual(
    ['approvals', 'busy', 'closed', 'lapsed', 'quorum', 'undoUntil', 'version', 'waiting'].sort(),
  );
  // Where bytes lie is nobody's business outside.
  expect(JSON.stringify(first)).not.toContain('local:');
  const rows = (await json(world().ask('sid', 'GET', `/v1/projects/${PROJECT}/versions`)))['rows'];
  expect(rows).toEqual([]);

  const policy = async (quorum: number) =>
    expect((await world().ask('admin', 'PUT', `/v1/projects/${PROJECT}/policy`, { quorum })).status).toBe(200);
  await policy(2);
  expect((await give('mia', approve, WAIT)).status).toBe(200);
  expect(await shown()).toMatchObject({ approvals: ['mia'], quorum: 2, lapsed: [], version: { state: 'new' } });
  await policy(3);
  const why = expect.stringContaining('policy') as unknown;
  expect(await shown()).toMatchObject({ approvals: [], quorum: 3, lapsed: [{ actor: 'mia', why }] });
  await policy(1);
  const approved = await give('mia', { ...approve, revision: 4 }, WAIT);
  expect([approved.status, await shown()]).toMatchObject([200, { version: { state: 'approved', revision: 5 } }]);
  const reject = { name: 'reject', revision: 5, digest: DIGEST, args: { reason: 'no' } };
  await give('mia', reject, WAIT);
  // Its release is fenced first, and that is announced: it is busy until then.
  const busy = await shown();
  expect(busy).toMatchObject({ busy: last().command.body.commandId, version: { state: 'approved' } });
  await records.completeDecision(last().workflowId, last().command.body.commandId);
  const rejected = await shown();
  expect(rejected).toMatchObject({ busy: null, closed: false, version: { state: 'rejected' } });
  expect(Date.parse(String(rejected['undoUntil']))).toBeGreaterThan(Date.now());
  const listed = (await json(world().ask('mia', 'GET', `/v1/projects/${PROJECT}/versions?state=rejected`)))['rows'];
  expect(listed).toEqual([rejected['version']]);
});
