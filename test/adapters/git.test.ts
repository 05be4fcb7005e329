// CodeHost on bare repositories: the contract, and what only people's own gits, and killed ones, show.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { chmod, mkdir, readdir, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { createGitHost } from '../../activities/adapters/git.ts';
import type { CodeHost } from '../../activities/ports.ts';
import { collect, eventually } from '../contracts/cases.ts';
import { codeHostContract } from '../contracts/code-host.ts';
import { scratchFolder } from './scratch-folder.ts';

codeHostContract('git', async () => {
  const { path, remove } = await scratchFolder();
  const another = () => createGitHost({ root: path });
  return { host: await another(), another, close: remove };
});

describe('git', () => {
  const repository = 'vulnerability/code';
  let scratch = '';
  let root = '';
  let gitDir = '';
  let remove = async (): Promise<void> => undefined;
  let host: CodeHost;
  beforeEach(async () => {
    ({ path: scratch, remove } = await scratchFolder());
    root = join(scratch, 'repositories');
    gitDir = join(root, `${repository}.git`);
    host = await createGitHost({ root });
    await host.ensure(repository);
  });
  afterEach(() => remove());

  const commit = async (files: Record<string, string>, branch = 'main'): Promise<string> =>
    (await host.commit({ repository, branch, files, message: 'Change', author: 'sam' })).commit;
  /** Git as a person runs it. */
  async function personalGit(folder: string, ...args: string[]): Promise<string> {
    const who = ['-c', 'user.name=Pat Person', '-c', 'user.email=pat@example.org', '-c', 'safe.directory=*'];
    const { stdout } = await promisify(execFile)('git', [...who, ...args], { cwd: folder });
    return stdout;
  }

  it('is cloned by its address, takes a person’s push and goes on from it', async () => {
    await commit({ 'train.py': 'print(1)\n' });
    await personalGit(scratch, 'clone', '--quiet', host.url(repository), 'clone');
    const clone = join(scratch, 'clone');
    await writeFile(join(clone, 'run.sh'), '#!/bin/sh\n');
    await chmod(join(clone, 'run.sh'), 0o755);
    await personalGit(clone, 'add', '.');
    await personalGit(clone, 'commit', '--quiet', '-m', 'By hand');
    await personalGit(clone, 'push', '--quiet', 'origin', 'main');
    const next = await commit({ 'b.txt': 'b' });
    const log = await host.log(repository, 'main', 10);
    assert.deepEqual(
      log.map(({ message }) => message),
      ['Change', 'By hand', 'Change', 'Begin'],
    );
    assert.deepEqual(
      log.map(({ author }) => author),
      ['sam', 'Pat Person', 'sam', 'ocdl'],
    );
    await personalGit(clone, 'pull', '--quiet');
    assert.match(await personalGit(clone, 'ls-tree', next), /100755 blob \w+\trun\.sh/);
    assert.equal(
      await personalGit(clone, 'log', '-1', '--format=%an <%ae> %cn <%ce>'),
      'sam <sam@ocdl> ocdl <ocdl@ocdl>\n',
    );
    await personalGit(gitDir, 'fsck', '--strict');
  });

  it('gives no links for files, and archives them as they are', async () => {
    await personalGit(scratch, 'clone', '--quiet', host.url(repository), 'clone');
    const clone = join(scratch, 'clone');
    await promisify(execFile)('ln', ['-s', '/etc/passwd', 'link'], { cwd: clone });
    await personalGit(clone, 'add', '.');
    await personalGit(clone, 'commit', '--quiet', '-m', 'A link');
    await personalGit(clone, 'push', '--quiet', 'origin', 'main');
    assert.equal(await host.read(repository, 'main', 'link'), undefined);
  });

  it('runs no hooks and heeds no attributes that change an archive', async () => {
    const hooks = join(gitDir, 'hooks');
    await mkdir(hooks, { recursive: true });
    const trace = join(scratch, 'hook-ran');
    for (const hook of ['reference-transaction', 'update', 'post-commit'])
      await writeFile(join(hooks, hook), `#!/bin/sh\ntouch ${trace}\n`, { mode: 0o755 });
    await commit({ 'a.txt': 'a' });
    assert.ok(!(await readdir(scratch)).includes('hook-ran'), 'a hook ran');
    await personalGit(scratch, 'clone', '--quiet', host.url(repository), 'clone');
    const clone = join(scratch, 'clone');
    await writeFile(join(clone, '.gitattributes'), 'names.txt export-subst\n');
    await writeFile(join(clone, 'names.txt'), '$Format:%D$\n');
    await personalGit(clone, 'add', '.');
    await personalGit(clone, 'commit', '--quiet', '-m', 'Ask for names');
    await personalGit(clone, 'push', '--quiet', 'origin', 'main');
    const pushed = (await host.resolve(repository, 'main')) ?? '';
    const first = await collect(await host.archive(repository, pushed));
    await commit({}, 'ocdl/another-name');
    assert.ok(first.equals(await collect(await host.archive(repository, pushed))), 'a new branch changed the archive');
    assert.ok(first.includes('$Format:%D$'));
  });

  it('goes on after a git that was killed while it held a branch', async () => {
    await commit({ 'a.txt': 'a' });
    const lock = join(gitDir, 'refs/heads/main.lock');
    await writeFile(lock, '');
    const old = new Date(Date.now() - 5 * 60_000);
    await utimes(lock, old, old);
    const next = await commit({ 'b.txt': 'b' });
    assert.equal(await host.resolve(repository, 'main'), next);
  });

  it('waits for a git that holds a branch', async () => {
    const lock = join(gitDir, 'refs/heads/main.lock');
    await writeFile(lock, '');
    let done = false;
    const committing = commit({ 'a.txt': 'a' }).then(() => (done = true));
    await new Promise((resolve) => setTimeout(resolve, 150));
    assert.equal(done, false);
    await promisify(execFile)('rm', [lock]);
    await committing;
    await eventually('the commit', () => done);
  });

  it('tells when a branch would lie below another one', async () => {
    await commit({ 'a.txt': 'a' }, 'ocdl');
    await assert.rejects(commit({ 'b.txt': 'b' }, 'ocdl/release-1'), /branch ocdl\/release-1 cannot be beside/);
  });

  it('refuses a file below a file', async () => {
    await commit({ a: 'a' });
    await assert.rejects(commit({ 'a/b': 'b' }), /a would have to go/);
    await assert.rejects(commit({ 'c/d': 'd', c: 'c' }), /c cannot be a file, and a folder for c.d/);
    await commit({ 'e/f': 'f' });
    await assert.rejects(commit({ e: 'e' }), /e\/f would have to go/);
    assert.equal((await host.log(repository, 'main', 10)).length, 3);
  });

  it('says what to do when git is missing', async () => {
    const lost = await createGitHost({ root, git: '/nonexistent/git' });
    await assert.rejects(lost.resolve(repository, 'main'), /nonexistent\/git: install git/);
    const stream = async () => collect(await lost.archive(repository, 'ab'.repeat(20)));
    await assert.rejects(stream(), /install git/);
  });

  it('leaves nothing temporary', async () => {
    await Promise.all(['a', 'b', 'c'].map((name) => commit({ [name]: name })));
    await Promise.all(['x', 'y'].map(() => host.ensure('vulnerability/labels')));
    assert.equal((await readdir(join(root, '.tmp'))).length, 0);
  });
});
