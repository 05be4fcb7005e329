// The signature of commands: accepted by workflows and the record, over exactly the request, with persistent keys.
import { beforeEach, describe, expect, test } from '@jest/globals';
import { ed25519 } from '@noble/curves/ed25519.js';
import canonicalize from 'canonicalize';
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { createSigner } from '../../activities/signing.ts';
import { createApp } from '../../api/app.ts';
import type { CommandBody } from '../../workflows/domain/command.ts';
import { parseSignedCommand } from '../../workflows/domain/command.ts';
import { isSigned } from '../../workflows/signature.ts';
import { approve, commandingIn, forgetSent, submission, tag } from './commanding.ts';
import { DIGEST, REPORT } from './passage.ts';
import { PROJECT, sha256 } from './world.ts';
import { worldOfThisFile } from './world-of.ts';

const { world } = worldOfThisFile();
beforeEach(() => forgetSent(world()));
const { give, last, another } = commandingIn(world);

describe('the signature', () => {
  test('is accepted by the workflow, and covers exactly the request', async () => {
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

  test('keys survive a restart, are private to this user, and are shared by a second process on the folder', async () => {
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

  test('uses the newest key, whatever key a version was started with', async () => {
    const path = await another({ keyId: 'f'.repeat(16) });
    expect((await give('mia', tag, {}, path)).status).toBe(202);
    expect(last().command.body.keyId).toBe(world().deps.signer.newest);
  });

  test('by an unregistered key is refused: nothing is recorded or sent', async () => {
    const { deps } = world();
    const stranger = await createSigner(join(world().folder, 'strange-keys'));
    const { app } = createApp({ ...deps, signer: { ...stranger, renew: async () => false } });
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
