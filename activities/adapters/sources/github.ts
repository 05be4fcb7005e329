// GitHub through its REST API: resolves refs and releases, downloads their bytes; handles rate limits, pagination and conditional requests.
import { readFile } from 'node:fs/promises';
import type { IncomingMessage } from 'node:http';
import { z } from 'zod';
import type { RemoteFile, Resolution, Source } from '../../../workflows/domain/import.ts';
import { pathProblem } from '../../../workflows/domain/names.ts';
import { failure } from '../../failures.ts';
import type { SourceSession } from '../../ports.ts';
import { TryLater } from '../../ports.ts';
import type { GuardedFetch } from './guarded-fetch.ts';
import { openDownload, textOf } from './guarded-fetch.ts';

export interface GithubOptions {
  /** Base URL of the REST API, without a trailing slash. */
  readonly apiUrl: string;
  /** File with a token; read for each request, so that the token can be rotated. */
  readonly tokenFile?: string | undefined;
  /** Hosts to which the API may redirect downloads. */
  readonly downloadHosts: readonly string[];
}

type GithubSource = Extract<Source, { kind: 'github' | 'github-release' }>;
type Answer = IncomingMessage & { readonly statusCode: number };

/** A repository description or a page of assets has some tens of kilobytes. */
const JSON_LIMIT = 8 * 2 ** 20;
/** GitHub's recommended wait after a secondary rate limit without further details. */
const SECONDARY_MS = 60_000;
/** Cached responses for conditional requests, which GitHub does not count; about 20 KB each. */
const REMEMBERED = 200;
/** The maximum number of files in a data set. */
const MOST_ASSETS = 500;

const commitSchema = z.object({ sha: z.string().regex(/^[0-9a-f]{40,64}$/) });
const repositorySchema = z.object({ license: z.object({ spdx_id: z.string().nullable() }).nullish() });
const releaseSchema = z.object({ id: z.int() });
const assetsSchema = z.array(
  z.object({
    url: z.url(),
    name: z.string(),
    size: z.int().min(0),
    state: z.string(),
    digest: z.string().nullish(),
  }),
);

/** Creates a client that caches responses across sessions. */
export function createGithub(fetch: GuardedFetch, options: GithubOptions) {
  const remembered = new Map<string, { readonly etag: string; readonly text: string; readonly link: string }>();
  const origin = new URL(options.apiUrl).origin;

  const authorization = async (): Promise<string | undefined> =>
    options.tokenFile === undefined ? undefined : `Bearer ${(await readFile(options.tokenFile, 'utf8')).trim()}`;
  const refuse = (url: URL): string | undefined =>
    url.origin === origin || options.downloadHosts.includes(url.host)
      ? undefined
      : 'not an allowed download host of GitHub';
  const asked = async (url: string, accept: string, signal: AbortSignal) => ({
    ...{ url, refuse, signal, authorization: await authorization() },
    headers: { accept, 'x-github-api-version': '2022-11-28' },
  });

  async function getJson<T>(schema: z.ZodType<T>, url: string, what: string, signal: AbortSignal) {
    const known = remembered.get(url);
    const request = await asked(url, 'application/vnd.github+json', signal);
    const response = await fetch({
      ...request,
      headers: { ...request.headers, ...(known && { 'if-none-match': known.etag }) },
    });
    if (response.statusCode !== 200 && response.statusCode !== 304) await judge(response, what);
    const fresh = response.statusCode === 200;
    const text = fresh || !known ? await textOf(response, JSON_LIMIT) : known.text;
    const link = fresh || !known ? [response.headers.link ?? ''].flat().join(', ') : known.link;
    if (!fresh) response.resume();
    if (fresh && response.headers.etag !== undefined) {
      remembered.delete(url);
      remembered.set(url, { etag: response.headers.etag, text, link });
      for (const oldest of remembered.keys()) if (remembered.size > REMEMBERED) remembered.delete(oldest);
    }
    const parsed = schema.safeParse(jsonOf(text));
    if (!parsed.success) throw failure('Corrupt', `${what}: the response of GitHub does not match its API`);
    const next = /<([^>]+)>;\s*rel="next"/.exec(link)?.[1];
    const isOurs = next !== undefined && URL.canParse(next) && new URL(next).origin === origin;
    return { value: parsed.data, next: isOurs ? next : undefined };
  }

  return (source: GithubSource, signal: AbortSignal): SourceSession => {
    const base = `${options.apiUrl}/repos/${source.repository}`;
    const [, name = ''] = source.repository.split('/');
    const commitOf = async (ref: string): Promise<string> => {
      const path = ref.split('/').map(encodeURIComponent).join('/');
      const found = await getJson(commitSchema, `${base}/commits/${path}`, `${source.repository} at ${ref}`, signal);
      return found.value.sha;
    };

    async function assetsOf(tag: string): Promise<{ files: RemoteFile[]; notes: string[] }> {
      const path = `${base}/releases/tags/${tag.split('/').map(encodeURIComponent).join('/')}`;
      const { value: release } = await getJson(releaseSchema, path, `release ${tag} of ${source.repository}`, signal);
      const [files, notes]: [RemoteFile[], string[]] = [[], []];
      let page: string | undefined = `${base}/releases/${release.id}/assets?per_page=100`;
      while (page !== undefined) {
        const found: { value: z.output<typeof assetsSchema>; next: string | undefined } = await getJson(
          assetsSchema,
          page,
          `assets of ${tag}`,
          signal,
        );
        for (const asset of found.value) {
          const problem = asset.state === 'uploaded' ? pathProblem(asset.name) : 'its upload is incomplete';
          if (problem) notes.push(`skipped the asset "${asset.name.slice(0, 100)}": ${problem}`);
          else files.push(remoteOf(asset));
        }
        if (files.length > MOST_ASSETS)
          throw failure(
            'InvalidInput',
            `release ${tag} has at least ${files.length} assets; a data set can have at most ${MOST_ASSETS} files`,
          );
        page = found.next;
      }
      if (files.length === 0) throw failure('NotFound', `release ${tag} of ${source.repository} has no assets`);
      return { files, notes };
    }

    return {
      async resolve(): Promise<Resolution> {
        const { value } = await getJson(repositorySchema, base, `repository ${source.repository}`, signal);
        const spdx = value.license?.spdx_id ?? null;
        // GitHub's value for an unrecognised licence.
        const licence = spdx === 'NOASSERTION' ? null : spdx;
        const revision = await commitOf(source.kind === 'github' ? source.ref : source.tag);
        if (source.kind === 'github-release') return { revision, licence, ...(await assetsOf(source.tag)) };
        const file: RemoteFile = {
          name: `${validName(name)}-${revision.slice(0, 12)}.tar.gz`,
          address: `${base}/tarball/${revision}`,
          ...{ bytes: null, expected: null, isFolder: false },
        };
        const notes = [
          'GitHub creates this archive on request: the commit is fixed, but the compressed bytes can vary',
        ];
        return { revision, licence, files: [file], notes };
      },
      async list() {
        throw failure('InvalidInput', 'GitHub provides a tree only as one archive');
      },
      async open(file, from) {
        const accept = source.kind === 'github' ? 'application/vnd.github+json' : 'application/octet-stream';
        const request = await asked(file.address, accept, signal);
        return openDownload(fetch, request, from, (response) => judge(response, file.name));
      },
      async close() {},
    };
  };
}

