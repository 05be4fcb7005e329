// Sources over HTTPS: what the guard refuses, what GitHub and Maven mean, and downloads that are cut, changed or lied about.
import { createHash, randomBytes } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { download } from '../../activities/acquisition/download.ts';
import { addressProblem } from '../../activities/adapters/sources/addresses.ts';
import type { GuardOptions } from '../../activities/adapters/sources/guarded-fetch.ts';
import { createSources } from '../../activities/adapters/sources/sources.ts';
import { isFailure } from '../../activities/failures.ts';
import { TryLater } from '../../activities/ports.ts';
import type { Node, Source } from '../../workflows/domain/import.ts';
import { API, CODELOAD, COMMIT, layRelease, layRepository, limited } from './github-api.ts';
import type { Site } from './web-server.ts';
import { json, openSite, redirect, serveFile } from './web-server.ts';

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
const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

/** Fetches the source's first file into a folder of parts; says what went wrong where something did. */
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

describe('an address', () => {
  it.each([
    ...['0.0.0.0', '10.0.0.1', '172.16.0.1', '192.168.1.1', '127.0.0.1', '127.1.2.3', '169.254.169.254', '100.64.0.1'],
    ...[
      '224.0.0.1',
      '255.255.255.255',
      '198.18.0.1',
      '240.0.0.1',
      '192.0.2.1',
      '::',
      '::1',
      'fe80::1',
      'fec0::1',
      'fc00::1',
    ],
    ...['ff02::1', '::ffff:127.0.0.1', '::ffff:8.8.8.8', '64:ff9b::7f00:1', '64:ff9b:1::1', '2002:7f00:1::', '2001::1'],
    ...['::127.0.0.1', '2001:db8::1', '4000::1', '1.2.3.4.5', 'localhost', ''],
  ])('%s is refused', (address) => {
    expect(addressProblem(address, 443, ['127.0.0.1:444', '10.0.0.2:443'])).toEqual(expect.any(String));
  });
  it.each([
    ['93.184.215.14', 443],
    ['2606:4700:4700::1111', 443],
    ['10.0.0.2', 8443],
    ['fd00::2', 8443],
  ])('%s, port %d, passes', (address, port) => {
    expect(addressProblem(address, port, ['10.0.0.2:8443', '[fd00::2]:8443'])).toBeUndefined();
  });
});

