// Evidence that a person could have forged does not count: files of runs, reports, names.
import { createHash } from 'node:crypto';
import type { Version } from '../../workflows/domain/model.ts';
import type { Digest, StorePath } from '../../workflows/domain/names.ts';
import { submissionFiles } from './submission-files.ts';
import { until } from './until.ts';
import type { World } from './world.ts';
import { openWorld } from './world.ts';

let world: World;
beforeAll(async () => {
  world = await openWorld();
}, 600_000);
afterAll(() => world.close());

it('accepts from a run only the bytes that it produced', async () => {
  await world.startLifecycle('g-1', world.run);
  await world.untilState('g-1', 'trained');
  await world.put('runs/g-1-1/model.onnx', submissionFiles('made by hand')['model.onnx'] ?? '');
  expect(await world.give('g-1', 'sam', 'submit')).toMatchObject({ status: 'done' });
  const version = (await world.client.workflow.getHandle(world.idOf('g-1')).result()) as Version;
  expect(version).toMatchObject({ state: 'invalid', version: null });
  expect(version).toMatchObject({
    detail: expect.stringMatching(
      /model\.onnx in runs\/g-1-1 has sha256:\w+, expected sha256:\w+ \(the output of the run\)/,
    ) as string,
  });
});

/** A report in the author's own area, with a row that names the version. */
async function forge(submission: string) {
  const { digest } = await world.untilState(submission, 'new');
  const text = JSON.stringify({ v: 1, model: { sha256: digest }, metrics: { f1: 1 }, passed: true });
  const stored = await world.put(`runs/${submission}/reports/forged.json`, text);
  const row = {
    ...{ evaluation: `forged-${submission}`, project: 'p', model: 'm', submission, actor: 'sam', dataset: 'rows' },
    ...{ state: 'done' as const, digest, report: { ...stored, name: 'report.json' }, passed: true, metrics: { f1: 1 } },
    ...{ detail: '', updatedAt: new Date().toISOString() },
  };
  await world.records.record([], [{ kind: 'evaluation', row }]);
  return { digest: createHash('sha256').update(text).digest('hex') as Digest, text };
}

it('does not approve on a report that the author could have written', async () => {
  await world.submitted('g-2', { policy: { thresholds: { f1: 0.5 } } });
  const { digest } = await forge('g-2');
  expect(await world.give('g-2', 'mia', 'approve', {}, { report: digest })).toMatchObject({
    ...{ status: 'failed', reason: 'EvidenceMissing' },
    message: expect.stringContaining('in staging') as string,
  });
});

it('rolls back even if a report in the author’s area has changed', async () => {
  await world.submitted('g-3');
  await forge('g-3');
  await world.put('runs/g-3/reports/forged.json', 'changed');
  expect(await world.give('g-3', 'mia', 'rollback', { reason: 'one more look' })).toMatchObject({ status: 'done' });
});

it('does not approve on an evaluation requested by the author, or before the version became new', async () => {
  // Moe is a manager, and the author.
  await world.putSubmission('g-4-files', 'g-4');
  for (const name of ['model.onnx', 'model.json', 'golden.json'])
    await world.areas.write(
      `private/p/moe/g-4/${name}` as StorePath,
      await world.areas.read(world.areas.uri(`private/p/sam/g-4-files/${name}` as StorePath)),
    );
  await world.stopWorkers();
  await world.startLifecycle('g-4', { directory: 'g-4' }, { author: 'moe' });
  const early = await world.startEvaluation('e-early', { submission: 'g-4' });
  await world.startWorkers();
  await world.untilState('g-4', 'new');
  await until('the early evaluation to end', async () => {
    const { status } = await world.client.workflow.getHandle(early).describe();
    return status.name !== 'RUNNING';
  });
  await world.client.workflow
    .getHandle(await world.startEvaluation('e-own', { submission: 'g-4' }, { actor: 'moe' }))
    .result();
  const own = (await world.records.evaluation('p', 'e-own'))?.report?.sha256 ?? '';
  expect(await world.give('g-4', 'mia', 'approve', {}, { report: own })).toMatchObject({
    ...{ status: 'failed', reason: 'EvidenceMissing' },
    message: expect.stringContaining("requested by the version's author") as string,
  });
});

it('does not reveal the metrics of a private test, not even in the audit', async () => {
  await world.putSubmission('g-5', 'g-5');
  const id = await world.startEvaluation('e-private', { directory: 'g-5' }, { actor: 'sam' });
  await world.client.workflow.getHandle(id).result();
  expect(await world.records.evaluation('p', 'e-private')).toMatchObject({ state: 'done', metrics: { f1: 0.9 } });
  const rows = (await world.auditOf('p/m/private')).filter(({ kind }) => kind === 'evaluation.done');
  expect(rows).toMatchObject([{ actor: 'sam', reason: '', detail: { evaluation: 'e-private' } }]);
  expect(JSON.stringify(rows[0]?.detail)).not.toMatch(/rows|f1|0\.9|passed/);
});
