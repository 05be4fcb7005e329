// CodeHost over HTTPS on git's own server: tokens, certificates, hosts that stall or redirect, addresses.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { promisify } from 'node:util';
import { isFailure } from '../../activities/failures.ts';
import { eventually, registerCases } from '../contracts/cases.ts';
import { codeHostCases } from '../contracts/code-host.ts';
import { GIT_TIMEOUT_MS, httpsScene, repository, type HttpsScene } from './git-https-scene.ts';

const run = promisify(execFile);
let scene: HttpsScene;
beforeAll(async () => {
  scene = await httpsScene();
}, GIT_TIMEOUT_MS);
beforeEach(() => scene.reset());
afterAll(() => scene.close());

/** The whole contract is run over SSH; here is what the protocol could change. */
const chosen = [
  'reads back every byte that was committed',
  'commits nothing when the branch holds exactly this already',
  'makes a branch from main and leaves the others as they are',
  'archives the tree of a commit, the same bytes each time',
  'says "none" of what is not there',
];
registerCases(
  'git over HTTPS',
  codeHostCases.filter(({ name }) => chosen.includes(name)),
  async () => {
    const another = async () => {
      const host = await scene.open();
      const ensure = async (name: string): Promise<void> => {
        await scene.server.create(name);
        await host.ensure(name);
      };
      return { ...host, ensure };
    };
    return { host: await another(), another, close: async () => undefined };
  },
);

