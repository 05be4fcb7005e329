// One bare repository on disk: how it is made, its first commit, and what a revision names in it.
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { FOLDER_MODE } from '../durable-file.ts';
import type { Move } from './branch-head.ts';
import { checkRevision } from './names.ts';
import type { Git } from './run-git.ts';

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
  // A tree could ask git to write, for example, the names of branches into its archive: not the same bytes each time.
  await mkdir(join(gitDir, 'info'), { recursive: true, mode: FOLDER_MODE });
  await writeFile(join(gitDir, 'info', 'attributes'), '* -export-subst\n');
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
  const { status, output } = await git.ask({ gitDir, args, signal });
  return status === 0 ? output.toString().trim() : undefined;
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
