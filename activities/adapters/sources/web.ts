// Files by address: an HTTPS URL on an allow-listed host, or a Maven coordinate verified by the checksum files next to it.
import type { Expected, RemoteFile, Source } from '../../../workflows/domain/import.ts';
import { parseCoordinate } from '../../../workflows/domain/import.ts';
import { pathProblem, systemName } from '../../../workflows/domain/names.ts';
import { failure } from '../../failures.ts';
import type { SourceSession } from '../../ports.ts';
import { TryLater } from '../../ports.ts';
import type { Asked, GuardedFetch } from './guarded-fetch.ts';
import { openDownload, textOf } from './guarded-fetch.ts';

/** Strongest first, with the number of hexadecimal digits. */
const algorithms = [
  ['sha512', 128],
  ['sha256', 64],
  ['sha1', 40],
  ['md5', 32],
] as const;
/** A digest and a file name, or an error page. */
const DIGEST_LIMIT = 64 * 1024;

/** Opens a session for a URL. `hosts` lists `host` for port 443, otherwise `host:port`. */
export function httpsSession(
  fetch: GuardedFetch,
  { url }: Extract<Source, { kind: 'https' }>,
  hosts: readonly string[],
  signal: AbortSignal,
): SourceSession {
  const refuse = (at: URL): string | undefined =>
    hosts.includes(at.host)
      ? undefined
      : 'this host is not on the allow-list: ask a manager to add it as an https node of the project, or an administrator to add it for all projects';
  const last = new URL(url).pathname.split('/').at(-1) ?? '';
  const name = pathProblem(last) ? 'download.bin' : last;
  return fileSession(fetch, { name, address: url, expected: null }, { refuse, signal }, async () => ({
    ...{ revision: null, expected: null },
    notes: ['an HTTPS source provides no revision or licence'],
  }));
}

/** Opens a session for the file of a coordinate, verified by the strongest checksum that the repository publishes. */
export function mavenSession(
  fetch: GuardedFetch,
  { coordinate }: Extract<Source, { kind: 'maven' }>,
  repository: string,
  signal: AbortSignal,
): SourceSession {
  const parsed = parseCoordinate(coordinate);
  if (!parsed) throw failure('InvalidInput', `${coordinate} is not a valid Maven coordinate`);
  const { group, artifact, version, classifier, extension } = parsed;
  const name = `${artifact}-${version}${classifier === null ? '' : `-${classifier}`}.${extension}`;
  const address = `${repository}/${group.replaceAll('.', '/')}/${artifact}/${version}/${name}`;
  // Each part of a coordinate may be as long as a whole file name, so the combined name may be too long.
  const stored = pathProblem(name) ? `${systemName(name)}.${extension}` : name;
  const { origin } = new URL(repository);
  const refuse = (at: URL): string | undefined =>
    at.origin === origin
      ? undefined
      : 'the Maven repository redirects to another host: configure that host as the repository';
  return fileSession(fetch, { name: stored, address, expected: null }, { refuse, signal }, async () => {
    const expected = await publishedDigest(fetch, { url: address, refuse, signal });
    const note = expected
      ? `verified by the ${expected.algorithm} that the repository publishes`
      : 'the repository publishes no checksum for this file: its bytes were not verified';
    return { revision: version, expected, notes: [note] };
  });
}

/** A session for one file. */
function fileSession(
  fetch: GuardedFetch,
  file: Pick<RemoteFile, 'name' | 'address' | 'expected'>,
  asked: Omit<Asked, 'url'>,
  describe: () => Promise<{ revision: string | null; expected: Expected | null; notes: readonly string[] }>,
): SourceSession {
  return {
    async resolve() {
      const { revision, expected, notes } = await describe();
      return { revision, licence: null, notes, files: [{ ...file, expected, bytes: null, isFolder: false }] };
    },
    async list() {
      throw failure('InvalidInput', 'HTTPS and Maven sources have no folders');
    },
    open: ({ address }, from) =>
      openDownload(fetch, { ...asked, url: address }, from, (response) => {
        response.destroy();
        throw statusError(response.statusCode, response.headers['retry-after'], address);
      }),
    async close() {},
  };
}

async function publishedDigest(fetch: GuardedFetch, asked: Asked): Promise<Expected | null> {
  for (const [algorithm, digits] of algorithms) {
    const url = `${asked.url}.${algorithm}`;
    const response = await fetch({ ...asked, url });
    if (response.statusCode === 404) {
      response.destroy();
      continue;
    }
    if (response.statusCode !== 200) {
      response.destroy();
      throw statusError(response.statusCode, response.headers['retry-after'], url);
    }
    const text = await textOf(response, DIGEST_LIMIT);
    const digest = text.split(/\s+/).find((word) => word.length === digits && /^[0-9a-f]+$/i.test(word));
    if (digest === undefined) throw failure('Corrupt', `${url} does not contain a ${algorithm} digest`);
    return { algorithm, digest: digest.toLowerCase() };
  }
  return null;
}

function statusError(status: number, retryAfter: string | undefined, url: string): Error {
  const { host, pathname } = new URL(url);
  if (status === 404 || status === 410) return failure('NotFound', `${host} has no ${pathname}`);
  if (status === 401 || status === 403)
    return failure(
      'NotAuthorized',
      `${host} requires credentials for ${pathname}; imports send none: use a public address`,
    );
  if ((status === 429 || status === 503) && /^\d{1,6}$/.test(retryAfter ?? '')) {
    const until = new Date(Date.now() + Number(retryAfter) * 1000).toISOString();
    return new TryLater(`${host} accepts no more requests until ${until}; the import resumes then`, until);
  }
  if (status >= 400 && status < 500 && status !== 408 && status !== 429)
    return failure('InvalidInput', `${host} returned status ${status} for ${pathname}`);
  return new Error(`${host} returned status ${status} for ${pathname}`);
}
