// Files served by a digest have that digest: changed or missing files are refused or aborted, and recorded; a range reads only its chunks.
import { randomBytes } from 'node:crypto';
import { once as event } from 'node:events';
import { readFile, rm, stat, truncate, utimes, writeFile } from 'node:fs/promises';
import type { IncomingMessage } from 'node:http';
import { request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { createAdaptorServer } from '@hono/node-server';
import { expect, test } from '@jest/globals';
import pg from 'pg';
import { createChunkHasher } from '../../activities/chunk-digests.ts';
import type { ArtifactStore } from '../../activities/ports.ts';
import { CHUNK_BYTES } from '../../activities/records.ts';
import { newImport } from '../../workflows/domain/import.ts';
import type { Artifact, NamedArtifact } from '../../workflows/domain/model.ts';
import type { StorePath } from '../../workflows/domain/names.ts';
import { until } from '../workflows/until.ts';
import { json, PROJECT, reprDigest, sha256, TYPE } from './world.ts';
import { worldOfThisFile } from './world-of.ts';

const { world, machines } = worldOfThisFile({ fileBytes: 8 * CHUNK_BYTES });

/** Three and a half chunks. */
const BIG = randomBytes(3.5 * CHUNK_BYTES);

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}
const fileOf = ({ uri }: Pick<Artifact, 'uri'>): string => {
  const [, store = '', path = ''] = /^local:(\w+)\/(.*)$/.exec(uri) ?? [];
  return join(world().folder, store, path);
};

/** Changes stored bytes outside the platform; size and time stay the same. */
async function corrupt(file: Pick<Artifact, 'uri'>, at: number): Promise<void> {
  const path = fileOf(file);
  const before = await stat(path);
  const bytes = await readFile(path);
  bytes[at] = (bytes[at] ?? 0) ^ 1;
  await writeFile(path, bytes);
  await utimes(path, before.atime, before.mtime);
}

/** A release with one file of these bytes, written past the API as the worker of an earlier version did. */
let commands = 0;
async function released(bytes: Uint8Array, announce = true): Promise<{ address: string; file: NamedArtifact }> {
  const { releases, records } = world().deps;
  const number = (commands += 1);
  const path = `releases/${TYPE}/${sha256(bytes)}/${number}/model.onnx` as StorePath;
  const file = { ...(await releases.write(path, once(bytes))), name: 'model.onnx' };
  const { release } = await records.allotRelease(`served-${number}-command`, {
    ...{ type: TYPE, project: PROJECT, model: 'served', submission: `s-${number}`, version: number },
    ...{ digest: file.sha256, files: [file], report: null, approvedBy: ['mia'], releasedBy: 'mia' },
    releasedAt: '2026-01-01T00:00:00.000Z',
  });
  if (announce) await records.announced(release);
  return { address: `/v1/releases/${release}/files/model.onnx`, file };
}

/** Runs the work and returns how many bytes it read from the store, and how often it had it compute a digest. */
async function readsOf(
  store: ArtifactStore,
  work: () => Promise<unknown>,
): Promise<{ bytes: number; digests: number }> {
  const seen = { bytes: 0, digests: 0 };
  const read: ArtifactStore['read'] = (...args) => own.read(...args);
  const digest: ArtifactStore['digest'] = (...args) => own.digest(...args);
  const own = { ...store };
  Object.assign(store, {
    digest: (...args: Parameters<typeof digest>) => {
      seen.digests += 1;
      return digest(...args);
    },
    read: async (...args: Parameters<typeof read>) => {
      const pieces = await read(...args);
      return (async function* () {
        for await (const piece of pieces) {
          seen.bytes += piece.byteLength;
          yield piece;
        }
      })();
    },
  });
  try {
    await work();
  } finally {
    Object.assign(store, own);
  }
  return seen;
}

const get = (address: string, range?: string, who = 'mia'): Promise<Response> =>
  world().ask(who, 'GET', address, undefined, range === undefined ? {} : { range });
