// People and tokens: disabled and enabled, promoted and demoted, and every token seen and revoked by those who may.
import { describe, expect, test } from '@jest/globals';
import { firstAdmin } from '../../api/first-start.ts';
import { worldOfThisFile } from './world-of.ts';
import { json, PROJECT } from './world.ts';

const { world, machines, said, auditOf } = worldOfThisFile();
const put = (who: string, user: string, body: object) => said(world().ask(who, 'PUT', `/v1/users/${user}`, body));
const status = async (who: string, path = '/v1/me') => (await world().ask(who, 'GET', path)).status;
const rowsAt = async (who: string, path: string) =>
  (await json(world().ask(who, 'GET', path)))['rows'] as Record<string, unknown>[];

describe('a user', () => {
  test('who is disabled is refused immediately and counts nowhere, until enabled again', async () => {
    expect(await status('sid', `/v1/projects/${PROJECT}`)).toBe(200);
    expect(await put('admin', 'sid', { disabled: true })).toMatchObject([200, '', { disabled: true, admin: false }]);
    expect([await status('sid'), await status('sid', `/v1/projects/${PROJECT}`)]).toEqual([401, 401]);
    const members = await rowsAt('mia', `/v1/projects/${PROJECT}/members`);
    expect(members).toContainEqual({ user: 'sid', roles: ['scientist'], disabled: true });
    expect(members).toContainEqual({ user: 'sam', roles: ['scientist'], disabled: false });
    const owned = { application: 'of-sid', types: ['sentiment'], gates: ['function'], owner: 'sid' };
    expect((await said(world().ask('mia', 'POST', `/v1/projects/${PROJECT}/applications`, owned)))[1]).toBe(
      'no-such-member: owner: "sid" is disabled',
    );
    expect((await said(world().ask('admin', 'POST', '/v1/users/sid/tokens', {})))[1]).toContain('sid is disabled');
    await put('admin', 'sid', { disabled: false });
    expect(await status('sid')).toBe(200);
    const changes = (await auditOf('user/sid')).filter(({ kind }) => kind === 'user.changed');
    expect(changes.map(({ actor, detail }) => [actor, detail])).toEqual([
      ['admin', { before: { admin: false, disabled: false }, change: { disabled: true } }],
      ['admin', { before: { admin: false, disabled: true }, change: { disabled: false } }],
    ]);
  });

  test('becomes an administrator and stops being one; the last administrator stays', async () => {
    expect((await put('admin', 'admin', { admin: false }))[1]).toMatch(/^conflict: admin is the last enabled admin/);
    expect((await put('admin', 'admin', { disabled: true }))[0]).toBe(409);
    await put('admin', 'dan', { admin: true });
    expect(await status('dan', '/v1/users')).toBe(200);
    // A disabled administrator does not count.
    await put('dan', 'dan', { disabled: true });
    expect((await put('admin', 'admin', { admin: false }))[0]).toBe(409);
    await put('admin', 'dan', { disabled: false });
    expect((await put('admin', 'admin', { admin: false }))[0]).toBe(200);
    expect([await status('admin', '/v1/users'), await status('dan', '/v1/users')]).toEqual([403, 200]);
    await put('dan', 'admin', { admin: true });
    await put('admin', 'dan', { admin: false });
  });

  test('that does not exist, or an empty change, is refused', async () => {
    expect((await put('admin', 'no-one', { disabled: true }))[0]).toBe(404);
    expect((await put('admin', 'sam', {}))[1]).toContain('give admin, disabled or both');
    expect((await put('mia', 'sam', { disabled: true }))[0]).toBe(403);
  });
});

