// The contract of CodeHost, for every adapter: commits that lose nothing, repeat harmlessly, and read back byte for byte.
import assert from 'node:assert/strict';
import type { CodeHost } from '../../activities/ports.ts';
import { collect, freshName, registerCases, rejects, rejectsAs, type Case } from './cases.ts';

export interface HostSubject {
  readonly host: CodeHost;
  /** One more host over the same repositories, as another process would have. */
  readonly another: () => Promise<CodeHost>;
  readonly close: () => Promise<void>;
}

/** Runs the contract as jest tests; `open` is called once. */
export function codeHostContract(name: string, open: () => Promise<HostSubject>): void {
  registerCases(name, codeHostCases, open);
}

type Files = Parameters<CodeHost['commit']>[0]['files'];
const NOWHERE = 'ab'.repeat(20);

async function freshRepository(host: CodeHost): Promise<string> {
  const repository = `${freshName('contract')}/code`;
  await host.ensure(repository);
  return repository;
}
const change = async (host: CodeHost, repository: string, files: Files, branch = 'main'): Promise<string> =>
  (await host.commit({ repository, branch, files, message: 'Change', author: 'sam' })).commit;
const textAt = async (
  host: CodeHost,
  repository: string,
  revision: string,
  path: string,
): Promise<string | undefined> => {
  const bytes = await host.read(repository, revision, path);
  return bytes && Buffer.from(bytes).toString();
};

/** Names and contents of the files in a tar archive. */
export function untar(archive: Buffer): Map<string, string> {
  const files = new Map<string, string>();
  for (let at = 0; at + 512 <= archive.byteLength;) {
    const field = (from: number, length: number): string =>
      archive.toString('latin1', at + from, at + from + length).replace(/\0.*$/s, '');
    const size = Number.parseInt(field(124, 12).trim() || '0', 8);
    if (field(156, 1) === '0') files.set(field(0, 100), archive.toString('utf8', at + 512, at + 512 + size));
    at += 512 + Math.ceil(size / 512) * 512;
  }
  return files;
}

