// A system that does not answer, refuses, or is full: each by its real adapter, through the API's routes, is 503 or 507 with its name and reason.
import { createHash } from 'node:crypto';
import { mkdir, rm } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { PutObjectCommand } from '@aws-sdk/client-s3';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { Client, Connection } from '@temporalio/client';
import pg from 'pg';
import { createAlluxioReads } from '../../activities/adapters/alluxio.ts';
import { createGitHost, createGitRemote } from '../../activities/adapters/git.ts';
import { createHdfsStore, type HdfsStore } from '../../activities/adapters/hdfs.ts';
import { createKafkaBus } from '../../activities/adapters/kafka.ts';
import { createLocalDisk } from '../../activities/adapters/local-disk.ts';
import { createOutlast } from '../../activities/adapters/postgres/losses.ts';
import { createS3Store } from '../../activities/adapters/s3.ts';
import { diskError } from '../../activities/adapters/durable-file.ts';
import type { ArtifactStore } from '../../activities/ports.ts';
import type { ApiDeps } from '../../api/deps.ts';
import { createApp } from '../../api/app.ts';
import { createWorkflowGateway } from '../../api/temporal.ts';
import type { Release } from '../../workflows/domain/model.ts';
import type { StorePath } from '../../workflows/domain/names.ts';
import { refusalBy, wayTo, type Answer } from '../adapters/hdfs-way.ts';
import { freshBucket } from '../adapters/s3-bucket.ts';
import { CASE_TIMEOUT_MS, freshName } from '../contracts/cases.ts';
import { describeWith, freePort, hdfsServer, s3Server } from '../servers.ts';
import { json, PROJECT, sha256, TYPE } from './world.ts';
import { worldOfThisFile } from './world-of.ts';

const { world } = worldOfThisFile();

const files = `/v1/projects/${PROJECT}/files/private`;

/** Asks a platform of which some parts are replaced. */
async function ask(
  parts: Partial<ApiDeps>,
  who: string,
  method: string,
  path: string,
  body?: Buffer | object,
  range?: string,
) {
  const { app } = createApp({ ...world().deps, ...parts });
  const isBytes = Buffer.isBuffer(body);
  return app.request(`http://localhost${path}`, {
    method,
    headers: {
      authorization: `Bearer ${world().tokens[who] ?? ''}`,
      ...(range !== undefined && { range }),
      ...(body && { 'content-type': isBytes ? 'application/octet-stream' : 'application/json' }),
    },
    ...(body && { body: isBytes ? new Uint8Array(body) : JSON.stringify(body) }),
  });
}

/** The answer must name the system and a reason without addresses, and have Retry-After. */
async function says(response: Response, status: 503 | 507, system: string, reason: RegExp): Promise<void> {
  const body = await json(response);
  expect(body).toMatchObject({
    ...{ status, system, type: `urn:ocdl:problem:${status === 507 ? 'no-space' : 'unavailable'}` },
    reason: expect.stringMatching(reason) as unknown,
    detail: expect.stringContaining(system) as unknown,
  });
  expect(JSON.stringify(body)).not.toMatch(/127\.0\.0\.1|localhost|\/tmp\/|:\d{4}|Internal/);
  expect(Number(response.headers.get('retry-after'))).toBeGreaterThan(0);
}

describe('a disk', () => {
  const openStores = async () => {
    const root = join(world().folder, freshName('disk'));
    const stores = {
      areas: await createLocalDisk({ root: join(root, 'areas'), name: 'areas' }),
      releases: await createLocalDisk({ root: join(root, 'releases'), name: 'releases' }),
    };
    return { root, stores };
  };
  test('whose folder is missing', async () => {
    const { root, stores } = await openStores();
    await rm(join(root, 'areas'), { recursive: true });
    const put = await ask(stores, 'sam', 'PUT', `${files}/a.bin`, Buffer.from('x'));
    await says(put, 503, 'areas', /file system error/);
  });
  test.each(['ENOSPC', 'EDQUOT'])('that has no room left (%s)', async (code) => {
    const { stores } = await openStores();
    const full = Object.assign(new Error(`${code}: write`), { code, syscall: 'write' });
    const write = async (): Promise<never> => {
      throw diskError(full, 'writing a', 'areas');
    };
    const areas = { ...stores.areas, write };
    const put = await ask({ ...stores, areas }, 'sam', 'PUT', `${files}/a.bin`, Buffer.from('x'));
    await says(put, 507, 'areas', /disk/);
  });
});

