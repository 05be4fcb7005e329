// The CodeHost over bare repositories, local or remote, through git plumbing commands, without a work tree.
import { setTimeout as sleep } from 'node:timers/promises';
import { failure } from '../../failures.ts';
import type { CodeHost } from '../../ports.ts';
import { checkAuthor, checkBranch, checkCommit, checkFile, checkRevision } from './names.ts';
import { branchesOf, commitOf, identity, MAIN, type Repositories } from './repository.ts';
import { gitError, type Git } from './run-git.ts';
import { writeBlobs } from './blobs.ts';
import { changeTree, type Change } from './tree.ts';

/** Commits to a branch queue within a process; only other processes and pushes by people interfere, rarely this often. */
const ATTEMPTS = 20;
/** Longest pause before a commit is rebuilt; random, so that two processes do not keep colliding. */
const ATTEMPT_PAUSE_MS = 100;
/** Separates the fields of a log entry: git allows no NUL in a message and no control characters in a name. */
const FIELD = '%x00';
const LOG_LIMIT = 1000;

/**
 * Conflicts are resolved by rule: a commit is based on the current head of the branch, and is rebuilt when another commit
 * arrives first. So no commit is lost, and of two changes to one file the later one wins.
 * `drafts` is a folder for temporary files; `committer` is the committer of all commits.
 */
export function createCodeHost(of: {
  readonly git: Git;
  readonly repositories: Repositories;
  readonly drafts: string;
  readonly committer: string;
}): CodeHost {
  const { git, repositories, drafts, committer } = of;
  const queue = createQueue();

  async function requireCommit(repository: string, gitDir: string, revision: string): Promise<string> {
    const commit = await commitOf(git, gitDir, revision);
    if (commit === undefined) throw failure('NotFound', `no commit ${revision} in ${repository}`);
    return commit;
  }

  const commit: CodeHost['commit'] = async ({ repository, branch, files, message, author, signal }) => {
    checkBranch(branch);
    const env = identity(checkAuthor(author), committer);
    Object.keys(files).forEach(checkFile);
    if (message.includes('\0')) throw failure('InvalidInput', 'a commit message must not contain a NUL character');

    return queue(`${repository} ${branch}`, async () => {
      let blobs: Change[] | undefined;
      for (let attempt = 1; attempt <= ATTEMPTS; attempt += 1) {
        signal?.throwIfAborted();
        const gitDir = await repositories.open(repository, { signal });
        blobs ??= await writeBlobs(git, { gitDir, files, signal });
        const head = await commitOf(git, gitDir, branch, signal);
        const base = head ?? (await requireCommit(repository, gitDir, MAIN));
        const change = await changeTree(git, { gitDir, base, blobs, drafts, signal });
        if (!change.changed && head !== undefined) return { commit: head };
        const args = ['commit-tree', change.tree, '-p', base, '-F', '-'];
        const to = change.changed ? await git.tell({ gitDir, args, input: message, env, signal }) : base;
        if (await repositories.move(repository, { gitDir, branch, from: head, to, signal })) return { commit: to };
        await sleep(Math.random() * ATTEMPT_PAUSE_MS, undefined, { signal });
      }
      throw new Error(`branch ${branch} of ${repository} is repeatedly moved by other commits; will be retried`);
    });
  };

  return {
    ensure: (repository) => repositories.ensure(repository),
    commit,
    async read(repository, revision, path) {
      checkFile(path);
      checkRevision(revision);
      const gitDir = await repositories.open(repository, { revision });
      const found = await commitOf(git, gitDir, revision);
      if (found === undefined) return undefined;
      const entry = await git.tell({ gitDir, args: ['ls-tree', '-z', '--full-tree', found, '--', path] });
      // Regular files only: the content of a symbolic link is a path.
      const [, blob] = /^100(?:644|755) blob ([0-9a-f]{40})\t/.exec(entry) ?? [];
      if (blob === undefined) return undefined;
      const args = ['cat-file', 'blob', blob];
      const { status, output, complaint } = await git.ask({ gitDir, args });
      if (status !== 0 && / is corrupt$/m.test(complaint))
        throw failure(
          'Corrupt',
          `${path} at ${found} of ${repository} is damaged: restore the repository (${complaint})`,
        );
      if (status !== 0) throw gitError({ gitDir, args }, status, complaint);
      return new Uint8Array(output);
    },
    async resolve(repository, revision) {
      checkRevision(revision);
      return commitOf(git, await repositories.open(repository, { revision }), revision);
    },
    async archive(repository, commit) {
      checkCommit(commit);
      const gitDir = await repositories.open(repository, { revision: commit });
      await requireCommit(repository, gitDir, commit);
      return git.stream({ gitDir, args: ['archive', '--format=tar', commit] });
    },
    branches: async (repository) => branchesOf(git, await repositories.open(repository)),
    async log(repository, revision, limit) {
      checkRevision(revision);
      if (!Number.isInteger(limit) || limit < 1 || limit > LOG_LIMIT)
        throw failure(
          'InvalidInput',
          `log limit ${limit} is invalid: it must be a whole number from 1 to ${LOG_LIMIT}`,
        );
      const gitDir = await repositories.open(repository, { revision });
      const head = await requireCommit(repository, gitDir, revision);
      const format = `--format=tformat:%H${FIELD}%an${FIELD}%aI${FIELD}%B${FIELD}`;
      const output = await git.tell({ gitDir, args: ['log', '--no-color', `--max-count=${limit}`, format, head] });
      const fields = output.split('\0');
      return Array.from({ length: Math.floor(fields.length / 4) }, (_, index) => {
        const [commit = '', author = '', date = '', message = ''] = fields.slice(index * 4, index * 4 + 4);
        // Commits by people may carry any date, including an invalid one.
        const at = Number.isNaN(Date.parse(date)) ? date : new Date(date).toISOString();
        return { commit: commit.trim(), author, at, message: message.trim() };
      });
    },
    url: (repository) => repositories.url(repository),
  };
}

/** Runs work with the same name sequentially. */
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