describe('the guard', () => {
  it('connects to no address that is not allowed, by name or by number', async () => {
    const before = site().connections();
    const strict = open({ allowAddresses: [] });
    await refused(fetch(https('/a'), { sources: strict }), 'NotAuthorized', /127\.0\.0\.1 is not public \(loopback\)/);
    await refused(fetch(https('/a', '127.0.0.1'), { sources: strict }), 'NotAuthorized', /loopback/);
    const mixed = open({ resolve: async () => ['127.0.0.1', '10.0.0.1'] });
    await refused(fetch(https('/a'), { sources: mixed }), 'NotAuthorized', /10\.0\.0\.1 is not public/);
    expect(site().connections()).toBe(before);
  });

  it('is not fooled by a name that means something else the second time', async () => {
    const answers = ['127.0.0.1', '169.254.169.254'];
    let asked = 0;
    const sources = open({ resolve: async () => [answers[Math.min(asked++, 1)] ?? ''] });
    site().pages.set('data.example.org/a', serveFile(() => Buffer.from('bytes')).handler);
    await fetch(https('/a'), { sources });
    // One look for one connection: what was checked is what was connected to.
    expect(asked).toBe(1);
    await refused(fetch(https('/a'), { sources }), 'NotAuthorized', /169\.254\.169\.254 is not public \(linkLocal\)/);
  });

  it('asks only hosts on the list; a project adds its own by an https node, for port 443', async () => {
    await refused(
      fetch(https('/a', 'other.example.org')),
      'NotAuthorized',
      /other\.example\.org:\d+: this host is not on the allow-list/,
    );
    const node: Node = { kind: 'https', project: 'p', node: 'other', host: 'other.example.org' };
    const listed: Source = { kind: 'https', url: 'https://other.example.org/a' };
    const one = await session(listed, open(), [node]);
    const [file] = (await one.resolve()).files;
    if (!file) throw new Error('no file');
    // It gets as far as the address: the server's own, but on a port that is not allowed.
    await refused(one.open(file, { start: 0, validator: null }), 'NotAuthorized', /127\.0\.0\.1 is not public/);
    expect(site().asked).toEqual([]);
  });

  it.each<[string, () => string, RegExp]>([
    ['a private address', () => 'https://10.0.0.1/a', /10\.0\.0\.1: this host is not on the allow-list/],
    ['the metadata service', () => 'https://169.254.169.254/latest/meta-data', /not on the allow-list/],
    ['plain http', () => 'http://data.example.org/a', /only https:\/\/ is taken/],
    ['another host', () => site().url('other.example.org', '/a'), /not on the allow-list/],
    ['another port', () => 'https://data.example.org/a', /not on the allow-list/],
    ['a URL with a password', () => site().url('me:secret@data.example.org', '/a'), /user name or password/],
    ['a file', () => 'file:///etc/passwd', /only https/],
  ])('follows no redirect to %s', async (_, location, text) => {
    site().pages.set('data.example.org/a', redirect(location()));
    await refused(fetch(https('/a')), 'NotAuthorized', text);
  });

  it('checks the address behind a redirect to a listed name', async () => {
    site().pages.set('data.example.org/a', redirect(site().url('127.0.0.1', '/b')));
    site().pages.set('127.0.0.1/b', serveFile(() => Buffer.from('bytes')).handler);
    expect((await fetch(https('/a'))).bytes).toBe(5);
    // A name that is listed, and means something inside: refused as it is connected to.
    site().pages.set('data.example.org/a', redirect('https://inside.example.org/b'));
    const inside = open({ resolve: async (host) => [host === 'inside.example.org' ? 'fd00::1' : '127.0.0.1'] });
    await refused(fetch(https('/a'), { sources: inside }), 'NotAuthorized', /fd00::1 is not public \(uniqueLocal\)/);
    const { port } = site();
    // The same number, no longer allowed: a literal address is never looked up.
    const sources = open({ allowAddresses: [`127.0.0.1:${port + 1}`], resolve: async () => ['93.184.215.14'] });
    await refused(fetch(https('/b', '127.0.0.1'), { sources }), 'NotAuthorized', /loopback/);
  });

  it('follows five redirects, not six', async () => {
    site().pages.set('data.example.org/0', serveFile(() => Buffer.from('end')).handler);
    for (let i = 1; i <= 6; i += 1) site().pages.set(`data.example.org/${i}`, redirect(`/${i - 1}`, 307));
    expect((await fetch(https('/5'))).bytes).toBe(3);
    await refused(fetch(https('/6')), 'InvalidInput', /redirects more than 5 times/);
  });

  it('trusts no certificate it does not know, and gives up a silent line; both may be tried again', async () => {
    site().pages.set('data.example.org/a', () => undefined);
    const { ca: _, ...guard } = { ca: '', allowAddresses: [`127.0.0.1:${site().port}`] };
    const strange = createSources({
      guard: { ...guard, resolve: async () => ['127.0.0.1'] },
      github: { apiUrl: 'https://api.github.test', downloadHosts: [] },
      maven: { url: 'https://data.example.org' },
      https: { hosts: [`data.example.org:${site().port}`] },
      sftp: { hosts: [], secrets: '', entries: 1 },
    });
    await expect(fetch(https('/a'), { sources: strange })).rejects.toThrow(/certificate/);
    await expect(fetch(https('/a'), { sources: open({ silenceMs: 500 }) })).rejects.toThrow(/silent for 0.5 s/);
  });
});

