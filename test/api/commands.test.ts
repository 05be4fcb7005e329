// Commands: signed so that the workflow can tell, sent once, and answered by what became of them.
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { ed25519 } from '@noble/curves/ed25519.js';
import canonicalize from 'canonicalize';
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { createSigner } from '../../activities/signing.ts';
import type { CommandBody, RefusalReason } from '../../workflows/domain/command.ts';
import { parseSignedCommand } from '../../workflows/domain/command.ts';
import type { SignedCommand } from '../../workflows/domain/command.ts';
import { isSigned } from '../../workflows/signature.ts';
import type { Machines } from './passage.ts';
import { DIGEST, populatePassage, versionRow } from './passage.ts';
import type { World } from './world.ts';
import { json, openWorld, PROJECT, TYPE } from './world.ts';

const state: { world?: World; machines?: Machines } = {};
const world = (): World => {
  if (!state.world) throw new Error('no world');
  return state.world;
};
beforeAll(async () => {
  state.world = await openWorld();
  state.machines = await populatePassage(state.world);
});
afterAll(() => state.world?.close());
beforeEach(() => {
  const { workflows } = world().deps;
  workflows.outcomes = [{ status: 'done', message: 'done' }];
  workflows.sent.length = 0;
  delete workflows.throws.send;
  delete workflows.throws.outcome;
});

const submission = `/v1/projects/${PROJECT}/models/random-forest/submissions/rf-1`;
const approve = { name: 'approve', revision: 3, digest: DIGEST, report: DIGEST };
const last = (): { workflowId: string; command: SignedCommand } => {
  const sent = world().deps.workflows.sent.at(-1);
  if (!sent) throw new Error('nothing was sent');
  return sent;
};
const refusals = async (subject: string) =>
  (await world().deps.records.audit({ subject, limit: 500 })).rows
    .map(({ entry }) => entry)
    .filter(({ kind }) => kind === 'command.refused');

