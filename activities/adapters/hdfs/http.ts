// HTTP for WebHDFS: requests, and streams in both directions with back pressure and a timeout for silent servers.
import http, { type ClientRequest, type IncomingMessage } from 'node:http';
import https from 'node:https';
import { text } from 'node:stream/consumers';

export interface Answer {
  readonly status: number;
  /** Parsed JSON, or the text itself if it is not JSON. */
  readonly body: unknown;
}

export interface Http {
  readonly agentOf: (url: URL) => http.Agent;
  readonly ask: (method: 'GET' | 'PUT', url: URL, signal?: AbortSignal) => Promise<Answer>;
  /** Streams bytes to the address. Errors of `chunks` are rethrown unchanged. */
  readonly send: (
    url: URL,
    chunks: AsyncIterable<Uint8Array>,
    options: { readonly bytes?: number; readonly signal?: AbortSignal },
  ) => Promise<Answer>;
  /** The bytes at the address, or an error response. */
  readonly receive: (url: URL, signal?: AbortSignal) => Promise<Answer | { readonly bytes: AsyncIterable<Uint8Array> }>;
  readonly close: () => void;
}

/** Shorter than a server's keep-alive (Jetty: 10 s or more), so that no connection is used that the server just closed. */
const KEEP_ALIVE_MS = 4000;

/** A broken or silent connection, in contrast to an error of the bytes' own source. */
export class ConnectionError extends Error {}

/** `silenceMs`: timeout for a server that sends or accepts nothing. A slow source or reader on our side does not count. */
export function createHttp(silenceMs: number): Http {
  const agents = {
    'http:': new http.Agent({ keepAlive: true, timeout: KEEP_ALIVE_MS }),
    'https:': new https.Agent({ keepAlive: true, timeout: KEEP_ALIVE_MS }),
  };
  const agentOf = (url: URL): http.Agent => agents[url.protocol === 'https:' ? 'https:' : 'http:'];

  /** Waits for the other side, up to the timeout. */
  function heard<T>(request: ClientRequest, work: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        reject(new Error(`silent for ${silenceMs} ms`));
        request.destroy();
      }, silenceMs);
      work.then(resolve, reject).finally(() => clearTimeout(timer));
    });
  }

  function begin(method: string, url: URL, signal: AbortSignal | undefined, headers: Record<string, string> = {}) {
    const module = url.protocol === 'https:' ? https : http;
    const request = module.request(url, { method, agent: agentOf(url), headers, ...(signal && { signal }) });
    const answered = new Promise<IncomingMessage>((resolve, reject) => {
      request.once('response', resolve);
      // Permanent listener: more errors may follow the first.
      request.on('error', reject);
    });
    answered.catch(() => undefined);
    return { request, answered };
  }

  async function answerOf(request: ClientRequest, response: IncomingMessage): Promise<Answer> {
    const said = await heard(request, text(response));
    return { status: response.statusCode ?? 0, body: jsonOf(said) };
  }

  return {
    agentOf,
    async ask(method, url, signal) {
      const { request, answered } = begin(method, url, signal);
      return connected(url, signal, async () => {
        request.end();
        return answerOf(request, await heard(request, answered));
      });
    },
    async send(url, chunks, { bytes, signal }) {
      const headers = { 'content-type': 'application/octet-stream' };
      const { request, answered } = begin('PUT', url, signal, {
        ...headers,
        ...(bytes !== undefined && { 'content-length': String(bytes) }),
      });
      let response: IncomingMessage | undefined;
      answered.then((early) => (response = early)).catch(() => undefined);
      let full: Promise<void> | undefined;
      try {
        // Fetches and hashes the next chunk while this one is being sent; no third chunk is fetched before this one is accepted.
        for await (const chunk of chunks) {
          const taken = full;
          if (taken) await connected(url, signal, () => heard(request, taken));
          // The server responds before the end only to refuse.
          if (response || request.destroyed) break;
          full = request.write(chunk) ? undefined : drained(request);
        }
        return await connected(url, signal, async () => {
          if (!response) request.end();
          return answerOf(request, await heard(request, answered));
        });
      } finally {
        // After a response nothing more needs to be sent; after a failure nothing more may be sent.
        request.destroy();
      }
    },
    async receive(url, signal) {
      const { request, answered } = begin('GET', url, signal);
      request.end();
      const response = await connected(url, signal, () => heard(request, answered));
      if (response.statusCode !== 200) return connected(url, signal, () => answerOf(request, response));
      const chunks: AsyncIterator<Uint8Array> = response[Symbol.asyncIterator]();
      const next = () => connected(url, signal, () => heard(request, chunks.next()));
      return {
        bytes: (async function* () {
          try {
            for (let part = await next(); !part.done; part = await next()) yield part.value;
          } finally {
            request.destroy();
          }
        })(),
      };
    },
    close: () => {
      for (const agent of Object.values(agents)) agent.destroy();
    },
  };
}

/** Connection errors as `ConnectionError`; an abort as its own reason. */
async function connected<T>(url: URL, signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    signal?.throwIfAborted();
    throw new ConnectionError(`${url.origin}: ${String(error).replace(/^Error: /, '')}`, { cause: error });
  }
}

/** Resolves when more bytes are accepted, the response has arrived, or the connection broke. */
function drained(request: ClientRequest): Promise<void> {
  const events = ['drain', 'response', 'close'];
  return new Promise((resolve) => {
    const done = (): void => {
      for (const event of events) request.off(event, done);
      resolve();
    };
    for (const event of events) request.once(event, done);
  });
}

function jsonOf(said: string): unknown {
  try {
    return said === '' ? undefined : JSON.parse(said);
  } catch {
    return said;
  }
}
