// A client of one model's service, over a Unix socket or HTTP: readiness, metadata, inference.
import { request as httpRequest, type IncomingMessage, type RequestOptions } from 'node:http';
import { z } from 'zod';
import {
  inferResponse,
  issuesOf,
  modelMetadata,
  type InferRequest,
  type InferResponse,
  type ModelMetadata,
} from './protocol.ts';
import { withSocketAt } from './unix-socket.ts';

export { checkGolden, compareOutputs, type GoldenResult, type GoldenSamples } from './golden.ts';

/** Address of a service: `unix:/path.sock` or `http://127.0.0.1:8000`. */
export interface InferenceAddress {
  readonly address: string;
  readonly name: string;
  /** Maximum size of a response; 64 MiB by default. */
  readonly maxResponseBytes?: number;
  /** Time limit of one call, until the response is complete; 60 s by default. */
  readonly answerWithinMs?: number;
}

export interface InferenceClient {
  /** Whether the model is ready; also false if nothing listens there yet. */
  readonly ready: (signal: AbortSignal) => Promise<boolean>;
  readonly metadata: (signal: AbortSignal) => Promise<ModelMetadata>;
  readonly infer: (request: InferRequest, signal: AbortSignal) => Promise<InferResponse>;
}

/**
 * Why a call failed: `unreachable` (no response), `refused` (4xx: invalid request), `overloaded` (503: retry), `failed` (other
 * 5xx: the model failed), `malformed` (invalid response), `late` (no response in time), `aborted` (by the signal).
 */
export type InferenceFailure = 'unreachable' | 'refused' | 'overloaded' | 'failed' | 'malformed' | 'late' | 'aborted';

/** A failed call to a service. */
export class InferenceError extends Error {
  readonly kind: InferenceFailure;
  readonly status: number | undefined;
  readonly retryAfterSeconds: number | undefined;

  constructor(
    kind: InferenceFailure,
    message: string,
    more: { readonly status?: number; readonly retryAfterSeconds?: number; readonly cause?: unknown } = {},
  ) {
    super(message, { cause: more.cause });
    this.name = 'InferenceError';
    this.kind = kind;
    this.status = more.status;
    this.retryAfterSeconds = more.retryAfterSeconds;
  }
}

const MAX_RESPONSE_BYTES = 64 * 1024 * 1024;
const ANSWER_WITHIN_MS = 60_000;
const errorBody = z.object({ error: z.string() });

/** A client of the model `name` at `address`. Every call ends when its signal aborts or its time limit is exceeded. */
export const createInferenceClient = (given: InferenceAddress): InferenceClient => {
  const { address, name, maxResponseBytes: limit = MAX_RESPONSE_BYTES, answerWithinMs = ANSWER_WITHIN_MS } = given;
  const target = targetOf(address);
  const path = `/v2/models/${encodeURIComponent(name)}`;

  const call = async (method: string, at: string, signal: AbortSignal, body?: string): Promise<Answer> => {
    const late = AbortSignal.timeout(answerWithinMs);
    try {
      const send = (to: RequestOptions): Promise<Answer> =>
        exchange({ ...to, method, path: at, signal: AbortSignal.any([signal, late]) }, body, limit);
      return await (typeof target === 'string'
        ? withSocketAt(target, (socketPath) => send({ socketPath }))
        : send(target));
    } catch (error) {
      if (error instanceof InferenceError) throw error;
      if (signal.aborted)
        throw new InferenceError('aborted', `${method} ${address}${at} was aborted`, { cause: error });
      if (late.aborted)
        throw new InferenceError('late', `no answer within ${answerWithinMs / 1000} s`, { cause: error });
      const reason = error instanceof Error ? error.message : String(error);
      throw new InferenceError('unreachable', `no answer from ${address}: ${reason}`, { cause: error });
    }
  };

  return {
    ready: async (signal) => {
      try {
        return (await call('GET', `${path}/ready`, signal)).status === 200;
      } catch (error) {
        if (error instanceof InferenceError && error.kind === 'unreachable') return false;
        throw error;
      }
    },
    metadata: async (signal) => parseAnswer(modelMetadata, await call('GET', path, signal)),
    infer: async (request, signal) =>
      parseAnswer(inferResponse, await call('POST', `${path}/infer`, signal, JSON.stringify(request))),
  };
};

interface Answer {
  readonly status: number;
  readonly retryAfter: string | undefined;
  readonly body: string;
}

/** The path of a Unix socket, or a host and port. */
const targetOf = (address: string): string | RequestOptions => {
  if (address.startsWith('unix:/')) return address.slice('unix:'.length);
  const url = URL.canParse(address) ? new URL(address) : undefined;
  if (url?.protocol !== 'http:')
    throw new TypeError(`'${address}' is not an address of a service: use unix:/path.sock or http://host:port`);
  return { hostname: url.hostname.replace(/^\[|\]$/g, ''), port: url.port === '' ? 80 : Number(url.port) };
};

const exchange = (options: RequestOptions, body: string | undefined, limit: number): Promise<Answer> =>
  new Promise((resolve, reject) => {
    const headers =
      body === undefined
        ? {}
        : { 'content-type': 'application/json', 'content-length': String(Buffer.byteLength(body)) };
    // Connections are not reused: one that the service has just closed would fail a call before it is sent.
    const sent = httpRequest({ ...options, headers, agent: false }, (response) => {
      readBody(response, limit).then((text) => {
        resolve({ status: response.statusCode ?? 0, retryAfter: response.headers['retry-after'], body: text });
      }, reject);
    });
    // A service that refuses a body early closes the connection during the upload; its response, if any, arrives before the error.
    sent.on('error', reject);
    sent.end(body);
  });

const readBody = async (response: IncomingMessage, limit: number): Promise<string> => {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > limit) {
      response.destroy();
      throw new InferenceError('malformed', `the response exceeds the limit of ${limit} bytes`);
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
};

const parseAnswer = <Schema extends z.ZodType>(schema: Schema, answer: Answer): z.infer<Schema> => {
  const content = json(answer.body);
  if (answer.status !== 200) throw failureOf(answer, content);
  const parsed = schema.safeParse(content);
  if (parsed.success) return parsed.data;
  throw new InferenceError('malformed', `the response does not follow the protocol: ${issuesOf(parsed.error)}`);
};

const json = (text: string): unknown => {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
};

const failureOf = ({ status, retryAfter }: Answer, content: unknown): InferenceError => {
  const parsed = errorBody.safeParse(content);
  const message = parsed.success ? parsed.data.error.slice(0, 1000) : `status ${status}, no reason given`;
  if (status === 503) {
    const seconds = Number(retryAfter ?? '1');
    return new InferenceError('overloaded', message, {
      status,
      retryAfterSeconds: Number.isFinite(seconds) ? seconds : 1,
    });
  }
  if (status >= 400 && status < 500) return new InferenceError('refused', message, { status });
  return new InferenceError(status >= 500 ? 'failed' : 'malformed', message, { status });
};
