// Reaches a model service from outside of the cluster: a port of this machine whose requests go through the API server.
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { pipeline } from 'node:stream/promises';
import { z } from 'zod';
import { messageOf } from '../../failures.ts';
import type { KubernetesClient } from './client.ts';

export interface Forwarder {
  readonly address: `http://${string}`;
  readonly close: () => Promise<void>;
}

/** What the API server says itself, as opposed to the service. */
const statusSchema = z.object({ kind: z.literal('Status'), message: z.string().default('') });
/** The API server's own answers are short. */
const MOST_STATUS_BYTES = 64 * 1024;
/** Headers that concern the body; credentials and addresses of the caller are not passed on. */
const requestHeaders = ['accept', 'content-type', 'content-length'];
const responseHeaders = ['content-type', 'content-length', 'retry-after'];

/**
 * Opens a random port of 127.0.0.1 that leads to `target`, the path of a Service's proxy, and nowhere else. A service that
 * the API server does not reach looks like one that closes the connection.
 */
export async function openForwarder(
  client: Pick<KubernetesClient, 'pass'>,
  target: string,
  onWarn: (message: string) => void,
): Promise<Forwarder> {
  const server = createServer((asked, answer) => {
    forward(client, target, asked, answer).catch((error: unknown) => {
      if (!answer.destroyed) onWarn(`a request to a model service was not answered: ${messageOf(error)}`);
      answer.destroy();
    });
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, '127.0.0.1', resolve);
  });
  return { address: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, close: () => closed(server) };
}

async function forward(
  client: Pick<KubernetesClient, 'pass'>,
  target: string,
  asked: IncomingMessage,
  answer: ServerResponse,
): Promise<void> {
  const { method } = asked;
  const path = safePath(asked.url ?? '');
  if (path === undefined || (method !== 'GET' && method !== 'POST')) {
    asked.resume();
    return void answer.writeHead(404, { 'Content-Type': 'application/json' }).end('{"error":"not found"}');
  }
  const abort = new AbortController();
  answer.once('close', () => abort.abort());
  const headers = { ...picked(asked, requestHeaders), accept: 'application/json' };
  const given = await client.pass({ method, path: `${target}${path}`, headers, body: asked, signal: abort.signal });
  const status = given.statusCode ?? 502;
  if (status < 400) {
    answer.writeHead(status, picked(given, responseHeaders));
    return pipeline(given, answer);
  }
  const body = await shortBody(given);
  const said = statusSchema.safeParse(parsed(body)).data;
  if (said !== undefined) throw new Error(`the API server answered ${status}: ${said.message}`);
  answer.writeHead(status, picked(given, responseHeaders)).end(body);
}

/** The path of a request, if it stays below the service: the platform's credentials open more than that. */
export function safePath(url: string): string | undefined {
  if (!/^\/v2(\/[A-Za-z0-9._~%!$&'()*+,;=:@-]+)*$/.test(url)) return undefined;
  const isHarmless = (segment: string): boolean => {
    try {
      const name = decodeURIComponent(segment);
      return name !== '.' && name !== '..' && !/[/\\%\0]/.test(name);
    } catch {
      return false;
    }
  };
  return url.split('/').every(isHarmless) ? url : undefined;
}

function picked({ headers }: IncomingMessage, names: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    names.flatMap((name) => (typeof headers[name] === 'string' ? [[name, headers[name]] as const] : [])),
  );
}

async function shortBody(given: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of given as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > MOST_STATUS_BYTES) throw new Error(`an error's text is longer than ${MOST_STATUS_BYTES} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

function parsed(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString('utf8'));
  } catch {
    return undefined;
  }
}

function closed(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
}
