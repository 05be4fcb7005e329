// Sends stored bytes: digest, entity tag and ranges in the headers, the bytes as a stream; and reads a digest header.
import { isFailure } from '../activities/failures.ts';
import type { ArtifactStore, WriteOptions } from '../activities/ports.ts';
import type { Artifact } from '../workflows/domain/model.ts';
import type { ArtifactUri, Digest, StorePath } from '../workflows/domain/names.ts';
import type { ApiDeps } from './deps.ts';
import { notFound, problem } from './problems.ts';

/** RFC 9530: a dictionary of which the member `sha-256` counts. */
export function declaredDigest(request: Request): Digest | undefined {
  const header = request.headers.get('repr-digest');
  if (header === null) return undefined;
  const member = header
    .split(',')
    .map((part) => part.trim())
    .find((part) => part.startsWith('sha-256='));
  const base64 = /^sha-256=:([A-Za-z0-9+/]{43}=):$/.exec(member ?? '')?.[1];
  if (base64 === undefined)
    throw problem(400, 'invalid', 'Repr-Digest: expected "sha-256=:<base64 of the 32 bytes>:" (RFC 9530)');
  return Buffer.from(base64, 'base64').toString('hex') as Digest;
}

/** The two headers by which whoever holds the bytes can tell that they are these. */
export const digestHeaders = (sha256: Digest): Record<string, string> => ({
  'repr-digest': `sha-256=:${Buffer.from(sha256, 'hex').toString('base64')}:`,
  etag: `"${sha256}"`,
});

/** The store that made a URI: an artifact may lie in an area or be released already. */
export function storeOf({ areas, releases }: Pick<ApiDeps, 'areas' | 'releases'>, uri: ArtifactUri): ArtifactStore {
  try {
    areas.path(uri);
    return areas;
  } catch {
    return releases;
  }
}

/** Answers GET and HEAD of stored bytes. `sha256` is asked of the store when it is not on record. */
export async function sendBytes(
  store: ArtifactStore,
  uri: ArtifactUri,
  request: Request,
  what: string,
  recorded?: Digest,
): Promise<Response> {
  const stored = await store.stat(uri);
  if (!stored) throw notFound(what);
  const sha256 = recorded ?? (await store.digest(uri, request.signal));
  const headers: Record<string, string> = {
    ...digestHeaders(sha256),
    'accept-ranges': 'bytes',
    'content-type': 'application/octet-stream',
    // Uploaded by people and shown by nobody: never a page in this origin.
    'content-disposition': 'attachment',
    'x-content-type-options': 'nosniff',
    'cache-control': 'private, no-cache',
  };
  if (tagsOf(request.headers.get('if-none-match')).some((tag) => tag === '*' || tag === headers['etag']))
    return new Response(null, { status: 304, headers });
  const range = rangeOf(request, stored.bytes, headers['etag']);
  if (range === 'unsatisfiable')
    throw problem(416, 'range', `there are ${stored.bytes} bytes`, {}, { 'content-range': `bytes */${stored.bytes}` });
  const { start, end } = range ?? { start: 0, end: stored.bytes };
  headers['content-length'] = String(end - start);
  if (range) headers['content-range'] = `bytes ${start}-${end - 1}/${stored.bytes}`;
  const status = range ? 206 : 200;
  if (request.method === 'HEAD') return new Response(null, { status, headers });
  const bytes = await store.read(uri, { ...(range && { range }), signal: request.signal });
  return new Response(ReadableStream.from(bytes), { status, headers });
}

/** Streams bytes into a store; what it refuses is said in the caller's words: the store knows of folders they never saw. */
export async function storeBytes(
  store: ArtifactStore,
  path: StorePath,
  shown: string,
  source: AsyncIterable<Uint8Array>,
  options: WriteOptions,
): Promise<Artifact> {
  try {
    return await store.write(path, source, options);
  } catch (error) {
    if (isFailure(error, 'Conflict'))
      throw problem(
        409,
        'conflict',
        `"${shown}" is taken by other bytes or by a folder: replace it or choose another path`,
      );
    if (isFailure(error, 'DigestMismatch'))
      throw problem(400, 'digest-mismatch', `"${shown}": the bytes that came are not those that were announced`);
    throw error;
  }
}

const tagsOf = (header: string | null): readonly string[] =>
  (header ?? '').split(',').map((tag) => tag.trim().replace(/^W\//, ''));

/** One range of bytes, `end` exclusive; anything else than one is answered with the whole, as RFC 9110 allows. */
function rangeOf(request: Request, bytes: number, etag: string | undefined) {
  const header = request.headers.get('range');
  const onlyIf = request.headers.get('if-range');
  if (header === null || (onlyIf !== null && onlyIf !== etag)) return undefined;
  const [, first = '', last = ''] = /^bytes=(\d{0,15})-(\d{0,15})$/.exec(header.trim()) ?? [];
  if (first === '' && last === '') return undefined;
  const start = first === '' ? Math.max(0, bytes - Number(last)) : Number(first);
  const end = first === '' || last === '' ? bytes : Math.min(bytes, Number(last) + 1);
  return start < end ? { start, end } : ('unsatisfiable' as const);
}