/** The status alone. The body is given up: a body that nobody reads keeps its file open. */
async function statusOf(...asked: Parameters<typeof get>): Promise<number> {
  const response = await get(...asked);
  await response.body?.cancel();
  return response.status;
}
const bodyOf = async (response: Response): Promise<Buffer> => Buffer.from(await response.arrayBuffer());
const mismatches = async (): Promise<string> => (await world().ask('admin', 'GET', '/metrics')).text();
const countOf = async (name: string): Promise<number> =>
  Number(new RegExp(`^ocdl_${name}_total (\\d+)$`, 'm').exec(await mismatches())?.[1]);

/** Downloads over a real socket; `complete` as Node's client sees it. */
async function download(address: string, range?: string) {
  const server = createAdaptorServer({ fetch: world().api.app.fetch });
  server.listen(0, '127.0.0.1');
  await event(server, 'listening');
  try {
    const { port } = server.address() as AddressInfo;
    const headers = {
      authorization: `Bearer ${world().tokens['mia'] ?? ''}`,
      ...(range !== undefined && { range }),
    };
    const sent = request({ host: '127.0.0.1', port, path: address, headers });
    sent.end();
    const [response] = (await event(sent, 'response')) as [IncomingMessage];
    const pieces: Buffer[] = [];
    const error = await (async () => {
      for await (const piece of response) pieces.push(piece as Buffer);
    })().then(
      () => undefined,
      (reason: unknown) => reason as Error,
    );
    return { status: response.statusCode, bytes: Buffer.concat(pieces), complete: response.complete, error };
  } finally {
    (server as unknown as { closeAllConnections(): void }).closeAllConnections();
    server.close();
  }
}

test('a small changed file is refused before its first byte, and noted in the log, the metrics and the record', async () => {
  const { address, file } = await released(randomBytes(1_000));
  expect(await statusOf(address)).toBe(200);
  const before = await countOf('bytes_mismatch');
  await corrupt(file, 999);
  const response = await get(address);
  expect([response.status, await json(response)]).toEqual([
    502,
    expect.objectContaining({ type: 'urn:ocdl:problem:digest-mismatch' }) as unknown,
  ]);
  for (const range of ['bytes=0-0', 'bytes=-1']) expect(await statusOf(address, range)).toBe(502);
  expect(await countOf('bytes_mismatch')).toBe(before + 3);
  const found = sha256(await readFile(fileOf(file)));
  const line = world().lines.find(({ level, uri }) => level === 50 && uri === file.uri);
  expect(line).toMatchObject({ expected: file.sha256, found: expect.stringContaining(found) as unknown });
});

test('a large changed file is never complete: its response is aborted', async () => {
  for (const at of [10, BIG.length - 1]) {
    const { address, file } = await released(BIG);
    expect((await download(address)).bytes.equals(BIG)).toBe(true);
    await corrupt(file, at);
    const got = await download(address);
    expect([got.status, got.complete, got.error?.message]).toEqual([200, false, 'aborted']);
    expect(got.bytes.length).toBeLessThan(BIG.length);
    expect(got.bytes.length).toBeGreaterThan(CHUNK_BYTES);
  }
});

