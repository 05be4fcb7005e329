// A TLS web server on loopback that counts what it sends and can misbehave on request.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer } from 'node:https';
import { join } from 'node:path';

export type Handler = (request: IncomingMessage, response: ServerResponse) => void;

export interface Site {
  readonly port: number;
  /** PEM of the authority to trust. */
  readonly ca: string;
  /** Handlers by `host/path` (with the query); whatever is not here answers 404. */
  readonly pages: Map<string, Handler>;
  /** What was asked, in order, as `METHOD host/path`, with its headers. */
  readonly asked: { readonly what: string; readonly headers: IncomingMessage['headers'] }[];
  readonly connections: () => number;
  /** The URL of a page; every name resolves to this server where a test says so. */
  url(host: string, path: string): string;
  close(): Promise<void>;
}

/** Names that the certificate is good for; none of them exists. */
export const hosts = ['data.example.org', 'other.example.org', 'api.github.test', 'codeload.github.test'] as const;

/** Starts a server; with a new key and certificate in `folder`. */
export async function openSite(folder: string): Promise<Site> {
  const [key, cert] = [join(folder, 'site.key'), join(folder, 'site.crt')];
  const names = [...hosts, 'localhost'].map((name) => `DNS:${name}`).join(',');
  execFileSync(
    'openssl',
    [
      ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'],
      ...['-keyout', key, '-out', cert, '-subj', '/CN=test', '-addext', `subjectAltName=${names},IP:127.0.0.1`],
    ],
    { stdio: 'ignore' },
  );
  const pages: Site['pages'] = new Map();
  const asked: Site['asked'][number][] = [];
  const state = { connections: 0, port: 0 };
  const server = createServer({ key: readFileSync(key), cert: readFileSync(cert) }, (request, response) => {
    const page = `${(request.headers.host ?? '').replace(/:\d+$/, '')}${request.url ?? ''}`;
    asked.push({ what: `${request.method} ${page}`, headers: request.headers });
    const handler = pages.get(page);
    if (handler) return handler(request, response);
    response.writeHead(404, { 'content-type': 'application/json' });
    response.end('{"message": "Not Found", "documentation_url": "https://docs.github.com/rest", "status": "404"}');
  });
  server.on('connection', () => (state.connections += 1));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  state.port = typeof address === 'object' && address ? address.port : 0;
  return {
    ...{ port: state.port, pages, asked, ca: readFileSync(cert, 'utf8') },
    connections: () => state.connections,
    url: (host, path) => `https://${host}:${state.port}${path}`,
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

export interface ServedFile {
  readonly handler: Handler;
  /** Bytes of bodies sent so far. */
  sent(): number;
  /** The next answer is cut after so many bytes. */
  cutNext(bytes: number): void;
}

/** A file as served by a correct static server, with ETag, Range and If-Range, unless specified otherwise. */
export function serveFile(
  bytes: () => Buffer,
  options: { readonly ranges?: boolean; readonly etag?: () => string; readonly paceMs?: () => number } = {},
): ServedFile {
  const state: { sent: number; cut: number | undefined } = { sent: 0, cut: undefined };
  const { ranges = true, etag = () => '"v1"', paceMs = () => 0 } = options;
  const send = async (response: ServerResponse, body: Buffer, cut: number | undefined): Promise<void> => {
    for (let at = 0; at < body.length && !response.destroyed;) {
      const pauseMs = paceMs();
      const piece = pauseMs > 0 ? 64 * 1024 : 256 * 1024;
      const end = Math.min(at + piece, cut ?? Infinity, body.length);
      state.sent += end - at;
      await new Promise((resolve) => response.write(body.subarray(at, end), resolve));
      if (end === cut) return void response.destroy();
      if (pauseMs > 0) await new Promise((resolve) => setTimeout(resolve, pauseMs));
      at = end;
    }
    response.end();
  };
  return {
    sent: () => state.sent,
    cutNext: (at) => (state.cut = at),
    handler(request, response) {
      const whole = bytes();
      const { cut } = state;
      state.cut = undefined;
      const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? NaN);
      const fits = ranges && request.headers['if-range'] === etag() && Number.isFinite(from);
      const headers = { etag: etag(), ...(ranges && { 'accept-ranges': 'bytes' }) };
      if (fits && from >= whole.length) {
        response.writeHead(416, { ...headers, 'content-range': `bytes */${whole.length}` });
        return void response.end();
      }
      const body = fits ? whole.subarray(from) : whole;
      response.writeHead(fits ? 206 : 200, {
        ...headers,
        'content-length': body.length,
        ...(fits && { 'content-range': `bytes ${from}-${whole.length - 1}/${whole.length}` }),
      });
      void send(response, body, cut);
    },
  };
}

/** Answers JSON. */
export const json =
  (value: unknown, status = 200, headers: Record<string, string> = {}): Handler =>
  (_request, response) => {
    response.writeHead(status, { 'content-type': 'application/json; charset=utf-8', ...headers });
    response.end(JSON.stringify(value));
  };

/** Answers a redirect. */
export const redirect =
  (location: string, status = 302): Handler =>
  (_request, response) => {
    response.writeHead(status, { location });
    response.end();
  };
