// CodeHost on bare repositories: the contract, and cases with people's own git and with killed git processes.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { chmod, mkdir, readdir, readFile, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { createGitHost } from '../../activities/adapters/git.ts';
import type { CodeHost } from '../../activities/ports.ts';
import { collect, eventually, rejectsAs } from '../contracts/cases.ts';
import { codeHostContract, untar } from '../contracts/code-host.ts';
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

  it('is cloned by its address, and continues from a person’s push', async () => {
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

  it('does not read links as files, and archives them unchanged', async () => {
    await personalGit(scratch, 'clone', '--quiet', host.url(repository), 'clone');
    const clone = join(scratch, 'clone');
    await promisify(execFile)('ln', ['-s', '/etc/passwd', 'link'], { cwd: clone });
    await personalGit(clone, 'add', '.');
    await personalGit(clone, 'commit', '--quiet', '-m', 'A link');
    await personalGit(clone, 'push', '--quiet', 'origin', 'main');
    assert.equal(await host.read(repository, 'main', 'link'), undefined);
  });

  it('runs no hooks', async () => {
    const hooks = join(gitDir, 'hooks');
    await mkdir(hooks, { recursive: true });
    const trace = join(scratch, 'hook-ran');
    for (const hook of ['reference-transaction', 'update', 'post-commit'])
      await writeFile(join(hooks, hook), `#!/bin/sh\ntouch ${trace}\n`, { mode: 0o755 });
    await commit({ 'a.txt': 'a' });
    assert.ok(!(await readdir(scratch)).includes('hook-ran'), 'a hook ran');
  });

  it('ignores attributes that change an archive, also in a repository of an earlier version', async () => {
    await personalGit(scratch, 'clone', '--quiet', host.url(repository), 'clone');
    const clone = join(scratch, 'clone');
    const files: Readonly<Record<string, string>> = {
      'ident.txt': '$Id$\n',
      'left/out.txt': 'not\n',
      'lines.txt': 'one\ntwo\n',
      'names.txt': '$Format:%D$\n',
      'wide.txt': 'wide\n',
    };
    await mkdir(join(clone, 'left'));
    for (const [name, text] of Object.entries(files)) await writeFile(join(clone, name), text);
    await personalGit(clone, 'add', '.');
    const attributes = [
      'names.txt export-subst',
      'left export-ignore',
      'lines.txt text eol=crlf',
      'ident.txt ident',
      'wide.txt working-tree-encoding=UTF-16LE',
    ];
    await writeFile(join(clone, '.gitattributes'), `${attributes.join('\n')}\n`);
    await personalGit(clone, 'add', '.gitattributes');
    await personalGit(clone, 'commit', '--quiet', '-m', 'Ask for changes');
    await personalGit(clone, 'push', '--quiet', 'origin', 'main');
    const pushed = (await host.resolve(repository, 'main')) ?? '';
    const first = await collect(await host.archive(repository, pushed));
    await commit({}, 'ocdl/another-name');
    assert.ok(first.equals(await collect(await host.archive(repository, pushed))), 'a new branch changed the archive');
    await writeFile(join(gitDir, 'info', 'attributes'), '* -export-subst\n');
    const later = await createGitHost({ root });
    for (const archive of [first, await collect(await later.archive(repository, pushed))]) {
      const { '.gitattributes': _, ...found } = Object.fromEntries(untar(archive));
      assert.deepEqual({ ...found }, files);
    }
  });

  it('reports a damaged repository as damaged, not as missing', async () => {
    const next = await commit({ 'a.txt': 'a' });
    const blob = (await personalGit(gitDir, 'rev-parse', 'main:a.txt')).trim();
    const damage = async (object: string): Promise<void> => {
      const file = join(gitDir, 'objects', object.slice(0, 2), object.slice(2));
      await chmod(file, 0o600);
      await writeFile(file, 'damaged');
    };
    await damage(blob);
    await rejectsAs('Corrupt', 'a damaged file', host.read(repository, 'main', 'a.txt'));
    await damage(next);
    await assert.rejects(host.resolve(repository, next), /git rev-parse in .* ended with 128: .*corrupt/s);
    await assert.rejects(host.read(repository, 'main', 'a.txt'), /ended with 128/);
  });

  it('survives running out of file descriptors, and reports it', async () => {
    const program = fileURLToPath(new URL('git-out-of-files.ts', import.meta.url));
    // 200: Node itself opens some tens.
    const limited = ['-c', 'ulimit -n 200 && exec "$0" "$@"', process.execPath, '--import', 'tsx', program, gitDir];
    const { stdout } = await promisify(execFile)('sh', limited, {
      cwd: fileURLToPath(new URL('../..', import.meta.url)),
    });
    const head = await host.resolve(repository, 'main');
    const refused =
      /^meanwhile: SystemUnavailable: the program git: too many files are open: raise the limit of open files/;
    const [before, ask, stream, after] = stdout.trim().split('\n');
    assert.deepEqual([before, after], [`before: ${head}`, `after: ${head}`]);
    for (const line of [ask, stream]) assert.match(line ?? '', refused);
  });

  it('logs commits with impossible dates', async () => {
    const tree = (await personalGit(gitDir, 'rev-parse', 'main^{tree}')).trim();
    const text = `tree ${tree}\nauthor Pat <p> 99999999999999 +0000\ncommitter Pat <p> 1 +0000\n\nFar away\n`;
    await writeFile(join(scratch, 'commit'), text);
    const odd = await personalGit(gitDir, 'hash-object', '-t', 'commit', '-w', join(scratch, 'commit'));
    const [entry] = await host.log(repository, odd.trim(), 1);
    assert.equal(entry?.at, '3170843-11-07T09:46:39+00:00');
  });

  it('removes leftovers of killed processes after a day, and keeps every commit', async () => {
    const lost = await commit({ 'lost.txt': 'of a branch that goes' }, 'goes');
    await personalGit(gitDir, 'update-ref', '-d', 'refs/heads/goes');
    const pack = join(gitDir, 'objects', 'pack');
    await mkdir(pack, { recursive: true });
    await mkdir(join(root, '.tmp', 'old.git'));
    const left = [
      join(root, '.tmp', 'old.index'),
      join(root, '.tmp', 'askpass'),
      join(root, '.tmp', 'old.git', 'HEAD'),
      join(pack, 'tmp_pack_old'),
      join(gitDir, 'objects', 'maintenance.lock'),
    ];
    for (const file of left) await writeFile(file, 'left');
    const yesterday = new Date(Date.now() - 25 * 60 * 60 * 1000);
    for (const file of [...left, join(root, '.tmp', 'old.git')]) await utimes(file, yesterday, yesterday);
    for (const file of [join(root, '.tmp', 'young.index'), join(pack, 'tmp_pack_young')]) await writeFile(file, 'left');
    // Some hundred loose objects; git looks from 100 on, and packs itself what comes with 100 others.
    for (const folder of ['many', 'more'])
      await commit(Object.fromEntries(Array.from({ length: 60 }, (_, n) => [`${folder}/f${n}`, `${folder} ${n}`])));
    const loose = async (): Promise<number> => Number.parseInt(await personalGit(gitDir, 'count-objects'), 10);
    assert.ok((await loose()) > 120);
    // What is packed in the first round goes in the second.
    for (let round = 0; round < 2; round += 1)
      assert.equal(await (await createGitHost({ root })).resolve(repository, lost), lost);
    assert.deepEqual([...(await readdir(join(root, '.tmp')))].sort(), ['askpass', 'young.index']);
    const packed = await readdir(pack);
    assert.deepEqual(
      [...packed].filter((name) => name.startsWith('tmp_')),
      ['tmp_pack_young'],
    );
    assert.equal(await loose(), 0);
    await personalGit(gitDir, 'fsck', '--strict');
    assert.equal(
      Buffer.from((await host.read(repository, lost, 'lost.txt')) ?? []).toString(),
      'of a branch that goes',
    );
  });

  it('continues after a git process was killed while it held a branch lock', async () => {
    await commit({ 'a.txt': 'a' });
    const lock = join(gitDir, 'refs/heads/main.lock');
    await writeFile(lock, '');
    const old = new Date(Date.now() - 5 * 60_000);
    await utimes(lock, old, old);
    const next = await commit({ 'b.txt': 'b' });
    assert.equal(await host.resolve(repository, 'main'), next);
  });

  it('waits for a git process that holds a branch lock', async () => {
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
    await assert.rejects(commit({ 'b.txt': 'b' }, 'ocdl/release-1'), /branch ocdl\/release-1 conflicts with a branch/);
  });

  it('refuses a file below a file', async () => {
    await commit({ a: 'a' });
    await assert.rejects(commit({ 'a/b': 'b' }), /would remove a,/);
    await assert.rejects(commit({ 'c/d': 'd', c: 'c' }), /c cannot be both a file and the folder of c.d/);
    await commit({ 'e/f': 'f' });
    await assert.rejects(commit({ e: 'e' }), /would remove e\/f,/);
    assert.equal((await host.log(repository, 'main', 10)).length, 3);
  });

  it('says what to do if git is missing', async () => {
    const lost = await createGitHost({ root, git: '/nonexistent/git' });
    await assert.rejects(lost.resolve(repository, 'main'), /nonexistent\/git: install git/);
    const stream = async () => collect(await lost.archive(repository, 'ab'.repeat(20)));
    await assert.rejects(stream(), /install git/);
  });

  it('commits many files with as many processes as for one', async () => {
    const log = join(scratch, 'calls');
    const program = join(scratch, 'counting-git');
    await writeFile(program, `#!/bin/sh\necho "$*" >> ${log}\nexec git "$@"\n`, { mode: 0o755 });
    const counting = await createGitHost({ root, git: program });
    /** Commits so many files, all of them new, and returns how often git was started. */
    const callsFor = async (count: number): Promise<number> => {
      await writeFile(log, '');
      const files = Object.fromEntries(
        Array.from({ length: count }, (_, n) => [`of-${count}/${n}.txt`, `${count} ${n}`]),
      );
      await counting.commit({ repository, branch: 'main', files, message: 'Change', author: 'sam' });
      return (await readFile(log, 'utf8')).split('\n').length - 1;
    };
    await callsFor(2);
    const [one, many] = [await callsFor(1), await callsFor(500)];
    assert.ok(one > 0, 'no call was counted');
    assert.equal(many, one);
    assert.equal(Buffer.from((await host.read(repository, 'main', 'of-500/499.txt')) ?? '').toString(), '500 499');
    await personalGit(gitDir, 'fsck', '--strict');
  });

  it('keeps contents byte for byte, whatever they look like', async () => {
    const contents = [
      '',
      '\n',
      'done\n',
      'data 5\nblob\nmark :1\n',
      'same',
      'same',
      Uint8Array.from([0, 255, 10, 13, 0]),
    ];
    const files = Object.fromEntries(contents.map((content, n) => [`c-${n}`, content]));
    await host.commit({ repository, branch: 'main', files, message: 'Change', author: 'sam' });
    for (const [name, content] of Object.entries(files))
      assert.deepEqual(Buffer.from((await host.read(repository, 'main', name)) ?? 'none'), Buffer.from(content), name);
  });

  it('leaves nothing temporary', async () => {
    await Promise.all(['a', 'b', 'c'].map((name) => commit({ [name]: name })));
    await Promise.all(['x', 'y'].map(() => host.ensure('vulnerability/labels')));
    assert.equal((await readdir(join(root, '.tmp'))).length, 0);
  });
});
