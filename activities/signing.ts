// Signs commands and records: Ed25519 keys in a folder shared by the platform's APIs and workers.
import type { KeyObject } from 'node:crypto';
import { createHash, createPrivateKey, createPublicKey, generateKeyPairSync, sign as signBytes } from 'node:crypto';
import { chmod, link, mkdir, open, readdir, readFile, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { randomUUID } from 'node:crypto';
import canonicalize from 'canonicalize';
import { z } from 'zod';
import type { CommandBody, PublicKeys, SignedCommand } from '../workflows/domain/command.ts';

export interface Signer {
  /** Id of the newest key, used for new signatures. */
  readonly newest: string;
  /** Public keys, raw 32 bytes in hexadecimal, by key id, oldest first. */
  publicKeys(): PublicKeys;
  /** Signs with the key named by `body.keyId`. */
  sign(body: CommandBody): SignedCommand;
  /** Adds the newest key's signature over the content's RFC 8785 form. */
  seal<T extends object>(content: T): T & { readonly seal: { readonly keyId: string; readonly signature: string } };
}

/** A signer that signs only with keys that the records accept. */
export interface RegisteredSigner extends Signer {
  /**
   * Reads the keys again, makes one if the folder is empty, and registers them: a restore may have retired the key in use.
   * Returns false if the records accept none of them.
   */
  renew(): Promise<boolean>;
}

/** Opens and registers the keys of a folder. Retired keys are accepted again at the start if there are no others. */
export async function registeredSigner(
  folder: string,
  records: { registerKeys(keys: PublicKeys, revive?: boolean): Promise<readonly string[]> },
): Promise<RegisteredSigner> {
  const open = async (revive: boolean) => {
    const signer = await createSigner(folder);
    const newest = (await records.registerKeys(signer.publicKeys(), revive)).at(-1);
    return { signer, newest: newest ?? signer.newest, isAccepted: newest !== undefined };
  };
  const state = { now: await open(true), renewing: undefined as Promise<boolean> | undefined };
  const renew = async (): Promise<boolean> => (state.now = await open(false)).isAccepted;
  return {
    get newest() {
      return state.now.newest;
    },
    publicKeys: () => state.now.signer.publicKeys(),
    sign: (body) => state.now.signer.sign(body),
    seal: (content) => state.now.signer.seal(content),
    renew: () => (state.renewing ??= renew().finally(() => (state.renewing = undefined))),
  };
}

const keyFile = z.strictObject({
  createdAt: z.iso.datetime(),
  /** PKCS #8, PEM. */
  privateKey: z.string(),
});

/** Opens the keys in a folder that only this user can read. Creates the first key if there is none. */
export async function createSigner(folder: string): Promise<Signer> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  await chmod(folder, 0o700);
  if ((await keyFiles(folder)).length === 0) await makeKey(folder);
  const keys = await Promise.all((await keyFiles(folder)).map((file) => readKey(folder, file)));
  // By age, then by id, so that all API processes on one folder agree.
  keys.sort((a, b) =>
    a.createdAt === b.createdAt ? (a.keyId < b.keyId ? -1 : 1) : a.createdAt < b.createdAt ? -1 : 1,
  );
  const last = keys.at(-1);
  if (!last) throw new Error(`${folder} holds no signing key although one was just made: look at the folder's rights`);
  const byId = new Map(keys.map((key) => [key.keyId, key]));
  return {
    newest: last.keyId,
    publicKeys: () => Object.fromEntries(keys.map(({ keyId, raw }) => [keyId, raw.toString('hex')])),
    sign(body) {
      const key = byId.get(body.keyId);
      if (!key)
        throw new Error(
          `the signing key ${body.keyId} is not in ${folder}: bring it back from the backup of that folder`,
        );
      const text = canonicalize(body);
      if (text === undefined) throw new TypeError('the command has no canonical JSON');
      return { body, signature: signBytes(null, Buffer.from(text, 'utf8'), key.privateKey).toString('base64url') };
    },
    seal(content) {
      const text = canonicalize(content) ?? '';
      const signature = signBytes(null, Buffer.from(text, 'utf8'), last.privateKey).toString('base64url');
      return { ...content, seal: { keyId: last.keyId, signature } };
    },
  };
}

async function keyFiles(folder: string): Promise<string[]> {
  return (await readdir(folder)).filter((name) => /^[0-9a-f]{16}\.json$/.test(name));
}

async function makeKey(folder: string): Promise<void> {
  const { privateKey } = generateKeyPairSync('ed25519');
  const content: z.infer<typeof keyFile> = {
    createdAt: new Date().toISOString(),
    privateKey: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
  };
  // Written completely under a temporary name first: a partial key would be a lost key.
  const temporary = join(folder, `.${randomUUID()}`);
  const file = await open(temporary, 'wx', 0o600);
  try {
    await file.writeFile(`${JSON.stringify(content)}\n`);
    await file.sync();
  } finally {
    await file.close();
  }
  await link(temporary, join(folder, `${keyIdOf(rawPublicKey(privateKey))}.json`));
  await unlink(temporary);
}

async function readKey(folder: string, name: string) {
  const path = join(folder, name);
  await chmod(path, 0o600);
  const content = keyFile.parse(JSON.parse(await readFile(path, 'utf8')));
  const privateKey = createPrivateKey(content.privateKey);
  const raw = rawPublicKey(privateKey);
  const keyId = keyIdOf(raw);
  if (privateKey.asymmetricKeyType !== 'ed25519' || `${keyId}.json` !== name)
    throw new Error(`${path} does not hold the Ed25519 key that its name says: bring it back from the backup`);
  return { keyId, raw, privateKey, createdAt: content.createdAt };
}

/** The last 32 bytes of the DER form are the raw key (RFC 8410). */
function rawPublicKey(privateKey: KeyObject): Buffer {
  return createPublicKey(privateKey).export({ type: 'spki', format: 'der' }).subarray(-32);
}

/** First 16 hexadecimal digits of the public key's SHA-256. */
function keyIdOf(raw: Buffer): string {
  return createHash('sha256').update(raw).digest('hex').slice(0, 16);
}
