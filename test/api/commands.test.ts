// Commands: signed and recorded before they are signalled, refused immediately by the record, and answered from their row.
import { beforeEach, describe, expect, test } from '@jest/globals';
import { auditEntry } from '../../api/audit-entry.ts';
import { isSigned } from '../../workflows/signature.ts';
import {
  approve,
  approveOf,
  commandingIn,
  forgetSent,
  ofPointer,
  ofScan,
  submission,
  tag,
  WAIT,
} from './commanding.ts';
import { decides, DIGEST } from './passage.ts';
import { json, PROJECT, TYPE } from './world.ts';
import { worldOfThisFile } from './world-of.ts';

const { world } = worldOfThisFile();
beforeEach(() => forgetSent(world()));
const { give, sent, last, another, refusals } = commandingIn(world);

test('wait while restored systems are not accepted, and say what to do', async () => {
  const { records } = world().deps;
  const entry = auditEntry({ key: 'found', kind: 'restore.found', actor: 'platform', subject: 'installation' });
  await records.claimInstallation('00000000-0000-4000-8000-000000000000');
  const findings = [{ system: 'areas', kind: 'older', text: 'the areas are older', pauses: true }] as const;
  await records.pause(findings, entry, (await records.known()).accepted);
  const scan = `/v1/projects/${PROJECT}/scans/scan-1/commands`;
  const revert = `/v1/applications/scanner/types/${TYPE}/commands`;
  const label = { name: 'confirm', revision: 0, args: { findings: ['f-1'] } };
  const answers = [
    await world().ask('mia', 'POST', `${submission}/commands`, approve),
    await world().ask('dev', 'POST', revert, { name: 'revert', revision: 4, args: { release: `${TYPE}-1` } }),
    await world().ask('eng', 'POST', scan, label),
  ];
  for (const response of answers) {
    expect([response.status, response.headers.get('retry-after')]).toEqual([503, '60']);
    const problem = await json(response);
    expect(problem['detail']).toContain('ocdl restore accept');
    expect(problem).toMatchObject({
      type: 'urn:ocdl:problem:restored',
      findings: [{ system: 'areas', kind: 'older', text: 'the areas are older' }],
    });
  }
  expect(sent()).toEqual([]);
  // What is only read is answered.
  expect((await world().ask('mia', 'GET', submission)).status).toBe(200);
  const keys = Object.keys(world().deps.signer.publicKeys());
  await records.acceptRestore(
    { tick: 1, accepted: 0, numbers: [], keys, voidTokens: false, findings },
    { ...entry, key: 'accepted' },
  );
  expect((await world().ask('mia', 'POST', `${submission}/commands`, approve)).status).toBe(202);
});

