// Names and paths of maximum length are accepted and usable in every position.
import { expect, test } from '@jest/globals';
import { json, PROJECT, reprDigest, TYPE } from './world.ts';
import { newToken } from '../../activities/tokens.ts';
import { auditEntry } from '../../api/audit-entry.ts';
import type { StorePath } from '../../workflows/domain/names.ts';
import { NAME_LIMIT, pathProblem } from '../../workflows/domain/names.ts';
import { worldOfThisFile } from './world-of.ts';

const { world, machines } = worldOfThisFile();

const name = (letter: string): string => letter.repeat(NAME_LIMIT);
/** 12 segments, 512 characters, the last of 128. */
const longestPath = (last: string): string => {
  const head = Array.from({ length: 11 }, (_, i) => String.fromCharCode(97 + i).repeat(i < 10 ? 34 : 33));
  return [...head, last.padEnd(128, 'x')].join('/');
};
const bytes = Buffer.from('rows');

test('the paths of these tests have the maximum length', () => {
  expect(longestPath('a')).toHaveLength(512);
  expect(pathProblem(longestPath('a'))).toBeUndefined();
  expect([pathProblem(`${longestPath('a')}x`), pathProblem(`a/${longestPath('a').slice(0, 400)}`)]).toEqual([
    expect.stringContaining('at most 512 characters, this one has 513'),
    expect.stringContaining('at most 12 segments, this one has 13'),
  ]);
});

test('an application with the longest name has a repository, and its pipeline a token', async () => {
  const application = name('a');
  const made = await world().ask('mia', 'POST', `/v1/projects/${PROJECT}/applications`, {
    ...{ application, types: [TYPE], gates: ['function'] },
  });
  expect(made.status).toBe(201);
  expect(await world().deps.code.resolve(`${PROJECT}/app-${application}`, 'main')).toMatch(/^[0-9a-f]{40}$/);
  expect((await world().ask('mia', 'POST', `/v1/applications/${application}/tokens`, {})).status).toBe(201);
});

test('a file at the longest path becomes a data set with the longest name, and is read by its path', async () => {
  const path = longestPath('').replace(/.{6}$/, '.jsonl');
  const files = `/v1/projects/${PROJECT}/files`;
  expect((await world().ask('sam', 'PUT', `${files}/private/${path}`, bytes)).status).toBe(201);
  const dataset = name('d');
  const registered = await world().ask('sam', 'POST', `/v1/projects/${PROJECT}/datasets`, {
    ...{ dataset, kind: 'training', files: [{ name: path, area: 'private', path }] },
  });
  expect([registered.status, await registered.text()]).toEqual([201, expect.stringContaining(path)]);
  const read = await world().ask('sam', 'GET', `${files}/common/datasets/${dataset}/${path}`);
  expect([read.status, await read.text()]).toEqual([200, 'rows']);
  const folder = path.split('/').slice(0, -1).join('/');
  const listed = await world().ask('sam', 'GET', `${files}/common?folder=datasets/${dataset}/${folder}`);
  expect(await json(listed)).toMatchObject({ rows: [{ path: `datasets/${dataset}/${path}` }] });
});

test('a job fetches an input with the longest name, and one that an import made from it', async () => {
  const { records, areas } = world().deps;
  const { token, tokenId, sha256 } = newToken();
  const names = [longestPath('rows'), `${longestPath('rows')}.tar`];
  const stored = await areas.write(
    `common/${PROJECT}/datasets/${name('d')}.${name('i')}/files/${names[1]}` as StorePath,
    (async function* () {
      yield bytes;
    })(),
  );
  const grant = { job: 'long', inputs: names.map((one) => ({ ...stored, name: one })), outputs: [] };
  await records.issueToken(
    { tokenId, sha256: sha256, kind: 'job', name: 'long', expiresAt: null, job: grant },
    auditEntry({ key: 'token/long', kind: 'test', actor: 'test', subject: 'test' }),
  );
  for (const one of names) {
    const got = await world().ask(token, 'GET', `/v1/jobs/long/inputs/${one}`);
    expect([got.status, await got.text()]).toEqual([200, 'rows']);
  }
});

test('a submission and an evaluation start from the longest directory with the longest names', async () => {
  const directory = longestPath('runs');
  const submissions = `/v1/projects/${PROJECT}/models/${name('m')}/submissions`;
  const body = { submission: name('s'), type: TYPE, from: { directory } };
  expect((await world().ask('sam', 'POST', submissions, body)).status).toBe(201);
  const evaluation = { evaluation: name('e'), model: name('m'), dataset: name('d'), subject: { directory } };
  expect((await world().ask('sam', 'POST', `/v1/projects/${PROJECT}/evaluations`, evaluation)).status).toBe(201);
  const report = `${directory}/reports/${name('e')}.json`;
  const put = await world().ask('sam', 'PUT', `/v1/projects/${PROJECT}/files/private/${report}`, bytes, {
    'repr-digest': reprDigest(bytes),
  });
  expect(put.status).toBe(201);
});

test('a project, its type and its member have the longest names', async () => {
  const [project, type, user] = [name('p'), name('t'), name('u')];
  expect((await world().ask('admin', 'POST', '/v1/users', { user })).status).toBe(201);
  expect((await world().ask('admin', 'POST', '/v1/projects', { project, types: [type] })).status).toBe(201);
  const member = await world().ask('admin', 'PUT', `/v1/projects/${project}/members/${user}`, { roles: ['manager'] });
  expect(member.status).toBeLessThan(300);
});

test('a test set at the longest path', async () => {
  const path = longestPath('').replace(/.{6}$/, '.jsonl');
  const rows = Buffer.from('{"id":"a","inputs":{"x":1},"label":"YES"}');
  await world().ask('mia', 'PUT', `/v1/projects/${PROJECT}/files/private/${path}`, rows);
  const registered = await world().ask('mia', 'POST', `/v1/projects/${PROJECT}/datasets`, {
    ...{ dataset: name('t'), kind: 'test', files: [{ name: path, area: 'private', path }] },
  });
  expect([registered.status, await registered.text()]).toEqual([201, expect.stringContaining(path)]);
});

test('findings and a reason at their limits are one command; if it is too large for its workflow, it is refused', async () => {
  const scan = name('f');
  const findings = Array.from({ length: 200 }, (_, i) => String(i).padStart(64, 'f'));
  const report = {
    ...{ scan, type: TYPE, release: `${TYPE}-1` },
    findings: findings.map((finding) => ({
      ...{ finding, name: 'n'.repeat(512), path: 'p'.repeat(1_024), vulnerable: true, probability: 1 },
      source: 'a'.repeat(64),
    })),
  };
  const reported = await world().ask(machines().scanner, 'POST', '/v1/applications/scanner/scans', report);
  expect(reported.status).toBe(201);
  const commands = `/v1/projects/${PROJECT}/scans/${scan}/commands`;
  const confirm = (commandId: string, reason: string) =>
    world().ask('eng', 'POST', commands, { commandId, name: 'confirm', revision: 0, args: { findings, reason } });
  expect((await confirm('c'.repeat(64), 'r'.repeat(2_000))).status).toBe(202);
  // Each quote takes two characters.
  const refused = await confirm('d'.repeat(64), '"'.repeat(2_000));
  expect([refused.status, (await json(refused))['detail']]).toEqual([
    400,
    expect.stringMatching(
      /^body: signed, the command has 1[78]\d{3} characters, more than the limit of 16384: give fewer/,
    ),
  ]);
  expect((await world().ask('eng', 'GET', `${commands}/${'d'.repeat(64)}`)).status).toBe(404);
});