describe('S3', () => {
  const played: { server?: Server; answer: Answer } = { answer: { status: 500, body: '' } };
  let store: Awaited<ReturnType<typeof createS3Store>>;
  const open = (endpoint: string) =>
    createS3Store({
      ...{ bucket: 'releases', region: 'us-east-1', endpoint },
      credentials: { accessKeyId: 'key', secretAccessKey: 'secret' },
    });
  beforeAll(async () => {
    played.server = createServer((request, response) => {
      request.resume();
      response.writeHead(played.answer.status, { 'content-type': 'application/xml' });
      response.end(request.method === 'HEAD' ? '' : played.answer.body);
    });
    await new Promise<void>((resolve) => played.server?.listen(0, '127.0.0.1', resolve));
    store = await open(`http://127.0.0.1:${(played.server.address() as AddressInfo).port}`);
  });
  afterAll(async () => {
    await store.close();
    played.server?.closeAllConnections();
    played.server?.close();
  });
  const error = (code: string) => `<?xml version="1.0"?><Error><Code>${code}</Code><Message>played</Message></Error>`;

  /** A file of a release that lies in this store. */
  async function releasedFile(releases: ArtifactStore): Promise<string> {
    const { records } = world().deps;
    const model = Buffer.from('released bytes');
    const uri = releases.uri(`releases/${TYPE}/${sha256(model)}/model.onnx` as StorePath);
    const file = { name: 'model.onnx', uri, sha256: sha256(model), bytes: model.length } as Release['files'][number];
    const name = freshName('s3');
    const { release } = await records.allotRelease(name, {
      ...{ type: TYPE, project: PROJECT, model: name, submission: 's-1', version: 1, digest: file.sha256 },
      ...{
        files: [file],
        report: null,
        approvedBy: ['mia'],
        releasedBy: 'mia',
        releasedAt: '2026-01-01T00:00:00.000Z',
      },
    });
    await records.announced(release);
    return `/v1/releases/${release}/files/model.onnx`;
  }

  test.each<[number, string, 503 | 507, RegExp]>([
    [503, 'SlowDown', 503, /overloaded or fails/],
    [500, 'InternalError', 503, /overloaded or fails/],
    [403, 'AccessDenied', 503, /access is denied|credentials/],
    [418, 'Teapot', 503, /unknown error/],
    [507, 'InsufficientStorage', 507, /no space left/],
  ])('that answers %d %s, when a release is read', async (status, code, as, reason) => {
    played.answer = { status, body: error(code) };
    await says(await ask({ releases: store }, 'mia', 'GET', await releasedFile(store)), as, 'S3', reason);
  });

  test.each(['QuotaExceeded', 'XMinioStorageFull', 'XMinioAdminBucketQuotaExceeded'])(
    'whose space is used up (%s), when a file is written',
    async (code) => {
      played.answer = { status: 400, body: error(code) };
      const put = await ask({ areas: withPut(store) }, 'sam', 'PUT', `${files}/a.bin`, Buffer.from('x'));
      await says(put, 507, 'S3', /no space left/);
    },
  );
  /** A platform whose areas lie in S3, up to the write. */
  const withPut = (of: ArtifactStore): ArtifactStore => ({ ...of, stat: () => Promise.resolve(undefined) });

  test('that is stopped', async () => {
    const gone = await open(`http://127.0.0.1:${await freePort()}`);
    try {
      const response = await ask({ releases: gone }, 'mia', 'GET', await releasedFile(gone));
      await says(response, 503, 'S3', /connection was refused/);
    } finally {
      await gone.close();
    }
  });
});

