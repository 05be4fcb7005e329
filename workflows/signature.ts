// Verifies that a command is from the API: Ed25519 (RFC 8032) over its RFC 8785 canonical JSON, in pure JavaScript for the isolate.
import { ed25519 } from '@noble/curves/ed25519.js';
import { hexToBytes } from '@noble/curves/utils.js';
import canonicalize from 'canonicalize';
import type { SignedCommand } from './domain/command.ts';
import type { PublicKeys } from './messages.ts';

/** The exact text that is signed. */
export function canonicalCommand(body: SignedCommand['body']): string {
  return canonicalize(body) ?? '';
}

/** Verifies the signature with the key that the body names; false for an unknown key or malformed input. Never throws. */
export function isSigned(command: SignedCommand, keys: PublicKeys): boolean {
  const { keyId } = command.body;
  const key = Object.hasOwn(keys, keyId) ? keys[keyId] : undefined;
  if (!key) return false;
  try {
    const message = new TextEncoder().encode(canonicalCommand(command.body));
    // zip215 off: only the strict RFC 8032 encodings are accepted, so that a signature has exactly one form.
    return ed25519.verify(fromBase64Url(command.signature), message, hexToBytes(key), { zip215: false });
  } catch {
    return false;
  }
}

const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';

// The isolate has neither Buffer nor atob.
function fromBase64Url(text: string): Uint8Array {
  const bytes = new Uint8Array(Math.floor((text.length * 6) / 8));
  let bits = 0;
  let held = 0;
  let at = 0;
  for (const character of text) {
    const value = ALPHABET.indexOf(character);
    if (value < 0) throw new TypeError('not base64url');
    held = ((held << 6) | value) & 0xffff;
    bits += 6;
    if (bits >= 8) bytes[at++] = (held >> (bits -= 8)) & 0xff;
  }
  return bytes;
}