describe('a download', () => {
  const bytes = randomBytes(3_000_000);

  it('that was cut goes on where it was: only the rest is sent again', async () => {
    const served = serveFile(() => bytes);
    site().pages.set('data.example.org/rows.csv', served.handler);
    const parts = await mkdtemp(join(state.folder, 'parts-'));
    served.cutNext(2_000_000);
    await expect(fetch(https('/rows.csv'), { parts })).rejects.toThrow(/aborted|ECONNRESET/);
    const got = await fetch(https('/rows.csv'), { parts });
    expect([got.sha256, got.bytes]).toEqual([sha256(bytes), bytes.length]);
    const second = site().asked.at(-1)?.headers;
    expect(second?.['if-range']).toBe('"v1"');
    const start = Number(/\d+/.exec(second?.range ?? '')?.[0]);
    expect(start).toBeGreaterThan(0);
    expect(served.sent()).toBe(2_000_000 + bytes.length - start);
    // Whole, it is not asked for again.
    const before = site().asked.length;
    expect((await fetch(https('/rows.csv'), { parts })).sha256).toBe(got.sha256);
    expect(site().asked.length).toBe(before);
  });

  it.each<[string, Parameters<typeof serveFile>[1]]>([
    ['cannot send parts', { ranges: false }],
    ['names no state', { etag: () => 'W/"weak"' }],
  ])('starts again with a server that %s', async (_, options) => {
    const served = serveFile(() => bytes, options);
    site().pages.set('data.example.org/rows.csv', served.handler);
    const parts = await mkdtemp(join(state.folder, 'parts-'));
    served.cutNext(2_000_000);
    await expect(fetch(https('/rows.csv'), { parts })).rejects.toThrow();
    expect((await fetch(https('/rows.csv'), { parts })).sha256).toBe(sha256(bytes));
    expect(served.sent()).toBe(2_000_000 + bytes.length);
  });

  it.each([bytes.length, 1_000])(
    'of a file that has changed meanwhile is of the new one alone (now %d bytes)',
    async (size) => {
      const now = { bytes, etag: '"v1"' };
      const served = serveFile(() => now.bytes, { etag: () => now.etag });
      site().pages.set('data.example.org/rows.csv', served.handler);
      const parts = await mkdtemp(join(state.folder, 'parts-'));
      served.cutNext(2_000_000);
      await expect(fetch(https('/rows.csv'), { parts })).rejects.toThrow();
      Object.assign(now, { bytes: randomBytes(size), etag: '"v2"' });
      expect((await fetch(https('/rows.csv'), { parts })).sha256).toBe(sha256(now.bytes));
    },
  );

  it('spliced by a server that lies about its state is noticed by the digest and fetched whole', async () => {
    const now = { bytes };
    const served = serveFile(() => now.bytes);
    site().pages.set('data.example.org/rows.csv', served.handler);
    const parts = await mkdtemp(join(state.folder, 'parts-'));
    served.cutNext(2_000_000);
    const other = randomBytes(bytes.length);
    const work = () => fetch(https('/rows.csv'), { parts, expected: sha256(other) });
    await expect(work()).rejects.toThrow();
    now.bytes = other;
    await expect(work()).rejects.toThrow(/fetched in parts.*it is fetched again/);
    expect((await work()).sha256).toBe(sha256(other));
  });

  it('is held to its digest and to the limit, and leaves nothing that could pass for whole', async () => {
    site().pages.set('data.example.org/rows.csv', serveFile(() => bytes).handler);
    const parts = await mkdtemp(join(state.folder, 'parts-'));
    for (const _ of [1, 2])
      await refused(
        fetch(https('/rows.csv'), { parts, expected: 'f'.repeat(64) }),
        'DigestMismatch',
        /rows\.csv has sha256/,
      );
    await refused(fetch(https('/rows.csv'), { limit: 1_000 }), 'InvalidInput', /larger than the 1000 bytes/);
    site().pages.set('data.example.org/endless', (_request, response) => {
      response.writeHead(200);
      const more = setInterval(() => response.write(Buffer.alloc(10_000)), 1);
      response.on('close', () => clearInterval(more));
    });
    await refused(fetch(https('/endless'), { limit: 100_000 }), 'InvalidInput', /larger than the 100000 bytes/);
  });

  it.each<[number, string, Parameters<typeof isFailure>[1]]>([
    [404, 'has no /gone', 'NotFound'],
    [403, 'imports send no credentials', 'NotAuthorized'],
    [400, 'answers 400', 'InvalidInput'],
  ])('answered with %d is over', async (status, text, type) => {
    site().pages.set('data.example.org/gone', json({}, status));
    await refused(fetch(https('/gone')), type, text);
  });

  it('is put off when asked to, and tried again after a server error', async () => {
    site().pages.set('data.example.org/busy', json({}, 503, { 'retry-after': '120' }));
    const error: unknown = await fetch(https('/busy')).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(TryLater);
    site().pages.set('data.example.org/broken', json({}, 500));
    const broken: unknown = await fetch(https('/broken')).catch((reason: unknown) => reason);
    expect([broken instanceof Error && !('nonRetryable' in broken), String(broken)]).toEqual([
      true,
      expect.stringContaining('500'),
    ]);
  });

  it('is taken only as it is: no encoding that was not asked for', async () => {
    site().pages.set('data.example.org/a', (_request, response) => {
      response.writeHead(200, { 'content-encoding': 'gzip' });
      response.end('x');
    });
    await refused(fetch(https('/a')), 'InvalidInput', /encodes unasked/);
    expect(site().asked.at(-1)?.headers['accept-encoding']).toBe('identity');
  });
});

