// Measures, hands over and removes folders of jobs and services, whatever an untrusted program left in them.
import { execFile } from 'node:child_process';
import { chmod, lchown, lstat, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

/** A folder with more files counts as endless: even empty files use disk space. */
const MOST_FILES = 200_000;

/** Total disk usage of the folders, in bytes. Does not follow links. */
export async function folderBytes(folders: readonly string[]): Promise<number> {
  let bytes = 0;
  let files = 0;
  const pending = [...folders];
  for (let folder = pending.pop(); folder !== undefined; folder = pending.pop()) {
    for (const entry of await readdir(folder, { withFileTypes: true }).catch(() => [])) {
      if (++files > MOST_FILES) return Infinity;
      const path = join(folder, entry.name);
      if (entry.isDirectory()) pending.push(path);
      else bytes += ((await lstat(path).catch(() => undefined))?.blocks ?? 0) * 512;
    }
  }
  return bytes;
}

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
