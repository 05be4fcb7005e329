// CodeHost over SSH on a real sshd: the contract, and keys on both sides.
import assert from 'node:assert/strict';
import { chmod, copyFile, readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { createGitRemote } from '../../activities/adapters/git.ts';
import { rejectsAs } from '../contracts/cases.ts';
import { codeHostContract } from '../contracts/code-host.ts';
import { makeKey, sshdForTests, sshRemote, type SshRemote } from './git-remotes.ts';
import { scratchFolder } from './scratch-folder.ts';

/** Connections over SSH on a slow machine: some tenths of a second each. */
const SSH_TIMEOUT_MS = 180_000;

if (sshdForTests('the tests of Git over SSH')) {
  codeHostContract('git over SSH', async () => {
    const scratch = await scratchFolder();
    const server = await sshRemote(scratch.path);
    let hosts = 0;
    const another = async () => {
      hosts += 1;
      const host = await createGitRemote({
        root: join(scratch.path, `mirrors-${hosts}`),
        remote: server.remote,
        ssh: server,
      });
      // Making a repository is a person's work at a remote.
      const ensure = async (repository: string): Promise<void> => {
        if (/^[a-z][a-z0-9-]*\/[a-z][a-z0-9-]*$/.test(repository)) await server.create(repository);
        await host.ensure(repository);
      };
      return { ...host, ensure };
    };
    const close = async (): Promise<void> => {
      await server.close();
      await scratch.remove();
    };
    return { host: await another(), another, close };
  });

  describe('git over SSH', () => {
    const repository = 'vulnerability/code';
    let scratch: Awaited<ReturnType<typeof scratchFolder>>;
    let server: SshRemote;
    beforeAll(async () => {
      scratch = await scratchFolder();
      server = await sshRemote(scratch.path);
      await server.create(repository);
    }, SSH_TIMEOUT_MS);
    afterAll(async () => {
      await server.close();
      await scratch.remove();
    });
    const open = async (some: Partial<Parameters<typeof createGitRemote>[0]> = {}) =>
      createGitRemote({ root: join(scratch.path, 'mirrors'), remote: server.remote, ssh: server, ...some });
    const strangers = async (name: string): Promise<string> => {
      await makeKey(join(scratch.path, name));
      return join(scratch.path, name);
    };

    it(
      'is reached, checks itself and returns the clone address',
      async () => {
        const host = await open();
        await host.check();
        await host.ensure(repository);
        assert.equal(host.url(repository), server.remote.replace('{repository}', repository));
        assert.match((await host.resolve(repository, 'main')) ?? '', /^[0-9a-f]{40}$/);
      },
      SSH_TIMEOUT_MS,
    );

    it(
      'sends nothing to a host with a different key',
      async () => {
        const other = await strangers('other-host');
        const knownHostsFile = join(scratch.path, 'wrong-hosts');
        const { host: at } = new URL(server.remote);
        const line = (key: string): string => `[${at.replace(':', ']:')} ${key}`;
        for (const known of [line(await readFile(`${other}.pub`, 'utf8')), '']) {
          await writeFile(knownHostsFile, known);
          const host = await open({ ssh: { ...server, knownHostsFile } });
          const refused = /its host key is not in .*wrong-hosts, so nothing was sent/;
          await assert.rejects(host.check(), refused);
          await assert.rejects(host.resolve(repository, 'main'), refused);
        }
      },
      SSH_TIMEOUT_MS,
    );

    it(
      'reports refused and unusable keys',
      async () => {
        const keyFile = await strangers('stranger');
        const host = await open({ ssh: { ...server, keyFile } });
        await assert.rejects(host.check(), /it rejects the key .*stranger: add its public key/);
        const openFile = join(scratch.path, 'open-key');
        await copyFile(server.keyFile, openFile);
        await chmod(openFile, 0o644);
        const careless = await open({ ssh: { ...server, keyFile: openFile } });
        await assert.rejects(careless.check(), /other users may read the key .*open-key: set its mode to 600/);
        await rejectsAs('InvalidInput', 'no such key', open({ ssh: { ...server, keyFile: '/nonexistent/key' } }));
        const odd = join(scratch.path, 'key; touch x');
        await writeFile(odd, '');
        await rejectsAs('InvalidInput', 'a path for a shell', open({ ssh: { ...server, keyFile: odd } }));
        await rejectsAs('InvalidInput', 'no key', open({ ssh: undefined }));
      },
      SSH_TIMEOUT_MS,
    );

    it(
      'times out if a host is down or silent',
      async () => {
        const silent = createServer((socket) => socket.on('error', () => undefined)).listen(0, '127.0.0.1');
        await new Promise((resolve) => silent.once('listening', resolve));
        const address = silent.address();
        assert.ok(address !== null && typeof address === 'object');
        const remote = `ssh://git@127.0.0.1:${address.port}/{repository}.git`;
        const host = await open({ remote, stallSeconds: 1 });
        await assert.rejects(host.check(), /cannot be reached or closed the connection.*timed out/);
        silent.close();
        const unreachable = await open({ remote: 'ssh://git@127.0.0.1:1/{repository}.git' });
        await assert.rejects(unreachable.check(), /cannot be reached or closed the connection.*refused/);
      },
      SSH_TIMEOUT_MS,
    );

    it(
      'reports that a repository must be created manually, and where',
      async () => {
        const host = await open();
        const missing = 'vulnerability/missing';
        await rejectsAs('NotFound', 'ensure', host.ensure(missing));
        await assert.rejects(
          host.ensure(missing),
          /vulnerability\/missing\.git: the repository does not exist.*by hand/,
        );
      },
      SSH_TIMEOUT_MS,
    );
  });
} else it.todo('git over SSH: skipped, sshd is not installed');