export const codeHostCases: readonly Case<HostSubject>[] = [
  {
    name: 'creates a repository with one empty commit on main, once',
    async run({ host, another }) {
      const repository = `${freshName('contract')}/code`;
      await rejectsAs('NotFound', 'reading before', host.resolve(repository, 'main'));
      const hosts = [host, await another()];
      await Promise.all([0, 1, 2, 3, 4, 5].map(async (n) => hosts[n % 2]?.ensure(repository)));
      const first = await host.resolve(repository, 'main');
      assert.match(first ?? '', /^[0-9a-f]{40}$/);
      await change(host, repository, { 'a.txt': 'a' });
      await host.ensure(repository);
      assert.deepEqual(await host.branches(repository), ['main']);
      assert.equal((await host.log(repository, 'main', 10)).at(-1)?.commit, first);
      assert.equal(await textAt(host, repository, 'main', 'a.txt'), 'a');
      assert.equal(untar(await collect(await host.archive(repository, first ?? ''))).size, 0);
    },
  },
  {
    name: 'reads back every byte that was committed',
    async run({ host }) {
      const repository = await freshRepository(host);
      const all = Uint8Array.from({ length: 256 }, (_, at) => at);
      const files = {
        'text.md': 'Grüße\r\nand no end of line',
        'deep/er/all.bin': all,
        empty: '',
        'empty.bin': new Uint8Array(),
      };
      const commit = await change(host, repository, files);
      for (const revision of ['main', commit])
        for (const [path, content] of Object.entries(files))
          assert.deepEqual(
            Buffer.from((await host.read(repository, revision, path)) ?? 'missing'),
            Buffer.from(content as Uint8Array),
            `${path} at ${revision}`,
          );
    },
  },
  {
    name: 'keeps files that a commit does not mention',
    async run({ host }) {
      const repository = await freshRepository(host);
      const first = await change(host, repository, { 'a.txt': 'a1', 'folder/b.txt': 'b1' });
      const second = await change(host, repository, { 'a.txt': 'a2', 'folder/c.txt': 'c2' });
      const at = async (revision: string): Promise<(string | undefined)[]> =>
        Promise.all(['a.txt', 'folder/b.txt', 'folder/c.txt'].map((path) => textAt(host, repository, revision, path)));
      assert.deepEqual(await at(second), ['a2', 'b1', 'c2']);
      assert.deepEqual(await at(first), ['a1', 'b1', undefined]);
      const log = await host.log(repository, 'main', 10);
      assert.deepEqual(
        log.slice(0, 2).map(({ commit }) => commit),
        [second, first],
      );
    },
  },
  {
    name: 'makes no commit if the branch already has exactly these files',
    async run({ host, another }) {
      const repository = await freshRepository(host);
      const first = await change(host, repository, { 'a.txt': 'a', 'gone.txt': null });
      assert.equal(await change(host, repository, { 'a.txt': 'a' }), first);
      assert.equal(await change(await another(), repository, { 'a.txt': Buffer.from('a') }), first);
      const second = await change(host, repository, { 'b.txt': 'b' });
      assert.equal(await change(host, repository, { 'a.txt': 'a' }), second);
      assert.equal((await host.log(repository, 'main', 10)).length, 3);
      assert.equal(await change(host, repository, { 'a.txt': 'a' }, 'ocdl/r-1'), second);
      assert.equal(await host.resolve(repository, 'ocdl/r-1'), second);
    },
  },
  {
    name: 'deletes files; deleting a missing file succeeds',
    async run({ host }) {
      const repository = await freshRepository(host);
      await change(host, repository, { 'a.txt': 'a', 'b/c.txt': 'c', 'b/d.txt': 'd' });
      const commit = await change(host, repository, { 'a.txt': null, 'b/c.txt': null, 'never.txt': null });
      assert.equal(await host.read(repository, 'main', 'a.txt'), undefined);
      assert.equal(await textAt(host, repository, 'main', 'b/d.txt'), 'd');
      assert.equal(await change(host, repository, { 'a.txt': null }), commit);
      await change(host, repository, { 'b/d.txt': null, b: 'a file where the folder was' });
      assert.equal(await textAt(host, repository, 'main', 'b'), 'a file where the folder was');
    },
  },
  {
    name: 'creates a branch from main and leaves other branches unchanged',
    async run({ host }) {
      const repository = await freshRepository(host);
      const main = await change(host, repository, { 'a.txt': 'main' });
      const one = await change(host, repository, { 'a.txt': 'one' }, 'ocdl/code-vulnerability-1');
      const two = await change(host, repository, { 'b.txt': 'two' }, 'ocdl/code-vulnerability-2');
      const oneMore = await change(host, repository, { 'c.txt': 'one' }, 'ocdl/code-vulnerability-1');
      const branches = ['main', 'ocdl/code-vulnerability-1', 'ocdl/code-vulnerability-2'];
      assert.deepEqual([...(await host.branches(repository))].sort(), branches);
      const heads = await Promise.all(branches.map((branch) => host.resolve(repository, branch)));
      assert.deepEqual(heads, [main, oneMore, two]);
      assert.equal(await textAt(host, repository, 'main', 'a.txt'), 'main');
      assert.equal(await textAt(host, repository, one, 'a.txt'), 'one');
      assert.equal(await textAt(host, repository, 'ocdl/code-vulnerability-2', 'a.txt'), 'main');
      const log = await host.log(repository, 'ocdl/code-vulnerability-1', 10);
      assert.deepEqual(
        log.slice(0, 3).map(({ commit }) => commit),
        [oneMore, one, main],
      );
    },
  },
  {
    name: 'keeps each of twenty concurrent commits',
    async run({ host, another }) {
      const repository = await freshRepository(host);
      const hosts = [host, await another()];
      const paths = Array.from({ length: 20 }, (_, n) => `files/f${n}.txt`);
      const commits = await Promise.all(
        paths.map((path, n) => change(hosts[n % 2] ?? host, repository, { [path]: path })),
      );
      assert.equal(new Set(commits).size, 20);
      for (const path of paths) assert.equal(await textAt(host, repository, 'main', path), path);
      const log = await host.log(repository, 'main', 100);
      assert.equal(log.length, 21);
      assert.deepEqual(
        log
          .slice(0, 20)
          .map(({ commit }) => commit)
          .sort(),
        [...commits].sort(),
      );
    },
  },
  {
    name: 'returns undefined for repositories, branches and files that do not exist',
    async run({ host }) {
      const repository = await freshRepository(host);
      await change(host, repository, { 'folder/a.txt': 'a' });
      assert.equal(await host.read(repository, 'main', 'b.txt'), undefined);
      assert.equal(await host.read(repository, 'main', 'folder'), undefined);
      assert.equal(await host.read(repository, 'main', 'folder/a.txt/b'), undefined);
      assert.equal(await host.read(repository, 'other', 'folder/a.txt'), undefined);
      assert.equal(await host.resolve(repository, 'other'), undefined);
      assert.equal(await host.resolve(repository, NOWHERE), undefined);
      await rejectsAs('NotFound', 'archive', (async () => collect(await host.archive(repository, NOWHERE)))());
      await rejectsAs('NotFound', 'log', host.log(repository, 'other', 1));
      const missing = `${freshName('contract')}/missing`;
      await rejectsAs('NotFound', 'committing', change(host, missing, { a: 'a' }));
      await rejectsAs('NotFound', 'branches', host.branches(missing));
    },
  },
  {
    name: 'archives the tree of a commit reproducibly, byte for byte',
    async run({ host, another }) {
      const repository = await freshRepository(host);
      const commit = await change(host, repository, { 'train.py': 'print(1)\n', 'src/a.py': 'x = 1\n' });
      const first = await collect(await host.archive(repository, commit));
      await change(host, repository, { 'train.py': 'print(2)\n' });
      await change(host, repository, { 'x.txt': 'x' }, 'other');
      const again = await collect(await (await another()).archive(repository, commit));
      assert.ok(first.equals(again), 'two archives of one commit differ');
      const files = untar(first);
      assert.equal(files.get('train.py'), 'print(1)\n');
      assert.equal(files.get('src/a.py'), 'x = 1\n');
      assert.equal(files.size, 2);
      for await (const chunk of await host.archive(repository, commit)) if (chunk.byteLength > 0) break;
    },
  },
  {
    name: 'logs author, message and time of each commit, newest first',
    async run({ host }) {
      const repository = await freshRepository(host);
      const before = Date.now();
      const said = 'Label two findings\n\nBoth were true: "50 %" & <more>.\nGrüße';
      const message = `${said}\n`;
      const files = { 'labels.jsonl': '{}\n' };
      const { commit } = await host.commit({ repository, branch: 'main', files, message, author: 'eve-engineer' });
      await change(host, repository, { 'b.txt': 'b' });
      const log = await host.log(repository, 'main', 2);
      assert.equal(log.length, 2);
      const entry = log[1];
      assert.equal(entry?.commit, commit);
      assert.equal(entry?.author, 'eve-engineer');
      assert.equal(entry?.message, said);
      const at = Date.parse(entry?.at ?? '');
      // Git keeps whole seconds.
      assert.ok(at >= before - 1000 && at <= Date.now() + 1000, `committed at ${entry?.at}`);
      assert.equal(entry?.at, new Date(at).toISOString());
      assert.equal((await host.log(repository, commit, 1))[0]?.commit, commit);
    },
  },
  {
    name: 'refuses names that could be options or that leave the repository',
    async run({ host }) {
      const repository = await freshRepository(host);
      for (const path of ['../x', '/etc/passwd', '.git/config', 'a/../b', '-x', 'a\nb', ''])
        await rejectsAs('InvalidInput', `file ${path}`, change(host, repository, { [path]: 'x' }));
      for (const branch of [
        '--all',
        '../x',
        'a..b',
        'x.lock',
        '',
        'a b',
        '/a',
        'HEAD',
        'a//b',
        'a~1',
        'refs:x',
        NOWHERE,
      ])
        await rejectsAs('InvalidInput', `branch ${branch}`, change(host, repository, { a: 'x' }, branch));
      for (const revision of ['--all', '-x', 'main~1', 'main^', 'HEAD', '@{u}', 'main:a', 'a..b', '']) {
        await rejectsAs('InvalidInput', `resolving ${revision}`, host.resolve(repository, revision));
        await rejectsAs('InvalidInput', `reading ${revision}`, host.read(repository, revision, 'a'));
        await rejectsAs('InvalidInput', `log of ${revision}`, host.log(repository, revision, 1));
        await rejectsAs('InvalidInput', `archive of ${revision}`, host.archive(repository, revision));
      }
      for (const name of ['../x', '/x', 'a/../b', '-x/y', 'A/b', '', 'a/b.git'])
        await rejectsAs('InvalidInput', `repository ${name}`, host.ensure(name));
      for (const author of ['', 'a <b@c>', 'a\nb', '-x'])
        await rejectsAs(
          'InvalidInput',
          `author ${author}`,
          host.commit({ repository, branch: 'main', files: { a: 'x' }, message: 'm', author }),
        );
      assert.equal((await host.log(repository, 'main', 10)).length, 1);
      assert.deepEqual(await host.branches(repository), ['main']);
    },
  },
  {
    name: 'makes no commit if the signal is aborted',
    async run({ host }) {
      const repository = await freshRepository(host);
      const signal = AbortSignal.abort();
      const files = { 'a.txt': 'a' };
      await rejects('aborted', host.commit({ repository, branch: 'main', files, message: 'm', author: 'sam', signal }));
      assert.equal((await host.log(repository, 'main', 10)).length, 1);
    },
  },
];