describe('answers', () => {
  test('accepted: 202 with the address of the outcome', async () => {
    const response = await give('mia', { ...approve, commandId: 'approve-2' });
    expect(response.status).toBe(202);
    const address = response.headers.get('location') ?? '';
    expect(address).toBe(`${submission}/commands/approve-2`);
    const outcome = { commandId: 'approve-2', outcome: { status: 'accepted' }, address };
    expect(await json(response)).toEqual(outcome);
    expect(await json(world().ask('mia', 'GET', address))).toEqual(outcome);
  });

  test.each([['unavailable'], ['closed'], ['missing']] as const)(
    'the signal fails (%s): 202, since the command is recorded, with a log line',
    async (kind) => {
      world().deps.workflows.throws.send = kind;
      const commandId = `unsent-${kind}`;
      const response = await give('mia', { ...approve, commandId });
      expect([response.status, await json(response)]).toMatchObject([202, { outcome: { status: 'accepted' } }]);
      const before = new Date(Date.now() + 60_000).toISOString();
      const open = await world().deps.records.openCommands({ before, limit: 1000 });
      expect(open.map(({ body }) => body.commandId)).toContain(commandId);
      expect(world().lines.find((line) => line['commandId'] === commandId)).toMatchObject({
        msg: 'a command is recorded but not signalled yet',
      });
    },
  );

  test.each<[string, string, string, object]>([
    ['stale', 'mia', 'stale', { ...approve, revision: 2 }],
    ['wrong-digest', 'mia', 'wrong-digest', { ...approve, digest: 'a'.repeat(64) }],
    ['wrong-state', 'mia', 'wrong-state', { ...approve, name: 'retire' }],
    ['invalid', 'mia', 'invalid', { ...approve, report: null }],
    ["not-authorized: another scientist's version", 'sid', 'not-authorized', { name: 'withdraw', revision: 3 }],
  ])(
    '%s: 409 immediately from the record, without a signal, and the answer stays the same',
    async (_, who, reason, command) => {
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
      expect(row).toMatchObject({ actor: who, detail: { reason, command: { body: { commandId } } } });
      // A later read and a repeat give the same outcome.
      expect(await json(world().ask('mia', 'GET', `${submission}/commands/${commandId}`))).toMatchObject({ outcome });
      expect([(await give(who, { ...command, commandId })).status, sent()]).toEqual([409, []]);
    },
  );

  test('closed: a closed version accepts no commands', async () => {
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

  test('a command can still be refused when it is decided', async () => {
    const path = await another();
    const { records, workflows } = world().deps;
    const decide = decides(world());
    // Another command was decided between the recording and the decision of this one.
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

  test('Prefer: wait=N waits until the command is decided, at most N seconds', async () => {
    const path = await another();
    const { workflows } = world().deps;
    const late: Promise<unknown>[] = [];
    workflows.onCommand = async (id, command) => {
      late.push(new Promise((resolve) => setTimeout(resolve, 100)).then(() => decides(world())(id, command)));
    };
    const done = await give('mia', tag, { prefer: 'respond-async, wait=5' }, path);
    expect([done.status, done.headers.get('preference-applied')]).toEqual([200, 'wait=5']);
    // The longest wait is half a minute.
    const most = await give('mia', { ...tag, revision: 4 }, { prefer: 'wait=99999' }, path);
    expect([most.status, most.headers.get('preference-applied')]).toEqual([200, 'wait=30']);
    await Promise.all(late);
    workflows.onCommand = async () => undefined;
    const begun = Date.now();
    const waited = await give('mia', { ...tag, revision: 5 }, { prefer: 'wait=1' }, path);
    expect(waited.status).toBe(202);
    expect(Date.now() - begun).toBeGreaterThanOrEqual(950);
    expect(Date.now() - begun).toBeLessThan(30_000);
  });

  test('without permission: 403, nothing recorded or sent, and an audit row', async () => {
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

test('moves of the live pointer and labels are sent to their own workflows', async () => {
  const takeDown = { name: 'take-down', revision: 1, args: { reason: 'it harms' } };
  expect((await give('dev', takeDown, {}, ofPointer)).status).toBe(202);
  expect(last().workflowId).toBe(`application/scanner/${TYPE}`);
  expect(last().command.body).toMatchObject({ name: 'take-down', revision: 1, roles: ['developer'], actor: 'dev' });
  const label = { name: 'deny', revision: 0, args: { findings: ['f-1'] } };
  expect((await give('eng', label, {}, ofScan)).status).toBe(202);
  expect(last().workflowId).toBe(`feedback/${PROJECT}/scan-1`);
  expect(isSigned(last().command, world().deps.signer.publicKeys())).toBe(true);
});

test.each<[string, string, object]>([
  ['stale', ofPointer, { name: 'revert', revision: 0, args: { release: `${TYPE}-1`, reason: 'r' } }],
  ['invalid', ofPointer, { name: 'revert', revision: 1, args: { reason: 'r' } }],
  ['invalid', ofPointer, { name: 'take-down', revision: 1, args: { reason: ' ' } }],
  ['stale', ofScan, { name: 'confirm', revision: 7, args: { findings: ['f-1'] } }],
  ['invalid', ofScan, { name: 'confirm', revision: 0, args: { findings: ['f-9'] } }],
])('impossible commands are refused there too: %s at %s', async (reason, path, command) => {
  const response = await give(path === ofScan ? 'eng' : 'dev', command, {}, path);
  expect([response.status, await json(response), sent()]).toMatchObject([409, { outcome: { reason } }, []]);
});

test('a version shows what it waits for, with the reason', async () => {
  const waiting = [{ step: 'publishRelease', attempts: 3, reason: 'S3 does not answer', nextTryAt: null }];
  world().deps.workflows.pending = waiting;
  expect((await json(world().ask('sam', 'GET', submission)))['waiting']).toEqual(waiting);
  world().deps.workflows.pending = [];
  expect((await json(world().ask('sam', 'GET', submission)))['waiting']).toEqual([]);
});

test('a version shows its record: approvals and quorum, lapsed approvals, undo window and closing', async () => {
  const { records, workflows } = world().deps;
  workflows.onCommand = decides(world());
  const shown = async (path = submission) => json(world().ask('sam', 'GET', path));
  const first = await shown();
  expect(first).toMatchObject({ busy: null, approvals: [], quorum: 1, lapsed: [], undoUntil: null, closed: false });
  expect(first['version']).toMatchObject({ state: 'new', revision: 3 });
  expect(Object.keys(first).sort()).toEqual(
    ['approvals', 'busy', 'closed', 'lapsed', 'quorum', 'releases', 'undoUntil', 'version', 'waiting'].sort(),
  );
  // The addresses of stored bytes are internal.
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
  const live = await json(give('mia', reject, WAIT));
  expect(live).toMatchObject({
    detail: `${PROJECT}/random-forest/rf-1 is live in scanner: revert or take it down there first, then reject`,
  });
  const takeDown = { name: 'take-down', revision: 1, args: { reason: 'it harms' } };
  await give('dev', takeDown, WAIT, ofPointer);
  // The main branch follows; then a taken-down type takes no second one.
  await records.completePointer(last().workflowId, last().command.body.commandId, '');
  const again = await json(give('dev', { ...takeDown, revision: 2 }, WAIT, ofPointer));
  expect(again).toMatchObject({ outcome: { reason: 'wrong-state' } });
  await give('mia', reject, WAIT);
  // Its release is fenced first, and that is announced: it is busy until then.
  const busy = await shown();
  expect(busy).toMatchObject({ busy: last().command.body.commandId, version: { state: 'approved' } });
  await records.completeDecision(last().workflowId, last().command.body.commandId);
  const rejected = await shown();
  expect(rejected).toMatchObject({ busy: null, closed: false, version: { state: 'rejected' } });
  expect(Date.parse(String(rejected['undoUntil']))).toBeGreaterThan(Date.now());
  const listed = (await json(world().ask('mia', 'GET', `/v1/projects/${PROJECT}/versions?state=rejected`)))['rows'];
  const { submission: id, state, revision } = rejected['version'] as Record<string, unknown>;
  expect(listed).toMatchObject([{ submission: id, state, revision }]);
});

test('the verification of the audit reports rows without a decision', async () => {
  const answer = await json(world().ask('admin', 'GET', '/v1/audit/verification'));
  expect(answer).toEqual({
    rows: expect.any(Number) as unknown,
    broken: null,
    // Nothing links rows here.
    unlinked: expect.any(Number) as unknown,
    overdue: expect.any(Number) as unknown,
    decisions: {
      checked: expect.any(Number) as unknown,
      // The only release here was given its number, and made live, by the tests.
      problems: [`release ${TYPE}-1 has no decision`, `move 1 of scanner/${TYPE} to ${TYPE}-1 has no decision`],
    },
  });
  expect((answer['decisions'] as { checked: number }).checked).toBeGreaterThan(3);
});
