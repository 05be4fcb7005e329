// An API client for one person or program: sends its token with every request and turns problems into one-line errors.
import { createHash, randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { outcomeAnswerSchema } from './answers.ts';

/** The API allows up to thirty; a step of the demo takes a few. */
const WAIT_SECONDS = 20;
/** A command that takes longer counts as hanging. */
const COMMAND_WITHIN_MS = 600_000;
/** Polling interval for operations that take seconds. */
const ASK_EVERY_MS = 300;

const problemSchema = z.looseObject({ detail: z.string() });

/** An error response, with the API's message. */
export class ApiProblem extends Error {
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.name = 'ApiProblem';
    this.status = status;
  }
}

export type Command = {
  readonly name: string;
  readonly args?: Readonly<Record<string, unknown>>;
  /** The revision that the person saw. */
  readonly revision: number;
  readonly digest?: string | null;
  readonly report?: string | null;
};

export type ApiClient = {
  readonly who: string;
  readonly get: <T>(path: string, schema: z.ZodType<T>) => Promise<T>;
  /** Like `get`, but returns `undefined` if nothing is found. */
  readonly find: <T>(path: string, schema: z.ZodType<T>) => Promise<T | undefined>;
  readonly post: <T>(path: string, body: unknown, schema: z.ZodType<T>) => Promise<T>;
  readonly put: (path: string, body: unknown) => Promise<void>;
  /** Uploads bytes, verified by digest; idempotent for the same bytes. */
  readonly upload: (path: string, bytes: Uint8Array) => Promise<void>;
  /** Sends a command and waits until it is done; returns the workflow's message. Throws if it is refused or fails. */
  readonly command: (path: string, command: Command) => Promise<string>;
  /** Polls until `done` returns true. */
  readonly until: <T>(what: string, ask: () => Promise<T>, done: (found: T) => boolean, withinMs: number) => Promise<T>;
};

/** A client that acts as `who` with its token; `signal` aborts every request and wait. */
export function createApiClient(given: {
  readonly api: string;
  readonly who: string;
  readonly token: string;
  readonly signal: AbortSignal;
}): ApiClient {
  const { api, who, token, signal } = given;

  const call = async (method: string, path: string, type: string, body?: string | Uint8Array, more = {}) => {
    const headers: Record<string, string> = { authorization: `Bearer ${token}`, ...more };
    if (body !== undefined) headers['content-type'] = type;
    const bytes = typeof body === 'string' || body === undefined ? body : new Uint8Array(body);
    const sent = { method, headers, signal, ...(bytes !== undefined && { body: bytes }) };
    const response = await fetch(new URL(path, api), sent).catch((error: unknown) => {
      signal.throwIfAborted();
      throw new Error(`${who}: ${method} ${path}: no answer from ${api}`, { cause: error });
    });
    if (response.ok) return response;
    const problem = problemSchema.safeParse(await response.json().catch(() => undefined));
    const detail = problem.success ? problem.data.detail : 'no reason given';
    throw new ApiProblem(response.status, `${who}: ${method} ${path}: ${response.status}: ${detail}`);
  };
  const json = (method: string, path: string, body?: unknown, headers = {}) =>
    call(method, path, 'application/json', body === undefined ? undefined : JSON.stringify(body), headers);
  const parse = async <T>(response: Response, path: string, schema: z.ZodType<T>): Promise<T> => {
    const parsed = schema.safeParse(await response.json());
    if (parsed.success) return parsed.data;
    throw new Error(`${path} returned an unexpected response: ${z.prettifyError(parsed.error)}`);
  };

  const get = async <T>(path: string, schema: z.ZodType<T>): Promise<T> => parse(await json('GET', path), path, schema);
  const until: ApiClient['until'] = async (what, ask, done, withinMs) => {
    const end = Date.now() + withinMs;
    for (;;) {
      const found = await ask();
      if (done(found)) return found;
      if (Date.now() > end) throw new Error(`${what}: not done within ${Math.round(withinMs / 1000)} s`);
      await sleep(ASK_EVERY_MS, undefined, { signal });
    }
  };

  return {
    who,
    get,
    until,
    find: async (path, schema) => {
      try {
        return await get(path, schema);
      } catch (error) {
        if (error instanceof ApiProblem && error.status === 404) return undefined;
        throw error;
      }
    },
    post: async (path, body, schema) => parse(await json('POST', path, body), path, schema),
    put: async (path, body) => void (await (await json('PUT', path, body)).arrayBuffer()),
    upload: async (path, bytes) => {
      const digest = { 'repr-digest': `sha-256=:${createHash('sha256').update(bytes).digest('base64')}:` };
      await (await call('PUT', path, 'application/octet-stream', bytes, digest)).arrayBuffer();
    },
    command: async (path, command) => {
      // Our own id, so that a retry has no second effect.
      const body = { ...command, commandId: randomUUID() };
      const first = await json('POST', path, body, { prefer: `wait=${WAIT_SECONDS}` });
      const { address, outcome } = await parse(first, path, outcomeAnswerSchema);
      const pending = (status: string | undefined): boolean => status === undefined || status === 'accepted';
      const ask = async () => (await get(address, outcomeAnswerSchema)).outcome;
      const settled = pending(outcome?.status)
        ? await until(`${who}: ${command.name}`, ask, (found) => !pending(found?.status), COMMAND_WITHIN_MS)
        : outcome;
      if (settled?.status === 'done') return settled.message;
      throw new Error(
        `${who}: ${command.name} ${settled?.status ?? 'unknown'}: ${settled?.message ?? 'no reason given'}`,
      );
    },
  };
}
