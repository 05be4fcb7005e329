// Code hosts with one fault each, made around a good one.
import { isFailure } from '../../../activities/failures.ts';
import type { CodeHost } from '../../../activities/ports.ts';
import { freshName, type Fault } from '../cases.ts';
import type { HostSubject } from '../code-host.ts';

type Change = Parameters<CodeHost['commit']>[0];

const fault = (name: string, caughtBy: string, change: (good: CodeHost) => Partial<CodeHost>): Fault<HostSubject> => ({
  name,
  caughtBy,
  wrap: ({ host, another, close }) => {
    const faulty = (good: CodeHost): CodeHost => ({ ...good, ...change(good) });
    return { host: faulty(host), another: async () => faulty(await another()), close };
  },
});
/** A fault in what is committed. */
const commitFault = (name: string, caughtBy: string, change: (given: Change) => Partial<Change>): Fault<HostSubject> =>
  fault(name, caughtBy, (good) => ({ commit: (given) => good.commit({ ...given, ...change(given) }) }));

export const hostFaults: readonly Fault<HostSubject>[] = [
  fault('makes a repository anew each time', 'creates a repository with one empty commit on main, once', (good) => ({
    ensure: async (repository) => {
      await good.ensure(repository);
      const files = { 'a.txt': null, 'README.md': freshName('begin') };
      await good.commit({ repository, branch: 'main', files, message: 'Begin', author: 'ocdl' });
    },
  })),
  fault('takes all files for text', 'reads back every byte that was committed', (good) => ({
    read: async (...place) => {
      const bytes = await good.read(...place);
      return bytes && Buffer.from(Buffer.from(bytes).toString());
    },
  })),
  fault('keeps only the files of the last commit', 'keeps files that a commit does not mention', (good) => {
    let former: Change['files'] = {};
    return {
      commit: (given) => {
        const gone = Object.fromEntries(Object.keys(former).map((path) => [path, null]));
        former = given.files;
        return good.commit({ ...given, files: { ...gone, ...given.files } });
      },
    };
  }),
  commitFault(
    'commits again what is there',
    'makes no commit if the branch already has exactly these files',
    ({ files }) => ({
      files: { ...files, count: freshName('count') },
    }),
  ),
  commitFault('leaves files that should go', 'deletes files; deleting a missing file succeeds', ({ files }) => ({
    files: Object.fromEntries(Object.entries(files).filter(([, content]) => content !== null)),
  })),
  fault('moves main with every branch', 'creates a branch from main and leaves other branches unchanged', (good) => ({
    commit: async (given) => {
      await good.commit({ ...given, branch: 'main' });
      return good.commit(given);
    },
  })),
  fault('makes every branch one', 'creates a branch from main and leaves other branches unchanged', (good) => ({
    commit: (given) => good.commit({ ...given, branch: given.branch === 'main' ? 'main' : 'ocdl/any' }),
  })),
  fault('loses commits made at once', 'keeps each of twenty concurrent commits', (good) => {
    let running: ReturnType<CodeHost['commit']> | undefined;
    return {
      commit: (given) => {
        running ??= good.commit(given).finally(() => (running = undefined));
        return running;
      },
    };
  }),
  fault(
    'makes what is not there',
    'returns undefined for repositories, branches and files that do not exist',
    (good) => ({
      commit: async (given) => {
        await good.ensure(given.repository);
        return good.commit(given);
      },
    }),
  ),
  fault('puts the time into archives', 'archives the tree of a commit reproducibly, byte for byte', (good) => ({
    archive: async (...place) => {
      const archive = await good.archive(...place);
      return (async function* () {
        yield* archive;
        yield Buffer.from(`${process.hrtime.bigint()}`.padStart(512, '0').slice(-512));
      })();
    },
  })),
  commitFault('signs every commit itself', 'logs author, message and time of each commit, newest first', () => ({
    author: 'ocdl',
  })),
  fault('logs the oldest first', 'logs author, message and time of each commit, newest first', (good) => ({
    log: async (...place) => [...(await good.log(...place))].reverse(),
  })),
  fault(
    'says "none" of unlawful revisions',
    'refuses names that could be options or that leave the repository',
    (good) => ({
      resolve: (...place) =>
        good.resolve(...place).catch((error: unknown) => {
          if (isFailure(error, 'InvalidInput')) return undefined;
          throw error;
        }),
    }),
  ),
  fault('does not listen to the signal', 'makes no commit if the signal is aborted', (good) => ({
    commit: ({ signal: _, ...given }) => good.commit(given),
  })),
];
