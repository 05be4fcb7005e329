// CodeHost on a remote where people work too: their concurrent pushes, their rules, and what they must set up.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { rejectsAs } from '../contracts/cases.ts';
import { GIT_TIMEOUT_MS, httpsScene, repository, type HttpsScene } from './git-https-scene.ts';

const run = promisify(execFile);
let scene: HttpsScene;
beforeAll(async () => {
  scene = await httpsScene();
}, GIT_TIMEOUT_MS);
beforeEach(() => scene.reset());
afterAll(() => scene.close());

describe('a Git remote to which a person pushes concurrently', () => {
  it.each([
    ['after the fetch', 'GET', 'service=git-receive-pack'],
    ['during the push', 'POST', 'git-receive-pack'],
  ])(
    '%s: keeps both commits, and the later change to a file wins',
    async (_, method, part) => {
      const host = await scene.open();
      const before = await host.resolve(repository, 'main');
      const pushes = scene.onceBefore(method, part, async () => {
        await scene.personPushes('theirs.txt', 'theirs');
        await scene.personPushes('both.txt', 'theirs');
      });
      const ours = await scene.change(host, { 'ours.txt': 'ours', 'both.txt': `ours ${method}` });
      assert.ok(pushes.count() >= 2, 'nobody pushed meanwhile');
      assert.deepEqual(
        await Promise.all(['theirs.txt', 'ours.txt', 'both.txt'].map((path) => scene.textAt(host, path))),
        ['theirs', 'ours', `ours ${method}`],
      );
      const log = await host.log(repository, 'main', 10);
      assert.deepEqual(
        log.slice(0, 3).map(({ message }) => message),
        ['By the platform', 'By a person', 'By a person'],
      );
      assert.equal(log[0]?.commit, ours);
      assert.equal(log[3]?.commit, before);
    },
    GIT_TIMEOUT_MS,
  );

  it(
    'sees pushed commits and branches, and deleted branches no longer',
    async () => {
      const host = await scene.open();
      await scene.change(host, { 'a.txt': 'a' });
      const pushed = await scene.personPushes('seen.txt', 'seen');
      assert.equal(await host.resolve(repository, 'main'), pushed);
      assert.equal(await scene.textAt(host, 'seen.txt'), 'seen');
      await scene.git('update-ref', 'refs/heads/theirs', pushed);
      assert.ok((await host.branches(repository)).includes('theirs'));
      await scene.git('update-ref', '-d', 'refs/heads/theirs');
      assert.equal(await host.resolve(repository, 'theirs'), undefined);
    },
    GIT_TIMEOUT_MS,
  );

  it(
    'does not push back a commit that a person has removed',
    async () => {
      const host = await scene.open();
      const before = await host.resolve(repository, 'main');
      await scene.personPushes('secret.txt', 'taken back');
      scene.onceBefore('GET', 'service=git-receive-pack', () =>
        scene.git('update-ref', 'refs/heads/main', before ?? ''),
      );
      await scene.change(host, { 'after.txt': 'after' });
      assert.equal(await scene.textAt(host, 'secret.txt'), 'missing');
    },
    GIT_TIMEOUT_MS,
  );
});

describe('a Git remote used by people', () => {
  it(
    'reports when a rule of the remote rejects a commit',
    async () => {
      const hooks = join(scene.server.folderOf(repository), 'hooks');
      await mkdir(hooks, { recursive: true });
      const hook =
        '#!/bin/sh\necho "protected: ask Pat" >&2\nwhile read from to ref; do case $ref in */guarded) exit 1; esac; done\n';
      await writeFile(join(hooks, 'pre-receive'), hook, { mode: 0o755 });
      const host = await scene.open();
      const error: unknown = await scene.change(host, { a: 'a' }, 'guarded').catch((reason: unknown) => reason);
      assert.ok(error instanceof Error && !('nonRetryable' in error));
      assert.match(error.message, /a rule there rejects the commit.*pre-receive hook declined.*protected: ask Pat/);
      await scene.change(host, { 'b.txt': 'b' });
    },
    GIT_TIMEOUT_MS,
  );

  it(
    'refuses a branch name below another branch',
    async () => {
      const host = await scene.open();
      await scene.change(host, { 'a.txt': 'a' }, 'ocdl');
      await rejectsAs('Conflict', 'below a branch', scene.change(host, { 'b.txt': 'b' }, 'ocdl/release-1'));
      await scene.git('update-ref', '-d', 'refs/heads/ocdl');
    },
    GIT_TIMEOUT_MS,
  );

  it(
    'rejects objects that are unsafe to check out',
    async () => {
      const hostile = 'vulnerability/hostile';
      await scene.server.create(hostile);
      const at = ['--git-dir', scene.server.folderOf(hostile)];
      const blob = (await run('git', [...at, 'hash-object', '-w', scene.right.caFile])).stdout.trim();
      const tree = join(scene.folder, 'tree');
      await writeFile(tree, Buffer.concat([Buffer.from('100644 .git\0'), Buffer.from(blob, 'hex')]));
      const made = (await run('git', [...at, 'hash-object', '-w', '-t', 'tree', '--literally', tree])).stdout.trim();
      const who = ['-c', 'user.name=Eve', '-c', 'user.email=eve@example.org'];
      const commit = (await run('git', [...who, ...at, 'commit-tree', made, '-m', 'Harm'])).stdout.trim();
      await run('git', [...at, 'update-ref', 'refs/heads/main', commit]);
      const host = await scene.open();
      await assert.rejects(host.resolve(hostile, 'main'), /damaged or unsafe to check out.*hasDotgit/);
      assert.ok(await host.resolve(repository, 'main'));
    },
    GIT_TIMEOUT_MS,
  );

  it(
    'reports which repository a person must create',
    async () => {
      const host = await scene.open();
      await rejectsAs('NotFound', 'ensure', host.ensure('vulnerability/none'));
      await assert.rejects(
        host.ensure('vulnerability/none'),
        /vulnerability\/none\.git: the repository does not exist/,
      );
      const other = 'vulnerability/other';
      await scene.server.create(other);
      const at = ['-c', 'user.name=Pat', '-c', 'user.email=p@example.org', '--git-dir', scene.server.folderOf(other)];
      const tree = (
        await run('sh', ['-c', 'git --git-dir "$0" mktree </dev/null', scene.server.folderOf(other)])
      ).stdout.trim();
      const commit = (await run('git', [...at, 'commit-tree', tree, '-m', 'x'])).stdout.trim();
      await run('git', [...at, 'update-ref', 'refs/heads/master', commit]);
      await assert.rejects(host.ensure(other), /has no branch main \(but master\): create main there/);
    },
    GIT_TIMEOUT_MS,
  );
});
