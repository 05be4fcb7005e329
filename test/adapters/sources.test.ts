// Sources over HTTPS: what the guard refuses, and downloads that are interrupted, changed or falsified.
import { randomBytes } from 'node:crypto';
import { mkdtemp } from 'node:fs/promises';
import { join } from 'node:path';
import { addressProblem } from '../../activities/adapters/sources/addresses.ts';
import { createSources } from '../../activities/adapters/sources/sources.ts';
import type { isFailure } from '../../activities/failures.ts';
import { TryLater } from '../../activities/ports.ts';
import type { Node, Source } from '../../workflows/domain/import.ts';
import { json, redirect, serveFile } from './web-server.ts';
import { sha256, useSources } from './sources-scene.ts';

const { state, site, open, session, https, fetch, refused } = useSources();

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
  it('connects only to allowed addresses, by name or by number', async () => {
    const before = site().connections();
    const strict = open({ allowAddresses: [] });
    await refused(fetch(https('/a'), { sources: strict }), 'NotAuthorized', /127\.0\.0\.1 is not public \(loopback\)/);
    await refused(fetch(https('/a', '127.0.0.1'), { sources: strict }), 'NotAuthorized', /loopback/);
    const mixed = open({ resolve: async () => ['127.0.0.1', '10.0.0.1'] });
    await refused(fetch(https('/a'), { sources: mixed }), 'NotAuthorized', /10\.0\.0\.1 is not public/);
    expect(site().connections()).toBe(before);
  });

  it('is safe against DNS rebinding', async () => {
    const answers = ['127.0.0.1', '169.254.169.254'];
    let asked = 0;
    const sources = open({ resolve: async () => [answers[Math.min(asked++, 1)] ?? ''] });
    site().pages.set('data.example.org/a', serveFile(() => Buffer.from('bytes')).handler);
    await fetch(https('/a'), { sources });
    // One look for one connection: what was checked is what was connected to.
    expect(asked).toBe(1);
    await refused(fetch(https('/a'), { sources }), 'NotAuthorized', /169\.254\.169\.254 is not public \(linkLocal\)/);
  });

  it('contacts only hosts on the list; a project adds hosts with an https node, for port 443', async () => {
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
    ['plain http', () => 'http://data.example.org/a', /use https:\/\//],
    ['another host', () => site().url('other.example.org', '/a'), /not on the allow-list/],
    ['another port', () => 'https://data.example.org/a', /not on the allow-list/],
    ['a URL with a password', () => site().url('me:secret@data.example.org', '/a'), /user name or password/],
    ['a file', () => 'file:///etc/passwd', /use https/],
  ])('does not follow a redirect to %s', async (_, location, text) => {
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
    await refused(fetch(https('/6')), 'InvalidInput', /redirected more than 5 times/);
  });

  it('refuses unknown certificates and times out on silent connections; both are retryable', async () => {
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

  it('resumes after an interruption: only the rest is sent again', async () => {
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
    ['does not support ranges', { ranges: false }],
    ['sends no validator', { etag: () => 'W/"weak"' }],
  ])('starts over with a server that %s', async (_, options) => {
    const served = serveFile(() => bytes, options);
    site().pages.set('data.example.org/rows.csv', served.handler);
    const parts = await mkdtemp(join(state.folder, 'parts-'));
    served.cutNext(2_000_000);
    await expect(fetch(https('/rows.csv'), { parts })).rejects.toThrow();
    expect((await fetch(https('/rows.csv'), { parts })).sha256).toBe(sha256(bytes));
    expect(served.sent()).toBe(2_000_000 + bytes.length);
  });

  it.each([bytes.length, 1_000])(
    'of a file that changed during it has only the new content (now %d bytes)',
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

  it('spliced by a server with a false validator is detected by the digest and fetched again completely', async () => {
    const now = { bytes };
    const served = serveFile(() => now.bytes);
    site().pages.set('data.example.org/rows.csv', served.handler);
    const parts = await mkdtemp(join(state.folder, 'parts-'));
    served.cutNext(2_000_000);
    const other = randomBytes(bytes.length);
    const work = () => fetch(https('/rows.csv'), { parts, expected: sha256(other) });
    await expect(work()).rejects.toThrow();
    now.bytes = other;
    await expect(work()).rejects.toThrow(/fetched in several parts.*will be fetched again/);
    expect((await work()).sha256).toBe(sha256(other));
  });

  it('is checked against its digest and limit, and leaves no partial file', async () => {
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
    [403, 'imports send none', 'NotAuthorized'],
    [400, 'returned status 400', 'InvalidInput'],
  ])('answered with %d is a non-retryable failure', async (status, text, type) => {
    site().pages.set('data.example.org/gone', json({}, status));
    await refused(fetch(https('/gone')), type, text);
  });

  it('waits when asked to, and is retried after a server error', async () => {
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

  it('accepts no content encoding that was not requested', async () => {
    site().pages.set('data.example.org/a', (_request, response) => {
      response.writeHead(200, { 'content-encoding': 'gzip' });
      response.end('x');
    });
    await refused(fetch(https('/a')), 'InvalidInput', /unrequested encoding/);
    expect(site().asked.at(-1)?.headers['accept-encoding']).toBe('identity');
  });
});