describe('the signature', () => {
  test('is one that the workflow accepts, over exactly what was asked', async () => {
    const response = await world().ask('mia', 'POST', `${submission}/commands`, { ...approve, commandId: 'approve-1' });
    expect(response.status).toBe(200);
    const { workflowId, command } = last();
    expect(Math.abs(Date.parse(command.body.issuedAt) - Date.now())).toBeLessThan(60_000);
    expect(workflowId).toBe(`model/${PROJECT}/random-forest/rf-1`);
    expect(parseSignedCommand(command)).toEqual({ command });
    expect(command.body).toEqual({
      ...{ v: 1, keyId: world().deps.signer.newest, workflowId, commandId: 'approve-1', name: 'approve', args: {} },
      ...{ actor: 'mia', roles: ['manager'], policyVersion: 1, revision: 3, digest: DIGEST, report: DIGEST },
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

  test('a version is signed for with the key it was started with', async () => {
    const former = await createSigner(join(world().folder, 'former-keys'));
    const { records } = world().deps;
    const entry = { key: 'old', project: PROJECT, kind: 'test', actor: 't', subject: 't', digest: null, report: null };
    await records.record(
      [{ ...entry, reason: '', detail: {}, at: '2026-01-01T00:00:00.000Z' }],
      [{ kind: 'version', row: versionRow({ submission: 'rf-old', keyId: former.newest }) }],
    );
    const path = submission.replace('rf-1', 'rf-old');
    // Its key is not here: nothing is sent rather than something that no workflow would take.
    const response = await world().ask('mia', 'POST', `${path}/commands`, approve);
    expect(response.status).toBe(500);
    expect(await response.text()).not.toContain(world().folder);
    expect(world().deps.workflows.sent).toEqual([]);
  });
});

describe('what is answered', () => {
  test('accepted: 202 with where to ask', async () => {
    world().deps.workflows.outcomes = [{ status: 'accepted' }];
    const response = await world().ask('mia', 'POST', `${submission}/commands`, { ...approve, commandId: 'approve-2' });
    expect(response.status).toBe(202);
    const address = response.headers.get('location') ?? '';
    expect(address).toBe(`${submission}/commands/approve-2`);
    expect(await json(world().ask('mia', 'GET', address))).toMatchObject({ outcome: { status: 'accepted' }, address });
  });

  test.each([[null], [undefined]])('%s from the workflow (no worker): 202', async (outcome) => {
    world().deps.workflows.outcomes = [outcome];
    const response = await world().ask('mia', 'POST', `${submission}/commands`, approve);
    expect(response.status).toBe(202);
    expect(await json(response)).toMatchObject({ outcome: null });
  });

  test('the server gone after the signal was taken: 202, not an error', async () => {
    world().deps.workflows.throws.outcome = 'unavailable';
    expect((await world().ask('mia', 'POST', `${submission}/commands`, approve)).status).toBe(202);
  });

  test.each<[RefusalReason]>([['stale'], ['busy'], ['wrong-digest'], ['not-authorized']])(
    '%s: 409 with the outcome',
    async (reason) => {
      const outcome = { status: 'refused', reason, message: 'look again' } as const;
      world().deps.workflows.outcomes = [outcome];
      const response = await world().ask('mia', 'POST', `${submission}/commands`, approve);
      expect(response.status).toBe(409);
      expect(response.headers.get('content-type')).toBe('application/problem+json');
      expect(await json(response)).toMatchObject({
        type: `urn:ocdl:problem:command-${reason}`,
        detail: 'look again',
        outcome,
      });
    },
  );

  test('failed: 409 with the reason', async () => {
    world().deps.workflows.outcomes = [{ status: 'failed', reason: 'live', message: 'live in scanner' }];
    const response = await world().ask('mia', 'POST', `${submission}/commands`, { ...approve, name: 'retire' });
    expect(response.status).toBe(409);
    expect(await json(response)).toMatchObject({ type: 'urn:ocdl:problem:command-failed', detail: 'live in scanner' });
  });

  test('Prefer: wait=N waits until it is done, and no longer than N', async () => {
    const prefer = { prefer: 'respond-async, wait=5' };
    world().deps.workflows.outcomes = [undefined, { status: 'accepted' }, { status: 'done', message: 'released' }];
    const done = await world().ask('mia', 'POST', `${submission}/commands`, approve, prefer);
    expect([done.status, done.headers.get('preference-applied')]).toEqual([200, 'wait=5']);
    world().deps.workflows.outcomes = [{ status: 'accepted' }];
    const begun = Date.now();
    const waited = await world().ask('mia', 'POST', `${submission}/commands`, approve, { prefer: 'wait=1' });
    expect(waited.status).toBe(202);
    expect(Date.now() - begun).toBeGreaterThanOrEqual(950);
    expect(Date.now() - begun).toBeLessThan(30_000);
  });

  test.each([['closed'], ['missing']] as const)('a workflow that is %s: 409, and the audit has it', async (kind) => {
    world().deps.workflows.throws.send = kind;
    const commandId = `closed-${kind}`;
    const response = await world().ask('mia', 'POST', `${submission}/commands`, { ...approve, commandId });
    expect(response.status).toBe(409);
    expect(await json(response)).toMatchObject({
      type: 'urn:ocdl:problem:command-closed',
      outcome: { reason: 'closed' },
    });
    const row = (await refusals(`${PROJECT}/random-forest/rf-1`)).find(
      ({ detail }) => detail['commandId'] === commandId,
    );
    expect(row).toMatchObject({ actor: 'mia', detail: { refused: 'closed', command: { body: { commandId } } } });
    // Asked for later, the audit answers.
    world().deps.workflows.throws.outcome = 'missing';
    const later = await world().ask('mia', 'GET', `${submission}/commands/${commandId}`);
    expect(await json(later)).toMatchObject({ outcome: { status: 'refused', reason: 'closed' } });
  });

  test('the command that ended it, sent again: done, as it was; another one under its id is refused', async () => {
    const path = `${submission}/commands`;
    const sent = { name: 'rollback', args: { reason: 'no' }, revision: 3, digest: DIGEST, commandId: 'rollback-1' };
    await world().ask('mia', 'POST', path, sent);
    const { command } = last();
    const entry = {
      project: PROJECT,
      actor: 'mia',
      digest: null,
      report: null,
      reason: 'no',
      at: '2026-01-01T00:00:00Z',
    };
    const row = { key: 'w/9', kind: 'version.rollback', subject: `${PROJECT}/random-forest/rf-1`, detail: { command } };
    await world().deps.records.record([{ ...entry, ...row }], []);
    world().deps.workflows.throws.send = 'closed';
    const again = await world().ask('mia', 'POST', path, sent);
    expect([again.status, await json(again)]).toMatchObject([200, { outcome: { status: 'done' } }]);
    const other = await world().ask('mia', 'POST', path, { ...sent, args: { reason: 'another' } });
    expect(other.status).toBe(409);
  });

  test('the server away: 503, nothing in the audit', async () => {
    world().deps.workflows.throws.send = 'unavailable';
    const before = await refusals(`${PROJECT}/random-forest/rf-1`);
    const response = await world().ask('mia', 'POST', `${submission}/commands`, approve);
    expect([response.status, response.headers.get('retry-after')]).toEqual([503, '5']);
    expect(await refusals(`${PROJECT}/random-forest/rf-1`)).toEqual(before);
  });

  test('without a grant: 403, nothing sent, and the audit has it', async () => {
    const command = { ...approve, commandId: 'not-mine-to-give' };
    const response = await world().ask('eng', 'POST', `${submission}/commands`, command);
    expect(response.status).toBe(403);
    expect(world().deps.workflows.sent).toEqual([]);
    const row = (await refusals(`${PROJECT}/random-forest/rf-1`)).find(({ actor }) => actor === 'eng');
    expect(row?.detail).toMatchObject({ commandId: 'not-mine-to-give', name: 'approve', refused: 'not-authorized' });
  });

  test("an unknown command's address is 404", async () => {
    world().deps.workflows.outcomes = [null];
    expect((await world().ask('mia', 'GET', `${submission}/commands/never-given`)).status).toBe(404);
  });

  test.each([
    ['mia', submission],
    ['dev', `/v1/applications/scanner/types/${TYPE}`],
    ['eng', `/v1/projects/${PROJECT}/scans/scan-1`],
  ])('while no worker runs, the address says so to %s at %s: 202, as when it was given', async (who, path) => {
    world().deps.workflows.outcomes = [undefined];
    const address = `${path}/commands/given-before`;
    const response = await world().ask(who, 'GET', address);
    expect([response.status, await json(response)]).toEqual([
      202,
      { commandId: 'given-before', outcome: null, address },
    ]);
  });
});

test('a revert and a label go to their own workflows', async () => {
  const revert = { name: 'revert', revision: 4, args: { release: `${TYPE}-1` } };
  await world().ask('dev', 'POST', `/v1/applications/scanner/types/${TYPE}/commands`, revert);
  expect(last().workflowId).toBe(`application/scanner/${TYPE}`);
  expect(last().command.body).toMatchObject({ name: 'revert', revision: 4, roles: ['developer'], actor: 'dev' });
  const label = { name: 'deny', revision: 0, args: { findings: ['f-1'] } };
  await world().ask('eng', 'POST', `/v1/projects/${PROJECT}/scans/scan-1/commands`, label);
  expect(last().workflowId).toBe(`feedback/${PROJECT}/scan-1`);
  expect(isSigned(last().command, world().deps.signer.publicKeys())).toBe(true);
});

test('what a version waits for is told, with the reason', async () => {
  const waiting = [{ step: 'publishRelease', attempts: 3, reason: 'S3 does not answer', nextTryAt: null }];
  world().deps.workflows.pending = waiting;
  expect((await json(world().ask('sam', 'GET', submission)))['waiting']).toEqual(waiting);
  world().deps.workflows.pending = [];
  expect((await json(world().ask('sam', 'GET', submission)))['waiting']).toEqual([]);
});

test('a version is shown live, and from the record when the workflow is silent', async () => {
  const version = versionRow({ revision: 9, keyId: 'k' });
  world().deps.workflows.status = { version, busy: 'c-1', approvals: ['mia'] };
  expect(await json(world().ask('sam', 'GET', submission))).toMatchObject({
    ...{ live: true, busy: 'c-1', approvals: ['mia'], version: { revision: 9 } },
  });
  world().deps.workflows.status = undefined;
  const shown = await json(world().ask('sam', 'GET', submission));
  expect(shown).toMatchObject({ live: false, version: { revision: 3 } });
  // Where bytes lie is nobody's business outside.
  expect(JSON.stringify(shown)).not.toContain('local:');
  const rows = (await json(world().ask('sid', 'GET', `/v1/projects/${PROJECT}/versions`)))['rows'];
  expect(rows).toEqual([]);
});
