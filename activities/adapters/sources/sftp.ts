// A private node over SFTP: only a registered one, only behind its pinned host key, only on a host an administrator has allowed.
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { FileEntryWithStats, SFTPWrapper, Stats } from 'ssh2';
import { Client } from 'ssh2';
import type { Node, RemoteFile, Source } from '../../../workflows/domain/import.ts';
import { pathProblem } from '../../../workflows/domain/names.ts';
import { failure } from '../../failures.ts';
import type { SourceSession } from '../../ports.ts';

export interface SftpOptions {
  /** Hosts that projects may register as nodes: `host` for port 22, `host:port` for another one. */
  readonly hosts: readonly string[];
  /** Folder of private keys, one folder per project: a project's nodes cannot use another's key. */
  readonly secrets: string;
  /** Most files of one folder. */
  readonly entries: number;
}

type SftpNode = Extract<Node, { kind: 'sftp' }>;

/** Connecting and authenticating; a node that needs longer is not there. */
const READY_MS = 30_000;
/** A line on which nothing has come for three of these is dead. */
const KEEPALIVE_MS = 10_000;

/** Connects to the node. `NotAuthorized` when host, key or login are not as registered. */
export async function sftpSession(
  options: SftpOptions,
  source: Extract<Source, { kind: 'sftp' }>,
  nodes: readonly Node[],
  signal: AbortSignal,
): Promise<SourceSession> {
  const node = nodes.find((one): one is SftpNode => one.kind === 'sftp' && one.node === source.node);
  if (!node)
    throw failure('NotFound', `no SFTP node ${source.node} is registered: a manager of the project registers it`);
  const where = node.port === 22 ? node.host : `${node.host}:${node.port}`;
  if (!options.hosts.includes(where))
    throw failure(
      'NotAuthorized',
      `node ${node.node}: ${where} is not among the hosts that an administrator allows for SFTP`,
    );
  const client = await connect(node, await readKey(options.secrets, node), signal);
  const line = { isCut: false };
  client.once('close', () => (line.isCut = true));
  const end = (): void => void client.destroy();
  signal.addEventListener('abort', end, { once: true });
  const close = (): void => {
    signal.removeEventListener('abort', end);
    client.end();
  };
  const sftp = await new Promise<SFTPWrapper>((done, fail) => {
    // Asked for something on a line that has just been cut, the library never answers.
    client.once('close', () => fail(new Error(`the line to node ${node.node} was cut`)));
    client.sftp((error, opened) => {
      if (error)
        return fail(new Error(`node ${node.node}: ${where} does not speak SFTP: ${error.message}`, { cause: error }));
      opened.on('error', () => undefined);
      done(opened);
    });
  }).catch((error: unknown) => {
    close();
    throw error;
  });
  const call = <T>(what: string, work: (answer: (error: Error | undefined, value: T) => void) => void): Promise<T> =>
    new Promise((done, fail) => {
      const cut = (): void => fail(new Error(`the line to node ${node.node} was cut`));
      if (line.isCut) return cut();
      client.once('close', cut);
      work((error, value) => {
        client.off('close', cut);
        if (error) fail(refusal(error, `${node.node}: ${what}`));
        else done(value);
      });
    });
  /** The stream's chunks, or the end of the line: a cut one leaves the library's stream waiting for ever. */
  async function* read(path: string, start: number): AsyncGenerator<Uint8Array> {
    const stream = sftp.createReadStream(path, { start });
    // Told of the cut also when nobody reads any more.
    stream.on('error', () => undefined);
    const chunks = stream[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
    try {
      for (;;) {
        const next = await call<IteratorResult<Buffer>>(path, (answer) => {
          chunks.next().then(
            (value) => answer(undefined, value),
            (error: Error) => answer(error, { done: true, value: undefined }),
          );
        });
        if (next.done) return;
        yield next.value;
      }
    } finally {
      stream.destroy();
    }
  }
  const stat = (path: string): Promise<Stats> => call(path, (answer) => sftp.stat(path, answer));

  return {
    async resolve() {
      const found = await stat(source.path);
      const last = source.path.split('/').findLast((part) => part !== '' && part !== '.') ?? 'root';
      const file: RemoteFile = {
        name: pathProblem(last) ? 'download.bin' : last,
        address: source.path,
        bytes: found.isDirectory() ? null : found.size,
        expected: null,
        isFolder: found.isDirectory(),
      };
      if (!file.isFolder && !found.isFile())
        throw failure('InvalidInput', `${node.node}: ${source.path} is neither a file nor a folder`);
      return {
        revision: null,
        licence: null,
        files: [file],
        notes: [`from ${node.user}@${where}, host key ${node.hostKey}`],
      };
    },

    async list(folder) {
      const files: RemoteFile[] = [];
      const examples: { path: string; why: string }[] = [];
      let left = 0;
      const leave = (path: string, why: string): void => {
        left += 1;
        if (examples.length < 100) examples.push({ path: path.slice(0, 200), why });
      };
      const todo = [''];
      for (let inside = todo.pop(); inside !== undefined; inside = todo.pop()) {
        const at = `${folder.address}${inside && `/${inside}`}`;
        const entries = await call<FileEntryWithStats[]>(at, (answer) => sftp.readdir(at, answer));
        for (const { filename, attrs } of entries) {
          const path = inside ? `${inside}/${filename}` : filename;
          const problem = pathProblem(path);
          if (problem) leave(path, problem);
          else if (attrs.isDirectory()) todo.push(path);
          else if (attrs.isFile())
            files.push({
              ...folder,
              name: path,
              address: `${folder.address}/${path}`,
              bytes: attrs.size,
              isFolder: false,
            });
          else leave(path, attrs.isSymbolicLink() ? 'a link' : 'no plain file');
          if (files.length + left + todo.length > options.entries)
            throw failure('InvalidInput', `${node.node}: ${folder.address} holds more than ${options.entries} files`);
        }
      }
      return { files, leftOut: { count: left, examples } };
    },

    async open({ address }, from) {
      const found = await stat(address);
      const validator = `${found.mtime}-${found.size}`;
      const start = from.validator === validator ? from.start : 0;
      return { start, validator, total: found.size, bytes: read(address, start) };
    },

    async close() {
      close();
    },
  };
}

/** The SHA-256 of a public key in the form of OpenSSH, from its blob. */
const fingerprint = (key: Buffer): string =>
  `SHA256:${createHash('sha256').update(key).digest('base64').replace(/=+$/, '')}`;

function connect(node: SftpNode, privateKey: Buffer, signal: AbortSignal): Promise<Client> {
  const client = new Client();
  let shown = '';
  return new Promise((done, fail) => {
    const abort = (): void => {
      client.destroy();
      fail(signal.reason as Error);
    };
    if (signal.aborted) return abort();
    signal.addEventListener('abort', abort, { once: true });
    client.on('ready', () => {
      signal.removeEventListener('abort', abort);
      done(client);
    });
    // It stays for the life of the connection: an error nobody hears would end the process.
    client.on('error', (error: Error & { level?: string }) => {
      signal.removeEventListener('abort', abort);
      if (shown !== '' && shown !== node.hostKey)
        fail(
          failure(
            'NotAuthorized',
            `node ${node.node}: ${node.host} shows the host key ${shown}, pinned is ${node.hostKey}: somebody is in between, or the host has a new key; check it there, then register the node again`,
          ),
        );
      else if (error.level === 'client-authentication')
        fail(
          failure('NotAuthorized', `node ${node.node}: ${node.host} refuses ${node.user} with the key ${node.secret}`),
        );
      else fail(error);
    });
    client.on('close', () => fail(new Error(`node ${node.node}: ${node.host} closed the line`)));
    try {
      client.connect({
        ...{ host: node.host, port: node.port, username: node.user, privateKey },
        ...{ readyTimeout: READY_MS, keepaliveInterval: KEEPALIVE_MS },
        hostVerifier: (key: Buffer) => {
          shown = fingerprint(key);
          return shown === node.hostKey;
        },
      });
    } catch (error) {
      // The library parses the key at once.
      fail(failure('InvalidInput', `node ${node.node}: the key ${node.secret} cannot be used: ${String(error)}`));
    }
  });
}

async function readKey(secrets: string, { project, node, secret }: SftpNode): Promise<Buffer> {
  // Both are names without slashes and do not begin with a dot; asked again here, where a file is opened by them.
  if (pathProblem(project) || pathProblem(secret) || secret.includes('/'))
    throw failure('InvalidInput', `node ${node}: "${secret}" is no name of a secret`);
  try {
    return await readFile(join(secrets, project, secret));
  } catch {
    throw failure(
      'NotFound',
      `node ${node}: there is no key ${secret}: an administrator puts it into the secrets of ${project}`,
    );
  }
}

/** SFTP's own status codes: 2 is no such file, 3 is no permission. */
function refusal(error: Error & { code?: unknown }, what: string): Error {
  if (error.code === 2) return failure('NotFound', `${what}: there is no such file`);
  if (error.code === 3) return failure('NotAuthorized', `${what}: its user may not read it`);
  return new Error(`${what}: ${error.message}`, { cause: error });
}