describe('GitHub', () => {
  const archive = randomBytes(50_000);

  it('resolves a branch to its commit and fetches that; the token goes to the API alone', async () => {
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

  it('gives all pages of a release’s assets, with their digests', async () => {
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

  it('says until when it is limited, and then asks again only for what it does not know', async () => {
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
    expect(String(error)).toContain('GitHub takes no more requests until');
    budget.left = 2;
    expect((await (await session(release, sources)).resolve()).files.length).toBe(1);
    // The first two were asked with their ETags, which costs nothing; the other two were new.
    expect(budget.left).toBe(0);
  });

  it.each<[string, number, object, Record<string, string>, string]>([
    [
      'a secondary limit',
      429,
      { message: 'You have exceeded a secondary rate limit' },
      { 'retry-after': '30' },
      'later',
    ],
    ['one that says nothing more', 403, { message: 'You have exceeded a secondary rate limit' }, {}, 'later'],
    ['a refusal', 403, { message: 'Resource not accessible' }, { 'x-ratelimit-remaining': '50' }, 'NotAuthorized'],
    ['a bad token', 401, { message: 'Bad credentials' }, {}, 'NotAuthorized'],
    ['no such repository', 404, { message: 'Not Found' }, {}, 'NotFound'],
    ['an empty repository', 409, { message: 'Git Repository is empty.' }, {}, 'NotFound'],
    ['a page that is no JSON', 200, [], {}, 'Corrupt'],
    ['an outage', 502, {}, {}, 'again'],
  ])('%s is told apart', async (_, status, body, headers, means) => {
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

  it('sends downloads nowhere else', async () => {
    layRepository(site(), json({}));
    site().pages.set(`${API}/repos/octo/rows/tarball/${COMMIT}`, redirect(site().url('other.example.org', '/evil')));
    await refused(fetch(tree), 'NotAuthorized', /other\.example\.org:\d+: GitHub’s downloads come from elsewhere/);
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
  ])('holds a file to the strongest digest there is: %s', async (algorithm, beside) => {
    lay(beside);
    const resolution = await (await session(source)).resolve();
    expect(resolution.files[0]?.expected).toEqual({ algorithm, digest: digest(algorithm) });
    expect((await fetch(source)).sha256).toBe(digest('sha256'));
  });

  it('fails on another digest, on what is none, and where there is no such file; says so where there is no digest', async () => {
    lay({ sha1: createHash('sha1').update('other').digest('hex') });
    await refused(fetch(source), 'DigestMismatch', /rows-1\.0-test\.zip has sha1/);
    lay({ sha1: '<html>' });
    await refused(fetch(source), 'Corrupt', /holds no sha1 digest/);
    site().pages.clear();
    await refused(fetch(source), 'NotFound', /has no \/maven2\/org\/example/);
    lay({});
    expect((await (await session(source)).resolve()).notes).toEqual([
      expect.stringContaining('no digest lies beside it'),
    ]);
  });
});
