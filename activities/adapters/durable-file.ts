// File operations that the embedded adapters share: durability rules and disk errors.
import { randomUUID } from 'node:crypto';
import { constants } from 'node:fs';
import { link, lstat, mkdir, open, readdir, readFile, rename, rm, unlink, type FileHandle } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { codeOf, SystemUnavailable, type SystemName } from '../failures.ts';
import type { Marker } from '../ports.ts';

/** Only the platform's own user can read and write its files. */
export const FOLDER_MODE = 0o700;
export const FILE_MODE = 0o600;
/** Older temporary files belong to dead writers: a live writer updates its file with every chunk. */
export const LEFTOVER_AGE_MS = 24 * 60 * 60 * 1000;

/** Runs `work` once a day until the returned function is called. `work` reports its own errors; the timer keeps no process alive. */
export function everyDay(work: () => Promise<unknown>): () => void {
  const timer = setInterval(() => void work(), LEFTOVER_AGE_MS).unref();
  return () => clearInterval(timer);
}

/** Runs a file operation; failures with one of these codes mean that the file does not exist and give `undefined`. */
export async function unless<T>(codes: readonly string[], work: Promise<T>): Promise<T | undefined> {
  try {
    return await work;
  } catch (error) {
    if (codes.includes(codeOf(error) ?? '')) return undefined;
    throw error;
  }
}

/** What an operator can do about a disk error. */
const remedies: Readonly<Record<string, string>> = {
  ENOSPC: 'the disk is full: free some space on it',
  EDQUOT: 'the disk quota is used up: raise it or free some space',
  EACCES: 'access is denied: give the user that runs OCDL read and write access to it',
  EPERM: 'the operation is not permitted: give the user that runs OCDL ownership of it',
  EROFS: 'the file system is read-only: mount it writable',
  EMFILE: 'too many files are open: raise the limit of open files (ulimit -n)',
  EIO: 'the disk reported an input/output error: check the disk',
};

/** Error codes of a full disk. */
const FULL = ['ENOSPC', 'EDQUOT'];

/** Adds location and remedy to a disk error; returns other errors unchanged. `system` names the system stored on the disk. */
export function diskError(error: unknown, doing: string, system: SystemName = 'disk'): unknown {
  const code = codeOf(error) ?? '';
  // Only Node's own file-system errors name the failed system call.
  const isOfTheSystem = typeof error === 'object' && error !== null && 'syscall' in error;
  const reason = remedies[code] ?? (isOfTheSystem ? `file system error ${code}` : undefined);
  if (reason === undefined) return error;
  const message = `${doing}: ${reason}; will be retried${remedies[code] === undefined ? ` (${String(error)})` : ''}`;
  return new SystemUnavailable({ system, reason, message, isFull: FULL.includes(code), cause: error });
}

/** Makes changes to a folder's entries (creation, rename, removal) survive a power failure. */
export async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, constants.O_RDONLY);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Writes all bytes, even if the system accepts only some of them per call. */
export async function writeAll(handle: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.byteLength;) {
    const { bytesWritten } = await handle.write(bytes, done, bytes.byteLength - done, position + done);
    done += bytesWritten;
  }
}

/** Replaces a small file atomically: readers see the old or the new text, even after a crash. */
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

/** Creates a small file atomically; returns `false` and changes nothing if the file exists. */
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

/** A marker in a small text file that is created once and never replaced. */
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

/** Removes old temporary files of dead writers from a folder; `isLeftover` selects the candidates by name. */
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
