// The API of one Kubernetes cluster over HTTPS: requests and streams with the credentials of a kubeconfig or of this pod.
import { Agent, request, type RequestOptions } from 'node:https';
import type { IncomingMessage } from 'node:http';
import type { Readable } from 'node:stream';
import { KubeConfig } from '@kubernetes/client-node';
import { z } from 'zod';
import { messageOf, SystemUnavailable } from '../../failures.ts';

export interface ClusterPlace {
  /** Path of the kubeconfig; without it, the cluster is the one that this process runs in. */
  readonly kubeconfig?: string | undefined;
  /** Context of the kubeconfig; by default its current one. */
  readonly context?: string | undefined;
  /** Folder above the files of this pod's account; by default the root folder. */
  readonly root?: string | undefined;
}

export type Query = Readonly<Record<string, string | number | boolean | undefined>>;
type Method = 'GET' | 'POST' | 'PATCH' | 'DELETE';

export interface KubernetesClient {
  readonly server: string;
  /** The namespace of this process's pod, if the cluster is the one that it runs in. */
  readonly ownNamespace: string | undefined;
  /** The JSON of the answer. Throws `Refused`, or `SystemUnavailable` if the cluster does not answer or refuses the platform. */
  ask(method: Method, path: string, options?: { readonly query?: Query; readonly body?: object }): Promise<unknown>;
  /** An answer that goes on; it fails after `silenceMs` without a byte. */
  stream(path: string, query: Query, options: { signal?: AbortSignal; silenceMs: number }): Promise<IncomingMessage>;
  /** Passes on another program's request with the platform's credentials; the answer may have any status. */
  pass(passed: Passed): Promise<IncomingMessage>;
  /** Number of requests so far. */
  requests(): number;
  close(): void;
}

export interface Passed {
  readonly method: 'GET' | 'POST';
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Readable;
  readonly signal: AbortSignal;
}

/** The cluster refused a request: the object exists, does not exist, is invalid, or the version is too old. */
export class Refused extends Error {
  readonly status: number;
  /** Kubernetes's word for the reason, such as `AlreadyExists`. */
  readonly reason: string;
  constructor(status: number, reason: string, message: string) {
    super(message);
    this.name = 'Refused';
    this.status = status;
    this.reason = reason;
  }
}

export const isRefused = (error: unknown, status: number): boolean =>
  error instanceof Refused && error.status === status;

/** Longer than a busy API server needs for a page of a list. */
const ANSWER_MS = 30_000;
/** A page of 500 jobs has a few megabytes. */
const MOST_BYTES = 64 * 1024 ** 2;

const statusSchema = z.object({ reason: z.string().default(''), message: z.string().default('') });

