// Moving a branch from the commit it was seen at to the next one, or not at all.
import { lstat, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { failure } from '../../failures.ts';
import { unless } from '../durable-file.ts';
import type { Git } from './run-git.ts';

/** What git calls "must not exist yet". */
const NONE = '0'.repeat(40);
/** Git holds a branch's lock for milliseconds; one this old is of a git that was killed. */
const STALE_LOCK_MS = 60_000;

/**
 * Compare-and-set of a branch. `false` when somebody else moved it or holds it: look again and make the commit anew.
 * A bare repository on disk is its own origin; for a remote one this is where the push with a lease belongs.
 */
export async function moveBranch(
  git: Git,
  move: { gitDir: string; branch: string; from: string | undefined; to: string; signal?: AbortSignal | undefined },
): Promise<boolean> {
  const { gitDir, branch, from = NONE, to, signal } = move;
  const ref = `refs/heads/${branch}`;
  const args = ['update-ref', '-m', 'ocdl', '--no-deref', ref, to, from];
  const { status, complaint } = await git.ask({ gitDir, args, signal });
  if (status === 0) return true;
  if (/exists; cannot create|there are still refs|Is a directory|Not a directory/.test(complaint))
    throw failure('Conflict', `branch ${branch} cannot be beside a branch whose name it extends: ${complaint}`);
  if (/but expected|reference already exists|unable to resolve reference/.test(complaint)) return false;
  if (!/\.lock'?: File exists/.test(complaint)) throw new Error(`moving branch ${branch} of ${gitDir}: ${complaint}`);
  const lock = join(gitDir, `${ref}.lock`);
  const found = await unless(['ENOENT'], lstat(lock));
  if (found && Date.now() - found.mtimeMs > STALE_LOCK_MS) await unless(['ENOENT'], unlink(lock));
  return false;
}
