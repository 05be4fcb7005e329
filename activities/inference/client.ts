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

export { checkGolden, compareOutputs, type GoldenResult, type GoldenSamples } from './golden.ts';

/** Where a service listens: `unix:/path.sock` or `http://127.0.0.1:8000`. */
export interface InferenceAddress {
  readonly address: string;
  readonly name: string;
  /** Largest response that is read; 64 MiB unless given. */
  readonly maxResponseBytes?: number;
  /** Longest time that one call waits for its whole answer; 60 s unless given. */
  readonly answerWithinMs?: number;
}

export interface InferenceClient {
  /** Whether the model answers; false also when nothing listens there (yet). */
  readonly ready: (signal: AbortSignal) => Promise<boolean>;
  readonly metadata: (signal: AbortSignal) => Promise<ModelMetadata>;
  readonly infer: (request: InferRequest, signal: AbortSignal) => Promise<InferResponse>;
}

/**
 * Why a call failed: `unreachable` (nothing answered), `refused` (4xx: the request is at fault), `overloaded` (503: try
 * again), `failed` (other 5xx: the model is at fault), `malformed` (no valid answer), `late` (no answer in time), `aborted` (by the
 * signal).
 */
export type InferenceFailure = 'unreachable' | 'refused' | 'overloaded' | 'failed' | 'malformed' | 'late' | 'aborted';

/** A call to a service that did not give its answer. */
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

/** A client of the model `name` at `address`. Every call ends with its signal, or when its time is over. */
export const createInferenceClient = (given: InferenceAddress): InferenceClient => {
  const { address, name, maxResponseBytes: limit = MAX_RESPONSE_BYTES, answerWithinMs = ANSWER_WITHIN_MS } = given;
  const target = targetOf(address);
  const path = `/v2/models/${encodeURIComponent(name)}`;

  const call = async (method: string, at: string, signal: AbortSignal, body?: string): Promise<Answer> => {
    const late = AbortSignal.timeout(answerWithinMs);
    try {
      return await exchange({ ...target, method, path: at, signal: AbortSignal.any([signal, late]) }, body, limit);
    } catch (error) {
      if (error instanceof InferenceError) throw error;
      if (signal.aborted)
        throw new InferenceError('aborted', `${method} ${address}${at} was given up`, { cause: error });
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

const targetOf = (address: string): RequestOptions => {
  if (address.startsWith('unix:/')) return { socketPath: address.slice('unix:'.length) };
  const url = URL.canParse(address) ? new URL(address) : undefined;
  if (url?.protocol !== 'http:')
    throw new TypeError(`'${address}' is no address of a service: give unix:/path.sock or http://host:port`);
  return { hostname: url.hostname.replace(/^\[|\]$/g, ''), port: url.port === '' ? 80 : Number(url.port) };
};

const exchange = (options: RequestOptions, body: string | undefined, limit: number): Promise<Answer> =>
  new Promise((resolve, reject) => {
    const headers =
      body === undefined
        ? {}
        : { 'content-type': 'application/json', 'content-length': String(Buffer.byteLength(body)) };
    // No connection is kept: one that the service has just closed would fail a call that was never sent.
    const sent = httpRequest({ ...options, headers, agent: false }, (response) => {
      readBody(response, limit).then((text) => {
        resolve({ status: response.statusCode ?? 0, retryAfter: response.headers['retry-after'], body: text });
      }, reject);
    });
    // A service that refuses a body early closes while it is still sent: its answer, if there is one, came first.
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
      throw new InferenceError('malformed', `the response is over the limit of ${limit} bytes`);
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
  const message = parsed.success ? parsed.data.error.slice(0, 1000) : `status ${status} without a reason`;
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