test('a range reads only its chunks, and checks each', async () => {
  const { address, file } = await released(BIG);
  const { releases, records } = world().deps;
  // Nothing is known of its chunks: the file is read once, and its own digest decides.
  expect(await records.chunkDigests(file.sha256, 0, 1)).toBeUndefined();
  expect((await bodyOf(await get(address, 'bytes=0-0'))).equals(BIG.subarray(0, 1))).toBe(true);
  for (const [range, start, end, chunks] of [
    ['bytes=5-5', 5, 6, 1],
    [`bytes=${CHUNK_BYTES - 1}-${CHUNK_BYTES}`, CHUNK_BYTES - 1, CHUNK_BYTES + 1, 2],
    [`bytes=${CHUNK_BYTES}-${2 * CHUNK_BYTES - 1}`, CHUNK_BYTES, 2 * CHUNK_BYTES, 1],
    ['bytes=-3', BIG.length - 3, BIG.length, 0.5],
    [`bytes=${CHUNK_BYTES + 7}-`, CHUNK_BYTES + 7, BIG.length, 2.5],
  ] as const) {
    const reads = await readsOf(releases, async () => {
      const response = await get(address, range);
      expect([response.status, response.headers.get('repr-digest')]).toEqual([206, reprDigest(BIG)]);
      expect((await bodyOf(response)).equals(BIG.subarray(start, end))).toBe(true);
    });
    expect([range, reads]).toEqual([range, { bytes: chunks * CHUNK_BYTES, digests: 0 }]);
  }
  await corrupt(file, 2 * CHUNK_BYTES + 1);
  expect(await statusOf(address, 'bytes=0-9')).toBe(206);
  expect(await statusOf(address, `bytes=${3 * CHUNK_BYTES}-`)).toBe(206);
  const refused = await get(address, `bytes=${2 * CHUNK_BYTES + 500}-${2 * CHUNK_BYTES + 600}`);
  expect([refused.status, (await json(refused))['type']]).toEqual([502, 'urn:ocdl:problem:digest-mismatch']);
  // The first chunk is correct and served; the next one is not.
  const got = await download(address, `bytes=${CHUNK_BYTES}-`);
  expect([got.status, got.complete]).toEqual([206, false]);
  expect(got.bytes.length).toBeLessThanOrEqual(CHUNK_BYTES);
  expect(got.bytes.equals(BIG.subarray(CHUNK_BYTES, CHUNK_BYTES + got.bytes.length))).toBe(true);
});

test.each([1, 20, 300, 70_000])('a range whose last %d bytes are wrong ends before them', async (tail) => {
  const { address, file } = await released(BIG);
  expect(await statusOf(address, 'bytes=0-0')).toBe(206);
  await corrupt(file, 2 * CHUNK_BYTES + 500_000);
  const got = await download(address, `bytes=${CHUNK_BYTES - 5}-${2 * CHUNK_BYTES + tail - 1}`);
  const right = BIG.subarray(CHUNK_BYTES - 5, 2 * CHUNK_BYTES);
  // Aborted midway, or refused before the first byte: never complete.
  expect(got.complete && got.status === 206).toBe(false);
  if (got.status === 206) {
    expect(got.bytes.length).toBeLessThanOrEqual(right.length);
    expect(got.bytes.equals(right.subarray(0, got.bytes.length))).toBe(true);
  }
});

test('a response that is not read to its end closes the file', async () => {
  const { address } = await released(BIG);
  const { releases } = world().deps;
  const own = { ...releases };
  const open = { count: 0, most: 0 };
  Object.assign(releases, {
    read: async (...args: Parameters<ArtifactStore['read']>) => {
      const pieces = await own.read(...args);
      return (async function* () {
        open.most = Math.max(open.most, (open.count += 1));
        try {
          yield* pieces;
        } finally {
          open.count -= 1;
        }
      })();
    },
  });
  try {
    for (const range of [undefined, 'bytes=7-']) {
      const unread = await get(address, range);
      expect(open).toEqual({ count: 1, most: 1 });
      await unread.body?.cancel();
      expect(open.count).toBe(0);
      const reader = (await get(address, range)).body?.getReader();
      await reader?.read();
      await reader?.cancel();
      expect(open.count).toBe(0);
    }
    const left = new AbortController();
    const headers = { authorization: `Bearer ${world().tokens['mia'] ?? ''}` };
    await world().api.app.request(`http://localhost${address}`, { headers, signal: left.signal });
    expect(open.count).toBe(1);
    left.abort();
    await until('the end of the read', async () => open.count === 0);
  } finally {
    Object.assign(releases, own);
  }
});

