// A submission becomes a version with a number, or is invalid with every problem listed.
import type { Version } from '../../workflows/domain/model.ts';
import type { StorePath } from '../../workflows/domain/names.ts';
import { submissionFiles } from './submission-files.ts';
import type { World } from './world.ts';
import { openWorld } from './world.ts';

let world: World;
beforeAll(async () => {
  world = await openWorld();
}, 600_000);
afterAll(() => world.close());

const invalid = async (submission: string, directory = submission) => {
  const handle = await world.startLifecycle(submission, { directory });
  const version = (await handle.result()) as Version;
  expect(version).toMatchObject({ state: 'invalid', version: null });
  const staged = await world.areas.list(`staging/p/models/m/${submission}` as StorePath);
  // Only the record of the lifecycle is left.
  expect(staged.files.filter(({ path }) => !path.includes('/record/'))).toEqual([]);
  return version.detail;
};

it('lists every problem of model.json', async () => {
  await world.putSubmission('s-1', 's-1', { name: 'other', type: 'kinder', revises: 99 });
  const detail = await invalid('s-1');
  expect(detail).toContain('name is "other"');
  expect(detail).toContain('type is "kinder"');
  expect(detail).toContain('revises version 99, which m does not have');
});

it('refuses files that do not parse, are missing or are empty', async () => {
  await world.putSubmission('s-2', 's-2');
  await world.put('s-2/model.json', '{');
  expect(await invalid('s-2')).toMatch(/model\.json/);
  await world.putSubmission('s-3', 's-3');
  await world.put('s-3/model.onnx', 'no model');
  await world.put('s-3/golden.json', '[]');
  const both = await invalid('s-3');
  expect(both).toMatch(/^model\.onnx: /m);
  expect(both).toMatch(/^golden\.json: /m);
  await world.put('s-4/model.json', submissionFiles('s-4')['model.json'] ?? '');
  expect(await invalid('s-4')).toContain(`model.onnx is missing in s-4 of sam's private area`);
  await world.putSubmission('s-5', 's-5');
  await world.put('s-5/golden.json', '');
  expect(await invalid('s-5')).toContain('golden.json is empty');
});

it('accepts the same bytes only once while the first version is open, and as a new version after its end', async () => {
  await world.putSubmission('twice', 'twice');
  await world.startLifecycle('s-6', { directory: 'twice' });
  const first = await world.untilState('s-6', 'new');
  expect(await invalid('s-7', 'twice')).toContain('submission s-6 of p/m is open with the same bytes');
  // The end of the conflicting submission does not release the first one's claim.
  expect(await invalid('s-8', 'twice')).toContain('submission s-6 of p/m is open with the same bytes');
  await world.give('s-6', 'sam', 'withdraw');
  await world.client.workflow.getHandle(world.idOf('s-6')).result();
  await world.startLifecycle('s-9', { directory: 'twice' });
  expect(await world.untilState('s-9', 'new')).toMatchObject({
    digest: first.digest,
    version: (first.version ?? NaN) + 1,
  });
});

it('records which version a revision revises', async () => {
  await world.submitted('s-10');
  const first = await world.untilState('s-10', 'new');
  await world.putSubmission('s-11', 's-11', { revises: first.version });
  await world.startLifecycle('s-11', { directory: 's-11' });
  expect(await world.untilState('s-11', 'new')).toMatchObject({ revises: first.version });
});

it('keeps the staged files when the author changes the originals later', async () => {
  await world.submitted('s-12');
  const { digest, files } = await world.untilState('s-12', 'new');
  await world.put('s-12/model.onnx', 'changed');
  const model = files.find(({ name }) => name === 'model.onnx');
  expect(model && (await world.areas.digest(model.uri))).toBe(digest);
});
