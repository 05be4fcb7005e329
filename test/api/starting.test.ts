// Starting submissions and evaluations: once each, recorded before they start, and only from existing files.
import { describe, expect, test } from '@jest/globals';
import { decides } from './passage.ts';
import { json, PROJECT, TYPE } from './world.ts';
import { worldOfThisFile } from './world-of.ts';

const { world } = worldOfThisFile();

/** The workflow server has lost it. */
function forget(id: string): void {
  world().deps.workflows.started.delete(id);
  world().deps.workflows.seen.delete(id);
}

describe('starting', () => {
  const path = `/v1/projects/${PROJECT}/models/random-forest/submissions`;
  const body = { submission: 'rf-7', type: TYPE, from: { directory: 'runs' } };

  test('a submission: the row exists before the workflow; a repeat is harmless; a different one is a conflict', async () => {
    const first = await world().ask('sam', 'POST', path, body);
    expect(first.status).toBe(201);
    expect(await json(first)).toMatchObject({ state: 'validating', revision: 0, author: 'sam' });
    const id = `model/${PROJECT}/random-forest/rf-7`;
    // Its permissions come from the record, not from its input.
    const input = { project: PROJECT, model: 'random-forest', type: TYPE, submission: 'rf-7', author: 'sam' };
    expect(world().deps.workflows.started.get(id)).toEqual({ ...input, beginning: { directory: 'runs' } });
    expect(await world().deps.records.start(id)).toMatchObject({
      ...{ type: 'modelLifecycle', input: { ...input, beginning: { directory: 'runs' } }, askedBy: 'sam' },
      ...{ roles: ['scientist'], project: PROJECT, parent: null, runId: null, closedAt: null },
    });
    expect((await world().ask('sam', 'POST', path, body)).status).toBe(200);
    for (const other of [
      { ...body, from: { directory: 'elsewhere' } },
      { ...body, type: 'sentiment' },
    ])
      expect((await world().ask('sam', 'POST', path, other)).status).toBe(409);
    expect((await world().ask('sid', 'POST', path, body)).status).toBe(409);
    const row = await world().deps.records.version(PROJECT, 'random-forest', 'rf-7');
    expect(row).toMatchObject({ author: 'sam', type: TYPE });
    const audit = await world().deps.records.audit({ subject: `${PROJECT}/random-forest/rf-7` });
    expect(audit.rows.map(({ entry }) => entry.kind)).toEqual(['version.started']);
  });

  test('two concurrent starts with different content: one is started, the other refused', async () => {
    const race = ['a', 'b', 'c', 'd'].map((directory) =>
      world().ask('sam', 'POST', path, { ...body, submission: 'rf-race', from: { directory } }),
    );
    const statuses = (await Promise.all(race)).map(({ status }) => status).sort();
    expect(statuses).toEqual([201, 409, 409, 409]);
  });

  test('a start that was recorded but not carried out, because the API died, is started by a repeat', async () => {
    const { workflows } = world().deps;
    await world().ask('sam', 'POST', path, { ...body, submission: 'rf-8' });
    forget(`model/${PROJECT}/random-forest/rf-8`);
    expect((await world().ask('sam', 'POST', path, { ...body, submission: 'rf-8' })).status).toBe(201);
    expect(workflows.started.has(`model/${PROJECT}/random-forest/rf-8`)).toBe(true);
  });

  test('recorded while the workflow server is down: 503, and a repeat starts it', async () => {
    const { workflows, records } = world().deps;
    const id = `model/${PROJECT}/random-forest/rf-away`;
    workflows.throws.start = 'unavailable';
    expect((await world().ask('sam', 'POST', path, { ...body, submission: 'rf-away' })).status).toBe(503);
    delete workflows.throws.start;
    expect([workflows.started.has(id), (await records.start(id))?.closedAt]).toEqual([false, null]);
    expect((await world().ask('sam', 'POST', path, { ...body, submission: 'rf-away' })).status).toBe(201);
    expect(workflows.started.has(id)).toBe(true);
  });

  test('a closed lifecycle is never started again, however long ago it ended', async () => {
    const { workflows } = world().deps;
    const id = `model/${PROJECT}/random-forest/rf-7`;
    workflows.onCommand = decides(world());
    const withdraw = { name: 'withdraw', revision: 0 };
    const done = await world().ask('sam', 'POST', `${path}/rf-7/commands`, withdraw, { prefer: 'wait=5' });
    expect(done.status).toBe(200);
    forget(id);
    const again = await world().ask('sam', 'POST', path, body);
    expect([again.status, await json(again)]).toMatchObject([200, { state: 'withdrawn' }]);
    expect(workflows.started.has(id)).toBe(false);
  });

  test('from a run: commit resolved, files and data sets looked up', async () => {
    const digest = `--hash=sha256:${'a'.repeat(64)}`;
    const files = {
      'train.py': 'print()',
      'requirements.lock': `numpy==2.2.6 ${digest}\n`,
      'address.lock': `numpy==2.2.6 ${digest}\nevil @ https://evil.example/evil.tar.gz ${digest}\n`,
      'source.lock': `--no-binary :all:\nnumpy==2.2.6 ${digest}\n`,
      'editable.lock': '-e .\n',
      'loose.lock': 'numpy==2.2.6\n',
    };
    const commit = { branch: 'main', message: 'training', files };
    const made = await json(world().ask('sam', 'POST', `/v1/projects/${PROJECT}/code/commits`, commit));
    const run = { commit: 'main', entrypoint: 'train.py', lock: 'requirements.lock', data: ['training-1'] };
    const ask = (id: string, change: object) =>
      world().ask('sam', 'POST', path, { submission: id, type: TYPE, from: { run: { ...run, ...change } } });
    expect((await ask('rf-9', {})).status).toBe(201);
    expect(world().deps.workflows.started.get(`model/${PROJECT}/random-forest/rf-9`)).toMatchObject({
      beginning: { run: { code: { repository: `${PROJECT}/code`, commit: made['commit'] }, data: ['training-1'] } },
    });
    for (const [change, word] of [
      [{ commit: 'nowhere' }, 'no-such-commit'],
      [{ entrypoint: 'other.py' }, 'no-such-file'],
      [{ data: ['missing'] }, 'no-such-data-set'],
      [{ data: ['test-1'] }, 'test-set'],
      [{ lock: 'address.lock' }, 'improper-lock'],
      [{ lock: 'source.lock' }, 'improper-lock'],
      [{ lock: 'editable.lock' }, 'improper-lock'],
      [{ lock: 'loose.lock' }, 'improper-lock'],
    ] as const) {
      const response = await ask('rf-10', change);
      expect([response.status, (await json(response))['type']]).toEqual([422, `urn:ocdl:problem:${word}`]);
    }
    expect(await world().deps.records.version(PROJECT, 'random-forest', 'rf-10')).toBeUndefined();
    const refused = await json(ask('rf-10', { lock: 'address.lock' }));
    expect(refused['detail']).toMatch(/address\.lock is not a valid .*: line 2: .*npm run lock -- requirements\.in/s);
    expect(refused['errors']).toMatchObject([{ where: 'address.lock, line 2' }]);
  });

  test('an evaluation over a test set is refused for scientists and allowed for managers, and a private one is visible only to its actor', async () => {
    const evaluations = `/v1/projects/${PROJECT}/evaluations`;
    const asked = { model: 'random-forest', dataset: 'test-1', subject: { directory: 'runs' } };
    const start = (who: string, evaluation: string, change = {}) =>
      world().ask(who, 'POST', evaluations, { evaluation, ...asked, ...change });
    expect((await start('sam', 'private-1')).status).toBe(403);
    expect((await start('mia', 'private-2')).status).toBe(201);
    expect((await start('sam', 'private-3', { dataset: 'training-1' })).status).toBe(201);
    expect((await start('sam', 'private-3', { dataset: 'training-1' })).status).toBe(200);
    expect((await start('sam', 'private-3', { dataset: 'training-1', model: 'other' })).status).toBe(409);
    expect((await world().ask('mia', 'GET', `${evaluations}/private-3`)).status).toBe(404);
    expect((await world().ask('sam', 'GET', `${evaluations}/private-3`)).status).toBe(200);
    const seen = async (who: string) =>
      ((await json(world().ask(who, 'GET', evaluations)))['rows'] as { evaluation: string }[]).map(
        (one) => one.evaluation,
      );
    expect(await seen('mia')).toEqual(expect.not.arrayContaining(['private-3']));
    expect((await seen('sam')).sort()).toEqual(['ev-1', 'private-3']);
    expect(await seen('sid')).toEqual([]);
  });

  test('an evaluation over a data set without labelled rows is refused with the reason', async () => {
    const [evaluations, asked] = [
      `/v1/projects/${PROJECT}/evaluations`,
      { model: 'm', subject: { directory: 'runs' } },
    ];
    const body = { evaluation: 'no-rows', ...asked, dataset: 'spare-training' };
    expect(await json(world().ask('sam', 'POST', evaluations, body))).toMatchObject({
      ...{ status: 422, type: 'urn:ocdl:problem:no-labelled-rows' },
      detail: 'dataset: "spare-training" has no labelled rows: an evaluation needs one file *.jsonl or *.jsonl.gz',
    });
  });

  test('an evaluation of a version without files is refused with the reason, and nothing is recorded', async () => {
    const { records } = world().deps;
    const path = `/v1/projects/${PROJECT}/models/random-forest/submissions`;
    await world().ask('sam', 'POST', path, { submission: 'rf-bare', type: TYPE, from: { directory: 'runs' } });
    const evaluate = async () => {
      const asked = { evaluation: 'bare-1', model: 'random-forest', dataset: 'test-1' };
      const body = { ...asked, subject: { submission: 'rf-bare' } };
      return json(world().ask('mia', 'POST', `/v1/projects/${PROJECT}/evaluations`, body));
    };
    expect(await evaluate()).toMatchObject({
      ...{ status: 409, type: 'urn:ocdl:problem:wrong-state' },
      detail: 'subject: rf-bare is validating and has no files in staging yet: there is nothing to evaluate',
    });
    await records.recordValidation(
      { project: PROJECT, model: 'random-forest', submission: 'rf-bare' },
      { problems: [] },
    );
    await records.advanceVersion(`model/${PROJECT}/random-forest/rf-bare`, { revision: 0, ended: 'no model.onnx' });
    expect((await evaluate())['detail']).toContain('rf-bare is invalid and has no files in staging: ');
    expect(await records.evaluation(PROJECT, 'bare-1')).toBeUndefined();
  });

  test('an evaluation is cancelled by its requester or a manager, and only while it runs', async () => {
    const evaluations = `/v1/projects/${PROJECT}/evaluations`;
    const of = { model: 'random-forest', dataset: 'test-1', subject: { submission: 'rf-1' }, deadlineSeconds: 60 };
    const cancel = (who: string, id: string) => world().ask(who, 'DELETE', `${evaluations}/${id}`);
    expect((await world().ask('mia', 'POST', evaluations, { evaluation: 'long-1', ...of })).status).toBe(201);
    const { workflows, records } = world().deps;
    expect(workflows.started.get(`evaluation/${PROJECT}/long-1`)).toMatchObject({ deadlineSeconds: 60 });
    // The version's author sees it, but did not ask for it.
    expect((await cancel('sam', 'long-1')).status).toBe(403);
    expect((await cancel('sid', 'long-1')).status).toBe(403);
    const cancelled = await cancel('mia', 'long-1');
    expect([cancelled.status, await json(cancelled)]).toMatchObject([202, { evaluation: 'long-1' }]);
    const mine = { ...of, dataset: 'training-1', subject: { directory: 'runs' } };
    expect((await world().ask('sam', 'POST', evaluations, { evaluation: 'long-2', ...mine })).status).toBe(201);
    expect((await cancel('mia', 'long-2')).status).toBe(404);
    expect((await cancel('sam', 'long-2')).status).toBe(202);
    expect(workflows.cancelled).toEqual([`evaluation/${PROJECT}/long-1`, `evaluation/${PROJECT}/long-2`]);
    const { rows } = await records.audit({ subject: `${PROJECT}/evaluations/long-1` });
    expect(rows.map(({ entry }) => `${entry.kind} ${entry.actor}`)).toContain('evaluation.cancel mia');
    // One that has ended stays as it is.
    expect((await cancel('mia', 'ev-1')).status).toBe(200);
    expect(workflows.cancelled).toHaveLength(2);
    for (const deadlineSeconds of [0, 86_401, 1.5])
      expect((await world().ask('mia', 'POST', evaluations, { evaluation: 'x', ...of, deadlineSeconds })).status).toBe(
        400,
      );
  });

  test('a private test is in the audit, without its directory and data set', async () => {
    const directory = 'drafts/tried-in-secret';
    const asked = { evaluation: 'private-4', model: 'random-forest', dataset: 'training-1', subject: { directory } };
    const start = (change = {}) =>
      world().ask('sam', 'POST', `/v1/projects/${PROJECT}/evaluations`, { ...asked, ...change });
    expect((await start()).status).toBe(201);
    const audit = `/v1/projects/${PROJECT}/audit?subject=${PROJECT}/evaluations/private-4`;
    const { rows } = await json(world().ask('mia', 'GET', audit));
    expect(rows).toMatchObject([{ entry: { kind: 'evaluation.started', actor: 'sam' } }]);
    expect(JSON.stringify(rows)).not.toMatch(/secret|training-1/);
    // A different request is still recognised as different.
    expect((await start()).status).toBe(200);
    expect((await start({ subject: { directory: 'elsewhere' } })).status).toBe(409);
    expect((await start({ thresholds: { f1: 0.5 } })).status).toBe(409);
  });
});
