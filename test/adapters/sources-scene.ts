// The scene of tests of HTTPS sources: one web server for every host name, and helpers to use the sources.
import { createHash } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { download } from '../../activities/acquisition/download.ts';
import type { GuardOptions } from '../../activities/adapters/sources/guarded-fetch.ts';
import { createSources } from '../../activities/adapters/sources/sources.ts';
import { isFailure } from '../../activities/failures.ts';
import type { Node, Source } from '../../workflows/domain/import.ts';
import { API, CODELOAD } from './github-api.ts';
import type { Site } from './web-server.ts';
import { openSite } from './web-server.ts';

/** Opens the site before a file's tests and closes it after them; gives what they ask with. */
export function useSources() {
  const state: { folder: string; site?: Site } = { folder: '' };
  const site = (): Site => {
    if (!state.site) throw new Error('no site');
    return state.site;
  };
  beforeAll(async () => {
    state.folder = await mkdtemp(join(tmpdir(), 'ocdl-sources-'));
    state.site = await openSite(state.folder);
  });
  afterAll(async () => {
    await state.site?.close();
    await rm(state.folder, { recursive: true, force: true });
  });
  beforeEach(() => {
    site().pages.clear();
    site().asked.length = 0;
  });

  /** The sources, every name resolving to the test's server, which alone is allowed. */
  function open(guard: Partial<GuardOptions> = {}, tokenFile?: string) {
    const { port, ca } = site();
    return createSources({
      guard: {
        ca,
        allowAddresses: [`127.0.0.1:${port}`],
        resolve: async () => ['127.0.0.1'],
        silenceMs: 30_000,
        ...guard,
      },
      github: { apiUrl: site().url(API, ''), tokenFile, downloadHosts: [`${CODELOAD}:${port}`] },
      maven: { url: site().url('data.example.org', '/maven2') },
      https: { hosts: [`data.example.org:${port}`, `127.0.0.1:${port}`, 'inside.example.org'] },
      sftp: { hosts: [], secrets: state.folder, entries: 10 },
    });
  }
  const { signal } = new AbortController();
  const session = (source: Source, sources = open(), nodes: readonly Node[] = []) =>
    sources.connect(source, { project: 'p', nodes, signal });
  const https = (path: string, host = 'data.example.org'): Source => ({ kind: 'https', url: site().url(host, path) });
  const tree: Source = { kind: 'github', repository: 'octo/rows', ref: 'main' };
  const release: Source = { kind: 'github-release', repository: 'octo/rows', tag: 'v1.0' };

  /** Fetches the source's first file into a folder of parts; returns the error if there is one. */
  async function fetch(
    source: Source,
    options: { sources?: ReturnType<typeof open>; parts?: string; limit?: number; expected?: string } = {},
  ) {
    const one = await session(source, options.sources);
    const [file] = (await one.resolve()).files;
    if (!file) throw new Error('no file');
    const expected = [
      ...(file.expected ? [file.expected] : []),
      ...(options.expected ? [{ algorithm: 'sha256', digest: options.expected } as const] : []),
    ];
    const parts = options.parts ?? (await mkdtemp(join(state.folder, 'parts-')));
    return download(one, file, parts, { expected, limit: options.limit ?? 2 ** 30, signal, onBytes: () => undefined });
  }
  const refused = async (work: Promise<unknown>, type: Parameters<typeof isFailure>[1], text: string | RegExp) => {
    const error: unknown = await work.then(
      () => new Error('it succeeded'),
      (reason: unknown) => reason,
    );
    expect([isFailure(error, type), String(error)]).toEqual([true, expect.stringMatching(text)]);
  };
  return { state, site, open, signal, session, https, tree, release, fetch, refused };
}

export const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');
