// Reads request bodies: JSON with limits on size and depth, or a byte stream with a size limit.
import type { IncomingMessage } from 'node:http';
import { jsonProblem, type JsonPath } from '../workflows/domain/json-text.ts';
import { problem } from './problems.ts';

/** Deeper than any valid body, and shallow enough that recursive code does not overflow the stack. */
const DEPTH_LIMIT = 16;

/**
 * Parses a JSON body. Requires the JSON content type, which a web page's form cannot send. Refuses what parsing would lose:
 * names given twice and, where `isExact` says so, numbers that would change.
 */
export async function readJson(
  request: Request,
  limit: number,
  isExact?: (path: JsonPath) => boolean,
): Promise<unknown> {
  requireType(request, 'application/json');
  const chunks: Uint8Array[] = [];
  for await (const chunk of countedBody(request, limit)) chunks.push(chunk);
  const text = decode(Buffer.concat(chunks));
  if (text.trim() === '') return {};
  if (depthOf(text) > DEPTH_LIMIT) throw problem(400, 'invalid', `body: nested deeper than ${DEPTH_LIMIT} levels`);
  const value = parse(text);
  refuseLosses(text, isExact);
  refuseUnstorable(value);
  return value;
}

/**
 * The bytes of an upload as a stream; fails with 413 beyond `limit`. Reads Node's own message if there is one: wrapping
 * it in web streams took a fifth of an upload's time (test/bench/README.md).
 */
export function readUpload(request: Request, limit: number, message?: IncomingMessage): AsyncIterable<Uint8Array> {
  requireType(request, 'application/octet-stream');
  // The message stays open on an early end, so that the reason can still be answered.
  return countedBody(request, limit, message?.iterator({ destroyOnReturn: false }));
}

function requireType(request: Request, type: string): void {
  const given = request.headers.get('content-type')?.split(';')[0]?.trim().toLowerCase();
  if (given !== type) throw problem(415, 'content-type', `send the header "Content-Type: ${type}"`);
  const encoding = request.headers.get('content-encoding')?.trim().toLowerCase() ?? 'identity';
  if (encoding !== 'identity')
    throw problem(
      415,
      'content-encoding',
      'Content-Encoding: bodies are taken as they are sent: send the bytes without an encoding, or leave the header out',
    );
  // RFC 9110, 14.4: a part must not be stored as the whole.
  if (request.headers.has('content-range'))
    throw problem(400, 'invalid', 'Content-Range: a body is taken only as a whole: send all of it in one request');
}

function countedBody(request: Request, limit: number, source?: AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array> {
  const declared = Number(request.headers.get('content-length') ?? 0);
  if (declared > limit) throw tooLarge(limit);
  return count(source ?? (request.body as AsyncIterable<Uint8Array> | null), limit);
}

async function* count(source: AsyncIterable<Uint8Array> | null, limit: number): AsyncGenerator<Uint8Array> {
  if (!source) return;
  let bytes = 0;
  for await (const chunk of source) {
    bytes += chunk.byteLength;
    if (bytes > limit) throw tooLarge(limit);
    yield chunk;
  }
}

const tooLarge = (limit: number) => problem(413, 'too-large', `the body exceeds the limit of ${limit} bytes`);

function decode(bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    throw problem(400, 'invalid', 'body: not UTF-8');
  }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw problem(
      400,
      'invalid',
      `body: not JSON (${error instanceof Error ? error.message.slice(0, 100) : 'unreadable'})`,
    );
  }
}

function refuseLosses(text: string, isExact?: (path: JsonPath) => boolean): void {
  const found = jsonProblem(text, isExact);
  if (!found) return;
  const where = ['body', ...found.path].join('.').slice(0, 200);
  const errors = [{ where, message: found.message }];
  throw problem(400, 'invalid', `${where}: ${found.message}`, { errors });
}

/** Nesting depth of brackets outside strings, computed without recursion. */
function depthOf(text: string): number {
  let depth = 0;
  let deepest = 0;
  let inString = false;
  for (let i = 0; i < text.length; i++) {
    const c = text[i];
    if (inString) {
      if (c === '\\') i++;
      else if (c === '"') inString = false;
    } else if (c === '"') inString = true;
    else if (c === '[' || c === '{') deepest = Math.max(deepest, ++depth);
    else if (c === ']' || c === '}') depth--;
  }
  return deepest;
}

/** PostgreSQL text cannot contain NUL, and canonical JSON (which is signed) cannot contain half of a surrogate pair. */
function refuseUnstorable(value: unknown): void {
  if (typeof value === 'string') {
    if (/\0|\p{Surrogate}/u.test(value))
      throw problem(400, 'invalid', 'body: a string contains a NUL or a lone surrogate');
  } else if (Array.isArray(value)) value.forEach(refuseUnstorable);
  else if (typeof value === 'object' && value !== null)
    for (const [key, item] of Object.entries(value)) {
      refuseUnstorable(key);
      refuseUnstorable(item);
    }
}
