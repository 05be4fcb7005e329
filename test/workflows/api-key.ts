// The API's side of a test world: the members' roles, and the key that signs commands.
import { generateKeyPairSync, randomUUID, sign } from 'node:crypto';
import type { Signer } from '../../activities/signing.ts';
import type { CommandBody, SignedCommand } from '../../workflows/domain/command.ts';
import type { Role } from '../../workflows/domain/roles.ts';
import { canonicalCommand } from '../../workflows/signature.ts';

/** The members of project `p`. */
export const people: Readonly<Record<string, readonly Role[]>> = {
  sam: ['scientist'],
  sue: ['scientist'],
  mia: ['manager'],
  max: ['manager'],
  moe: ['manager', 'scientist'],
  dev: ['developer'],
  eve: ['engineer'],
};

type Given = Partial<CommandBody> & Pick<CommandBody, 'workflowId' | 'name' | 'actor'>;

/** Completes and signs commands with the platform's own key. */
export const signsFor =
  (signer: Signer) =>
  (given: Given): SignedCommand =>
    signer.sign({
      v: 1,
      keyId: signer.newest,
      commandId: randomUUID(),
      args: {},
      roles: people[given.actor] ?? [],
      policyVersion: 1,
      revision: 0,
      digest: null,
      report: null,
      issuedAt: new Date().toISOString(),
      ...given,
    });

/** A key pair that the platform does not know: the public key for a workflow's input, and a signer. */
export function createApiKey(keyId: string) {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519');
  const keys = { [keyId]: publicKey.export({ type: 'spki', format: 'der' }).subarray(-32).toString('hex') };
  /** Completes and signs a command. */
  function signed(given: Given): SignedCommand {
    const body: CommandBody = {
      v: 1,
      keyId,
      commandId: randomUUID(),
      args: {},
      roles: people[given.actor] ?? [],
      policyVersion: 1,
      revision: 0,
      digest: null,
      report: null,
      issuedAt: new Date().toISOString(),
      ...given,
    };
    return { body, signature: sign(null, Buffer.from(canonicalCommand(body)), privateKey).toString('base64url') };
  }
  return { keys, signed };
}