/** Reads the credentials; connects to nothing. */
export function openClient(place: ClusterPlace): KubernetesClient {
  const config = configOf(place);
  const server = config.getCurrentCluster()?.server ?? '';
  const agent = new Agent({ keepAlive: true });
  const count = { requests: 0 };

  const send = async (method: Method, path: string, given: Sent): Promise<IncomingMessage> => {
    given.signal?.throwIfAborted();
    const url = new URL(server.replace(/\/$/, '') + path);
    for (const [name, value] of Object.entries(given.query ?? {}))
      if (value !== undefined) url.searchParams.set(name, String(value));
    const options: RequestOptions = { method, headers: { Accept: 'application/json' } };
    await config.applyToHTTPSOptions(options);
    // Its agent is new for each request; one with a proxy is kept.
    if (options.agent instanceof Agent && options.agent.constructor === Agent) options.agent = agent;
    const body = given.body === undefined ? undefined : JSON.stringify(given.body);
    if (body !== undefined)
      options.headers = {
        ...options.headers,
        // A merge of fields that this program owns (server-side apply); JSON is valid YAML.
        'Content-Type': method === 'PATCH' ? 'application/apply-patch+yaml' : 'application/json',
        'Content-Length': Buffer.byteLength(body),
      };
    count.requests += 1;
    return new Promise((resolve, reject) => {
      const sent = request(url, { ...options, timeout: given.silenceMs }, resolve);
      // Not by the option `signal`: its listeners stay on a signal that outlives many requests.
      const abort = (): void => void sent.destroy(new Error('aborted'));
      given.signal?.addEventListener('abort', abort, { once: true });
      sent.once('close', () => given.signal?.removeEventListener('abort', abort));
      sent.once('timeout', () => sent.destroy(new Error(`no answer within ${given.silenceMs / 1000} s`)));
      sent.once('error', reject);
      sent.end(body);
    });
  };

  const pass = async ({ method, path, headers, body, signal }: Passed): Promise<IncomingMessage> => {
    const options: RequestOptions = { method, headers: { ...headers } };
    // Its agent keeps no connections: one that the server has just closed would fail a request that must not be sent twice.
    await config.applyToHTTPSOptions(options);
    count.requests += 1;
    return new Promise((resolve, reject) => {
      const sent = request(new URL(server.replace(/\/$/, '') + path), { ...options, signal }, resolve);
      sent.once('error', reject);
      body.once('error', (error) => sent.destroy(error));
      body.pipe(sent);
    });
  };

  const opened = async (method: Method, path: string, given: Sent): Promise<IncomingMessage> => {
    try {
      const response = await send(method, path, given);
      const status = response.statusCode ?? 0;
      if (status >= 200 && status < 300) return response;
      throw refusal(status, `${method} ${path}`, await textOf(response));
    } catch (error) {
      given.signal?.throwIfAborted();
      throw error instanceof Refused || error instanceof SystemUnavailable ? error : unreachable(server, error);
    }
  };

  return {
    server,
    ownNamespace:
      place.kubeconfig === undefined ? config.getContextObject(config.currentContext)?.namespace : undefined,
    ask: async (method, path, options = {}) => {
      const response = await opened(method, path, { ...options, silenceMs: ANSWER_MS });
      try {
        return JSON.parse(await textOf(response)) as unknown;
      } catch (error) {
        throw unreachable(server, error);
      }
    },
    pass,
    stream: (path, query, options) => opened('GET', path, { query, ...options }),
    requests: () => count.requests,
    close: () => agent.destroy(),
  };
}

interface Sent {
  readonly query?: Query;
  readonly body?: object;
  readonly signal?: AbortSignal;
  readonly silenceMs: number;
}

function configOf({ kubeconfig, context, root }: ClusterPlace): KubeConfig {
  const config = new KubeConfig();
  if (kubeconfig === undefined) config.loadFromCluster(root);
  else config.loadFromFile(kubeconfig);
  if (context !== undefined) config.setCurrentContext(context);
  if (config.getCurrentCluster() === null) {
    const known = config.getContexts().map(({ name }) => name);
    throw new Error(
      `the kubeconfig ${kubeconfig} has no context ${context ?? config.getCurrentContext()}; it has: ${known.join(', ')}`,
    );
  }
  return config;
}

async function textOf(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > MOST_BYTES) throw new Error(`the answer is longer than ${MOST_BYTES} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function refusal(status: number, what: string, text: string): Refused | SystemUnavailable {
  const said = statusSchema.safeParse(parsed(text)).data;
  const message = `${what} answered ${status}: ${said?.message || text.slice(0, 500)}`;
  const isRight = status === 401 || status === 403;
  if (!isRight && status < 500 && status !== 429) return new Refused(status, said?.reason ?? '', message);
  const reason = isRight
    ? 'the cluster refuses the platform: an operator must grant the rights'
    : 'the cluster is busy';
  return new SystemUnavailable({ system: 'Kubernetes', reason, message, code: String(status) });
}

function unreachable(server: string, cause: unknown): SystemUnavailable {
  const message = `${server}: ${messageOf(cause)}`;
  return new SystemUnavailable({ system: 'Kubernetes', reason: 'the cluster does not answer', message, cause });
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