test('a client that leaves during the first read of a range closes the file', async () => {
  const { address } = await released(BIG);
  await statusOf(address, 'bytes=0-0');
  const { releases } = world().deps;
  const own = { ...releases };
  const left = new AbortController();
  const open = { count: 0 };
  Object.assign(releases, {
    read: async (...args: Parameters<ArtifactStore['read']>) => {
      const pieces = await own.read(...args);
      return (async function* () {
        open.count += 1;
        let bytes = 0;
        try {
          for await (const piece of pieces) {
            bytes += piece.byteLength;
            // The last piece that the first bytes of the response need: no later read notices the abort.
            if (bytes >= CHUNK_BYTES) left.abort();
            yield piece;
          }
        } finally {
          open.count -= 1;
        }
      })();
    },
  });
  try {
    const headers = { authorization: `Bearer ${world().tokens['mia'] ?? ''}`, range: 'bytes=7-' };
    await world().api.app.request(`http://localhost${address}`, { headers, signal: left.signal });
    expect(left.signal.aborted).toBe(true);
    await until('the end of the read', async () => open.count === 0);
  } finally {
    Object.assign(releases, own);
  }
});

test('no chunk digests are stored of a file that changed before they were computed', async () => {
  const bytes = randomBytes(2 * CHUNK_BYTES);
  const { address, file } = await released(bytes);
  await corrupt(file, bytes.length - 1);
  const together = await Promise.all(['bytes=0-0', 'bytes=1-1', 'bytes=9-9'].map((range) => get(address, range)));
  expect(together.map(({ status }) => status)).toEqual([502, 502, 502]);
  expect(await world().deps.records.chunkDigests(file.sha256, 0, 2)).toBeUndefined();
});

test('a file that is missing or has another size is refused without reading it', async () => {
  const { address, file } = await released(randomBytes(2_000));
  const before = await countOf('bytes_missing');
  await truncate(fileOf(file), 1_999);
  const reads = await readsOf(world().deps.releases, async () => {
    for (const method of ['GET', 'HEAD']) expect((await world().ask('mia', method, address)).status).toBe(502);
  });
  expect(reads).toEqual({ bytes: 0, digests: 0 });
  await rm(fileOf(file));
  const response = await get(address);
  expect([response.status, (await json(response))['type']]).toEqual([502, 'urn:ocdl:problem:missing']);
  expect(await countOf('bytes_missing')).toBe(before + 1);
});

test('a release that is still being copied has no files yet, which is not reported as a fault', async () => {
  const { address, file } = await released(randomBytes(10), false);
  await rm(fileOf(file));
  const before = await countOf('bytes_missing');
  expect(await statusOf(address)).toBe(404);
  expect(await countOf('bytes_missing')).toBe(before);
});

test('every file served by a recorded digest is checked', async () => {
  const { records, areas } = world().deps;
  const put = async (name: string, text: string): Promise<NamedArtifact> => {
    const path = `common/${PROJECT}/datasets/other.im-9/${name}` as StorePath;
    return { ...(await areas.write(path, once(Buffer.from(text)))), name };
  };
  const [sheet, sheetText] = [await put('datasheet.json', '{"v":1}'), await put('datasheet.md', '# Data set')];
  const source = { kind: 'maven', coordinate: 'org.example:rows:1.0' } as const;
  const imported = { project: PROJECT, import: 'im-9', dataset: 'other', source, unpack: false, actor: 'sam' };
  const row = { ...newImport(imported, 'done', '2026-01-01T00:00:00.000Z'), sheet, sheetText };
  await records.recordImport(row, null);
  const version = await records.version(PROJECT, 'random-forest', 'rf-1');
  const evaluation = await records.evaluation(PROJECT, 'ev-1');
  const [model] = version?.files ?? [];
  if (!model || !evaluation?.report) throw new Error('the passage has no model or report');
  const at = `/v1/projects/${PROJECT}`;
  for (const [file, who, address] of [
    [model, 'mia', `${at}/models/random-forest/submissions/rf-1/files/model.onnx`],
    [model, machines().jobOne, '/v1/jobs/job-1/inputs/model.onnx'],
    [evaluation.report, 'mia', `${at}/evaluations/ev-1/report`],
    [sheet, 'eng', `${at}/imports/im-9/datasheet`],
    [sheetText, 'eng', `${at}/imports/im-9/datasheet?format=markdown`],
  ] as const) {
    expect([address, await statusOf(address, undefined, who)]).toEqual([address, 200]);
    await corrupt(file, 0);
    expect([address, await statusOf(address, undefined, who)]).toEqual([address, 502]);
    expect([address, await statusOf(address, 'bytes=1-2', who)]).toEqual([address, 502]);
    await corrupt(file, 0);
    expect([address, await statusOf(address, undefined, who)]).toEqual([address, 200]);
  }
});