describe('PostgreSQL', () => {
  const outlast = createOutlast({
    server: 'PostgreSQL at 127.0.0.1:5432/ocdl',
    patienceMs: 0,
    onWarn: () => undefined,
  });
  const failing = (error: Error) => ({
    records: { ...world().deps.records, users: () => outlast<never>(() => Promise.reject(error)) },
  });
  test.each<[string, 503 | 507, RegExp]>([
    ['ECONNREFUSED', 503, /cannot be reached/],
    ['ETIMEDOUT', 503, /cannot be reached/],
  ])('with %s', async (code, status, reason) => {
    const error = Object.assign(new Error(`connect ${code} 127.0.0.1:5432`), { code });
    await says(await ask(failing(error), 'admin', 'GET', '/v1/users'), status, 'PostgreSQL', reason);
  });
  test.each<[string, 503 | 507, RegExp]>([
    ['57P01', 503, /stopping or starting/],
    ['57014', 503, /exceeded its time limit/],
    ['53300', 503, /no free connections/],
    ['28P01', 503, /refuses the user/],
    ['42501', 503, /lacks permissions/],
    ['25006', 503, /read-only/],
    ['58030', 503, /internal error/],
    ['53100', 507, /disk is full/],
  ])('that answers SQLSTATE %s', async (code, status, reason) => {
    const error = Object.assign(new pg.DatabaseError('played', 6, 'error'), { code });
    await says(await ask(failing(error), 'admin', 'GET', '/v1/users'), status, 'PostgreSQL', reason);
  });
});

test('Temporal that does not answer', async () => {
  const connection = Connection.lazy({ address: `127.0.0.1:${await freePort()}`, connectTimeout: 500 });
  const workflows = createWorkflowGateway(new Client({ connection }));
  try {
    await world().ask('sam', 'PUT', `${files}/away/model.onnx`, Buffer.from('x'));
    const body = { submission: 'away-1', type: TYPE, from: { directory: 'away' } };
    const response = await ask({ workflows }, 'sam', 'POST', `/v1/projects/${PROJECT}/models/away/submissions`, body);
    await says(response, 503, 'Temporal', /does not answer/);
  } finally {
    await connection.close();
  }
});

test('a Git remote that is stopped', async () => {
  const root = join(world().folder, freshName('mirrors'));
  await mkdir(root);
  const code = await createGitRemote({ root, remote: `http://127.0.0.1:${await freePort()}/{repository}.git` });
  const response = await ask({ code }, 'sam', 'POST', `/v1/projects/${PROJECT}/code/commits`, {
    ...{ branch: 'main', message: 'a', files: { 'a.py': 'x' } },
  });
  await says(response, 503, 'Git', /cannot be reached/);
});

test('repositories whose folder is missing', async () => {
  const root = join(world().folder, freshName('git'));
  const code = await createGitHost({ root });
  await rm(root, { recursive: true });
  const body = { branch: 'main', message: 'a', files: { 'a.py': 'x' } };
  const response = await ask({ code }, 'sam', 'POST', `/v1/projects/${PROJECT}/code/commits`, body);
  await says(response, 503, 'Git', /failed|file system error/);
});

test('Kafka and Alluxio, which no route uses, fail with the same error', async () => {
  const kafka = await createKafkaBus({ brokers: [`127.0.0.1:${await freePort()}`] });
  const expected = (system: string, reason: RegExp) => ({
    ...{ name: 'SystemUnavailable', system, isFull: false },
    reason: expect.stringMatching(reason) as unknown,
  });
  await expect(kafka.check()).rejects.toMatchObject(expected('Kafka', /does not answer/));
  await kafka.close();
  const alluxio = createAlluxioReads({
    ...{ store: world().deps.areas, url: `http://127.0.0.1:${await freePort()}`, root: '/ocdl' },
    onWarn: () => undefined,
  });
  await expect(alluxio.check()).rejects.toMatchObject(expected('Alluxio', /cannot be reached/));
});

