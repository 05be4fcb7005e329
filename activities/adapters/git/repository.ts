// One bare repository on disk: how it is made, its first commit, and what a revision names in it.
import { mkdir, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { FOLDER_MODE, removeLeftovers, replaceFile, unless } from '../durable-file.ts';
import type { Move } from './branch-head.ts';
import { checkRevision } from './names.ts';
import { gitError, type Git } from './run-git.ts';

/** A tree could ask git to leave files out of its archive, or to change them: an archive is the tree, the same bytes each time. */
const ATTRIBUTES = '* -export-ignore -export-subst -text -ident !working-tree-encoding\n';

/** The branch every repository begins with, and others are made from. */
export const MAIN = 'main';

/** Where the repositories are that a CodeHost works on: on this disk, or a remote's with a mirror on this disk. */
export interface Repositories {
  /** Makes the repository with its first commit if it is missing. */
  ensure(repository: string): Promise<void>;
  /** The folder of the repository, in which the revision, or all, is as it stands now; `NotFound` if there is none. */
  open(repository: string, options?: { revision?: string; signal?: AbortSignal | undefined }): Promise<string>;
  /** Compare-and-set of a branch; `false`: somebody else was first, open it again and make the commit anew. */
  move(repository: string, move: Move): Promise<boolean>;
  url(repository: string): string;
}

/** A bare repository without a commit. */
export async function initRepository(git: Git, gitDir: string): Promise<void> {
  await git.tell({ gitDir, args: ['init', '--bare', '--quiet', '--template=', `--initial-branch=${MAIN}`] });
  await setAttributes(gitDir);
}

async function setAttributes(gitDir: string): Promise<void> {
  const file = join(gitDir, 'info', 'attributes');
  if ((await unless(['ENOENT'], readFile(file, 'utf8'))) === ATTRIBUTES) return;
  await mkdir(dirname(file), { recursive: true, mode: FOLDER_MODE });
  await replaceFile(file, ATTRIBUTES);
}

/**
 * Puts a repository in order that an earlier release made, or a killed git left, before its first use in this process. What no
 * branch leads to any more is kept: a commit that was trained from can be asked for years later.
 */
export function createUpkeep(git: Git): (gitDir: string) => Promise<void> {
  const kept = new Map<string, Promise<void>>();
  async function keep(gitDir: string): Promise<void> {
    await setAttributes(gitDir);
    const objects = join(gitDir, 'objects');
    await removeLeftovers(objects, (name) => name === 'maintenance.lock');
    await removeLeftovers(join(objects, 'pack'), (name) => name.startsWith('tmp_'));
    // Some hundred small files become one; a git that cannot do it now does it another time.
    await git.ask({ gitDir, args: ['maintenance', 'run', '--auto', '--quiet', '--task=loose-objects'] });
  }
  return (gitDir) => {
    const known = kept.get(gitDir);
    if (known) return known;
    const keeping = keep(gitDir);
    kept.set(gitDir, keeping);
    keeping.catch(() => kept.delete(gitDir));
    return keeping;
  };
}

/** Writes the commit that a history begins with; no branch is at it yet. */
export async function firstCommit(git: Git, gitDir: string, committer: string): Promise<string> {
  const tree = await git.tell({ gitDir, args: ['mktree'] });
  const env = identity(committer, committer);
  return git.tell({ gitDir, args: ['commit-tree', tree, '-F', '-'], input: 'Begin', env });
}

/** The full commit id that a branch or commit names in the repository as it lies there. */
export async function commitOf(
  git: Git,
  gitDir: string,
  revision: string,
  signal?: AbortSignal,
): Promise<string | undefined> {
  const args = ['rev-parse', '--verify', '--quiet', '--end-of-options', `${checkRevision(revision)}^{commit}`];
  const { status, output, complaint } = await git.ask({ gitDir, args, signal });
  if (status === 0) return output.toString().trim();
  // Else it could not look, and "none" might be wrong.
  if (status !== 1) throw gitError({ gitDir, args }, status, complaint);
  return undefined;
}

export async function branchesOf(git: Git, gitDir: string): Promise<readonly string[]> {
  const output = await git.tell({ gitDir, args: ['for-each-ref', '--format=%(refname:lstrip=2)', 'refs/heads'] });
  return output.split('\n').filter(Boolean);
}

/** What git is told of who made a commit, and who wrote it down. */
export const identity = (author: string, committer: string): Record<string, string> => ({
  GIT_AUTHOR_NAME: author,
  GIT_AUTHOR_EMAIL: `${author}@ocdl`,
  GIT_COMMITTER_NAME: committer,
  GIT_COMMITTER_EMAIL: `${committer}@ocdl`,
});
