// Network access for downloads in a sandbox: an HTTP proxy on a Unix socket that connects only to the package index.
import { chmod } from 'node:fs/promises';
import { createServer, request, type IncomingMessage, type ServerResponse } from 'node:http';
import { request as requestOverTls } from 'node:https';
import { connect, Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { messageOf } from '../../failures.ts';

export interface IndexHost {
  readonly host: string;
  readonly port: number;
  /** Address of this machine's proxy for the host; `null` for a direct connection. */
  readonly proxy: string | null;
}

export interface IndexGateway {
  /** Refused hosts, which do not belong to the index, as `host:port`. */
  readonly refused: ReadonlySet<string>;
  /** Hosts of the index that could not be reached, with the reason. */
  readonly unreachable: ReadonlyMap<string, string>;
  /** Whether the downloads exceeded the limit. */
  readonly exceeded: () => boolean;
  readonly close: () => Promise<void>;
}

/** A person waits: an index that does not accept a connection, or does not begin its answer, within this time counts as down. */
const ANSWER_WITHIN_MS = 30_000;
/** pip itself gives up after 15 s without a byte. */
const SILENT_MS = 120_000;
/** pip opens a few connections; a program that opens more is not pip. */
const MOST_CONNECTIONS = 64;

/** Opens the gateway, which transfers at most `limitBytes`. */
export async function openIndexGateway(options: {
  readonly socket: string;
  readonly hosts: readonly IndexHost[];
  readonly limitBytes: number;
  /** How long the index may take to accept a connection, and to begin an answer. */
  readonly answerWithinMs?: number;
  /** How long a connection may be silent. */
  readonly silentMs?: number;
}): Promise<IndexGateway> {
  const patience = {
    answerWithinMs: options.answerWithinMs ?? ANSWER_WITHIN_MS,
    silentMs: options.silentMs ?? SILENT_MS,
  };
  const hosts = new Map(options.hosts.map((host) => [nameOf(host.host, host.port), host]));
  const refused = new Set<string>();
  const unreachable = new Map<string, string>();
  const open = new Set<Duplex>();
  const state = { bytes: 0 };

  const keep = (stream: Duplex): void => {
    open.add(stream);
    stream.once('close', () => open.delete(stream));
    // The close handler deals with errors.
    stream.on('error', () => undefined);
  };
  const count = (chunk: Buffer): void => {
    state.bytes += chunk.length;
    if (state.bytes > options.limitBytes) for (const stream of open) stream.destroy();
  };
  const allowed = (host: string, port: number): IndexHost | undefined => {
    const name = nameOf(host, port);
    const found = hosts.get(name);
    // Untrusted programs send these requests, so only a few refused hosts are remembered.
    if (found === undefined && refused.size < MOST_CONNECTIONS) refused.add(name);
    return found;
  };

  const server = createServer({ maxHeaderSize: 64 * 1024 });
  server.maxConnections = MOST_CONNECTIONS;
  server.on('connection', keep);
  server.on('connect', (asked: IncomingMessage, near: Duplex, head: Buffer) => {
    const target = authority(asked.url ?? '');
    const host = target && allowed(target.host, target.port);
    if (!host) return void near.end('HTTP/1.1 403 Forbidden\r\n\r\n');
    const gone = new AbortController();
    const leave = (): void => gone.abort(new Error('the download has ended'));
    // Without a reader, the end of the connection would not be noticed. Bytes stay in its buffer.
    const onReadable = (): void => void (near.readableLength === 0 && near.read());
    near.once('close', leave).once('end', leave).on('readable', onReadable);
    tunnel(host, AbortSignal.any([gone.signal, timeLimit(patience.answerWithinMs)]))
      .then((far) => {
        keep(far);
        if (gone.signal.aborted) return void far.destroy();
        near.off('end', leave).off('readable', onReadable);
        near.write('HTTP/1.1 200 Connection established\r\n\r\n');
        if (head.length > 0) far.write(head);
        far.on('data', count);
        near.pipe(far).pipe(near);
        near.once('close', () => far.destroy());
        far.once('close', () => near.destroy());
        if (far instanceof Socket) far.setTimeout(patience.silentMs, () => far.destroy());
      })
      .catch((error: unknown) => {
        if (gone.signal.aborted) return void near.destroy();
        unreachable.set(nameOf(host.host, host.port), messageOf(error));
        near.end(`HTTP/1.1 ${error instanceof Late ? '504 Gateway Timeout' : '502 Bad Gateway'}\r\n\r\n`);
      });
  });
  server.on('request', (asked, answer) => {
    const url = URL.canParse(asked.url ?? '') ? new URL(asked.url ?? '') : undefined;
    const host = url?.protocol === 'http:' ? allowed(bare(url.hostname), Number(url.port || 80)) : undefined;
    if (!url || !host || (asked.method !== 'GET' && asked.method !== 'HEAD')) return void answer.writeHead(403).end();
    const failed = (why: string): void => void unreachable.set(nameOf(host.host, host.port), why);
    forward({ asked, answer, url, host, count, failed, ...patience });
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(options.socket, resolve);
  });
  // The sandbox runs as another user; no one else can enter the socket's folder.
  await chmod(options.socket, 0o666);
  return {
    refused,
    unreachable,
    exceeded: () => state.bytes > options.limitBytes,
    close: async () => {
      for (const stream of open) stream.destroy();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}

/** The index did not answer in time. */
class Late extends Error {}

/** Aborts with `Late` after this time. */
function timeLimit(ms: number): AbortSignal {
  const limit = new AbortController();
  setTimeout(() => limit.abort(new Late(`no answer within ${ms / 1000} s`)), ms).unref();
  return limit.signal;
}

/** A connection to a host of the index, through this machine's proxy if it has one; after an abort, none is left. */
function tunnel({ host, port, proxy }: IndexHost, signal: AbortSignal): Promise<Duplex> {
  return new Promise((resolve, reject) => {
    const asked =
      proxy === null ? undefined : askProxy(proxy, 'CONNECT', nameOf(host, port), { host: nameOf(host, port) });
    const far = asked ?? connect({ host, port });
    const onAbort = (): void => void far.destroy(signal.reason as Error);
    signal.addEventListener('abort', onAbort, { once: true });
    const fail = (error: Error): void => {
      signal.removeEventListener('abort', onAbort);
      far.destroy();
      reject(error);
    };
    const succeed = (socket: Duplex): void => {
      signal.removeEventListener('abort', onAbort);
      resolve(socket);
    };
    // Stays: an error without a listener would end the worker.
    far.on('error', fail);
    if (signal.aborted) return onAbort();
    if (!asked || proxy === null) return void far.once('connect', () => succeed(far as Socket));
    const refused = ({ statusCode }: IncomingMessage): Error =>
      new Error(`the proxy ${new URL(proxy).host} answered ${statusCode}`);
    asked.once('connect', (answer, socket, head) => {
      if (head.length > 0) socket.unshift(head);
      if (answer.statusCode === 200) return succeed(socket);
      socket.destroy();
      fail(refused(answer));
    });
    asked.once('response', (answer) => fail(refused(answer)));
    asked.end();
  });
}

/** A request to an index without TLS. */
function forward(given: {
  asked: IncomingMessage;
  answer: ServerResponse;
  url: URL;
  host: IndexHost;
  count: (chunk: Buffer) => void;
  failed: (why: string) => void;
  answerWithinMs: number;
  silentMs: number;
}): void {
  const { asked, answer, url, host, count, failed, answerWithinMs, silentMs } = given;
  const { connection: _, 'proxy-connection': __, 'proxy-authorization': ___, ...headers } = asked.headers;
  const method = asked.method ?? 'GET';
  const far =
    host.proxy === null
      ? request(url, { method, headers, agent: false })
      : askProxy(host.proxy, method, url.href, headers);
  // For the whole head: an index may also send it byte by byte.
  const late = setTimeout(() => far.destroy(new Late(`no answer within ${answerWithinMs / 1000} s`)), answerWithinMs);
  far.setTimeout(silentMs, () => far.destroy(new Late(`silent for ${silentMs / 1000} s`)));
  far.once('response', (response) => {
    clearTimeout(late);
    answer.writeHead(response.statusCode ?? 502, response.headers);
    response.on('data', count);
    response.pipe(answer);
    // The response was cut off: it must not look complete.
    response.once('error', () => answer.destroy());
  });
  far.on('error', (error) => {
    clearTimeout(late);
    // The download has ended, and this request with it.
    if (answer.destroyed) return;
    failed(error.message);
    if (answer.headersSent) answer.destroy();
    else answer.writeHead(error instanceof Late ? 504 : 502).end();
  });
  answer.once('close', () => {
    clearTimeout(late);
    far.destroy();
  });
  far.end();
}

function askProxy(proxy: string, method: string, path: string, headers: NodeJS.Dict<string | string[]>) {
  const { protocol, hostname, port, username, password } = new URL(proxy);
  const secret = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`;
  const isTls = protocol === 'https:';
  return (isTls ? requestOverTls : request)({
    host: bare(hostname),
    port: Number(port || (isTls ? 443 : 80)),
    method,
    path,
    headers: {
      ...headers,
      ...(username !== '' && { 'proxy-authorization': `Basic ${Buffer.from(secret).toString('base64')}` }),
    },
    agent: false,
  });
}

function authority(text: string): { host: string; port: number } | undefined {
  const [, host, port] = /^(\[[0-9a-f:.]+\]|[A-Za-z0-9._-]+):(\d{1,5})$/i.exec(text) ?? [];
  return host === undefined ? undefined : { host: bare(host), port: Number(port) };
}

const bare = (host: string): string => host.replace(/^\[|\]$/g, '');
const nameOf = (host: string, port: number): string =>
  `${host.includes(':') ? `[${bare(host)}]` : host.toLowerCase()}:${port}`;