test('an upload stores its chunk digests in one pass: no partial read has to read the whole file', async () => {
  const address = `/v1/projects/${PROJECT}/files/private/big.bin`;
  const { areas, records } = world().deps;
  const reads = await readsOf(areas, async () => {
    expect((await world().ask('sam', 'PUT', address, BIG)).status).toBe(201);
  });
  expect(reads).toEqual({ bytes: 0, digests: 0 });
  const hasher = createChunkHasher();
  for (let i = 0; i < BIG.length; i += 777_777) hasher.update(BIG.subarray(i, i + 777_777));
  expect(Buffer.from((await records.chunkDigests(sha256(BIG) as never, 0, 4)) ?? [])).toEqual(
    Buffer.from(hasher.digests()),
  );
  const parts = await readsOf(areas, async () => {
    for (let i = 0; i < 5; i += 1)
      expect((await bodyOf(await get(address, `bytes=${i}-${i}`, 'sam'))).equals(BIG.subarray(i, i + 1))).toBe(true);
  });
  expect(parts).toEqual({ bytes: 5 * CHUNK_BYTES, digests: 0 });
});

test('a file that its owner changes outside the platform is served as changed, never under the old digest', async () => {
  const address = `/v1/projects/${PROJECT}/files/private/changed.bin`;
  await world().ask('sam', 'PUT', address, Buffer.from('first text'));
  const uri = world().deps.areas.uri(`private/${PROJECT}/sam/changed.bin` as StorePath);
  await writeFile(fileOf({ uri }), 'another text');
  const now = await get(address, undefined, 'sam');
  expect([now.headers.get('repr-digest'), await now.text()]).toEqual([reprDigest('another text'), 'another text']);
  // In place, with size and time as they were: only the bytes tell.
  await corrupt({ uri }, 0);
  const before = await countOf('bytes_mismatch');
  const during = await get(address, undefined, 'sam');
  expect([during.status, (await json(during))['type']]).toEqual([503, 'urn:ocdl:problem:changed']);
  const after = await until('the new digest', async () => {
    const response = await get(address, undefined, 'sam');
    return response.status === 200 ? response : undefined;
  });
  expect(after.headers.get('repr-digest')).toBe(reprDigest(await bodyOf(after)));
  expect(await countOf('bytes_mismatch')).toBe(before);
});

test('faults are recorded for the doctor', async () => {
  const { address, file } = await released(randomBytes(50));
  await corrupt(file, 1);
  await get(address);
  const sql = new pg.Client({ connectionString: world().databaseUrl });
  await sql.connect();
  try {
    const [fault] = await until('the record of the fault', async () => {
      const { rows } = await sql.query<{ expected: string; found: string }>(
        'select expected, found from authoritative.byte_faults where uri = $1',
        [file.uri],
      );
      return rows.length > 0 && rows;
    });
    expect(fault).toEqual({
      expected: file.sha256,
      found: expect.stringContaining(sha256(await readFile(fileOf(file)))) as unknown,
    });
  } finally {
    await sql.end();
  }
});
