// One file from a source into a local part that outlives this process: gone on with where the source can, hashed, held to its digest.
import { createHash, type Hash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, open, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import type { Expected, RemoteFile } from '../../workflows/domain/import.ts';
import type { Digest } from '../../workflows/domain/names.ts';
import { failure } from '../failures.ts';
import type { SourceSession } from '../ports.ts';

/** A file that has come whole, in the part at `path`. */
export interface Downloaded {
  readonly path: string;
  readonly bytes: number;
  readonly sha256: Digest;
  readonly validator: string | null;
}

/** What lies beside a part: of which state of the file it is a part, and, once it is whole, which bytes it holds. */
const noteSchema = z.object({
  address: z.string(),
  validator: z.string().nullable(),
  total: z.number().nullable(),
  whole: z.object({ bytes: z.number(), sha256: z.string().transform((text) => text as Digest) }).nullable(),
});
type Note = z.output<typeof noteSchema>;

/**
 * Fetches the file unless its part is whole already. An interrupted one leaves its part for the next time.
 * `DigestMismatch` when the bytes are not those expected, `InvalidInput` when they are more than `limit`; cut lines are retryable.
 */
export async function download(
  session: SourceSession,
  file: RemoteFile,
  folder: string,
  options: {
    readonly expected: readonly Expected[];
    readonly limit: number;
    readonly signal: AbortSignal;
    /** Called with every chunk's length; a part that was there counts as one. */
    readonly onBytes: (bytes: number) => void;
  },
): Promise<Downloaded> {
  const { expected, limit, signal, onBytes } = options;
  const path = join(folder, `${createHash('sha256').update(file.address).digest('hex').slice(0, 32)}.part`);
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  const known = await readNote(path, file);
  if (known?.whole) {
    onBytes(known.whole.bytes);
    return { path, ...known.whole, validator: known.validator };
  }
  const hashes = createHashes(expected);
  const there = known ? await hashes.takeFile(path, signal) : 0;
  const opened = await session.open(file, { start: there, validator: known?.validator ?? null });
  const total = opened.total ?? file.bytes;
  if (opened.start === 0) hashes.reset();
  await writeNote(path, { address: file.address, validator: opened.validator, total, whole: null });
  if (opened.start > 0) onBytes(opened.start);
  let at = opened.start;
  const handle = await open(path, opened.start > 0 ? 'r+' : 'w', 0o600);
  try {
    for await (const chunk of opened.bytes) {
      signal.throwIfAborted();
      // Told at the first bytes, where leaving the loop ends the source.
      if (Math.max(total ?? 0, at + chunk.byteLength) > limit) throw tooLarge(file, limit);
      await handle.write(chunk, 0, chunk.byteLength, at);
      hashes.update(chunk);
      at += chunk.byteLength;
      onBytes(chunk.byteLength);
    }
  } finally {
    await handle.close();
  }
  signal.throwIfAborted();
  if (total !== null && at !== total) throw new Error(`${file.name} ended after ${at} of ${total} bytes`);
  const wrong = hashes.mismatch();
  if (wrong) {
    await rm(path, { force: true });
    // Its parts may be of two states that the source gave one name: whole, it may fit.
    if (opened.start > 0) throw new Error(`${file.name}, fetched in parts, ${wrong}: it is fetched again`);
    throw failure(
      'DigestMismatch',
      `${file.name} ${wrong}: it was changed on its way, or the digest is of another file`,
    );
  }
  const whole = { bytes: at, sha256: hashes.sha256() };
  await writeNote(path, { address: file.address, validator: opened.validator, total, whole });
  return { path, ...whole, validator: opened.validator };
}

/** SHA-256 and whatever else somebody expects, over the same bytes. */
function createHashes(expected: readonly Expected[]) {
  const fresh = () => ({
    sha256: createHash('sha256'),
    others: expected.map((one): [Expected, Hash] => [one, createHash(one.algorithm)]),
  });
  const state = fresh();
  const update = (chunk: Uint8Array): void => {
    state.sha256.update(chunk);
    for (const [, hash] of state.others) hash.update(chunk);
  };
  return {
    update,
    reset: () => void Object.assign(state, fresh()),
    /** The bytes of a part that is there already; returns how many. */
    async takeFile(path: string, signal: AbortSignal): Promise<number> {
      let bytes = 0;
      for await (const chunk of createReadStream(path, { signal }) as AsyncIterable<Buffer>) {
        update(chunk);
        bytes += chunk.byteLength;
      }
      return bytes;
    },
    sha256: () => state.sha256.copy().digest('hex') as Digest,
    mismatch(): string | undefined {
      for (const [{ algorithm, digest }, hash] of state.others) {
        const found = hash.copy().digest('hex');
        if (found !== digest) return `has ${algorithm} ${found}, not ${digest}`;
      }
      return undefined;
    },
  };
}

const noteOf = (path: string): string => `${path}.json`;

/** The note of a part that is there and is of this file; else nothing, and the file is fetched anew. */
async function readNote(path: string, file: RemoteFile): Promise<Note | undefined> {
  try {
    const note = noteSchema.parse(JSON.parse(await readFile(noteOf(path), 'utf8')));
    const { size } = await stat(path);
    if (note.address !== file.address || (note.whole && note.whole.bytes !== size)) return undefined;
    return note.whole || note.validator !== null ? note : undefined;
  } catch {
    return undefined;
  }
}

async function writeNote(path: string, note: Note): Promise<void> {
  await writeFile(`${noteOf(path)}.new`, JSON.stringify(note), { mode: 0o600 });
  await rename(`${noteOf(path)}.new`, noteOf(path));
}

const tooLarge = (file: RemoteFile, limit: number) =>
  failure('InvalidInput', `${file.name} is larger than the ${limit} bytes that are left to this import`);
