// Repositories of a remote, each with a local mirror: reads fetch first, writes push.
import { once } from 'node:events';
import { lstat } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { failure } from '../../failures.ts';
import { unless } from '../durable-file.ts';
import { isLocked, refuseNestedBranch } from './branch-head.ts';
import { makeWhole, repositoryFolder } from './local-repositories.ts';
import { isCommit } from './names.ts';
import type { Remote } from './remote.ts';
import {
  branchesOf,
  commitOf,
  createUpkeep,
  firstCommit,
  initRepository,
  MAIN,
  type Repositories,
} from './repository.ts';
import type { Git } from './run-git.ts';

/** Another process that fetches into the same mirror locks a branch for milliseconds; it finishes within this many rounds. */
const ATTEMPTS = 20;
const ATTEMPT_PAUSE_MS = 100;

/** Opens the mirrors below the folder `root`. They are a cache: a missing mirror is fetched again. */
export function createMirrors(of: {
  readonly git: Git;
  readonly remote: Remote;
  readonly root: string;
  readonly drafts: string;
  readonly committer: string;
}): Repositories {
  const { git, remote, root, drafts, committer } = of;
  const together = shareNext();
  const keep = createUpkeep(git);
  const isThere = async (gitDir: string): Promise<boolean> =>
    (await unless(['ENOENT', 'ENOTDIR'], lstat(gitDir)))?.isDirectory() === true;

  /** Updates the mirror's branches to those of the remote. */
  async function fetch(repository: string, gitDir: string): Promise<void> {
    const quiet = ['--quiet', '--no-tags', '--no-write-fetch-head', '--no-auto-maintenance', '--no-recurse-submodules'];
    const args = ['fetch', ...quiet, '--prune', '--', remote.url(repository), '+refs/heads/*:refs/heads/*'];
    for (let attempt = 1; ; attempt += 1) {
      const { status, complaint } = await remote.ask({ gitDir, args });
      if (status === 0) return;
      const isHeld = (await isLocked(gitDir, complaint)) || /cannot lock ref/.test(complaint);
      if (!isHeld || attempt === ATTEMPTS) throw await remote.refusal(repository, complaint);
      await sleep(Math.random() * ATTEMPT_PAUSE_MS);
    }
  }

  async function refresh(repository: string): Promise<void> {
    const gitDir = repositoryFolder(root, repository);
    if (await isThere(gitDir)) return fetch(repository, gitDir);
    await makeWhole(drafts, gitDir, async (draft) => {
      await initRepository(git, draft);
      await fetch(repository, draft);
    });
  }

  const open: Repositories['open'] = async (repository, { revision = '', signal } = {}) => {
    const gitDir = repositoryFolder(root, repository);
    // Commits are immutable: one that is present locally needs no fetch.
    const isKnown = isCommit(revision) && (await isThere(gitDir)) && (await commitOf(git, gitDir, revision));
    if (!isKnown)
      await unlessAborted(
        together(repository, () => refresh(repository)),
        signal,
      );
    await keep(gitDir);
    return gitDir;
  };

  const move: Repositories['move'] = async (repository, { gitDir, branch, from = '', to, signal }) => {
    const ref = `refs/heads/${branch}`;
    // The lease makes the push a compare-and-set: as a child of `from`, the commit cannot discard other commits.
    const lease = `--force-with-lease=${ref}:${from}`;
    const plain = ['--porcelain', '--no-verify', '--no-signed', '--no-follow-tags', '--recurse-submodules=no'];
    const args = ['push', ...plain, lease, '--', remote.url(repository), `${to}:${ref}`];
    const { status, output, complaint } = await remote.ask({ gitDir, args, signal });
    if (status === 0) return true;
    const [, why = ''] = /^!\t.*\t(\[.*)$/m.exec(output.toString()) ?? [];
    refuseNestedBranch(branch, `${why} ${complaint}`);
    if (/stale info|fetch first|non-fast-forward|failed to update ref|cannot lock ref|incorrect old value/.test(why))
      return false;
    throw await remote.refusal(repository, `${why} ${complaint}`);
  };

  return {
    async ensure(repository) {
      for (let attempt = 1; attempt <= ATTEMPTS; attempt += 1) {
        const gitDir = await open(repository);
        const branches = await branchesOf(git, gitDir);
        if (branches.includes(MAIN)) return;
        if (branches.length > 0)
          throw failure(
            'NotFound',
            `${remote.url(repository)} has no branch ${MAIN} (but ${branches.slice(0, 5).join(', ')}): create ${MAIN} there`,
          );
        const to = await firstCommit(git, gitDir, committer);
        if (await move(repository, { gitDir, branch: MAIN, from: undefined, to })) return;
      }
      throw new Error(`${remote.url(repository)} is repeatedly changed by other pushes; will be retried`);
    },
    open,
    move,
    url: (repository) => remote.url(repository),
  };
}

interface Run {
  readonly running: Promise<void>;
  /** The run after the current one, if someone waits for it. */
  next?: Promise<void>;
}

/** Callers that arrive during a run share the next run, so each run starts after its callers asked. */
function shareNext(): (name: string, work: () => Promise<void>) => Promise<void> {
  const runs = new Map<string, Run>();
  return (name, work) => {
    const start = (): Promise<void> => {
      const run: Run = { running: work() };
      runs.set(name, run);
      const end = (): void => {
        if (runs.get(name) === run && !run.next) runs.delete(name);
      };
      run.running.then(end, end);
      return run.running;
    };
    const run = runs.get(name);
    if (!run) return start();
    run.next ??= run.running.then(start, start);
    return run.next;
  };
}

/** Stops waiting for shared work, which continues for the others. */
async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return work;
  signal.throwIfAborted();
  const left = new AbortController();
  const aborted = once(signal, 'abort', { signal: left.signal }).then((): never => {
    throw signal.reason;
  });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    left.abort();
  }
}
