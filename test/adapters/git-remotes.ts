// Real Git remotes for tests, on loopback: OpenSSH's sshd, and git's own HTTP server behind TLS with a user and a token.
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer as createHttps } from 'node:https';
import { createServer, type Server } from 'node:net';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Certificates } from './git-certificates.ts';

const run = promisify(execFile);
const SSHD = '/usr/sbin/sshd';

export interface BareRepositories {
  /** Makes an empty repository, as a person does at a host; one that is there stays. */
  create(repository: string): Promise<void>;
  folderOf(repository: string): string;
}

export interface SshRemote extends BareRepositories {
  readonly remote: string;
  readonly keyFile: string;
  readonly knownHostsFile: string;
  close(): Promise<void>;
}

export interface HttpsRemote extends BareRepositories {
  readonly remote: string;
  readonly username: string;
  /** The token that is taken now. */
  token: string;
  /** Called with each request that has the right token, before it is answered. */
  before: (request: IncomingMessage, response: ServerResponse) => Promise<void>;
  close(): Promise<void>;
}

/** Whether sshd is here. Where it is missing that fails with CI=true; elsewhere those tests are skipped, with a notice. */
export function sshdForTests(what: string): boolean {
  if (existsSync(SSHD)) return true;
  if (process.env['CI'] === 'true') throw new Error(`${SSHD} is needed for ${what}: install openssh-server`);
  console.warn(`\n!!! SKIPPED: ${what}. ${SSHD} is missing: install openssh-server\n`);
  return false;
}

/** Makes a key pair; the public half is beside it, as `.pub`. */
export async function makeKey(keyFile: string): Promise<string> {
  await run('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', 'test', '-f', keyFile]);
  return readFile(`${keyFile}.pub`, 'utf8');
}

/** An sshd over bare repositories in the folder: one per connection, so that none remains after the test. */
export async function sshRemote(folder: string): Promise<SshRemote> {
  const [hostKey, keyFile, knownHostsFile] = ['host-key', 'key', 'known-hosts'].map((name) => join(folder, name));
  if (!hostKey || !keyFile || !knownHostsFile) throw new Error('three files were to be named');
  const hostPublic = await makeKey(hostKey);
  await writeFile(join(folder, 'authorized-keys'), await makeKey(keyFile));
  const config = join(folder, 'sshd-config');
  const lines = [
    `HostKey ${hostKey}`,
    `AuthorizedKeysFile ${join(folder, 'authorized-keys')}`,
    'PasswordAuthentication no',
    'KbdInteractiveAuthentication no',
    'UsePAM no',
    'StrictModes no',
    'PermitRootLogin prohibit-password',
    'AcceptEnv GIT_PROTOCOL',
    // The standard one takes twice the time of a whole connection, against computers that do not exist yet.
    'KexAlgorithms curve25519-sha256',
  ];
  await writeFile(config, `${lines.join('\n')}\n`);
  // Debian's sshd wants this folder when root runs it; its service would have made it.
  if (userInfo().uid === 0) await mkdir('/run/sshd', { recursive: true, mode: 0o755 });
  const children = new Set<ChildProcess>();
  // Only sshd reads the input.
  const server = createServer({ pauseOnConnect: true }, (socket) => {
    const child = spawn(SSHD, ['-i', '-e', '-f', config], { stdio: [socket, socket, 'ignore'] });
    children.add(child);
    child.on('exit', () => children.delete(child));
    socket.on('error', () => undefined);
    socket.destroy();
  });
  const port = await listen(server);
  await writeFile(knownHostsFile, `[127.0.0.1]:${port} ${hostPublic}`);
  const root = join(folder, 'repositories');
  return {
    ...bareRepositories(root),
    remote: `ssh://${userInfo().username}@127.0.0.1:${port}${root}/{repository}.git`,
    keyFile,
    knownHostsFile,
    async close() {
      for (const child of children) child.kill();
      await closed(server);
    },
  };
}

/** `git http-backend` over bare repositories in the folder, behind TLS; requests without a valid token are asked for one. */
export async function httpsRemote(folder: string, certificates: Certificates): Promise<HttpsRemote> {
  const root = join(folder, 'repositories');
  const tls = { cert: await readFile(certificates.certFile), key: await readFile(certificates.keyFile) };
  const server = createHttps(tls, (request, response) => {
    answer(request, response).catch((error: unknown) => response.destroy(error instanceof Error ? error : undefined));
  });

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const expected = `Basic ${Buffer.from(`${remote.username}:${remote.token}`).toString('base64')}`;
    if (request.headers.authorization !== expected) {
      request.resume();
      response.writeHead(401, { 'www-authenticate': 'Basic realm="git"' }).end();
      return;
    }
    await remote.before(request, response);
    if (!response.writableEnded) httpBackend(root, remote.username, request, response);
  }

  const port = await listen(server);
  const remote: HttpsRemote = {
    ...bareRepositories(root),
    remote: `https://127.0.0.1:${port}/{repository}.git`,
    username: 'platform',
    token: 'token-7d1f0c5a9b',
    before: async () => undefined,
    async close() {
      server.closeAllConnections();
      await closed(server);
    },
  };
  return remote;
}

function httpBackend(root: string, user: string, request: IncomingMessage, response: ServerResponse): void {
  const url = new URL(request.url ?? '/', 'https://host');
  const header = (name: string): string => String(request.headers[name] ?? '');
  const env = {
    PATH: process.env['PATH'],
    GIT_PROJECT_ROOT: root,
    GIT_HTTP_EXPORT_ALL: '1',
    REMOTE_USER: user,
    REQUEST_METHOD: request.method,
    PATH_INFO: url.pathname,
    QUERY_STRING: url.search.slice(1),
    CONTENT_TYPE: header('content-type'),
    HTTP_CONTENT_ENCODING: header('content-encoding'),
    GIT_PROTOCOL: header('git-protocol'),
  };
  const child = spawn('git', ['http-backend'], { env, stdio: ['pipe', 'pipe', 'ignore'] });
  child.stdin.on('error', () => undefined);
  request.pipe(child.stdin);
  let head = Buffer.alloc(0);
  child.stdout.on('data', (bytes: Buffer) => {
    if (response.headersSent) return void response.write(bytes);
    head = Buffer.concat([head, bytes]);
    const end = head.indexOf('\r\n\r\n');
    if (end < 0) return;
    for (const line of head.subarray(0, end).toString().split('\r\n')) {
      const [name = '', value = ''] = line.split(/: (.*)/s);
      if (name.toLowerCase() === 'status') response.statusCode = Number.parseInt(value, 10);
      else response.setHeader(name, value);
    }
    response.flushHeaders();
    response.write(head.subarray(end + 4));
  });
  child.on('close', () => response.end());
  response.on('close', () => child.kill());
}

function bareRepositories(root: string): BareRepositories {
  const folderOf = (repository: string): string => `${join(root, repository)}.git`;
  // Made once each: two gits that make the same repository at once get in each other's way.
  const made = new Map<string, Promise<void>>();
  const make = async (repository: string): Promise<void> =>
    void (await run('git', ['init', '--quiet', '--bare', '--initial-branch=main', folderOf(repository)]));
  return {
    folderOf,
    create(repository) {
      const making = made.get(repository) ?? make(repository);
      made.set(repository, making);
      return making;
    },
  };
}

async function listen(server: Server): Promise<number> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('the server has no port');
  return address.port;
}

async function closed(server: Server): Promise<void> {
  const end = once(server, 'close');
  server.close();
  await end;
}
