// Repositories that exist only in a folder of this machine.
import { randomUUID } from 'node:crypto';
import { lstat, mkdir, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { codeOf, failure } from '../../failures.ts';
import { diskError, FOLDER_MODE, syncFolder, unless } from '../durable-file.ts';
import { moveBranch } from './branch-head.ts';
import { checkRepository } from './names.ts';
import { createUpkeep, firstCommit, initRepository, MAIN, type Repositories } from './repository.ts';
import type { Git } from './run-git.ts';

/** Opens the repositories in the folder `root`. */
export function createLocalRepositories(of: {
  readonly git: Git;
  readonly root: string;
  readonly drafts: string;
  readonly committer: string;
}): Repositories {
  const { git, root, drafts, committer } = of;
  const keep = createUpkeep(git);
  const folderOf = (repository: string): string => repositoryFolder(root, repository);

  return {
    async ensure(repository) {
      const gitDir = folderOf(repository);
      if (await unless(['ENOENT', 'ENOTDIR'], lstat(gitDir))) return;
      await makeWhole(drafts, gitDir, async (draft) => {
        await initRepository(git, draft);
        const to = await firstCommit(git, draft, committer);
        if (!(await moveBranch(git, { gitDir: draft, branch: MAIN, from: undefined, to })))
          throw new Error(`${draft} was changed while it was being created; will be retried`);
      });
    },
    async open(repository) {
      const gitDir = folderOf(repository);
      if (!(await unless(['ENOENT', 'ENOTDIR'], lstat(gitDir)))?.isDirectory())
        throw failure('NotFound', `repository ${repository} does not exist: create it first`);
      await keep(gitDir);
      return gitDir;
    },
    move: (_, move) => moveBranch(git, move),
    url: (repository) => pathToFileURL(folderOf(repository)).href,
  };
}

export const repositoryFolder = (root: string, repository: string): string =>
  `${join(root, ...checkRepository(repository))}.git`;

/** Creates a repository under a temporary name and renames it, so it is never seen half-made. If it already exists, the existing one is kept. */
export async function makeWhole(drafts: string, gitDir: string, make: (draft: string) => Promise<void>): Promise<void> {
  const draft = join(drafts, `${randomUUID()}.git`);
  try {
    await make(draft);
    await mkdir(dirname(gitDir), { recursive: true, mode: FOLDER_MODE });
    await rename(draft, gitDir);
    await syncFolder(dirname(gitDir));
  } catch (error) {
    if (!['ENOTEMPTY', 'EEXIST'].includes(codeOf(error) ?? '')) throw diskError(error, `creating ${gitDir}`, 'Git');
  } finally {
    await rm(draft, { recursive: true, force: true });
  }
}