describe('git over HTTPS', () => {
  it(
    'sends the token only to its host',
    async () => {
      const host = await scene.open();
      const secrets = [
        scene.server.token,
        Buffer.from(`${scene.server.username}:${scene.server.token}`).toString('base64'),
      ];
      let shown = '';
      scene.onceBefore('POST', 'git-upload-pack', async () => {
        // With the environment of each process.
        shown = (await run('ps', ['axeww', '-o', 'args'], { maxBuffer: 64 * 1024 * 1024 })).stdout;
      });
      await scene.personPushes('seen.txt', 'seen anew');
      await host.resolve(repository, 'main');
      assert.ok(shown.includes(host.url(repository)), 'git was not among the processes');
      for (const secret of secrets) assert.ok(!shown.includes(secret), 'the token is in the list of processes');

      scene.server.before = async (request, response) => {
        response.writeHead(403, { 'content-type': 'text/plain' });
        response.end(`you said ${request.headers.authorization}, that is ${scene.server.token}\n`);
      };
      const error: unknown = await host.check().catch((reason: unknown) => reason);
      assert.ok(error instanceof Error);
      assert.match(error.message, /rejects the user or the token in .*token: .*you said Basic \*\*\*, that is \*\*\*/);
      for (const secret of secrets) assert.ok(!`${error.message} ${error.stack}`.includes(secret));
    },
    GIT_TIMEOUT_MS,
  );

  it(
    'reports a refused token, and reads a new one from its file',
    async () => {
      const host = await scene.open();
      await host.check();
      const former = scene.server.token;
      scene.server.token = 'token-of-tomorrow';
      try {
        await assert.rejects(host.resolve(repository, 'main'), /rejects the user or the token in .*token: use a token/);
        const nobody = await scene.open({
          https: { username: 'x', tokenFile: '/dev/null', caFile: scene.right.caFile },
        });
        await assert.rejects(nobody.check(), /rejects the user or the token in \/dev\/null/);
        await writeFile(scene.tokenFile, 'token-of-tomorrow\n');
        await host.check();
        assert.ok(await host.resolve(repository, 'main'));
      } finally {
        scene.server.token = former;
      }
    },
    GIT_TIMEOUT_MS,
  );

  it(
    'trusts only certificates of its CA',
    async () => {
      const https = { username: scene.server.username, tokenFile: scene.tokenFile };
      for (const caFile of [scene.wrong.caFile, undefined]) {
        const host = await scene.open({ https: { ...https, caFile } });
        await assert.rejects(host.check(), /its certificate is not trusted: it must be issued for the host/);
      }
    },
    GIT_TIMEOUT_MS,
  );

  it(
    'does not follow redirects to other hosts',
    async () => {
      const asked: string[] = [];
      const elsewhere = createServer((request, response) => {
        asked.push(request.headers.authorization ?? 'nothing');
        response.writeHead(404).end();
      }).listen(0, '127.0.0.1');
      await new Promise((resolve) => elsewhere.once('listening', resolve));
      const address = elsewhere.address();
      assert.ok(address !== null && typeof address === 'object');
      scene.server.before = async (request, response) => {
        response.writeHead(301, { location: `http://127.0.0.1:${address.port}${request.url}` }).end();
      };
      await assert.rejects((await scene.open()).check(), /it redirects to another address/);
      assert.deepEqual(asked, []);
      elsewhere.close();
    },
    GIT_TIMEOUT_MS,
  );

  it(
    'times out if a host is down or silent, and stops immediately when aborted',
    async () => {
      const unreachable = await scene.open({ remote: 'https://127.0.0.1:1/{repository}.git' });
      await assert.rejects(unreachable.check(), /cannot be reached or closed the connection/);
      let held = 0;
      const never = new Promise<void>(() => undefined);
      const hold = async (): Promise<void> => {
        held += 1;
        await never;
      };
      scene.server.before = hold;
      await assert.rejects(
        (await scene.open({ stallSeconds: 1 })).check(),
        /cannot be reached or closed the connection.*too slow/,
      );

      const host = await scene.open();
      scene.server.before = async () => undefined;
      await host.resolve(repository, 'main');
      const head = await scene.git('rev-parse', 'main');
      held = 0;
      scene.server.before = async (request) => (request.url?.includes('receive-pack') ? hold() : undefined);
      const controller = new AbortController();
      const committing = scene.change(host, { 'never.txt': 'never' }, 'main', controller.signal);
      const outcome = assert.rejects(committing, { name: 'AbortError' });
      await eventually('the push', () => held > 0);
      controller.abort();
      await outcome;
      assert.equal(await scene.git('rev-parse', 'main'), head);
      const ends = Date.now() + GIT_TIMEOUT_MS / 2;
      while ((await run('ps', ['axww', '-o', 'args'])).stdout.includes(host.url(repository)))
        assert.ok(Date.now() < ends, 'a git was left behind');
    },
    GIT_TIMEOUT_MS,
  );

  it(
    'can name repositories without a folder, for hosts without nested groups',
    async () => {
      const host = await scene.open({ remote: scene.server.remote.replace('{repository}', 'acme/{name}') });
      assert.match(host.url(repository), /\/acme\/vulnerability\.code\.git$/);
      await scene.server.create('acme/vulnerability.code');
      await host.ensure(repository);
      assert.deepEqual(await host.branches(repository), ['main']);
    },
    GIT_TIMEOUT_MS,
  );

  it.each([
    'https://user:secret@host/{repository}.git',
    'https://token-secret@host/{repository}.git',
    'ssh://git:secret@host/{repository}.git',
    'https://host/repository.git',
    'https://host/{repository}/{repository}.git',
    'https://{repository}.host/x.git',
    'http://host/{repository}.git',
    'git://host/{repository}.git',
    'file:///srv/{repository}.git',
    'ext::sh -c touch% /tmp/x {repository}',
    'git@host:{repository}.git',
    'ssh://-oProxyCommand=x/{repository}.git',
    'ssh://-x@host/{repository}.git',
    'https://host/{repository}.git?x=secret',
    'https://host/../{repository} .git',
  ])('refuses the address %s', async (remote) => {
    const error: unknown = await scene.open({ remote }).catch((reason: unknown) => reason);
    assert.ok(isFailure(error, 'InvalidInput'), String(error));
    assert.ok(error instanceof Error && !/:secret|token-secret/.test(error.message), 'it shows the password');
  });
});
