// CodeHost on Git: bare repositories in a local folder, or on any remote over HTTPS or SSH.
import { mkdir, realpath } from 'node:fs/promises';
import { join } from 'node:path';
import type { CodeHost } from '../ports.ts';
import { diskError, FOLDER_MODE, removeLeftovers } from './durable-file.ts';
import { createCodeHost } from './git/code-host.ts';
import { createLocalRepositories } from './git/local-repositories.ts';
import { createMirrors } from './git/mirrors.ts';
import { checkAuthor } from './git/names.ts';
import { createRemote, type RemoteOptions } from './git/remote.ts';
import { createGit } from './git/run-git.ts';

interface HostOptions {
  /** Folder for the repositories, or for the mirrors of a remote's repositories. */
  readonly root: string;
  /** Author of the platform's own commits. */
  readonly author?: string;
  /** Path of the git program. */
  readonly git?: string;
}

/** Opens the repositories in the folder `root`. */
export async function createGitHost(options: HostOptions): Promise<CodeHost> {
  const parts = await prepare(options);
  return withGitErrors(createCodeHost({ ...parts, repositories: createLocalRepositories(parts) }));
}

/**
 * Opens the repositories of a remote. Pushes by people are visible at the next call; a commit is on the remote before the
 * call returns. Git cannot create a repository on a remote: a missing one is a `NotFound` with instructions.
 * @throws `InvalidInput` when the remote's address or a configured file is invalid.
 */
export async function createGitRemote(
  options: HostOptions & RemoteOptions,
): Promise<
  CodeHost & { /** Connects and authenticates in both directions; rejects with the cause. */ check(): Promise<void> }
> {
  const parts = await prepare(options);
  const remote = await createRemote(parts.git, parts.drafts, options);
  const host = withGitErrors(createCodeHost({ ...parts, repositories: createMirrors({ ...parts, remote }) }));
  return { ...host, check: () => remote.check() };
}

/** The same host; disk errors of its repositories become "Git is unavailable". */
function withGitErrors(host: CodeHost): CodeHost {
  const wrapped = async <T>(work: Promise<T>): Promise<T> => {
    try {
      return await work;
    } catch (error) {
      throw diskError(error, 'the repositories of the platform', 'Git');
    }
  };
  return {
    ensure: (repository) => wrapped(host.ensure(repository)),
    commit: (change) => wrapped(host.commit(change)),
    read: (...asked) => wrapped(host.read(...asked)),
    resolve: (...asked) => wrapped(host.resolve(...asked)),
    archive: (...asked) => wrapped(host.archive(...asked)),
    branches: (repository) => wrapped(host.branches(repository)),
    log: (...asked) => wrapped(host.log(...asked)),
    url: (repository) => host.url(repository),
  };
}

async function prepare(options: HostOptions) {
  const git = createGit(options.git ?? 'git');
  const committer = checkAuthor(options.author ?? 'ocdl');
  await mkdir(options.root, { recursive: true, mode: FOLDER_MODE });
  const root = await realpath(options.root);
  const drafts = join(root, '.tmp');
  await mkdir(drafts, { recursive: true, mode: FOLDER_MODE });
  // Removes the repositories and indexes of killed processes. The credential program is skipped: it stays in use for years.
  await removeLeftovers(drafts, (name) => name !== 'askpass');
  return { git, committer, root, drafts };
}
