// SHA-256 (FIPS 180-4) in plain TypeScript: workflows have no node:crypto, but names for other systems must be the same everywhere.

const ROTATIONS = { big0: [2, 13, 22], big1: [6, 11, 25], small0: [7, 18], small1: [17, 19] } as const;

/** The first `count` primes; the constants of SHA-256 are bits of their roots. */
function primes(count: number): number[] {
  const found: number[] = [];
  for (let n = 2; found.length < count; n += 1) if (found.every((prime) => n % prime !== 0)) found.push(n);
  return found;
}
const fraction = (root: number): number => Math.floor((root - Math.floor(root)) * 2 ** 32) | 0;
const ROUNDS = primes(64).map((prime) => fraction(Math.cbrt(prime)));
const START = primes(8).map((prime) => fraction(Math.sqrt(prime)));

const rotate = (word: number, by: number): number => (word >>> by) | (word << (32 - by));
const mix = (word: number, [a, b, c]: readonly [number, number, number]): number =>
  rotate(word, a) ^ rotate(word, b) ^ rotate(word, c);
const spread = (word: number, [a, b]: readonly [number, number], shift: number): number =>
  rotate(word, a) ^ rotate(word, b) ^ (word >>> shift);

/** The digest of a text's UTF-8 bytes as 64 hexadecimal digits. Slow: use it only for short texts. */
export function sha256Hex(text: string): string {
  const state = [...START];
  const words = padded(utf8(text));
  for (let at = 0; at < words.length; at += 16) compress(state, words.slice(at, at + 16));
  return state.map((word) => (word >>> 0).toString(16).padStart(8, '0')).join('');
}

function utf8(text: string): number[] {
  return [...text].flatMap((character) => {
    const code = character.codePointAt(0) ?? 0;
    // An unpaired surrogate becomes U+FFFD, as in Node's Buffer.
    const point = code >= 0xd800 && code <= 0xdfff ? 0xfffd : code;
    if (point < 0x80) return [point];
    const tail = (shift: number): number => 0x80 | ((point >> shift) & 0x3f);
    if (point < 0x800) return [0xc0 | (point >> 6), tail(0)];
    if (point < 0x10000) return [0xe0 | (point >> 12), tail(6), tail(0)];
    return [0xf0 | (point >> 18), tail(12), tail(6), tail(0)];
  });
}

/** The bytes, padded with a one bit, zeros and their length, as 32-bit words in blocks of 16. */
function padded(bytes: readonly number[]): number[] {
  const blocks = Math.ceil((bytes.length + 9) / 64);
  const words = new Array<number>(blocks * 16).fill(0);
  [...bytes, 0x80].forEach((byte, i) => {
    words[i >> 2] = (words[i >> 2] ?? 0) | (byte << (24 - (i % 4) * 8));
  });
  words[words.length - 2] = Math.floor((bytes.length * 8) / 2 ** 32);
  words[words.length - 1] = (bytes.length * 8) | 0;
  return words;
}

function compress(state: number[], block: readonly number[]): void {
  const w = [...block];
  const word = (i: number): number => w[i] ?? 0;
  for (let i = 16; i < 64; i += 1)
    w[i] =
      (spread(word(i - 2), ROTATIONS.small1, 10) +
        word(i - 7) +
        spread(word(i - 15), ROTATIONS.small0, 3) +
        word(i - 16)) |
      0;
  let [a = 0, b = 0, c = 0, d = 0, e = 0, f = 0, g = 0, h = 0] = state;
  for (let i = 0; i < 64; i += 1) {
    const first = (h + mix(e, ROTATIONS.big1) + ((e & f) ^ (~e & g)) + (ROUNDS[i] ?? 0) + word(i)) | 0;
    const second = (mix(a, ROTATIONS.big0) + ((a & b) ^ (a & c) ^ (b & c))) | 0;
    [h, g, f, e, d, c, b, a] = [g, f, e, (d + first) | 0, c, b, a, (first + second) | 0];
  }
  [a, b, c, d, e, f, g, h].forEach((value, i) => {
    state[i] = ((state[i] ?? 0) + value) | 0;
  });
}
