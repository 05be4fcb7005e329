// Moves a branch from the commit at which it was read to the next commit, atomically.
import { lstat, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { failure } from '../../failures.ts';
import { unless } from '../durable-file.ts';
import { gitError, type Git } from './run-git.ts';

/** Git's value for "must not exist yet". */
const NONE = '0'.repeat(40);
/** Git holds a branch's lock for milliseconds; an older lock belongs to a killed git process. */
const STALE_LOCK_MS = 60_000;

export interface Move {
  readonly gitDir: string;
  readonly branch: string;
  /** The commit at which the branch was read; `undefined` if the branch did not exist. */
  readonly from: string | undefined;
  readonly to: string;
  readonly signal?: AbortSignal | undefined;
}

/** Compare-and-set of a branch in a local repository. `false` means that another process moved or locked it: read it again and rebuild the commit. */
export async function moveBranch(git: Git, move: Move): Promise<boolean> {
  const { gitDir, branch, from = NONE, to, signal } = move;
  const ref = `refs/heads/${branch}`;
  const args = ['update-ref', '-m', 'ocdl', '--no-deref', ref, to, from];
  const { status, complaint } = await git.ask({ gitDir, args, signal });
  if (status === 0) return true;
  refuseNestedBranch(branch, complaint);
  if (/but expected|reference already exists|unable to resolve reference/.test(complaint)) return false;
  if (!(await isLocked(gitDir, complaint))) throw gitError({ gitDir, args }, status, complaint);
  return false;
}

/** Git stores a branch as a file, so a branch cannot be named like a folder of another branch. */
export function refuseNestedBranch(branch: string, complaint: string): void {
  if (/exists; cannot create|there are still refs|Is a directory|Not a directory/.test(complaint))
    throw failure(
      'Conflict',
      `branch ${branch} conflicts with a branch whose name is a prefix of it, or the reverse: ${complaint}`,
    );
}

/** Whether another git process holds the lock. Removes the lock of a killed process. */
export async function isLocked(gitDir: string, complaint: string): Promise<boolean> {
  const [, lock = ''] = /'([^']+\.lock)'?: File exists/.exec(complaint) ?? [];
  if (lock === '') return false;
  const found = lock.startsWith(join(gitDir, '/')) ? await unless(['ENOENT'], lstat(lock)) : undefined;
  if (found && Date.now() - found.mtimeMs > STALE_LOCK_MS) await unless(['ENOENT'], unlink(lock));
  return true;
}
