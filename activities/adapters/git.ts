// CodeHost on bare Git repositories below a folder, by the git program's plumbing, without a work tree.
import { randomUUID } from 'node:crypto';
import { lstat, mkdir, realpath, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { failure } from '../failures.ts';
import type { CodeHost } from '../ports.ts';
import { codeOf, diskError, FOLDER_MODE, syncFolder, unless } from './durable-file.ts';
import { moveBranch } from './git/branch-head.ts';
import { checkAuthor, checkBranch, checkCommit, checkFile, checkRepository, checkRevision } from './git/names.ts';
import { createGit } from './git/run-git.ts';
import { changeTree } from './git/tree.ts';

/** The branch every repository begins with, and others are made from. */
const MAIN = 'main';
/** In one process commits to a branch queue; only other processes and people's pushes come between, seldom so often. */
const ATTEMPTS = 20;
/** Longest pause before a commit is made anew, so that two processes do not keep in step. */
const ATTEMPT_PAUSE_MS = 100;
/** Between fields of a log's entry: git takes no NUL in a message, and no control characters in a name. */
const FIELD = '%x00';
const LOG_LIMIT = 1000;

/** The repositories in the folder `root`. `author` commits what the platform itself does; `git` is the program. */
export async function createGitHost(options: {
  readonly root: string;
  readonly author?: string;
  readonly git?: string;
}): Promise<CodeHost> {
  const git = createGit(options.git ?? 'git');
  const committer = checkAuthor(options.author ?? 'ocdl');
  await mkdir(options.root, { recursive: true, mode: FOLDER_MODE });
  const root = await realpath(options.root);
  const drafts = join(root, '.tmp');
  await mkdir(drafts, { recursive: true, mode: FOLDER_MODE });
  const queue = createQueue();

  const folderOf = (repository: string): string => `${join(root, ...checkRepository(repository))}.git`;

  async function openRepository(repository: string): Promise<string> {
    const gitDir = folderOf(repository);
    if ((await unless(['ENOENT', 'ENOTDIR'], lstat(gitDir)))?.isDirectory()) return gitDir;
    throw failure('NotFound', `no repository ${repository}: ensure() makes it`);
  }

  async function commitOf(gitDir: string, revision: string, signal?: AbortSignal): Promise<string | undefined> {
    const args = ['rev-parse', '--verify', '--quiet', '--end-of-options', `${checkRevision(revision)}^{commit}`];
    const { status, output } = await git.ask({ gitDir, args, signal });
    return status === 0 ? output.toString().trim() : undefined;
  }

  async function requireCommit(repository: string, gitDir: string, revision: string): Promise<string> {
    const commit = await commitOf(gitDir, revision);
    if (commit === undefined) throw failure('NotFound', `no commit ${revision} in ${repository}`);
    return commit;
  }

  const identity = (author: string): Record<string, string> => ({
    GIT_AUTHOR_NAME: author,
    GIT_AUTHOR_EMAIL: `${author}@ocdl`,
    GIT_COMMITTER_NAME: committer,
    GIT_COMMITTER_EMAIL: `${committer}@ocdl`,
  });

  /** A whole repository under a temporary name: seen as a whole once it is renamed. */
  async function draftRepository(gitDir: string): Promise<void> {
    await git.tell({ gitDir, args: ['init', '--bare', '--quiet', '--template=', `--initial-branch=${MAIN}`] });
    const tree = await git.tell({ gitDir, args: ['mktree'] });
    const env = identity(committer);
    const to = await git.tell({ gitDir, args: ['commit-tree', tree, '-F', '-'], input: 'Begin', env });
    if (!(await moveBranch(git, { gitDir, branch: MAIN, from: undefined, to })))
      throw new Error(`${gitDir} was changed while it was made; it is tried again`);
    // A tree could ask git to write, for example, the names of branches into its archive: not the same bytes each time.
    await mkdir(join(gitDir, 'info'), { recursive: true, mode: FOLDER_MODE });
    await writeFile(join(gitDir, 'info', 'attributes'), '* -export-subst\n');
  }

  async function ensure(repository: string): Promise<void> {
    const gitDir = folderOf(repository);
    if (await unless(['ENOENT', 'ENOTDIR'], lstat(gitDir))) return;
    const draft = join(drafts, `${randomUUID()}.git`);
    try {
      await draftRepository(draft);
      await mkdir(dirname(gitDir), { recursive: true, mode: FOLDER_MODE });
      await rename(draft, gitDir);
      await syncFolder(dirname(gitDir));
    } catch (error) {
      // Somebody else was first: the repository is there.
      if (!['ENOTEMPTY', 'EEXIST'].includes(codeOf(error) ?? '')) throw diskError(error, `making ${repository}`);
    } finally {
      await rm(draft, { recursive: true, force: true });
    }
  }

  const commit: CodeHost['commit'] = async ({ repository, branch, files, message, author, signal }) => {
    checkBranch(branch);
    const env = identity(checkAuthor(author));
    Object.keys(files).forEach(checkFile);
    if (message.includes('\0')) throw failure('InvalidInput', 'a commit message has no NUL character');
    const gitDir = await openRepository(repository);
    const blobs: (readonly [string, string | null])[] = [];
    for (const [path, input] of Object.entries(files)) {
      const args = ['hash-object', '-w', '--stdin'];
      blobs.push([path, input === null ? null : await git.tell({ gitDir, args, input, signal })]);
    }
    return queue(`${gitDir} ${branch}`, async () => {
      for (let attempt = 1; attempt <= ATTEMPTS; attempt += 1) {
        signal?.throwIfAborted();
        const head = await commitOf(gitDir, branch, signal);
        const base = head ?? (await requireCommit(repository, gitDir, MAIN));
        const change = await changeTree(git, { gitDir, base, blobs, drafts, signal });
        if (!change.changed && head !== undefined) return { commit: head };
        const args = ['commit-tree', change.tree, '-p', base, '-F', '-'];
        const to = change.changed ? await git.tell({ gitDir, args, input: message, env, signal }) : base;
        if (await moveBranch(git, { gitDir, branch, from: head, to, signal })) return { commit: to };
        await sleep(Math.random() * ATTEMPT_PAUSE_MS, undefined, { signal });
      }
      throw new Error(`branch ${branch} of ${repository} is moved by others all the time; it is tried again`);
    });
  };

  return {
    ensure,
    commit,
    async read(repository, revision, path) {
      checkFile(path);
      const gitDir = await openRepository(repository);
      const found = await commitOf(gitDir, revision);
      if (found === undefined) return undefined;
      const entry = await git.tell({ gitDir, args: ['ls-tree', '-z', '--full-tree', found, '--', path] });
      // Regular files only: the content of a symbolic link is a path, and nobody asked for one.
      const [, blob] = /^100(?:644|755) blob ([0-9a-f]{40})\t/.exec(entry) ?? [];
      if (blob === undefined) return undefined;
      const { status, output, complaint } = await git.ask({ gitDir, args: ['cat-file', 'blob', blob] });
      if (status !== 0) throw failure('Corrupt', `${path} at ${found} of ${repository} cannot be read: ${complaint}`);
      return new Uint8Array(output);
    },
    resolve: async (repository, revision) => {
      checkRevision(revision);
      return commitOf(await openRepository(repository), revision);
    },
    async archive(repository, commit) {
      checkCommit(commit);
      const gitDir = await openRepository(repository);
      await requireCommit(repository, gitDir, commit);
      return git.stream({ gitDir, args: ['archive', '--format=tar', commit] });
    },
    async branches(repository) {
      const gitDir = await openRepository(repository);
      const output = await git.tell({ gitDir, args: ['for-each-ref', '--format=%(refname:lstrip=2)', 'refs/heads'] });
      return output.split('\n').filter(Boolean);
    },
    async log(repository, revision, limit) {
      checkRevision(revision);
      if (!Number.isInteger(limit) || limit < 1 || limit > LOG_LIMIT)
        throw failure('InvalidInput', `the limit of a log is a whole number from 1 to ${LOG_LIMIT}`);
      const gitDir = await openRepository(repository);
      const head = await requireCommit(repository, gitDir, revision);
      const format = `--format=tformat:%H${FIELD}%an${FIELD}%aI${FIELD}%B${FIELD}`;
      const output = await git.tell({ gitDir, args: ['log', '--no-color', `--max-count=${limit}`, format, head] });
      const fields = output.split('\0');
      return Array.from({ length: Math.floor(fields.length / 4) }, (_, at) => {
        const [commit = '', author = '', date = '', message = ''] = fields.slice(at * 4, at * 4 + 4);
        return { commit: commit.trim(), author, at: new Date(date).toISOString(), message: message.trim() };
      });
    },
    url: (repository) => pathToFileURL(folderOf(repository)).href,
  };
}

/** Runs work of one name one after the other. */
function createQueue(): <T>(name: string, work: () => Promise<T>) => Promise<T> {
  const last = new Map<string, Promise<unknown>>();
  return (name, work) => {
    const running = (last.get(name) ?? Promise.resolve()).then(work);
    const settled = running
      .catch(() => undefined)
      .then(() => {
        if (last.get(name) === settled) last.delete(name);
      });
    last.set(name, settled);
    return running;
  };
}
