// Measures, hands over and removes folders of jobs and services, whatever an untrusted program left in them.
import { execFile } from 'node:child_process';
import { chmod, lchown, lstat, opendir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { codeOf } from '../../failures.ts';

/** A folder with more files counts as endless: even empty files use disk space. */
const MOST_FILES = 200_000;

/**
 * Total disk usage of the folders, in bytes. Does not follow links. Infinite if there are too many files, or if something
 * cannot be measured because its path is too long or its permissions are missing. Once the program has `ended`, missing
 * permissions of folders are added; before, it could put a link in their place.
 */
export async function folderBytes(folders: readonly string[], ended = false): Promise<number> {
  let bytes = 0;
  let files = 0;
  const pending = [...folders];
  for (let folder = pending.pop(); folder !== undefined; folder = pending.pop()) {
    const content = await measure(folder, MOST_FILES - files, ended);
    if (content === undefined) return Infinity;
    files += content.files;
    bytes += content.bytes;
    pending.push(...content.folders);
  }
  return bytes;
}

interface Content {
  readonly files: number;
  readonly bytes: number;
  readonly folders: readonly string[];
}

/** The content of one folder; `undefined` if it cannot be measured or has more files than `most`. */
async function measure(folder: string, most: number, mayOpen: boolean): Promise<Content | undefined> {
  let [files, bytes] = [0, 0];
  const folders: string[] = [];
  try {
    for await (const entry of await opendir(folder)) {
      if (++files > most) return undefined;
      const path = join(folder, entry.name);
      const status = await lstat(path).catch((error: unknown) => {
        if (!isGone(error)) throw error;
      });
      if (status?.isDirectory()) folders.push(path);
      else bytes += (status?.blocks ?? 0) * 512;
    }
  } catch (error) {
    if (isGone(error)) return { files, bytes, folders };
    if (!mayOpen || codeOf(error) !== 'EACCES') return undefined;
    await chmod(folder, 0o700).catch(() => undefined);
    return measure(folder, most, false);
  }
  return { files, bytes, folders };
}

/** The program removed it, or put a file in its place, in the meantime. */
const isGone = (error: unknown): boolean => ['ENOENT', 'ENOTDIR'].includes(codeOf(error) ?? '');

/** Makes a user the owner of a folder and its content. Changes links themselves, not their targets. */
export async function giveTo(uid: number, path: string): Promise<void> {
  await lchown(path, uid, uid);
  if ((await lstat(path)).isDirectory()) for (const name of await readdir(path)) await giveTo(uid, join(path, name));
}

/** Removes a folder, even if a program removed our permission to enter parts of it. */
export async function removeFolder(path: string): Promise<void> {
  try {
    await rm(path, { recursive: true, force: true });
  } catch {
    await openUp(path);
    // The system's rm handles nesting deeper than a path can name, because it walks by file descriptor.
    await promisify(execFile)('rm', ['-rf', '--', path]);
  }
}

async function openUp(folder: string): Promise<void> {
  // Errors here are left to the removal, which names them; the first, failed removal may still be deleting files.
  await chmod(folder, 0o700).catch(() => undefined);
  for (const entry of await readdir(folder, { withFileTypes: true }).catch(() => []))
    if (entry.isDirectory()) await openUp(join(folder, entry.name));
}
