// Sends stored bytes as a checked stream, with digest, entity tag and ranges in the headers; parses digest headers.
import { createHash } from 'node:crypto';
import { createChunkHasher } from '../activities/chunk-digests.ts';
import { isFailure } from '../activities/failures.ts';
import type { ArtifactStore, StoredFile, WriteOptions } from '../activities/ports.ts';
import { CHUNK_BYTES } from '../activities/records.ts';
import type { Artifact } from '../workflows/domain/model.ts';
import type { ArtifactUri, Digest, StorePath } from '../workflows/domain/names.ts';
import { createRanges, wholeFile, WrongBytes } from './checked-bytes.ts';
import type { ApiDeps } from './deps.ts';
import type { Problem } from './problems.ts';
import { notFound, problem } from './problems.ts';

/** RFC 9530: a dictionary, of which only the member `sha-256` is used. */
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

/** Headers with which the receiver can verify the bytes. */
export const digestHeaders = (sha256: Digest): Record<string, string> => ({
  'repr-digest': `sha-256=:${Buffer.from(sha256, 'hex').toString('base64')}:`,
  etag: `"${sha256}"`,
});

/** The store that a URI belongs to. An artifact may be in an area or already released. */
export function storeOf({ areas, releases }: Pick<ApiDeps, 'areas' | 'releases'>, uri: ArtifactUri): ArtifactStore {
  try {
    areas.path(uri);
    return areas;
  } catch {
    return releases;
  }
}

/** The requested file: the request, its name in error messages, and its content type. */
interface Wanted {
  readonly request: Request;
  readonly what: string;
  readonly contentType?: string;
}

/** Answers GET and HEAD for stored bytes. Only checked bytes are sent, and a wrong file is never sent completely. */
export interface SendBytes {
  /** Sends a file that is on record. A mismatch with the record is the platform's own error. */
  recorded(file: Artifact, wanted: Wanted): Promise<Response>;
  /** Sends a file that a person addresses by path: its current content. */
  named(uri: ArtifactUri, wanted: Wanted): Promise<Response>;
}

/**
 * Creates the only function that sends stored bytes to callers. `onFault` is called for each file that differs from its
 * record.
 */
