// Every answer: one shape for what went wrong, nothing of the inside in it, a request id, and a proven caller.
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { createOutlast } from '../../activities/adapters/postgres/losses.ts';
import { createApp } from '../../api/app.ts';
import { populatePassage } from './passage.ts';
import type { World } from './world.ts';
import { json, openWorld } from './world.ts';

const state: { world?: World } = {};
const world = (): World => {
  if (!state.world) throw new Error('no world');
  return state.world;
};
beforeAll(async () => {
  state.world = await openWorld({ jsonBytes: 100_000 });
  await populatePassage(state.world);
});
afterAll(() => state.world?.close());

/** The name of an unavailable system is meant for the caller: `PostgreSQL` as a word is none of these. */
const inside =
  /node_modules|\/tmp\/|\.ts:|postgres(?!ql: |ql")|:5432|select |insert |ENOENT|ECONNREFUSED|at async|local:/i;

/** Asserts that it is a problem of that status and tells nothing of the inside. */
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
  test('to what is not there is a problem, too', async () => {
    await expectProblem(await world().ask('mia', 'GET', '/v1/nothing'), 404);
    await expectProblem(await world().ask('mia', 'PATCH', '/v1/users'), 404);
    await expectProblem(await world().ask(null, 'GET', '/'), 404);
  });

  test('to something that broke inside says nothing of it; the log does, and never a token', async () => {
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

  test('while the database is away says so, and when to ask again', async () => {
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

  test('carries the request id that was given, if it is a sane one', async () => {
    const ask = async (id: string) =>
      (await world().ask('mia', 'GET', '/v1/me', undefined, { 'x-request-id': id })).headers.get('x-request-id');
    expect(await ask('trace-12345678')).toBe('trace-12345678');
    for (const id of ['short', 'a'.repeat(65), 'with space in it', '<script>alert</script>'])
      expect(await ask(id)).toMatch(/^[0-9a-f-]{36}$/);
  });

  test('a token in any case of the scheme; in the query or a cookie it is none', async () => {
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

  test('an expired token is none, and a name taken by an application is not the person', async () => {
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

test('figures are told to the administrator as Prometheus reads them', async () => {
  const answer = await world().ask('admin', 'GET', '/metrics');
  expect(answer.headers.get('content-type')).toContain('version=0.0.4');
  expect(await answer.text()).toMatch(/^process_resident_memory_bytes \d+\n(.*\n)*ocdl_alluxio_fallbacks_total 1\n$/m);
  expect((await world().ask(null, 'GET', '/metrics')).status).toBe(401);
});
