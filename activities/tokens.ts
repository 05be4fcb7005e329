// Bearer tokens: created once, shown once, stored only as a digest.
import { createHash, randomBytes } from 'node:crypto';
import type { Digest } from '../workflows/domain/names.ts';

const FORM = /^ocdl_([0-9a-f]{16})_[A-Za-z0-9_-]{43}$/;

/** A new token with 256 random bits. Only `sha256` may be stored. */
export function newToken(): { readonly token: string; readonly tokenId: string; readonly sha256: Digest } {
  const tokenId = randomBytes(8).toString('hex');
  const token = `ocdl_${tokenId}_${randomBytes(32).toString('base64url')}`;
  return { token, tokenId, sha256: digestOfToken(token) };
}

/** Whether the text has the form of our tokens. */
export const isToken = (text: string): boolean => FORM.test(text);

/** The stored digest of a token. A token has 256 random bits, so a plain hash suffices. */
export const digestOfToken = (token: string): Digest => createHash('sha256').update(token).digest('hex') as Digest;
