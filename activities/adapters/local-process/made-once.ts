// Files and folders that are made once and cached.
import { randomUUID } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';

/** A draft older than a day was left by a process that was killed. */
const LEFTOVER_AGE_MS = 24 * 60 * 60 * 1000;

/**
 * Returns the path of a file or folder. If it is missing, it is made under a temporary name and then renamed: concurrent makers
 * both succeed, and a partial result is never visible.
 */
export async function madeOnce(target: string, make: (draft: string) => Promise<void>): Promise<string> {
  if (existsSync(target)) return target;
  const folder = dirname(target);
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const drafts = `${basename(target)}.making-`;
  for (const path of readdirSync(folder).flatMap((name) => (name.startsWith(drafts) ? join(folder, name) : [])))
    if (Date.now() - (statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? Infinity) > LEFTOVER_AGE_MS)
      rmSync(path, { recursive: true, force: true });
  const draft = join(folder, `${drafts}${randomUUID()}`);
  try {
    await make(draft);
    renameSync(draft, target);
  } catch (error) {
    // Another process was faster; use its result.
    if (!existsSync(target)) throw error;
  } finally {
    rmSync(draft, { recursive: true, force: true });
  }
  return target;
}
