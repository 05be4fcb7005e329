// Network access for downloads in a sandbox: an HTTP proxy on a Unix socket that connects only to the package index.
import { chmod } from 'node:fs/promises';
import { createServer, request, type IncomingMessage, type ServerResponse } from 'node:http';
import { request as requestOverTls } from 'node:https';
import { connect, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';

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

/** A person waits: an index that does not accept a connection within this time counts as down. */
const CONNECT_WITHIN_MS = 30_000;
/** pip opens a few connections; a program that opens more is not pip. */
const MOST_CONNECTIONS = 64;

/** Opens the gateway, which transfers at most `limitBytes`. */
export async function openIndexGateway(options: {
  readonly socket: string;
  readonly hosts: readonly IndexHost[];
  readonly limitBytes: number;
}): Promise<IndexGateway> {
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
    tunnel(host)
      .then((far) => {
        keep(far);
        near.write('HTTP/1.1 200 Connection established\r\n\r\n');
        if (head.length > 0) far.write(head);
        far.on('data', count);
        near.pipe(far).pipe(near);
        near.once('close', () => far.destroy());
        far.once('close', () => near.destroy());
      })
      .catch((error: unknown) => {
        unreachable.set(nameOf(host.host, host.port), error instanceof Error ? error.message : String(error));
        near.end('HTTP/1.1 502 Bad Gateway\r\n\r\n');
      });
  });
  server.on('request', (asked, answer) => {
    const url = URL.canParse(asked.url ?? '') ? new URL(asked.url ?? '') : undefined;
    const host = url?.protocol === 'http:' ? allowed(bare(url.hostname), Number(url.port || 80)) : undefined;
    if (!url || !host || (asked.method !== 'GET' && asked.method !== 'HEAD')) return void answer.writeHead(403).end();
    forward(asked, answer, url, host, count, (why) => unreachable.set(nameOf(host.host, host.port), why));
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

/** A connection to a host of the index, through this machine's proxy if it has one. */
function tunnel({ host, port, proxy }: IndexHost): Promise<Duplex> {
  return new Promise((resolve, reject) => {
    if (proxy === null) {
      const socket: Socket = connect({ host, port });
      socket.setTimeout(CONNECT_WITHIN_MS, () =>
        socket.destroy(new Error(`no answer within ${CONNECT_WITHIN_MS / 1000} s`)),
      );
      socket.once('error', reject);
      socket.once('connect', () => {
        socket.setTimeout(0);
        resolve(socket);
      });
      return;
    }
    const asked = askProxy(proxy, 'CONNECT', nameOf(host, port), { host: nameOf(host, port) });
    asked.once('connect', (answer, socket) => {
      if (answer.statusCode === 200) resolve(socket);
      else reject(new Error(`the proxy ${new URL(proxy).host} answered ${answer.statusCode}`));
    });
    asked.once('response', (answer) =>
      reject(new Error(`the proxy ${new URL(proxy).host} answered ${answer.statusCode}`)),
    );
    asked.once('error', reject);
    asked.end();
  });
}

/** A request to an index without TLS. */
function forward(
  asked: IncomingMessage,
  answer: ServerResponse,
  url: URL,
  { proxy }: IndexHost,
  count: (chunk: Buffer) => void,
  failed: (why: string) => void,
): void {
  const { connection: _, 'proxy-connection': __, 'proxy-authorization': ___, ...headers } = asked.headers;
  const method = asked.method ?? 'GET';
  const far =
    proxy === null
      ? request(url, { method, headers, timeout: CONNECT_WITHIN_MS, agent: false })
      : askProxy(proxy, method, url.href, headers);
  far.once('timeout', () => far.destroy(new Error(`no answer within ${CONNECT_WITHIN_MS / 1000} s`)));
  far.once('response', (response) => {
    answer.writeHead(response.statusCode ?? 502, response.headers);
    response.on('data', count);
    response.pipe(answer);
    // The response was cut off: it must not look complete.
    response.once('error', () => answer.destroy());
  });
  far.once('error', (error) => {
    failed(error.message);
    if (answer.headersSent) answer.destroy();
    else answer.writeHead(502).end();
  });
  answer.once('close', () => far.destroy());
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
    timeout: CONNECT_WITHIN_MS,
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
