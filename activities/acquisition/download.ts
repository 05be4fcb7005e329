// Downloads one file into a local part that outlives the process: resumes where the source supports it, hashes, verifies checksums.
import { createHash, type Hash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, open, readFile, rename, rm, stat, writeFile, type FileHandle } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { digestMismatch } from '../../workflows/domain/digest-mismatch.ts';
import type { Expected, RemoteFile } from '../../workflows/domain/import.ts';
import type { Digest } from '../../workflows/domain/names.ts';
import { failure } from '../failures.ts';
import type { SourceSession } from '../ports.ts';

/** A completely downloaded file, stored in the part at `path`. */
export interface Downloaded {
  readonly path: string;
  readonly bytes: number;
  readonly sha256: Digest;
  readonly validator: string | null;
}

/** Note stored next to a part: the version of the file that it belongs to and, once complete, its size and digest. */
const noteSchema = z.object({
  address: z.string(),
  validator: z.string().nullable(),
  total: z.number().nullable(),
  whole: z.object({ bytes: z.number(), sha256: z.string().transform((text) => text as Digest) }).nullable(),
});
type Note = z.output<typeof noteSchema>;

/**
 * Fetches the file unless its part is already complete. An interrupted download keeps its part for the next attempt.
 * Throws `DigestMismatch` on a checksum mismatch and `InvalidInput` when the file exceeds `limit`; a lost connection is retryable.
 */
export async function download(
  session: SourceSession,
  file: RemoteFile,
  folder: string,
  options: {
    readonly expected: readonly Expected[];
    readonly limit: number;
    readonly signal: AbortSignal;
    /** Called with the length of every chunk; a reused part counts as one chunk. */
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
  if (opened.start === 0) {
    hashes.reset();
    // Before the note: with the new version's note, bytes of the old one would be continued.
    await rm(path, { force: true });
  }
  await writeNote(path, { address: file.address, validator: opened.validator, total, whole: null });
  if (opened.start > 0) onBytes(opened.start);
  let at = opened.start;
  const handle = await open(path, opened.start > 0 ? 'r+' : 'w', 0o600);
  try {
    for await (const chunk of opened.bytes) {
      signal.throwIfAborted();
      // Checked with the first bytes, because leaving the loop also closes the source.
      if (Math.max(total ?? 0, at + chunk.byteLength) > limit) throw tooLarge(file, limit);
      await writeAll(handle, chunk, at);
      hashes.update(chunk);
      at += chunk.byteLength;
      onBytes(chunk.byteLength);
    }
  } finally {
    await handle.close();
  }
  signal.throwIfAborted();
  if (total !== null && at !== total)
    throw new Error(`the download of ${file.name} ended after ${at} of ${total} bytes; will be resumed`);
  const wrong = hashes.mismatch(file.name);
  if (wrong) {
    await rm(path, { force: true });
    // The source may have served two versions under one validator: a complete download may still match.
    if (opened.start > 0)
      throw new Error(`${wrong}: it was fetched in several parts; will be fetched again from the start`);
    throw failure(
      'DigestMismatch',
      `${wrong}: it was changed in transit, or the expected digest belongs to another file`,
    );
  }
  const whole = { bytes: at, sha256: hashes.sha256() };
  await writeNote(path, { address: file.address, validator: opened.validator, total, whole });
  return { path, ...whole, validator: opened.validator };
}

/** Computes SHA-256 and every expected algorithm over the same bytes. */
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
    /** Hashes the bytes of an existing part; returns their number. */
    async takeFile(path: string, signal: AbortSignal): Promise<number> {
      let bytes = 0;
      for await (const chunk of createReadStream(path, { signal }) as AsyncIterable<Buffer>) {
        update(chunk);
        bytes += chunk.byteLength;
      }
      return bytes;
    },
    sha256: () => state.sha256.copy().digest('hex') as Digest,
    mismatch(file: string): string | undefined {
      for (const [{ algorithm, digest }, hash] of state.others) {
        const found = hash.copy().digest('hex');
        if (found !== digest) return digestMismatch(file, found, digest, algorithm);
      }
      return undefined;
    },
  };
}

/** On a nearly full disk one write may take only a part of the bytes; the next one then says why. */
async function writeAll(handle: FileHandle, chunk: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < chunk.byteLength;)
    done += (await handle.write(chunk, done, chunk.byteLength - done, position + done)).bytesWritten;
}

const noteOf = (path: string): string => `${path}.json`;

/** The note of a usable part of this file; `undefined` means that the file must be fetched from the start. */
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
  failure('InvalidInput', `${file.name} is larger than the ${limit} bytes remaining for this import`);
