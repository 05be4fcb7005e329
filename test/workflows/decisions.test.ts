// Decisions on a new, approved or rejected version: who may decide, on what evidence, undone or final.
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { StorePath } from '../../workflows/domain/names.ts';
import { auditEntry } from './passage.ts';
import { until } from './until.ts';
import type { World } from './world.ts';
import { openWorld } from './world.ts';

let world: World;
beforeAll(async () => {
  world = await openWorld({ replayEachTask: true });
}, 600_000);
afterAll(() => world.close());
beforeEach(() => Object.assign(world.script, { evaluate: 'pass' }));

const ended = (submission: string) => world.client.workflow.getHandle(world.idOf(submission)).result();
const privateText = async (user: string, path: string): Promise<string> => {
  const chunks: Uint8Array[] = [];
  const uri = world.areas.uri(`private/p/${user}/${path}` as StorePath);
  for await (const chunk of await world.areas.read(uri)) chunks.push(chunk);
  return Buffer.concat(chunks).toString('utf8');
};

it('rejects, undoes it within the window, and records both', async () => {
  const report = await world.submitted('d-1');
  expect(await world.give('d-1', 'mia', 'reject')).toMatchObject({ status: 'refused', reason: 'invalid' });
  expect(await world.give('d-1', 'mia', 'reject', { reason: 'too slow' })).toMatchObject({ status: 'done' });
  expect(await world.untilState('d-1', 'rejected')).toMatchObject({ detail: 'too slow' });
  expect(await world.give('d-1', 'mia', 'approve', {}, { report })).toMatchObject({ reason: 'wrong-state' });
  expect(await world.give('d-1', 'max', 'undo')).toMatchObject({ status: 'done' });
  const again = await world.untilState('d-1', 'new');
  expect(again.decisions.map(({ name, actor }) => `${name} by ${actor}`)).toEqual(['reject by mia', 'undo by max']);
  expect(await world.give('d-1', 'mia', 'approve', {}, { report })).toMatchObject({ status: 'done' });
  expect(await world.give('d-1', 'mia', 'undo')).toMatchObject({ status: 'done' });
  expect(await world.give('d-1', 'mia', 'release')).toMatchObject({ status: 'refused', reason: 'wrong-state' });
  expect(await world.give('d-1', 'mia', 'approve', {}, { report })).toMatchObject({ status: 'done' });
});

it('rejects finally when the undo window has passed', async () => {
  await world.submitted('d-2', { policy: { undoWithinSeconds: 1 } });
  const { revision } = await world.untilState('d-2', 'new');
  await world.give('d-2', 'mia', 'reject', { reason: 'no' });
  const version = (await ended('d-2')) as { state: string; revision: number };
  expect(version).toMatchObject({ state: 'rejected', revision: revision + 1 });
  // The bytes may be submitted again.
  await world.startLifecycle('d-3', { directory: 'd-2' });
  await world.untilState('d-3', 'new');
});

it('accepts an undo that arrived in time while no worker was running, and continues', async () => {
  const report = await world.submitted('d-4', { policy: { undoWithinSeconds: 3 } });
  await world.give('d-4', 'mia', 'reject', { reason: 'no' });
  const { revision, digest } = await world.untilState('d-4', 'rejected');
  await world.stopWorkers();
  const id = world.idOf('d-4');
  const undo = world.signed({ workflowId: id, name: 'undo', actor: 'mia', revision, digest });
  await world.records.recordCommand(undo, { project: 'p', subject: 'p/m/d-4' });
  await world.client.workflow.getHandle(id).signal('command', undo);
  await sleep(3_500);
  await world.startWorkers();
  expect(await world.settled(id, undo.body.commandId)).toMatchObject({ status: 'done' });
  await world.untilState('d-4', 'new');
  expect(await world.give('d-4', 'mia', 'approve', {}, { report })).toMatchObject({ status: 'done' });
});

it('rolls back: returns bytes, report and decisions to the scientist', async () => {
  const report = await world.submitted('d-5');
  await world.give('d-5', 'mia', 'tag', { tags: ['close'], reason: 'nearly' });
  const { files } = await world.untilState('d-5', 'new');
  expect(await world.give('d-5', 'mia', 'rollback', { reason: 'one more look' }, { report })).toMatchObject({
    status: 'done',
    message: 'returned to sam in returned/m/d-5',
  });
  expect(await ended('d-5')).toMatchObject({ state: 'rolled-back', detail: 'one more look' });
  const { files: returned } = await world.areas.list('private/p/sam/returned/m/d-5' as StorePath);
  const names = returned.map(({ path }) => path.replace('private/p/sam/returned/m/d-5/', ''));
  expect(names).toEqual(expect.arrayContaining(['model.onnx', 'model.json', 'golden.json']));
  for (const { name, sha256 } of files) {
    const copy = returned.find(({ path }) => path.endsWith(`/${name}`));
    expect(copy && (await world.areas.digest(copy.uri))).toBe(sha256);
  }
  const enclosed = returned.filter(({ path }) => path.includes('/reports/'));
  expect(enclosed).toHaveLength(1);
  expect(enclosed[0] && (await world.areas.digest(enclosed[0].uri))).toBe(report);
  expect(JSON.parse(await privateText('sam', 'returned/m/d-5/decisions.json'))).toMatchObject([
    { name: 'tag', actor: 'mia', reason: 'nearly' },
  ]);
});

