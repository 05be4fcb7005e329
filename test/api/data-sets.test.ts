// Failed registrations of data sets leave nothing, and unused data sets can be deleted.
import { describe, expect, test } from '@jest/globals';
import { sweepDataSets } from '../../api/data-set-files.ts';
import { createApp } from '../../api/app.ts';
import { failure } from '../../activities/failures.ts';
import type { StorePath } from '../../workflows/domain/names.ts';
import { evaluationRow, versionRow } from './passage.ts';
import { worldOfThisFile } from './world-of.ts';
import { json, PROJECT, TYPE } from './world.ts';

const { world, said, auditOf } = worldOfThisFile();
const path = `/v1/projects/${PROJECT}/datasets`;
const files = `/v1/projects/${PROJECT}/files`;

const upload = (name: string, text: string) =>
  world().ask('sam', 'PUT', `${files}/private/${name}?replace=true`, Buffer.from(text));
const request = (dataset: string, sha256?: string) => ({
  ...{ dataset, kind: 'training' },
  files: [
    { name: 'a.csv', area: 'private', path: 'a.csv' },
    { name: 'b.csv', area: 'private', path: 'b.csv', ...(sha256 && { sha256 }) },
  ],
});
const register = (dataset: string, sha256?: string) => said(world().ask('sam', 'POST', path, request(dataset, sha256)));
const stored = async (dataset: string) =>
  (await world().deps.areas.list(`common/${PROJECT}/datasets/${dataset}` as StorePath)).files.map(({ path: at }) => at);
const textAt = async (name: string) => (await world().ask('sam', 'GET', `${files}/common/datasets/${name}`)).text();

describe('a registration that fails', () => {
  test('midway leaves no file, and the name can be used for other content', async () => {
    await upload('a.csv', 'wrong');
    await upload('b.csv', 'b');
    expect((await register('rows', 'f'.repeat(64)))[0]).toBe(400);
    expect(await stored('rows')).toEqual([]);
    await upload('a.csv', 'right');
    expect((await register('rows'))[0]).toBe(201);
    expect(await textAt('rows/a.csv')).toBe('right');
  });

  test('because its process dies leaves files that the next attempt removes', async () => {
    const { areas, records } = world().deps;
    const left = `common/${PROJECT}/datasets/broken` as StorePath;
    for (const name of ['a.csv', 'gone.csv'])
      await areas.write(
        `${left}/${name}` as StorePath,
        (async function* () {
          yield Buffer.from('left over');
        })(),
      );
    await records.draftDataSet({ project: PROJECT, dataset: 'broken', attempt: 'of-a-dead-process', step: 'write' });
    expect((await register('broken'))[0]).toBe(201);
    expect(await stored('broken')).toEqual([`${left}/a.csv`, `${left}/b.csv`]);
    expect(await textAt('broken/a.csv')).toBe('right');
  });

  test('after another one took the name does not touch its files', async () => {
    const { deps, tokens } = world();
    // The first request is overtaken by the second, whole one, just before it registers.
    const registerDataSet: typeof deps.records.registerDataSet = async (...given) => {
      expect((await register('twice'))[0]).toBe(201);
      return deps.records.registerDataSet(...given);
    };
    const { app } = createApp({ ...deps, records: { ...deps.records, registerDataSet } });
    await upload('b.csv', 'first');
    const post = app.request(`http://localhost${path}`, {
      method: 'POST',
      headers: { authorization: `Bearer ${tokens['sam']}`, 'content-type': 'application/json' },
      body: JSON.stringify({ ...request('twice'), files: request('twice').files.slice(1) }),
    });
    expect((await said(post))[0]).toBe(409);
    expect(await textAt('twice/b.csv')).toBe('first');
    expect(await stored('twice')).toHaveLength(2);
  });

  test('after another one took the name and failed leaves nothing that it wrote meanwhile', async () => {
    const { deps, tokens } = world();
    const overtaken = { times: 0 };
    const write: typeof deps.areas.write = async (...given) => {
      if ((overtaken.times += 1) === 1) {
        const wrong = {
          ...request('overtaken'),
          files: [{ ...request('overtaken').files[1], sha256: 'f'.repeat(64) }],
        };
        const failed = await world().ask('sam', 'POST', path, wrong);
        expect(failed.status).toBe(400);
      }
      return deps.areas.write(...given);
    };
    const { app } = createApp({ ...deps, areas: { ...deps.areas, write } });
    await upload('b.csv', 'first');
    const post = app.request(`http://localhost${path}`, {
      method: 'POST',
      headers: { authorization: `Bearer ${tokens['sam']}`, 'content-type': 'application/json' },
      body: JSON.stringify({ ...request('overtaken'), files: request('overtaken').files.slice(1) }),
    });
    expect((await said(post))[0]).toBe(409);
    expect(overtaken.times).toBe(1);
    expect(await stored('overtaken')).toEqual([]);
    expect((await world().ask('sam', 'GET', `${path}/overtaken`)).status).toBe(404);
  });

  test('and cannot remove its files keeps the name for the next attempt', async () => {
    const { deps, tokens } = world();
    const areas = { ...deps.areas, remove: () => Promise.reject(failure('Corrupt', 'the store is away')) };
    const { app } = createApp({ ...deps, areas });
    const post = app.request(`http://localhost${path}`, {
      method: 'POST',
      headers: { authorization: `Bearer ${tokens['sam']}`, 'content-type': 'application/json' },
      body: JSON.stringify(request('stuck', 'f'.repeat(64))),
    });
    // The answer has the reason of the failure, not that of the failed cleanup.
    expect((await said(post))[1]).toMatch(/^digest-mismatch/);
    expect((await register('stuck'))[1]).toContain('being cleaned up');
  });
});

