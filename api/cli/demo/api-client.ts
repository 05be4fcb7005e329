// A person's or a program's way to the API: every request with its token, every problem as one sentence.
import { createHash, randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { outcomeAnswerSchema } from './answers.ts';

/** The API takes up to thirty; a step of the demo takes a few. */
const WAIT_SECONDS = 20;
/** A command that takes longer than this hangs. */
const COMMAND_WITHIN_MS = 600_000;
/** How often something is asked about that takes seconds. */
const ASK_EVERY_MS = 300;

const problemSchema = z.looseObject({ detail: z.string() });

/** An answer other than the one hoped for, in the API's own words. */
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
  /** The state the person saw. */
  readonly revision: number;
  readonly digest?: string | null;
  readonly report?: string | null;
};

export type ApiClient = {
  readonly who: string;
  readonly get: <T>(path: string, schema: z.ZodType<T>) => Promise<T>;
  /** As `get`, but `undefined` where there is none. */
  readonly find: <T>(path: string, schema: z.ZodType<T>) => Promise<T | undefined>;
  readonly post: <T>(path: string, body: unknown, schema: z.ZodType<T>) => Promise<T>;
  readonly put: (path: string, body: unknown) => Promise<void>;
  /** Uploads bytes, held to their digest; the same bytes again are harmless. */
  readonly upload: (path: string, bytes: Uint8Array) => Promise<void>;
  /** Gives a command and waits until it is done; returns what the workflow says of it. Throws when it is refused or fails. */
  readonly command: (path: string, command: Command) => Promise<string>;
  /** Asks until `done` says that it is what was waited for. */
  readonly until: <T>(what: string, ask: () => Promise<T>, done: (found: T) => boolean, withinMs: number) => Promise<T>;
};

/** A client that speaks as `who` with its token; every request and wait ends with `signal`. */
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
    const detail = problem.success ? problem.data.detail : 'without a reason';
    throw new ApiProblem(response.status, `${who}: ${method} ${path}: ${response.status}: ${detail}`);
  };
  const json = (method: string, path: string, body?: unknown, headers = {}) =>
    call(method, path, 'application/json', body === undefined ? undefined : JSON.stringify(body), headers);
  const parse = async <T>(response: Response, path: string, schema: z.ZodType<T>): Promise<T> => {
    const parsed = schema.safeParse(await response.json());
    if (parsed.success) return parsed.data;
    throw new Error(`${path} answered something unexpected: ${z.prettifyError(parsed.error)}`);
  };

  const get = async <T>(path: string, schema: z.ZodType<T>): Promise<T> => parse(await json('GET', path), path, schema);
  const until: ApiClient['until'] = async (what, ask, done, withinMs) => {
    const end = Date.now() + withinMs;
    for (;;) {
      const found = await ask();
      if (done(found)) return found;
      if (Date.now() > end) throw new Error(`${what}: not within ${Math.round(withinMs / 1000)} s`);
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
      // Ours, so that sending it again could do nothing twice.
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
        `${who}: ${command.name} ${settled?.status ?? 'unknown'}: ${settled?.message ?? 'without a reason'}`,
      );
    },
  };
}