export function createSendBytes(
  deps: Pick<ApiDeps, 'areas' | 'releases' | 'records' | 'log'>,
  onFault: (kind: 'mismatch' | 'missing') => void,
): SendBytes {
  const { areas, records, log } = deps;
  const onWarn = (message: string): void => log.warn(message);
  const rangeOfFile = createRanges(records, onWarn);

  function fault(kind: 'mismatch' | 'missing', { uri, sha256 }: Artifact, found: string): Problem {
    onFault(kind);
    log.error({ uri, expected: sha256, found }, `stored bytes are ${kind === 'missing' ? 'missing' : 'wrong'}: ${uri}`);
    records
      .recordByteFault({ uri, expected: sha256, found, at: new Date().toISOString() })
      .catch((error: unknown) => onWarn(`the fault of ${uri} is not recorded: ${String(error)}`));
    const again = 'the fault is recorded: ask the operator of the platform to restore the file';
    return kind === 'missing'
      ? problem(502, 'missing', `the file is recorded, but missing in its store; ${again}`)
      : problem(502, 'digest-mismatch', `the stored bytes do not match the recorded digest and are not sent; ${again}`);
  }

  /**
   * Starts the stream. The first bytes are read and checked before this returns, so that an error can still change the
   * answer.
   */
  async function begun(file: Artifact, part: Part | undefined, { signal }: Request, onWrong: OnWrong) {
    const store = storeOf(deps, file.uri);
    const reportingFaults = async function* (bytes: AsyncIterable<Uint8Array>) {
      try {
        yield* bytes;
      } catch (error) {
        if (signal.aborted) throw error;
        if (error instanceof WrongBytes) throw onWrong('mismatch', file, error.message);
        if (isFailure(error, 'NotFound')) throw onWrong('missing', file, 'nothing');
        log.warn({ err: error, uri: file.uri }, 'reading stored bytes failed');
        throw error;
      }
    };
    const bytes = reportingFaults(
      part ? rangeOfFile(store, file, part, signal) : wholeFile(readAll(store, file.uri, signal), file),
    );
    const first = await bytes.next();
    const end = async () => bytes.return();
    // If the client left before the response began, nothing else ends the read. An aborted signal calls no new listener.
    const onAbort = (): void => void end().catch(() => undefined);
    if (signal.aborted) onAbort();
    else signal.addEventListener('abort', onAbort, { once: true });
    return startingWith(first, bytes, end);
  }

  async function send(file: Artifact, { request, contentType }: Wanted, onWrong: OnWrong): Promise<Response> {
    const headers: Record<string, string> = {
      ...digestHeaders(file.sha256),
      'accept-ranges': 'bytes',
      'content-type': contentType ?? 'application/octet-stream',
      // Uploaded content must never be rendered as a page of this origin.
      'content-disposition': 'attachment',
      'x-content-type-options': 'nosniff',
      'cache-control': 'private, no-cache',
    };
    const only = request.headers.get('if-match')?.split(',') ?? ['*'];
    if (!only.some((tag) => tag.trim() === '*' || tag.trim() === headers['etag']))
      throw problem(412, 'precondition', `If-Match: the file has the entity tag ${headers['etag']}`);
    if (tagsOf(request.headers.get('if-none-match')).some((tag) => tag === '*' || tag === headers['etag']))
      return new Response(null, { status: 304, headers });
    const range = rangeOf(request, file.bytes, headers['etag']);
    if (range === 'unsatisfiable')
      throw problem(416, 'range', `the file has ${file.bytes} bytes`, {}, { 'content-range': `bytes */${file.bytes}` });
    const { start, end } = range ?? { start: 0, end: file.bytes };
    headers['content-length'] = String(end - start);
    if (range) headers['content-range'] = `bytes ${start}-${end - 1}/${file.bytes}`;
    const status = range ? 206 : 200;
    if (request.method === 'HEAD') return new Response(null, { status, headers });
    return new Response(ReadableStream.from(await begun(file, range, request, onWrong)), { status, headers });
  }

  /** The digest of a file's current content: the stored digest if the file is unchanged, otherwise computed in one read. */
  async function described(stored: StoredFile, signal: AbortSignal): Promise<Artifact> {
    const { uri, bytes, modifiedAt } = stored;
    const kept = await records.fileDigest(uri);
    if (kept?.bytes === bytes && kept.modifiedAt === modifiedAt) return { uri, bytes, sha256: kept.sha256 };
    const [hash, chunks] = [createHash('sha256'), createChunkHasher()];
    for await (const piece of await areas.read(uri, { signal })) {
      hash.update(piece);
      chunks.update(piece);
    }
    const found = { uri, bytes: chunks.bytes(), sha256: hash.digest('hex') as Digest };
    if (found.bytes > CHUNK_BYTES) await records.keepChunkDigests(found.sha256, chunks.digests());
    // If the file was replaced meanwhile, its time or size differs and the next lookup computes the digest again.
    await records.keepFileDigest({ ...found, modifiedAt });
    return found;
  }

  return {
    async recorded(file, wanted) {
      const stored = await storeOf(deps, file.uri).stat(file.uri);
      if (!stored) throw fault('missing', file, 'nothing');
      if (stored.bytes !== file.bytes)
        throw fault('mismatch', file, `${stored.bytes} bytes instead of ${file.bytes} (digest not computed)`);
      return send(file, wanted, fault);
    },
    async named(uri, wanted) {
      const stored = await areas.stat(uri);
      if (!stored) throw notFound(wanted.what);
      const file = await described(stored, wanted.request.signal);
      return send(file, wanted, (kind) => {
        if (kind === 'missing') return notFound(wanted.what);
        // Someone with write access changed the file in place, so the stored digest is stale.
        records
          .keepFileDigest({ ...file, modifiedAt: '' })
          .catch((error: unknown) => onWarn(`the outdated digest of ${uri} could not be removed: ${String(error)}`));
        return problem(503, 'changed', `${wanted.what} was changed while it was read`, {}, { 'retry-after': '1' });
      });
    },
  };
}

/**
 * An iterator whose first step has already been taken. It is not a generator, because a generator that is ended before
 * its first step would not end its source. An error in it destroys the connection, so that a truncated file is not taken
 * for a complete one.
 */
function startingWith<T>(first: IteratorResult<T>, rest: AsyncIterator<T>, end: () => Promise<unknown>) {
  const steps = [first];
  return {
    [Symbol.asyncIterator]: (): AsyncIterator<T> => ({
      next: async () => steps.shift() ?? rest.next(),
      async return() {
        await end();
        return { done: true, value: undefined };
      },
    }),
  };
}

async function* readAll(store: ArtifactStore, uri: ArtifactUri, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  yield* await store.read(uri, { signal });
}

interface Part {
  readonly start: number;
  readonly end: number;
}
type OnWrong = (kind: 'mismatch' | 'missing', file: Artifact, found: string) => Problem;

/** Streams bytes into a store. Rewords the store's errors, because they mention folders that the caller never saw. */
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
        `"${shown}" already exists with other bytes or as a folder: replace it or choose another path`,
      );
    if (isFailure(error, 'DigestMismatch')) throw digestMismatch(shown);
    throw error;
  }
}

export const digestMismatch = (shown: string): Problem =>
  problem(400, 'digest-mismatch', `"${shown}": the received bytes do not match the announced digest or length`);

const tagsOf = (header: string | null): readonly string[] =>
  (header ?? '').split(',').map((tag) => tag.trim().replace(/^W\//, ''));

/** A single byte range, `end` exclusive. Other requests get the whole file, as RFC 9110 allows. */
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