describe('a data set', () => {
  const remove = (dataset: string, who = 'sam') => said(world().ask(who, 'DELETE', `${path}/${dataset}`));

  test('that is not in use is deleted with its files; its name stays reserved', async () => {
    await register('spare');
    expect(await remove('spare')).toMatchObject([200, '', { dataset: 'spare', deleted: true }]);
    expect(await remove('spare')).toMatchObject([200, '', { deleted: true }]);
    expect(await stored('spare')).toEqual([]);
    expect((await world().ask('sam', 'GET', `${path}/spare`)).status).toBe(404);
    const rows = (await json(world().ask('sam', 'GET', path)))['rows'] as { dataset: string }[];
    expect(rows.map(({ dataset }) => dataset)).not.toContain('spare');
    expect((await register('spare'))[1]).toBe(
      'conflict: data set "spare" was deleted, and its name stays reserved: choose another name',
    );
    expect(await auditOf(`${PROJECT}/datasets/spare`)).toMatchObject([
      { kind: 'dataset.registered' },
      { kind: 'dataset.deleted', actor: 'sam', detail: { files: [{ name: 'a.csv' }, { name: 'b.csv' }] } },
    ]);
    expect((await remove('no-such-set'))[0]).toBe(404);
  });

  test('whose files cannot be removed is deleted anyway; a later sweep removes them', async () => {
    await register('later');
    const { deps, tokens } = world();
    const remove_ = () => Promise.reject(new Error('the store is away'));
    const { app } = createApp({ ...deps, areas: { ...deps.areas, remove: remove_ } });
    const response = await app.request(`http://localhost${path}/later`, {
      method: 'DELETE',
      headers: { authorization: `Bearer ${tokens['sam']}` },
    });
    expect([response.status, (await stored('later')).length]).toEqual([200, 2]);
    for (let times = 0; times < 2; times++) await sweepDataSets(deps);
    expect(await stored('later')).toEqual([]);
    expect(await deps.records.unsweptDataSets(10)).toEqual([]);
  });

  test('in use by a run, an evaluation or an import is kept, and the answer names them', async () => {
    const { records } = world().deps;
    await upload('rows.jsonl', '{"id":"a","inputs":{"x":1},"label":"YES"}');
    const rows = { name: 'rows.jsonl', area: 'private', path: 'rows.jsonl' };
    await world().ask('sam', 'POST', path, { dataset: 'named', kind: 'training', files: [rows] });
    const commit = { branch: 'main', message: 'training', files: { 'train.py': 'print()', 'requirements.lock': '' } };
    await world().ask('sam', 'POST', `/v1/projects/${PROJECT}/code/commits`, commit);
    const run = { commit: 'main', entrypoint: 'train.py', lock: 'requirements.lock', data: ['named'] };
    const submissions = `/v1/projects/${PROJECT}/models/random-forest/submissions`;
    const start = { submission: 'rf-named', type: TYPE, from: { run } };
    expect((await world().ask('sam', 'POST', submissions, start)).status).toBe(201);
    const evaluations = `/v1/projects/${PROJECT}/evaluations`;
    const evaluation = { evaluation: 'ev-named', model: 'random-forest', dataset: 'named' };
    const subject = { submission: 'rf-1' };
    expect((await world().ask('mia', 'POST', evaluations, { ...evaluation, subject })).status).toBe(201);
    const references = [
      { kind: 'evaluation', name: 'ev-named' },
      { kind: 'run', name: 'random-forest/rf-named' },
    ];
    expect(await remove('named')).toMatchObject([
      409,
      'in-use: data set "named" is in use by evaluation ev-named, run random-forest/rf-named: it cannot be deleted',
      { references },
    ]);
    expect(await stored('named')).toHaveLength(1);
    // The evaluation ends and no decision is based on it; the run's record stays.
    await records.record(
      [],
      [{ kind: 'evaluation', row: evaluationRow({ evaluation: 'ev-named', dataset: 'named' }) }],
    );
    expect((await remove('named'))[2]).toMatchObject({ references: references.slice(1) });
  });

  test('is not kept by a refused request for a known id', async () => {
    await register('unnamed');
    const submissions = `/v1/projects/${PROJECT}/models/random-forest/submissions`;
    const run = { commit: 'main', entrypoint: 'train.py', lock: 'requirements.lock', data: ['unnamed'] };
    const again = { submission: 'rf-named', type: TYPE, from: { run } };
    expect((await world().ask('sam', 'POST', submissions, again)).status).toBe(409);
    expect((await remove('unnamed'))[0]).toBe(200);
  });

  test('is deleted by the person who registered it or a manager; a test set only by managers', async () => {
    await register('of-sam');
    expect((await remove('of-sam', 'sid'))[0]).toBe(403);
    expect((await remove('of-sam', 'dev'))[0]).toBe(403);
    expect((await remove('of-sam', 'mia'))[0]).toBe(200);
    expect((await remove('spare-test', 'sam'))[0]).toBe(403);
    expect((await remove('spare-test', 'mia'))[0]).toBe(200);
  });

  test('on which a decision is based is kept, whatever happens to the version', async () => {
    const { records } = world().deps;
    const evaluation = await records.evaluation(PROJECT, 'ev-1');
    await records.nameDataSets(PROJECT, ['test-1'], { kind: 'evaluation', name: 'ev-1' });
    const approval = { commandId: 'c-1', name: 'approve', actor: 'mia', reason: '', at: '2026-01-01T00:00:00.000Z' };
    const decisions = [{ ...approval, report: evaluation?.report?.sha256 ?? '' }];
    await records.record([], [{ kind: 'version', row: versionRow({ revision: 9, state: 'retired', decisions }) }]);
    expect((await remove('test-1', 'mia'))[2]).toMatchObject({ references: [{ kind: 'evaluation', name: 'ev-1' }] });
  });
});
