// Files: streamed both ways, checked against their digest, complete or not at all; data sets, releases and jobs.
import { createHash, randomBytes } from 'node:crypto';
import { once as event } from 'node:events';
import { readdir } from 'node:fs/promises';
import type { IncomingMessage } from 'node:http';
import { request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { createAdaptorServer } from '@hono/node-server';
import { describe, expect, test } from '@jest/globals';
import { until } from '../workflows/until.ts';
import { json, PROJECT, reprDigest, sha256 } from './world.ts';
import { worldOfThisFile } from './world-of.ts';

const LIMIT = 4 * 1024 * 1024;
const { world } = worldOfThisFile({ fileBytes: LIMIT });

const files = `/v1/projects/${PROJECT}/files`;
const bytesOf = async (response: Response): Promise<Buffer> => Buffer.from(await response.arrayBuffer());
const bytes = randomBytes(300_000);

/** Names of all files on disk below the areas, temporary ones included. */
const onDisk = async (): Promise<string[]> =>
  (await readdir(join(world().folder, 'areas'), { recursive: true, withFileTypes: true }))
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));

describe('a file', () => {
  test('is returned unchanged, with its digest', async () => {
    const put = await world().ask('sam', 'PUT', `${files}/private/runs/a.bin`, bytes, {
      'repr-digest': reprDigest(bytes),
    });
    expect([put.status, await json(put)]).toEqual([201, { path: 'runs/a.bin', sha256: sha256(bytes), bytes: 300_000 }]);
    const got = await world().ask('sam', 'GET', `${files}/private/runs/a.bin`);
    expect(got.headers.get('repr-digest')).toBe(reprDigest(bytes));
    expect(got.headers.get('etag')).toBe(`"${sha256(bytes)}"`);
    expect(got.headers.get('content-length')).toBe('300000');
    expect(got.headers.get('content-disposition')).toBe('attachment');
    expect((await bytesOf(got)).equals(bytes)).toBe(true);
    const head = await world().ask('sam', 'HEAD', `${files}/private/runs/a.bin`);
    expect([head.status, head.headers.get('content-length'), (await bytesOf(head)).length]).toEqual([200, '300000', 0]);
    const cached = await world().ask('sam', 'GET', `${files}/private/runs/a.bin`, undefined, {
      'if-none-match': `W/"x", "${sha256(bytes)}"`,
    });
    expect(cached.status).toBe(304);
  });

  test('belongs to its owner: others have their own file at the same path', async () => {
    await world().ask('sam', 'PUT', `${files}/private/mine.txt`, Buffer.from('of sam'));
    expect((await world().ask('sid', 'GET', `${files}/private/mine.txt`)).status).toBe(404);
    expect((await world().ask('mia', 'GET', `${files}/private/mine.txt`)).status).toBe(404);
    expect((await world().ask('admin', 'GET', `${files}/private/mine.txt`)).status).toBe(403);
  });

  test('uploaded again is accepted if identical; otherwise a conflict unless it replaces', async () => {
    const path = `${files}/common/notes.txt`;
    const put = (text: string, query = '') => world().ask('sam', 'PUT', path + query, Buffer.from(text));
    expect((await put('one')).status).toBe(201);
    expect((await put('one')).status).toBe(200);
    const conflict = await put('two');
    expect(conflict.status).toBe(409);
    expect(await conflict.text()).not.toContain(world().folder);
    expect((await put('two', '?replace=true')).status).toBe(200);
    expect((await bytesOf(await world().ask('eng', 'GET', path))).toString()).toBe('two');
    const below = await world().ask('sam', 'PUT', `${path}/below`, Buffer.from('x'));
    expect(below.status).toBe(409);
    expect(await below.text()).not.toContain(world().folder);
  });

  test.each<[string, string | undefined, number, string]>([
    ['bytes=0-3', undefined, 206, 'bytes 0-3/300000'],
    ['bytes=299990-', undefined, 206, 'bytes 299990-299999/300000'],
    ['bytes=-5', undefined, 206, 'bytes 299995-299999/300000'],
    ['bytes=299999-999999', undefined, 206, 'bytes 299999-299999/300000'],
    ['bytes=-999999', undefined, 206, 'bytes 0-299999/300000'],
    ['bytes=300000-', undefined, 416, 'bytes */300000'],
    ['bytes=5-2', undefined, 416, 'bytes */300000'],
    ['bytes=0-1,5-6', undefined, 200, ''],
    ['bytes=-', undefined, 200, ''],
    ['lines=1-2', undefined, 200, ''],
    ['bytes=0-3', '"another"', 200, ''],
  ])('range %s (if-range %s): %d %s', async (range, ifRange, status, contentRange) => {
    const headers = { range, ...(ifRange !== undefined && { 'if-range': ifRange }) };
    const response = await world().ask('sam', 'GET', `${files}/private/runs/a.bin`, undefined, headers);
    expect(response.status).toBe(status);
    expect(response.headers.get('content-range') ?? '').toBe(contentRange);
    const got = await bytesOf(response);
    const [, first, last] = /bytes (\d+)-(\d+)/.exec(contentRange) ?? [];
    if (status === 206) expect(got.equals(bytes.subarray(Number(first), Number(last) + 1))).toBe(true);
    if (status === 200) expect(got.equals(bytes)).toBe(true);
  });

  test('that does not match its announced digest leaves nothing', async () => {
    const path = `${files}/private/wrong.bin`;
    const response = await world().ask('sam', 'PUT', path, bytes, { 'repr-digest': reprDigest('other') });
    expect([response.status, (await json(response))['type']]).toEqual([400, 'urn:ocdl:problem:digest-mismatch']);
    for (const digest of ['sha-256=:short=:', 'md5=:AAAA:', 'sha-256=abc', ''])
      expect((await world().ask('sam', 'PUT', path, bytes, { 'repr-digest': digest })).status).toBe(400);
    expect((await world().ask('sam', 'GET', path)).status).toBe(404);
    expect((await onDisk()).filter((file) => file.includes('wrong'))).toEqual([]);
  });

  test.each<[string, Record<string, string>, number]>([
    ['a part of a file', { 'content-range': 'bytes 100-103/104' }, 400],
    ['encoded bytes', { 'content-encoding': 'gzip' }, 415],
    ['an If-Match', { 'if-match': '"nothing"' }, 400],
    ['an If-None-Match', { 'if-none-match': '*' }, 400],
  ])('is not written if %s would be ignored', async (_, headers, status) => {
    const path = `${files}/private/conditional.bin`;
    await world().ask('sam', 'PUT', `${path}?replace=true`, Buffer.from('whole'));
    const response = await world().ask('sam', 'PUT', `${path}?replace=true`, Buffer.from('tail'), headers);
    expect([response.status, (await json(response))['detail']]).toEqual([
      status,
      expect.stringMatching(new RegExp(Object.keys(headers).join(), 'i')) as unknown,
    ]);
    expect(await (await world().ask('sam', 'GET', path)).text()).toBe('whole');
  });

  test('is read under If-Match only with the tag that it has', async () => {
    const path = `${files}/private/tagged.bin`;
    await world().ask('sam', 'PUT', path, Buffer.from('tagged'));
    const tag = `"${sha256('tagged')}"`;
    for (const [given, status] of [
      [tag, 200],
      [`"x", ${tag}`, 200],
      ['*', 200],
      ['"x"', 412],
      [`W/${tag}`, 412],
    ] as const) {
      const response = await world().ask('sam', 'GET', path, undefined, { 'if-match': given });
      expect([given, response.status, await response.text()]).toEqual([
        given,
        status,
        status === 200 ? 'tagged' : expect.stringContaining(sha256('tagged')),
      ]);
    }
  });

  test('that is too large is 413, with or without Content-Length, and leaves nothing', async () => {
    const path = `${files}/private/large.bin`;
    const big = randomBytes(LIMIT + 1);
    expect((await world().ask('sam', 'PUT', path, big, { 'content-length': String(big.length) })).status).toBe(413);
    let sent = 0;
    const endless = new ReadableStream<Uint8Array>({
      pull(controller) {
        sent += 65_536;
        controller.enqueue(new Uint8Array(65_536));
      },
    });
    expect((await world().ask('sam', 'PUT', path, endless)).status).toBe(413);
    // Not a byte more was taken than it needs to know.
    expect(sent).toBeLessThan(LIMIT + 4 * 65_536);
    expect((await world().ask('sam', 'GET', path)).status).toBe(404);
    const exact = randomBytes(LIMIT);
    expect((await world().ask('sam', 'PUT', path, exact)).status).toBe(201);
  });

  test('leaves nothing if the sender disconnects, and downloads are complete: over a real socket', async () => {
    const server = createAdaptorServer({ fetch: world().api.app.fetch });
    server.listen(0, '127.0.0.1');
    await event(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const open = (method: string, path: string, length?: number) =>
      request({
        ...{ host: '127.0.0.1', port, method, path },
        headers: {
          authorization: `Bearer ${world().tokens['sam'] ?? ''}`,
          'content-type': 'application/octet-stream',
          ...(length !== undefined && { 'content-length': length }),
        },
      });
    try {
      const before = await onDisk();
      const broken = open('PUT', `${files}/private/broken.bin`, 1_000_000);
      broken.on('error', () => undefined);
      broken.write(randomBytes(200_000));
      // Only once a part of it lies on disk.
      await until('the first bytes on disk', async () => (await onDisk()).length > before.length);
      broken.destroy();
      await until('the part to be gone', async () => (await onDisk()).length === before.length);
      expect(await onDisk()).toEqual(before);
      expect((await world().ask('sam', 'GET', `${files}/private/broken.bin`)).status).toBe(404);
      const get = open('GET', `${files}/private/runs/a.bin`);
      get.end();
      const [response] = (await event(get, 'response')) as [IncomingMessage];
      const hash = createHash('sha256');
      for await (const chunk of response) hash.update(chunk as Buffer);
      expect(hash.digest('hex')).toBe(sha256(bytes));
    } finally {
      (server as unknown as { closeAllConnections(): void }).closeAllConnections();
      server.close();
    }
  });

  test('in staging or a registered data set cannot be written', async () => {
    for (const path of [
      'staging/models/x.onnx',
      'common/datasets/training-1/rows.jsonl',
      'common/datasets/new/rows.csv',
    ])
      for (const query of ['', '?replace=true']) {
        const response = await world().ask('mia', 'PUT', `${files}/${path}${query}`, Buffer.from('x'));
        expect([path, response.status]).toEqual([path, 403]);
      }
    expect((await world().ask('mia', 'PUT', `${files}/common/datasets`, Buffer.from('x'))).status).toBe(403);
  });

  test('is listed by folder and page, only from one’s own area', async () => {
    for (const name of ['a', 'b', 'c'])
      await world().ask('sid', 'PUT', `${files}/private/many/${name}.txt`, Buffer.from(name));
    const paths = async (query: string) => {
      const page = await json(world().ask('sid', 'GET', `${files}/private?${query}`));
      return { ...page, rows: (page['rows'] as { path: string }[]).map(({ path }) => path) };
    };
    const first = await paths('folder=many&limit=2');
    expect(first).toEqual({ rows: ['many/a.txt', 'many/b.txt'], next: 'many/b.txt' });
    expect(await paths('folder=many&limit=2&after=many/b.txt')).toEqual({ rows: ['many/c.txt'] });
    expect((await paths('')).rows).toEqual(['many/a.txt', 'many/b.txt', 'many/c.txt']);
    expect((await paths('folder=nothing')).rows).toEqual([]);
  });
});

describe('a data set', () => {
  const path = `/v1/projects/${PROJECT}/datasets`;
  const asked = (dataset: string, kind: string, change = {}) => ({
    ...{
      dataset,
      kind,
      files: [{ name: 'rows.csv', area: 'private', path: 'rows.csv', sha256: sha256('a,b'), ...change }],
    },
  });

  test('is a copy that does not change with its source', async () => {
    await world().ask('mia', 'PUT', `${files}/private/rows.csv`, Buffer.from('a,b'));
    const made = await world().ask('mia', 'POST', path, asked('fresh', 'training'));
    expect([made.status, await json(made)]).toMatchObject([
      201,
      { files: [{ name: 'rows.csv', sha256: sha256('a,b') }] },
    ]);
    expect((await world().ask('mia', 'POST', path, asked('fresh', 'training'))).status).toBe(200);
    expect((await world().ask('mia', 'POST', path, asked('fresh', 'test'))).status).toBe(409);
    await world().ask('mia', 'PUT', `${files}/private/rows.csv?replace=true`, Buffer.from('c,d'));
    expect((await world().ask('mia', 'POST', path, asked('fresh', 'training', { sha256: sha256('c,d') }))).status).toBe(
      409,
    );
    const stored = await world().ask('eng', 'GET', `${files}/common/datasets/fresh/rows.csv`);
    expect((await bytesOf(stored)).toString()).toBe('a,b');
  });

  test('with a digest mismatch, or of a missing file, is refused', async () => {
    const wrong = await world().ask('mia', 'POST', path, asked('wrong', 'training', { sha256: sha256('else') }));
    expect([wrong.status, (await json(wrong))['type']]).toEqual([400, 'urn:ocdl:problem:digest-mismatch']);
    const missing = await world().ask('mia', 'POST', path, asked('wrong', 'training', { path: 'nothing.csv' }));
    expect(missing.status).toBe(422);
    // sam's file is not mia's to register.
    await world().ask('sam', 'PUT', `${files}/private/of-sam.csv`, Buffer.from('s'));
    const foreign = await world().ask('mia', 'POST', path, asked('wrong', 'training', { path: 'of-sam.csv' }));
    expect(foreign.status).toBe(422);
    expect((await world().ask('mia', 'GET', `${path}/wrong`)).status).toBe(404);
  });

  test('for tests is in staging: scientists see that it exists, but not its rows', async () => {
    const row = '{"id":"a","inputs":{"x":[1,2]},"label":"YES"}';
    await world().ask('mia', 'PUT', `${files}/private/secret.jsonl`, Buffer.from(row));
    const file = { name: 'rows.jsonl', path: 'secret.jsonl', sha256: sha256(row) };
    const body = asked('secret', 'test', file);
    expect((await world().ask('sam', 'POST', path, body)).status).toBe(403);
    expect((await world().ask('mia', 'POST', path, body)).status).toBe(201);
    expect(await json(world().ask('sam', 'GET', `${path}/secret`))).toMatchObject({ files: [{ bytes: row.length }] });
    expect((await world().ask('sam', 'GET', `${files}/staging/datasets/secret/rows.jsonl`)).status).toBe(403);
    expect((await world().ask('sam', 'GET', `${files}/common/datasets/secret/rows.jsonl`)).status).toBe(404);
    expect((await world().ask('mia', 'GET', `${files}/staging/datasets/secret/rows.jsonl`)).status).toBe(200);
  });
});