describeWith(['hdfs'], 'HDFS', () => {
  let store: HdfsStore;
  let way: Awaited<ReturnType<typeof wayTo>>;
  const play: { op?: string; answer?: Answer | 'lost' } = {};
  beforeAll(async () => {
    way = await wayTo((await hdfsServer()).url, async (op, pass) => {
      if (play.op !== undefined && (play.op === op || play.op === 'any'))
        return play.answer === 'lost' ? undefined : play.answer;
      return pass();
    });
    store = await createHdfsStore({ url: way.url, user: 'ocdl', root: `/${freshName('unavailable')}`, name: 'areas' });
  }, CASE_TIMEOUT_MS);
  afterAll(async () => {
    await store?.close();
    way?.close();
  });
  afterEach(() => {
    delete play.op;
    delete play.answer;
  });

  test.each<[string, string, Answer | 'lost', 503 | 507, RegExp]>([
    ['is stopped', 'any', 'lost', 503, /no NameNode answers/],
    ['has no disk quota left', 'CREATE', refusalBy('DSQuotaExceededException', 'played'), 507, /disk space is used up/],
    ['has no quota of files', 'CREATE', refusalBy('NSQuotaExceededException', 'played'), 507, /number of files/],
    ['is in safe mode', 'CREATE', refusalBy('SafeModeException', 'played'), 503, /safe mode/],
    ['is a standby', 'any', refusalBy('StandbyException', 'played'), 503, /no NameNode is active/],
    ['refuses the platform’s user', 'CREATE', refusalBy('AccessControlException', 'played'), 503, /denies the user/],
    ['has another fault', 'CREATE', refusalBy('IOException', 'played'), 503, /unknown error/],
    ['sends an unexpected answer', 'any', { status: 200, body: '{"a":1}' }, 503, /unknown error/],
    ['is a different service', 'any', { status: 404, body: '<html>' }, 503, /unknown error/],
  ])('that %s', async (_, op, answer, status, reason) => {
    Object.assign(play, { op, answer });
    const put = await ask({ areas: store }, 'sam', 'PUT', `${files}/a.bin`, Buffer.from('x'));
    await says(put, status, 'HDFS', reason);
    if (op !== 'any') return;
    for (const address of [files, `${files}/a.bin`])
      await says(await ask({ areas: store }, 'sam', 'GET', address), status, 'HDFS', reason);
  });
});

describeWith(['s3'], 'an object that is changed in S3', () => {
  test(
    'changed outside the platform is not served under the approved digest',
    async () => {
      const bucket = await freshBucket(await s3Server());
      const releases = await bucket.open();
      try {
        for (const size of [2_000, 3 * 2 ** 20]) {
          const bytes = Buffer.alloc(size, 7);
          const path = `releases/${TYPE}/${sha256(bytes)}/model.onnx` as StorePath;
          const written = await releases.write(path, Readable.from([bytes]));
          const name = freshName('changed');
          const { release } = await world().deps.records.allotRelease(name, {
            ...{ type: TYPE, project: PROJECT, model: name, submission: 's-1', version: 1, digest: written.sha256 },
            ...{ files: [{ ...written, name: 'model.onnx' }], report: null, approvedBy: ['mia'], releasedBy: 'mia' },
            releasedAt: '2026-01-01T00:00:00.000Z',
          });
          await world().deps.records.announced(release);
          const address = `/v1/releases/${release}/files/model.onnx`;
          expect((await ask({ releases }, 'mia', 'GET', address)).status).toBe(200);
          const other = Buffer.from(bytes);
          other[size - 1] = 8;
          await bucket.client.send(new PutObjectCommand({ Bucket: bucket.bucket, Key: path, Body: other }));
          const got = await ask({ releases }, 'mia', 'GET', address);
          const whole = await got.arrayBuffer().then(
            (body) => createHash('sha256').update(new Uint8Array(body)).digest('hex'),
            () => 'broken off',
          );
          if (size < 2 ** 20) expect(got.status).toBe(502);
          else expect([got.status, whole]).toEqual([200, 'broken off']);
          expect((await ask({ releases }, 'mia', 'GET', address, undefined, 'bytes=-1')).status).toBe(502);
        }
      } finally {
        await bucket.close();
      }
    },
    CASE_TIMEOUT_MS,
  );
});