it('requires two distinct approvals for a quorum of two, never only the author’s', async () => {
  const policy = { quorum: 2 };
  const report = await world.submitted('d-6', { policy });
  const approve = (actor: string) => world.give('d-6', actor, 'approve', {}, { report });
  expect(await approve('mia')).toEqual({ status: 'done', message: 'approval 1 of 2' });
  await world.untilState('d-6', 'new');
  expect(await approve('mia')).toMatchObject({ status: 'refused', reason: 'wrong-state' });
  expect(await world.give('d-6', 'max', 'tag', { tags: ['good'] })).toMatchObject({ status: 'done' });
  expect(await approve('max')).toEqual({ status: 'done', message: 'approval 2 of 2' });
  await world.untilState('d-6', 'approved');
  const id = await world.release('d-6');
  expect(await world.records.release(id)).toMatchObject({ approvedBy: ['mia', 'max'], releasedBy: 'mia', report });

  // Moe is the author and a manager.
  await world.submitted('d-7-files');
  await world.give('d-7-files', 'sam', 'withdraw');
  for (const name of ['model.onnx', 'model.json', 'golden.json'])
    await world.areas.write(
      `private/p/moe/d-7/${name}` as StorePath,
      await world.areas.read(world.areas.uri(`private/p/sam/d-7-files/${name}` as StorePath)),
    );
  await ended('d-7-files');
  await world.startLifecycle('d-7', { directory: 'd-7' }, { author: 'moe' });
  await world.untilState('d-7', 'new');
  const own = await world.evaluate('d-7');
  expect(await world.give('d-7', 'moe', 'approve', {}, { report: own })).toMatchObject({ reason: 'not-authorized' });
  expect(await world.give('d-7', 'mia', 'approve', {}, { report: own })).toMatchObject({ status: 'done' });
});

it('approves only on evidence: an existing, unchanged report about these bytes above the thresholds', async () => {
  const other = await world.submitted('d-8');
  const policy = { thresholds: { f1: 0.5 } };
  const report = await world.submitted('d-9', { policy });
  const approve = (digest: string) => world.give('d-9', 'mia', 'approve', {}, { report: digest });
  const missing = { status: 'failed', reason: 'EvidenceMissing' };
  expect(await approve('0'.repeat(64))).toMatchObject(missing);
  expect(await approve(other)).toMatchObject(missing);
  expect(await world.untilState('d-9', 'new')).toMatchObject({ decisions: [] });
  world.script.evaluate = 'fail';
  const low = await world.evaluate('d-9');
  const below = await approve(low);
  expect(below).toMatchObject(missing);
  expect(below).toMatchObject({ message: 'f1 is 0.1, the project asks for at least 0.5' });
  // A report that was changed afterwards.
  const { rows } = await world.records.evaluations({ project: 'p', model: 'm', submission: 'd-9' });
  const path = rows.find((row) => row.report?.sha256 === low)?.report?.uri;
  if (!path) throw new Error('no report');
  const file = join(world.home, 'areas', world.areas.path(path) ?? '');
  await writeFile(file, (await readFile(file, 'utf8')).replace('0.1', '0.9'));
  expect(await approve(low)).toMatchObject({ status: 'failed', reason: 'DigestMismatch' });
  expect(await world.untilState('d-9', 'new')).toMatchObject({ decisions: [] });
  const failures = (await world.auditOf('p/m/d-9')).filter(({ kind }) => kind === 'command.failed');
  expect(failures).toHaveLength(4);
  expect(await approve(report)).toMatchObject({ status: 'done' });
});

it('refuses failed evaluations and reports about other bytes', async () => {
  await world.submitted('d-10');
  world.script.evaluate = 'crash';
  expect(await world.evaluation('d-10')).toMatchObject({ state: 'failed', report: null });
  world.script.evaluate = 'other-model';
  const lied = await world.evaluation('d-10');
  expect(lied).toMatchObject({ state: 'failed', report: null });
  expect(lied.detail).toContain(`the model of the report has sha256:${'f'.repeat(64)}`);
  const kinds = (await world.auditOf('p/m/d-10')).map(({ kind }) => kind);
  expect(kinds.filter((kind) => kind === 'evaluation.failed')).toHaveLength(2);
});

