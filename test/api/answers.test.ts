// Every answer: problem documents without internals, a request id, and an authenticated caller.
import { describe, expect, test } from '@jest/globals';
import { createOutlast } from '../../activities/adapters/postgres/losses.ts';
import { createApp } from '../../api/app.ts';
import { json, PROJECT, TYPE } from './world.ts';
import { worldOfThisFile } from './world-of.ts';

const { world, machines } = worldOfThisFile({ jsonBytes: 100_000 });

/** The name of an unavailable system is meant for the caller: `PostgreSQL` as a word is none of these. */
const inside =
  /node_modules|\/tmp\/|\.ts:|postgres(?!ql: |ql")|:5432|select |insert |ENOENT|ECONNREFUSED|at async|local:/i;

const scan = { scan: 'scan-9', type: TYPE, release: `${TYPE}-1`, findings: [] };

/** Asserts a problem document with that status and without internals. */
async function expectProblem(response: Response, status: number): Promise<Record<string, unknown>> {
  const text = await response.text();
  expect([response.status, text]).toEqual([status, expect.not.stringMatching(inside)]);
  expect(response.headers.get('content-type')).toBe('application/problem+json');
  const body = JSON.parse(text) as Record<string, unknown>;
  expect(body).toMatchObject({ status, type: expect.stringMatching(/^urn:ocdl:problem:/) as unknown });
  expect(String(body['detail']).length).toBeGreaterThan(5);
  expect(body['requestId']).toBe(response.headers.get('x-request-id'));
  return body;
}

describe('an answer', () => {
  test('to an unknown address is a problem document', async () => {
    await expectProblem(await world().ask('mia', 'GET', '/v1/nothing'), 404);
    await expectProblem(await world().ask(null, 'GET', '/'), 404);
    await expectProblem(await world().ask(null, 'OPTIONS', '/v1'), 404);
  });

  test.each([
    ['PATCH', '/v1/users', 'POST, GET, HEAD'],
    ['OPTIONS', '/v1/me', 'GET, HEAD'],
    ['DELETE', `/v1/projects/${PROJECT}/files/private/a/b.bin`, 'GET, HEAD, PUT'],
    ['POST', '/v1/openapi.json', 'GET, HEAD'],
  ])('to %s of %s names the methods that there are', async (method, path, allowed) => {
    const response = await world().ask('mia', method, path);
    expect(response.headers.get('allow')).toBe(allowed);
    const { detail } = await expectProblem(response, 405);
    expect(detail).toBe(`this address takes ${allowed}, not ${method}`);
  });

  test.each<[string, string, string, object, string]>([
    [
      'mia',
      'POST',
      `/v1/projects/${PROJECT}/types`,
      { types: ['a'] },
      'only an administrator of the platform may do it',
    ],
    ['sam', 'PUT', `/v1/projects/${PROJECT}/policy`, {}, 'it needs the role manager, which a manager of the project'],
    ['mia', 'POST', '/v1/applications/scanner/scans', scan, 'it needs the token of the application or job'],
  ])('to %s without the right, %s %s, says who has it', async (who, method, path, body, way) => {
    const { detail } = await expectProblem(await world().ask(who, method, path, body), 403);
    expect(detail).toContain(way);
  });

  test('to the token of an application does not offer roles of people', async () => {
    const { detail } = await expectProblem(await world().ask(machines().scanner, 'GET', '/v1/me'), 403);
    expect(detail).toContain('the token of the application "scanner" does not allow token.own');
    expect(detail).not.toContain('role');
  });

  test('to a body with a mistake deep inside one of several forms says where', async () => {
    const run = { commit: 'main', entrypoint: 'train.py', lock: 'lock.txt', data: ['UPPER'], seed: -1 };
    const body = { submission: 'deep', type: TYPE, from: { run } };
    const path = `/v1/projects/${PROJECT}/models/rf/submissions`;
    const { errors } = await expectProblem(await world().ask('sam', 'POST', path, body), 400);
    expect((errors as { where: string }[]).map(({ where }) => where).sort()).toEqual([
      'body.from.run.data.0',
      'body.from.run.seed',
    ]);
    const neither = await expectProblem(
      await world().ask('sam', 'POST', path, { ...body, from: { directory: 7 } }),
      400,
    );
    expect(neither['detail']).toContain('body.from: from must be');
  });

  test('to an internal error reveals no details; the log has them, without tokens', async () => {
    const { deps } = world();
    const broken = { ...deps.records, users: () => Promise.reject(new Error('password=hunter2 at /tmp/secret.ts:1')) };
    const { app } = createApp({ ...deps, records: broken });
    const token = world().tokens['admin'] ?? '';
    const response = await app.request('http://localhost/v1/users', { headers: { authorization: `Bearer ${token}` } });
    const text = await response.text();
    expect([response.status, text]).toEqual([500, expect.not.stringMatching(/hunter2|secret/)]);
    const { requestId } = JSON.parse(text) as { requestId: string };
    const lines = world().lines.filter((line) => line['requestId'] === requestId);
    expect(lines.map((line) => JSON.stringify(line)).join()).toContain('hunter2');
    expect(lines.at(-1)).toMatchObject({ route: '/v1/users', status: 500, principal: 'user/admin' });
    expect(JSON.stringify(world().lines)).not.toContain(token);
  });

  test('while the database is down says so, with Retry-After', async () => {
    const { deps } = world();
    const outlast = createOutlast({ server: 'PostgreSQL at db:5432/ocdl', patienceMs: 0, onWarn: () => undefined });
    const lost = Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED' });
    const users = () => outlast(() => Promise.reject(lost));
    const { app } = createApp({ ...deps, records: { ...deps.records, users } });
    const token = world().tokens['admin'] ?? '';
    const response = await app.request('http://localhost/v1/users', { headers: { authorization: `Bearer ${token}` } });
    expect(response.headers.get('retry-after')).toBe('5');
    expect(await expectProblem(response, 503)).toMatchObject({
      ...{ detail: 'PostgreSQL: it cannot be reached; try again' },
      ...{ system: 'PostgreSQL', reason: 'it cannot be reached' },
    });
  });

  test('has the given request id, if it is valid', async () => {
    const ask = async (id: string) =>
      (await world().ask('mia', 'GET', '/v1/me', undefined, { 'x-request-id': id })).headers.get('x-request-id');
    expect(await ask('trace-12345678')).toBe('trace-12345678');
    for (const id of ['short', 'a'.repeat(65), 'with space in it', '<script>alert</script>'])
      expect(await ask(id)).toMatch(/^[0-9a-f-]{36}$/);
  });

  test('the token scheme is case-insensitive; tokens in the query or a cookie are ignored', async () => {
    const token = world().tokens['sam'] ?? '';
    const status = async (path: string, headers: Record<string, string>) =>
      (await world().api.app.request(`http://localhost${path}`, { headers })).status;
    for (const scheme of ['Bearer', 'bearer', 'BEARER'])
      expect(await status('/v1/me', { authorization: `${scheme} ${token}` })).toBe(200);
    for (const authorization of [
      token,
      `Basic ${token}`,
      `Bearer ${token} x`,
      'Bearer',
      `Bearer ${token.slice(0, -1)}`,
      `Bearer ${token}A`,
    ])
      expect(await status('/v1/me', { authorization })).toBe(401);
    expect(await status(`/v1/me?access_token=${token}`, {})).toBe(401);
    expect(await status('/v1/me', { cookie: `token=${token}` })).toBe(401);
  });

  test('an expired token is refused, and an application does not become the person with the same name', async () => {
    const { records } = world().deps;
    const { newToken } = await import('../../activities/tokens.ts');
    const { auditEntry } = await import('../../api/audit-entry.ts');
    const { token, tokenId, sha256 } = newToken();
    const entry = auditEntry({ key: tokenId, kind: 'test', actor: 'test', subject: 'test' });
    await records.issueToken(
      { tokenId, sha256, kind: 'user', name: 'mia', expiresAt: new Date(Date.now() - 1_000).toISOString(), job: null },
      entry,
    );
    expect((await world().ask(token, 'GET', '/v1/me')).status).toBe(401);
    const made = await json(world().ask('mia', 'POST', '/v1/applications/scanner/tokens', {}));
    expect((await world().ask(String(made['token']), 'GET', '/v1/me')).status).toBe(403);
  });
});

test('metrics are served to the administrator in the Prometheus format', async () => {
  const answer = await world().ask('admin', 'GET', '/metrics');
  expect(answer.headers.get('content-type')).toContain('version=0.0.4');
  expect(await answer.text()).toMatch(/^process_resident_memory_bytes \d+\n(.*\n)*ocdl_alluxio_fallbacks_total 1\n$/m);
  expect((await world().ask(null, 'GET', '/metrics')).status).toBe(401);
});