function remoteOf(asset: z.output<typeof assetsSchema>[number]): RemoteFile {
  const digest = /^sha256:([0-9a-f]{64})$/.exec(asset.digest ?? '')?.[1];
  return {
    name: asset.name,
    address: asset.url,
    bytes: asset.size,
    expected: digest === undefined ? null : { algorithm: 'sha256', digest },
    isFolder: false,
  };
}

/** Throws the failure for a response without the file. Retryable, unless someone must change something. */
async function judge(response: Answer, what: string): Promise<never> {
  const { statusCode, headers } = response;
  const message = refusalIn(await textOf(response, JSON_LIMIT));
  if (statusCode === 403 || statusCode === 429) {
    const after = Number(headers['retry-after']);
    const reset = headers['x-ratelimit-remaining'] === '0' ? Number(headers['x-ratelimit-reset']) * 1000 : NaN;
    const until = Number.isFinite(after) && headers['retry-after'] !== undefined ? Date.now() + after * 1000 : reset;
    if (Number.isFinite(until)) throw limited(until);
    if (statusCode === 429 || /rate limit/i.test(message)) throw limited(Date.now() + SECONDARY_MS);
    throw failure('NotAuthorized', `${what}: GitHub denies access (${message})`);
  }
  if (statusCode === 401)
    throw failure('NotAuthorized', 'GitHub rejects the token: put a valid token into the token file');
  if (statusCode === 404 || statusCode === 410 || statusCode === 422)
    throw failure('NotFound', `${what}: not found on GitHub, or the configured token has no access to it (${message})`);
  if (statusCode === 409 || statusCode === 451) throw failure('NotFound', `${what}: ${message}`);
  throw new Error(`GitHub returned status ${statusCode} for ${what}: ${message}`);
}

/** An import is retried for a day. */
const LONGEST_WAIT_MS = 86_400_000;

const limited = (until: number): TryLater => {
  const at = new Date(Math.min(until, Date.now() + LONGEST_WAIT_MS)).toISOString();
  return new TryLater(`GitHub's rate limit is reached until ${at}; the import resumes then`, at);
};

function refusalIn(text: string): string {
  const parsed = z.object({ message: z.string() }).safeParse(jsonOf(text));
  return parsed.success ? parsed.data.message.slice(0, 200) : 'no message';
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

/** Removes leading dots and hyphens, which GitHub allows in names. */
const validName = (name: string): string => (pathProblem(name) ? name.replace(/^[.-]+/, '') || 'repository' : name);