describe('tokens', () => {
  const issue = async (who: string, path: string) => json(world().ask(who, 'POST', path, {}));

  test('of all holders are listed and revoked by an administrator, and the audit names their holder', async () => {
    const { tokenId, token } = await issue('admin', '/v1/users/eng/tokens');
    expect((await rowsAt('admin', '/v1/users/eng/tokens')).map((row) => row['tokenId'])).toContain(tokenId);
    expect(await status(String(token))).toBe(200);
    expect((await world().ask('admin', 'DELETE', `/v1/tokens/${String(tokenId)}`)).status).toBe(200);
    expect(await status(String(token))).toBe(401);
    expect((await auditOf('user/eng')).at(-1)).toMatchObject({
      kind: 'token.revoked',
      actor: 'admin',
      detail: { tokenId },
    });
    expect(await status('mia', '/v1/users/eng/tokens')).toBe(403);
    expect(await status('admin', '/v1/users/no-one/tokens')).toBe(404);
  });

  test('of a person are revoked only by that person or an administrator', async () => {
    const { tokenId, token } = await issue('sid', '/v1/tokens');
    const path = `/v1/tokens/${String(tokenId)}`;
    for (const who of ['sam', 'mia', 'olga', 'nobody'])
      expect([who, (await world().ask(who, 'DELETE', path)).status]).toEqual([who, 404]);
    expect(await status(String(token))).toBe(200);
    expect((await world().ask('sid', 'DELETE', path)).status).toBe(200);
    expect(await status(String(token))).toBe(401);
  });

  test('of an application are listed and revoked only by its owner and by managers', async () => {
    const path = '/v1/applications/scanner/tokens';
    const { tokenId, token } = await issue('dev', path);
    const listed = await rowsAt('mia', path);
    expect(listed).toContainEqual(
      expect.objectContaining({ tokenId, kind: 'application', name: 'scanner', revokedAt: null }),
    );
    expect(JSON.stringify(listed)).not.toContain(token);
    expect([await status('dan', path), await status('sam', path), await status('olga', path)]).toEqual([403, 403, 404]);
    expect(await status(machines().probe, path)).toBe(404);
    const other = '/v1/applications/probe/tokens';
    expect((await world().ask('dev', 'DELETE', `${other}/${String(tokenId)}`)).status).toBe(404);
    expect(await status(String(token), '/v1/applications/scanner')).toBe(200);
    expect((await world().ask('dev', 'DELETE', `${path}/${String(tokenId)}`)).status).toBe(200);
    expect(await status(String(token), '/v1/applications/scanner')).toBe(401);
    // A person's token is not the application's, whatever its name.
    const own = await issue('mia', '/v1/tokens');
    expect((await world().ask('dev', 'DELETE', `${path}/${String(own['tokenId'])}`)).status).toBe(404);
  });

  test('of jobs are listed while valid, and revoked by an administrator', async () => {
    const jobs = async () => (await rowsAt('admin', '/v1/jobs/tokens')).map((row) => row['name']);
    expect((await jobs()).sort()).toEqual(['job-1', 'job-2']);
    const page = await json(world().ask('admin', 'GET', '/v1/jobs/tokens?limit=1'));
    const [row] = page['rows'] as { tokenId: string; name: string }[];
    const path = `/v1/jobs/${row?.name}/inputs/model.onnx`;
    const token = row?.name === 'job-1' ? machines().jobOne : machines().jobTwo;
    expect(await status(token, path)).toBe(200);
    expect((await world().ask('admin', 'DELETE', `/v1/tokens/${row?.tokenId}`)).status).toBe(200);
    expect(await status(token, path)).toBe(401);
    expect(await jobs()).toHaveLength(1);
    expect((await rowsAt('admin', `/v1/jobs/tokens?limit=1&after=${String(page['next'])}`)).length).toBe(1);
  });
});

test('a start gives its token to an administrator, even if the first one no longer is', async () => {
  const { records } = world().deps;
  const people = [
    { user: 'admin', admin: false, disabled: false },
    { user: 'dan', admin: true, disabled: true },
    { user: 'nobody', admin: true, disabled: false },
  ];
  const token = await firstAdmin({ ...records, users: async () => people, tokens: async () => [] });
  expect(await json(world().ask(token ?? '', 'GET', '/v1/me'))).toMatchObject({ name: 'nobody' });
});

test('no change of the policy is lost when several are made at once', async () => {
  const path = `/v1/projects/${PROJECT}/policy`;
  const changes = [{ quorum: 3 }, { undoWithinSeconds: 77 }, { thresholds: { roc_auc: 0.33 } }, { quorum: 3 }];
  const before = await world().deps.records.project(PROJECT);
  const answers = await Promise.all(changes.map((change) => said(world().ask('mia', 'PUT', path, change))));
  expect(answers.map(([code]) => code)).toEqual([200, 200, 200, 200]);
  const after = await world().deps.records.project(PROJECT);
  expect(after?.policy).toEqual({
    ...{ version: (before?.policy.version ?? 0) + 4, quorum: 3, undoWithinSeconds: 77 },
    thresholds: { roc_auc: 0.33 },
  });
});
