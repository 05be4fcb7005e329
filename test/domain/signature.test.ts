// Signature checks in the workflow isolate: only registered keys, only the canonical form, and never an exception.
import { generateKeyPairSync, sign } from 'node:crypto';
import type { SignedCommand } from '../../workflows/domain/command.ts';
import { canonicalCommand, isSigned } from '../../workflows/signature.ts';

const pair = generateKeyPairSync('ed25519');
const raw = pair.publicKey.export({ type: 'spki', format: 'der' }).subarray(-32).toString('hex');
const keys = { k1: raw };
const body: SignedCommand['body'] = {
  ...{ v: 1, keyId: 'k1', workflowId: 'model/p/m/s', commandId: 'command-1', name: 'tag', args: { tags: ['a'] } },
  ...{ actor: 'mia', roles: ['manager'], policyVersion: 1, revision: 1, digest: null, report: null },
  issuedAt: '2026-01-02T00:00:00.000Z',
};
const signatureOf = (of: SignedCommand['body']): string =>
  sign(null, Buffer.from(canonicalCommand(of)), pair.privateKey).toString('base64url');
const signature = signatureOf(body);
const flip = (text: string): string => (text.startsWith('A') ? 'B' : 'A') + text.slice(1);

it('accepts the signature of the command by the named key', () => {
  expect(isSigned({ body, signature }, keys)).toBe(true);
});

it.each<[string, Partial<SignedCommand['body']>]>([
  ['actor', { actor: 'max' }],
  ['workflow', { workflowId: 'model/p/m/t' }],
  ['arguments', { args: { tags: ['b'] } }],
  ['roles', { roles: [] }],
  ['revision', { revision: 2 }],
])('refuses another %s', (_, change) => {
  expect(isSigned({ body: { ...body, ...change }, signature }, keys)).toBe(false);
});

it('refuses another form of the same signature', () => {
  for (const other of [flip(signature), `${signature}=`, `${signature} `, signature.slice(1), '', '%'.repeat(86)])
    expect([other, isSigned({ body, signature: other }, keys)]).toEqual([other, false]);
});

it.each(['k2', 'constructor', '__proto__', 'toString'])('refuses the unregistered key %s', (keyId) => {
  const other = { ...body, keyId };
  expect(isSigned({ body: other, signature: signatureOf(other) }, keys)).toBe(false);
});

it('refuses a malformed key', () => {
  for (const key of ['', 'zz', raw.slice(2), '0'.repeat(64)])
    expect([key, isSigned({ body, signature }, { k1: key })]).toEqual([key, false]);
});