it('releases nothing if one byte in staging has changed since the evaluation', async () => {
  await world.approved('d-11');
  const before = await world.records.releases({ type: 'kind' });
  const { files } = await world.untilState('d-11', 'approved');
  const model = files.find(({ name }) => name === 'model.onnx');
  const file = join(world.home, 'areas', (model && world.areas.path(model.uri)) ?? '');
  const bytes = await readFile(file);
  bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1;
  await writeFile(file, bytes);
  expect(await world.give('d-11', 'mia', 'release')).toMatchObject({ status: 'failed', reason: 'DigestMismatch' });
  expect(await world.untilState('d-11', 'approved')).toMatchObject({ revision: expect.any(Number) as number });
  const after = await world.records.releases({ type: 'kind' });
  expect(after.filter(({ state }) => state === 'announced')).toEqual(
    before.filter(({ state }) => state === 'announced'),
  );
  expect(after.at(-1)).toMatchObject({ submission: 'd-11', state: 'allotted' });
  bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1;
  await writeFile(file, bytes);
  const release = await world.release('d-11');
  expect(await world.records.release(release)).toMatchObject({ state: 'announced' });
});

it('is found by its search attributes, tags included', async () => {
  await world.submitted('d-12');
  expect(await world.give('d-12', 'mia', 'tag', { tags: ['Not A Name'] })).toMatchObject({ reason: 'invalid' });
  expect(await world.give('d-12', 'mia', 'tag', { tags: ['baseline', 'a', 'a'] })).toMatchObject({ status: 'done' });
  const { version, tags } = await world.untilState('d-12', 'new');
  expect(tags).toEqual(['a', 'baseline']);
  const query = `Project='p' AND Model='m' AND ModelType='kind' AND State='new' AND ModelVersion=${version} AND Author='sam' AND Tags='baseline'`;
  const found = await until('the version to be found', async () => {
    const ids: string[] = [];
    for await (const { workflowId } of world.client.workflow.list({ query })) ids.push(workflowId);
    return ids.length > 0 && ids;
  });
  expect(found).toEqual([world.idOf('d-12')]);
  await world.give('d-12', 'mia', 'tag', { tags: [] });
  await until('the tags to be gone', async () => {
    for await (const _ of world.client.workflow.list({ query })) return false;
    return true;
  });
});

it('ignores an unsigned command and records it as unproven', async () => {
  const report = await world.submitted('d-13');
  const { revision, digest } = await world.untilState('d-13', 'new');
  const given = { name: 'approve', actor: 'mia', revision, digest, report };
  const { body } = world.signed({ workflowId: world.idOf('d-13'), ...given });
  await world.client.workflow.getHandle(world.idOf('d-13')).signal('command', { body, signature: '' });
  const row = await until('the refusal', async () =>
    (await world.auditOf('p/m/d-13')).find(({ kind }) => kind === 'command.refused'),
  );
  expect(row).toMatchObject({ actor: 'unproven', detail: { reason: 'unsigned' } });
  expect(await world.untilState('d-13', 'new')).toMatchObject({ decisions: [] });
  expect(await world.records.command(world.idOf('d-13'), body.commandId)).toBeUndefined();
});

it('lets approvals lapse when a manager leaves or the policy changes, but keeps a completed decision', async () => {
  const report = await world.submitted('d-14', { policy: { quorum: 2 } });
  const approve = (actor: string) => world.give('d-14', actor, 'approve', {}, { report });
  expect(await approve('max')).toMatchObject({ message: 'approval 1 of 2' });
  const audit = () => ({ ...auditEntry('member.set'), actor: 'root' });
  await world.records.setMember('p', { user: 'max', roles: ['scientist'] }, audit());
  expect(await world.standing('d-14')).toMatchObject({
    counting: [],
    lapsed: [{ actor: 'max', why: 'is no longer a manager of the project, or is disabled' }],
  });
  expect(await approve('mia')).toMatchObject({ message: 'approval 1 of 2' });
  await world.records.setMember('p', { user: 'max', roles: ['manager'] }, audit());
  await world.setPolicy({ undoWithinSeconds: 31 });
  expect((await world.standing('d-14')).lapsed.map(({ actor }) => actor)).toEqual(['max', 'mia']);
  expect(await approve('mia')).toMatchObject({ message: 'approval 1 of 2' });
  expect(await approve('max')).toMatchObject({ message: 'approval 2 of 2' });
  await world.records.setMember('p', { user: 'max', roles: ['scientist'] }, audit());
  expect(await world.untilState('d-14', 'approved')).toBeDefined();
  const release = await world.release('d-14');
  expect(await world.records.release(release)).toMatchObject({
    approvedBy: expect.arrayContaining(['mia', 'max']) as string[],
  });
  await world.records.setMember('p', { user: 'max', roles: ['manager'] }, audit());
});
