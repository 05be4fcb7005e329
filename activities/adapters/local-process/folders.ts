// Folders of jobs and services: measured, given to a user and removed, whatever an untrusted program left in them.
import { execFile } from 'node:child_process';
import { chmod, lchown, lstat, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

/** Beyond this many files a folder counts as endless: they cost the disk even when they are empty. */
const MOST_FILES = 200_000;

/** Bytes that the folders' files take on disk together. Links are not followed. */
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

/** Makes a user the owner of a folder and all in it. Links themselves, not what they point to. */
export async function giveTo(uid: number, path: string): Promise<void> {
  await lchown(path, uid, uid);
  if ((await lstat(path)).isDirectory()) for (const name of await readdir(path)) await giveTo(uid, join(path, name));
}

/** Removes a folder, also when a program took away our permission to enter parts of it. */
export async function removeFolder(path: string): Promise<void> {
  try {
    await rm(path, { recursive: true, force: true });
  } catch {
    await openUp(path);
    // Folders nested deeper than a path can name are removed by the system's own program, which walks by descriptor.
    await promisify(execFile)('rm', ['-rf', '--', path]);
  }
}

async function openUp(folder: string): Promise<void> {
  // What cannot be opened is left to the removal to name; the failed one before may still be taking files away.
  await chmod(folder, 0o700).catch(() => undefined);
  for (const entry of await readdir(folder, { withFileTypes: true }).catch(() => []))
    if (entry.isDirectory()) await openUp(join(folder, entry.name));
}
