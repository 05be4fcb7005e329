// A private node over SFTP: must be registered, on a host that an administrator allows, with a pinned host key.
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
  /** Hosts that projects may register as nodes: `host` for port 22, otherwise `host:port`. */
  readonly hosts: readonly string[];
  /** Folder of private keys, with one subfolder per project: the nodes of a project cannot use another project's keys. */
  readonly secrets: string;
  /** Maximum number of files in one folder. */
  readonly entries: number;
}

type SftpNode = Extract<Node, { kind: 'sftp' }>;

/** Timeout for connection and authentication; a slower node counts as down. */
const READY_MS = 30_000;
/** Keepalive interval; a connection counts as dead after three missed replies. */
const KEEPALIVE_MS = 10_000;

/** Connects to the node. Throws `NotAuthorized` if host, key or login do not match the registration. */
export async function sftpSession(
  options: SftpOptions,
  source: Extract<Source, { kind: 'sftp' }>,
  nodes: readonly Node[],
  signal: AbortSignal,
): Promise<SourceSession> {
  const node = nodes.find((one): one is SftpNode => one.kind === 'sftp' && one.node === source.node);
  if (!node)
    throw failure('NotFound', `no SFTP node ${source.node} is registered: ask a manager of the project to register it`);
  const where = node.port === 22 ? node.host : `${node.host}:${node.port}`;
  if (!options.hosts.includes(where))
    throw failure(
      'NotAuthorized',
      `node ${node.node}: ${where} is not on the list of allowed SFTP hosts: ask an administrator to add it`,
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
    // The library never answers a request on a connection that was just lost.
    client.once('close', () => fail(new Error(`the connection to node ${node.node} was lost`)));
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
      const cut = (): void => fail(new Error(`the connection to node ${node.node} was lost`));
      if (line.isCut) return cut();
      client.once('close', cut);
      work((error, value) => {
        client.off('close', cut);
        if (error) fail(refusal(error, `${node.node}: ${what}`));
        else done(value);
      });
    });
  /** The stream's chunks; throws when the connection is lost, because the library's stream would wait forever. */
  async function* read(path: string, start: number): AsyncGenerator<Uint8Array> {
    const stream = sftp.createReadStream(path, { start });
    // Without a listener, the error would be unhandled when reading has stopped.
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
          else leave(path, attrs.isSymbolicLink() ? 'a link' : 'not a regular file');
          if (files.length + left + todo.length > options.entries)
            throw failure(
              'InvalidInput',
              `${node.node}: ${folder.address} contains more than ${options.entries} files, the limit of one folder`,
            );
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

/** The SHA-256 fingerprint of a public key blob, in OpenSSH format. */
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
    // Never removed: an unhandled error event would end the process.
    client.on('error', (error: Error & { level?: string }) => {
      signal.removeEventListener('abort', abort);
      if (shown !== '' && shown !== node.hostKey)
        fail(
          failure(
            'NotAuthorized',
            `node ${node.node}: ${node.host} presented the host key ${shown}, but the pinned key is ${node.hostKey}: the connection is intercepted or the host has a new key; verify the key on the host, then register the node again`,
          ),
        );
      else if (error.level === 'client-authentication')
        fail(
          failure(
            'NotAuthorized',
            `node ${node.node}: ${node.host} rejects the user ${node.user} with the key ${node.secret}: check the key and the user's access on the host`,
          ),
        );
      else fail(error);
    });
    client.on('close', () => fail(new Error(`node ${node.node}: ${node.host} closed the connection`)));
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
      // The library parses the key synchronously.
      fail(failure('InvalidInput', `node ${node.node}: the key ${node.secret} cannot be used: ${String(error)}`));
    }
  });
}

async function readKey(secrets: string, { project, node, secret }: SftpNode): Promise<Buffer> {
  // Project and secret are valid names already; checked again because they form a file path here.
  if (pathProblem(project) || pathProblem(secret) || secret.includes('/'))
    throw failure('InvalidInput', `node ${node}: "${secret}" is not a valid name of a secret`);
  try {
    return await readFile(join(secrets, project, secret));
  } catch {
    throw failure(
      'NotFound',
      `node ${node}: the key ${secret} does not exist: ask an administrator to add it to the secrets of ${project}`,
    );
  }
}

/** Translates the status codes of SFTP: 2 is "no such file", 3 is "permission denied". */
function refusal(error: Error & { code?: unknown }, what: string): Error {
  if (error.code === 2) return failure('NotFound', `${what}: no such file`);
  if (error.code === 3) return failure('NotAuthorized', `${what}: the user of the node has no permission to read it`);
  return new Error(`${what}: ${error.message}`, { cause: error });
}
