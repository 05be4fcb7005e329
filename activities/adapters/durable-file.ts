// What the embedded adapters share about files on a local disk: what is durable when, and how a disk's errors are told.
import { randomUUID } from 'node:crypto';
import { constants } from 'node:fs';
import { link, lstat, mkdir, open, readdir, readFile, rename, rm, unlink, type FileHandle } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { codeOf, SystemUnavailable, type SystemName } from '../failures.ts';
import type { Marker } from '../ports.ts';

/** Only the platform's own user reads and writes what it stores. */
export const FOLDER_MODE = 0o700;
export const FILE_MODE = 0o600;
/** Leftovers of writers that died are older than this; a live writer touches its file with every chunk. */
export const LEFTOVER_AGE_MS = 24 * 60 * 60 * 1000;

/** Does the work, which tells its own errors, once a day until it is ended; it keeps no process alive. */
export function everyDay(work: () => Promise<unknown>): () => void {
  const timer = setInterval(() => void work(), LEFTOVER_AGE_MS).unref();
  return () => clearInterval(timer);
}

/** Runs a file operation whose failure with one of these codes means "there is none". */
export async function unless<T>(codes: readonly string[], work: Promise<T>): Promise<T | undefined> {
  try {
    return await work;
  } catch (error) {
    if (codes.includes(codeOf(error) ?? '')) return undefined;
    throw error;
  }
}

/** What a person can do about an error of the disk. */
const remedies: Readonly<Record<string, string>> = {
  ENOSPC: 'the disk is full: free some space on it',
  EDQUOT: 'the disk quota is used up: raise it or free some space',
  EACCES: 'access is denied: give the user that runs OCDL read and write access to it',
  EPERM: 'the operation is not permitted: give the user that runs OCDL ownership of it',
  EROFS: 'the file system is read-only: mount it writable',
  EMFILE: 'too many files are open: raise the limit of open files (ulimit -n)',
  EIO: 'the disk reported an input/output error: check the disk',
};

/** Codes of a disk without room. */
const FULL = ['ENOSPC', 'EDQUOT'];

/** The error of a disk with a message that says where it happened and what to do; any other error as it is. `system` lies on that disk. */
export function diskError(error: unknown, doing: string, system: SystemName = 'disk'): unknown {
  const code = codeOf(error) ?? '';
  // Node's own errors of the file system, and no others, say which call failed.
  const isOfTheSystem = typeof error === 'object' && error !== null && 'syscall' in error;
  const reason = remedies[code] ?? (isOfTheSystem ? `the file system refuses (${code})` : undefined);
  if (reason === undefined) return error;
  const message = `${doing}: ${reason}; it is tried again${remedies[code] === undefined ? ` (${String(error)})` : ''}`;
  return new SystemUnavailable({ system, reason, message, isFull: FULL.includes(code), cause: error });
}

/** Makes the names in a folder (a creation, a rename, a removal) survive a power cut. */
export async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, constants.O_RDONLY);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Writes all of the bytes, also where the system takes only some of them at a time. */
export async function writeAll(handle: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.byteLength;) {
    const { bytesWritten } = await handle.write(bytes, done, bytes.byteLength - done, position + done);
    done += bytesWritten;
  }
}

/** Replaces a small file as a whole: a reader sees the old text or the new, also after a crash. */
export async function replaceFile(path: string, text: string): Promise<void> {
  const temporary = `${path}.${randomUUID()}.tmp`;
  try {
    const handle = await open(temporary, 'wx', FILE_MODE);
    try {
      await handle.writeFile(text);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await unlink(temporary).catch(() => undefined);
    throw error;
  }
  await syncFolder(dirname(path));
}

/** Creates a small file as a whole; `false` when there is one already, which is left alone. */
export async function createFile(path: string, text: string): Promise<boolean> {
  const draft = `${path}.${randomUUID()}.tmp`;
  await replaceFile(draft, text);
  try {
    const made = await unless(
      ['EEXIST'],
      link(draft, path).then(() => true),
    );
    if (made) await syncFolder(dirname(path));
    return made === true;
  } finally {
    await unlink(draft);
  }
}

/** A small text file as a marker: created once, and never replaced. */
export function markerFile(path: string): Marker {
  const owner = async (): Promise<string | undefined> =>
    (await unless(['ENOENT', 'ENOTDIR'], readFile(path, 'utf8')))?.trim();
  return {
    owner,
    async claim(installation) {
      await mkdir(dirname(path), { recursive: true, mode: FOLDER_MODE });
      await createFile(path, `${installation}\n`);
      return (await owner()) ?? installation;
    },
  };
}

/** Removes what dead writers left in a folder of temporary files: all that is old, or what of it is named so. */
export async function removeLeftovers(
  folder: string,
  isLeftover: (name: string) => boolean = () => true,
): Promise<void> {
  for (const name of (await readdir(folder)).filter(isLeftover)) {
    const path = join(folder, name);
    const found = await unless(['ENOENT'], lstat(path));
    if (found && Date.now() - found.mtimeMs > LEFTOVER_AGE_MS) await rm(path, { recursive: true, force: true });
  }
}
