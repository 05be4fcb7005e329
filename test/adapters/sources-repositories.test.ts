// GitHub and Maven: trees, releases and coordinates, their digests and limits.
import { createHash, randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { TryLater } from '../../activities/ports.ts';
import { pathProblem } from '../../workflows/domain/names.ts';
import type { Source } from '../../workflows/domain/import.ts';
import { API, CODELOAD, COMMIT, layRelease, layRepository, limited } from './github-api.ts';
import { json, redirect, serveFile } from './web-server.ts';
import { sha256, useSources } from './sources-scene.ts';

const { state, site, open, session, tree, release, fetch, refused } = useSources();

describe('GitHub', () => {
  const archive = randomBytes(50_000);

  it('resolves a branch to its commit and fetches that; the token is sent only to the API', async () => {
    layRepository(site(), serveFile(() => archive).handler);
    const tokenFile = join(state.folder, 'token');
    await writeFile(tokenFile, 'ghp_secret\n');
    const sources = open({}, tokenFile);
    const resolution = await (await session({ ...tree, ref: 'feature/x' }, sources)).resolve();
    expect(resolution).toMatchObject({ revision: COMMIT, licence: 'Apache-2.0' });
    expect(resolution.files.map(({ name }) => name)).toEqual([`rows-${COMMIT.slice(0, 12)}.tar.gz`]);
    expect((await fetch(tree, { sources })).sha256).toBe(sha256(archive));
    const tokens = site().asked.map(({ what, headers }) => [what.split(' ')[1]?.split('/')[0], headers.authorization]);
    expect(new Set(tokens.map(String))).toEqual(new Set([`${API},Bearer ghp_secret`, `${CODELOAD},`]));
    expect(site().asked[0]?.headers).toMatchObject({ 'x-github-api-version': '2022-11-28', 'user-agent': 'ocdl' });
  });

  it('lists all pages of a release’s assets, with their digests', async () => {
    layRepository(site(), json({}));
    const files = Object.fromEntries(
      ['a.csv', 'b.csv', 'c.csv', 'd.csv', 'half.csv'].map((name) => [name, randomBytes(100)]),
    );
    layRelease(
      site(),
      'v1.0',
      Object.fromEntries(
        Object.entries(files).map(([name, bytes]) => [
          name,
          {
            ...{ handler: serveFile(() => bytes).handler, bytes: 100 },
            ...(name !== 'b.csv' && { digest: sha256(bytes) }),
            ...(name === 'half.csv' && { state: 'starter' }),
          },
        ]),
      ),
      2,
    );
    const resolution = await (await session(release)).resolve();
    expect(resolution.files.map(({ name, expected }) => [name, expected?.digest])).toEqual(
      ['a.csv', 'b.csv', 'c.csv', 'd.csv'].map((name) => [
        name,
        name === 'b.csv' ? undefined : sha256(files[name] ?? archive),
      ]),
    );
    expect(resolution.notes.join()).toContain('half.csv');
    expect(resolution.revision).toBe(COMMIT);
    expect((await fetch(release)).sha256).toBe(sha256(files['a.csv'] ?? archive));
    expect(site().asked.at(-1)?.headers.accept).toBe('application/octet-stream');
    site().pages.set(`${API}/repos/octo/rows/releases/assets/1`, serveFile(() => randomBytes(100)).handler);
    await refused(fetch(release), 'DigestMismatch', /a\.csv has sha256/);
  });

  it('reports when its rate limit ends, and then requests only what is missing', async () => {
    layRepository(site(), serveFile(() => archive).handler);
    layRelease(site(), 'v1.0', { 'a.csv': { handler: serveFile(() => archive).handler, bytes: archive.length } }, 1);
    const budget = { left: 2, reset: Math.floor(Date.now() / 1000) + 900 };
    for (const [page, handler] of [...site().pages])
      if (page.startsWith(API)) site().pages.set(page, limited(handler, budget));
    const sources = open();
    const error: unknown = await session(release, sources)
      .then((one) => one.resolve())
      .catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(TryLater);
    expect(error).toMatchObject({ until: new Date(budget.reset * 1000).toISOString() });
    expect(String(error)).toContain("GitHub's rate limit is reached until");
    budget.left = 2;
    expect((await (await session(release, sources)).resolve()).files.length).toBe(1);
    // The first two were asked with their ETags, which costs nothing; the other two were new.
    expect(budget.left).toBe(0);
  });

  it.each<[string, number, object, Record<string, string>, string]>([
    [
      'a secondary rate limit',
      429,
      { message: 'You have exceeded a secondary rate limit' },
      { 'retry-after': '30' },
      'later',
    ],
    ['a rate limit without details', 403, { message: 'You have exceeded a secondary rate limit' }, {}, 'later'],
    [
      'a refused request',
      403,
      { message: 'Resource not accessible' },
      { 'x-ratelimit-remaining': '50' },
      'NotAuthorized',
    ],
    ['a bad token', 401, { message: 'Bad credentials' }, {}, 'NotAuthorized'],
    ['a missing repository', 404, { message: 'Not Found' }, {}, 'NotFound'],
    ['an empty repository', 409, { message: 'Git Repository is empty.' }, {}, 'NotFound'],
    ['a page that is not JSON', 200, [], {}, 'Corrupt'],
    ['an outage', 502, {}, {}, 'again'],
  ])('%s has its own message', async (_, status, body, headers, means) => {
    site().pages.set(`${API}/repos/octo/rows`, json(body, status, headers));
    const error: unknown = await session(tree)
      .then((one) => one.resolve())
      .catch((reason: unknown) => reason);
    const found =
      error instanceof TryLater
        ? 'later'
        : error instanceof Error && 'type' in error
          ? error.type
          : error instanceof Error && 'again';
    expect(found).toBe(means);
  });

  it('sends downloads to no other host', async () => {
    layRepository(site(), json({}));
    site().pages.set(`${API}/repos/octo/rows/tarball/${COMMIT}`, redirect(site().url('other.example.org', '/evil')));
    await refused(fetch(tree), 'NotAuthorized', /other\.example\.org:\d+: not an allowed download host of GitHub/);
  });
});

describe('Maven', () => {
  const source: Source = { kind: 'maven', coordinate: 'org.example.data:rows:1.0:test@zip' };
  const path = 'data.example.org/maven2/org/example/data/rows/1.0/rows-1.0-test.zip';
  const bytes = randomBytes(10_000);
  const digest = (algorithm: string) => createHash(algorithm).update(bytes).digest('hex');
  const lay = (beside: Record<string, string>): void => {
    site().pages.set(path, serveFile(() => bytes).handler);
    for (const [extension, text] of Object.entries(beside))
      site().pages.set(`${path}.${extension}`, (_request, response) => response.end(text));
  };

  it.each<[string, Record<string, string>]>([
    ['sha256', { sha256: digest('sha256'), sha1: 'wrong', md5: 'wrong' }],
    ['sha1', { sha1: `${digest('sha1').toUpperCase()}  rows-1.0-test.zip\n`, md5: 'wrong' }],
    ['md5', { md5: digest('md5') }],
  ])('checks a file against the strongest digest available: %s', async (algorithm, beside) => {
    lay(beside);
    const resolution = await (await session(source)).resolve();
    expect(resolution.files[0]?.expected).toEqual({ algorithm, digest: digest(algorithm) });
    expect((await fetch(source)).sha256).toBe(digest('sha256'));
  });

  it('stores a file under a valid name, however long its coordinate', async () => {
    const [a, b, c] = [...'abc'].map((letter) => letter.repeat(128));
    const long = `data.example.org/maven2/g/${a}/1${b?.slice(1)}/${a}-1${b?.slice(1)}-${c}.jar`;
    site().pages.set(long, serveFile(() => bytes).handler);
    const resolution = await (await session({ kind: 'maven', coordinate: `g:${a}:1${b?.slice(1)}:${c}` })).resolve();
    const [file] = resolution.files;
    expect(file?.address).toMatch(new RegExp(`${long.slice(16)}$`));
    expect(pathProblem(file?.name)).toBeUndefined();
    expect(file?.name).toMatch(/^a+-[0-9a-f]{16}\.jar$/);
  });

  it('fails on a digest mismatch, an invalid digest and a missing file; notes a missing digest', async () => {
    lay({ sha1: createHash('sha1').update('other').digest('hex') });
    await refused(fetch(source), 'DigestMismatch', /rows-1\.0-test\.zip has sha1/);
    lay({ sha1: '<html>' });
    await refused(fetch(source), 'Corrupt', /does not contain a sha1 digest/);
    site().pages.clear();
    await refused(fetch(source), 'NotFound', /has no \/maven2\/org\/example/);
    lay({});
    expect((await (await session(source)).resolve()).notes).toEqual([
      expect.stringContaining('publishes no checksum for this file'),
    ]);
  });
});
