// One bare repository on disk: creation, first commit, resolution of revisions.
import { mkdir, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { FOLDER_MODE, removeLeftovers, replaceFile, unless } from '../durable-file.ts';
import type { Move } from './branch-head.ts';
import { checkRevision } from './names.ts';
import { gitError, type Git } from './run-git.ts';

/** Attributes in a tree could make git omit or change files in its archive: these settings make an archive equal to the tree, byte for byte. */
const ATTRIBUTES = '* -export-ignore -export-subst -text -ident !working-tree-encoding\n';

/** The first branch of every repository; other branches start from it. */
export const MAIN = 'main';

/** Access to the repositories of a CodeHost: local ones, or a remote's with local mirrors. */
export interface Repositories {
  /** Creates the repository with its first commit if it is missing. */
  ensure(repository: string): Promise<void>;
  /** The repository's folder, up to date for the revision, or for all; throws `NotFound` if there is no repository. */
  open(repository: string, options?: { revision?: string; signal?: AbortSignal | undefined }): Promise<string>;
  /** Compare-and-set of a branch; `false` means that another process was first: open it again and rebuild the commit. */
  move(repository: string, move: Move): Promise<boolean>;
  url(repository: string): string;
}

/** Creates a bare repository without a commit. */
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
 * Repairs a repository of an earlier release or a killed git before its first use in this process. Unreachable commits are
 * kept: a commit that a model was trained from can be requested years later.
 */
export function createUpkeep(git: Git): (gitDir: string) => Promise<void> {
  const kept = new Map<string, Promise<void>>();
  async function keep(gitDir: string): Promise<void> {
    await setAttributes(gitDir);
    const objects = join(gitDir, 'objects');
    await removeLeftovers(objects, (name) => name === 'maintenance.lock');
    await removeLeftovers(join(objects, 'pack'), (name) => name.startsWith('tmp_'));
    // Packs loose files; a failure is harmless, since a later start does it again.
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

/** Writes the first commit of a history; no branch points to it yet. */
export async function firstCommit(git: Git, gitDir: string, committer: string): Promise<string> {
  const tree = await git.tell({ gitDir, args: ['mktree'] });
  const env = identity(committer, committer);
  return git.tell({ gitDir, args: ['commit-tree', tree, '-F', '-'], input: 'Begin', env });
}

/** The full commit id of a branch or commit in the local repository. */
export async function commitOf(
  git: Git,
  gitDir: string,
  revision: string,
  signal?: AbortSignal,
): Promise<string | undefined> {
  const args = ['rev-parse', '--verify', '--quiet', '--end-of-options', `${checkRevision(revision)}^{commit}`];
  const { status, output, complaint } = await git.ask({ gitDir, args, signal });
  if (status === 0) return output.toString().trim();
  // Otherwise git could not look it up, and "none" might be wrong.
  if (status !== 1) throw gitError({ gitDir, args }, status, complaint);
  return undefined;
}

export async function branchesOf(git: Git, gitDir: string): Promise<readonly string[]> {
  const output = await git.tell({ gitDir, args: ['for-each-ref', '--format=%(refname:lstrip=2)', 'refs/heads'] });
  return output.split('\n').filter(Boolean);
}

/** Git's variables for author and committer. */
export const identity = (author: string, committer: string): Record<string, string> => ({
  GIT_AUTHOR_NAME: author,
  GIT_AUTHOR_EMAIL: `${author}@ocdl`,
  GIT_COMMITTER_NAME: committer,
  GIT_COMMITTER_EMAIL: `${committer}@ocdl`,
});
