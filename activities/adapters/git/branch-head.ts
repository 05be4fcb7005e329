// Moving a branch from the commit it was seen at to the next one, or not at all.
import { lstat, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { failure } from '../../failures.ts';
import { unless } from '../durable-file.ts';
import { gitError, type Git } from './run-git.ts';

/** What git calls "must not exist yet". */
const NONE = '0'.repeat(40);
/** Git holds a branch's lock for milliseconds; one this old is of a git that was killed. */
const STALE_LOCK_MS = 60_000;

export interface Move {
  readonly gitDir: string;
  readonly branch: string;
  /** Where it was seen; `undefined`: there was none. */
  readonly from: string | undefined;
  readonly to: string;
  readonly signal?: AbortSignal | undefined;
}

/** Compare-and-set of a branch in a repository on this disk. `false` when somebody else moved it or holds it: look again and make the commit anew. */
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

/** Git keeps a branch as a file, and so cannot have one beside another whose name it extends. */
export function refuseNestedBranch(branch: string, complaint: string): void {
  if (/exists; cannot create|there are still refs|Is a directory|Not a directory/.test(complaint))
    throw failure('Conflict', `branch ${branch} cannot be beside a branch whose name it extends: ${complaint}`);
}

/** Does another git hold what this one wanted? A lock that a killed one left is removed. */
export async function isLocked(gitDir: string, complaint: string): Promise<boolean> {
  const [, lock = ''] = /'([^']+\.lock)'?: File exists/.exec(complaint) ?? [];
  if (lock === '') return false;
  const found = lock.startsWith(join(gitDir, '/')) ? await unless(['ENOENT'], lstat(lock)) : undefined;
  if (found && Date.now() - found.mtimeMs > STALE_LOCK_MS) await unless(['ENOENT'], unlink(lock));
  return true;
}
