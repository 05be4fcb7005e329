// CodeHost on Git: on bare repositories below a folder, or on those of any remote over HTTPS or SSH.
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
  /** Folder for the repositories, or for the mirrors of a remote's. */
  readonly root: string;
  /** Commits what the platform itself does. */
  readonly author?: string;
  /** The program. */
  readonly git?: string;
}

/** The repositories in the folder `root`. */
export async function createGitHost(options: HostOptions): Promise<CodeHost> {
  const parts = await prepare(options);
  return told(createCodeHost({ ...parts, repositories: createLocalRepositories(parts) }));
}

/**
 * The repositories of a remote. What people push there is seen at the next call; what is committed is there before the
 * call ends. Creating a repository is no part of Git: one that is missing is a `NotFound` that says so.
 * @throws `InvalidInput` when the remote's address or a file is not one that can be used.
 */
export async function createGitRemote(
  options: HostOptions & RemoteOptions,
): Promise<
  CodeHost & { /** Reaches the remote and proves both sides, or says what is wrong. */ check(): Promise<void> }
> {
  const parts = await prepare(options);
  const remote = await createRemote(parts.git, parts.drafts, options);
  const host = told(createCodeHost({ ...parts, repositories: createMirrors({ ...parts, remote }) }));
  return { ...host, check: () => remote.check() };
}

/** The same host; what the disk of its repositories refuses is told as an unavailable Git. */
function told(host: CodeHost): CodeHost {
  const tell = async <T>(work: Promise<T>): Promise<T> => {
    try {
      return await work;
    } catch (error) {
      throw diskError(error, 'the repositories of the platform', 'Git');
    }
  };
  return {
    ensure: (repository) => tell(host.ensure(repository)),
    commit: (change) => tell(host.commit(change)),
    read: (...asked) => tell(host.read(...asked)),
    resolve: (...asked) => tell(host.resolve(...asked)),
    archive: (...asked) => tell(host.archive(...asked)),
    branches: (repository) => tell(host.branches(repository)),
    log: (...asked) => tell(host.log(...asked)),
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
  // Repositories and indexes of processes that were killed; the program that git asks for a token is in use for years.
  await removeLeftovers(drafts, (name) => name !== 'askpass');
  return { git, committer, root, drafts };
}
