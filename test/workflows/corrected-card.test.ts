// A model.json or golden.json that was wrong is corrected beside the same model.onnx, and released.
import { once } from '../../activities/model-center.ts';
import type { Version } from '../../workflows/domain/model.ts';
import type { StorePath } from '../../workflows/domain/names.ts';
import { auditEntry } from './passage.ts';
import { until } from './until.ts';
import type { World } from './world.ts';
import { openWorld } from './world.ts';

let world: World;
beforeAll(async () => {
  world = await openWorld();
}, 600_000);
afterAll(() => world.close());

/** An approved version of the bytes `same` with this threshold in its card. */
async function approved(submission: string, threshold: number): Promise<Version> {
  await world.putSubmission(submission, 'same', { threshold });
  await world.startLifecycle(submission, { directory: submission });
  const version = await world.untilState(submission, 'new');
  const report = await world.evaluate(submission);
  expect(await world.give(submission, 'mia', 'approve', {}, { report })).toMatchObject({ status: 'done' });
  return version;
}

const fileOf = async (release: string, name: string) =>
  (await world.records.release(release))?.files.find((file) => file.name === name);

it('a corrected card is released with the same bytes, and the old release keeps its own card', async () => {
  const first = await approved('card-1', 0.5);
  const before = await world.release('card-1');
  expect(await world.give('card-1', 'mia', 'rollback', { reason: 'the threshold is wrong' })).toMatchObject({
    status: 'done',
  });
  await world.client.workflow.getHandle(world.idOf('card-1')).result();
  const second = await approved('card-2', 0.6);
  expect(second.digest).toBe(first.digest);
  const after = await world.release('card-2');

  const graphs = [await fileOf(before, 'model.onnx'), await fileOf(after, 'model.onnx')];
  expect(graphs[0]).toBeDefined();
  expect(graphs[1]).toEqual(graphs[0]);
  for (const release of [before, after]) {
    const card = await fileOf(release, 'model.json');
    if (!card) throw new Error(`${release} has no model.json`);
    expect(await world.releases.digest(card.uri)).toBe(card.sha256);
    expect(world.releases.path(card.uri)).toBe(`releases/kind/${card.sha256}/model.json`);
  }
  expect((await fileOf(after, 'model.json'))?.sha256).not.toBe((await fileOf(before, 'model.json'))?.sha256);
});

it.each(['withdraw', 'reject', 'rollback'])('a corrected card is submitted after the %s of the first', async (name) => {
  const salt = `after-${name}`;
  await world.putSubmission(salt, salt, { threshold: 0.5 });
  // A rejected version is closed when the rejection can no longer be undone.
  await world.startLifecycle(salt, { directory: salt }, { policy: { undoWithinSeconds: 1 } });
  await world.untilState(salt, 'new');
  const other = `${salt}-2`;
  await world.putSubmission(other, salt, { threshold: 0.6 });
  const refused = (await (await world.startLifecycle(other, { directory: other })).result()) as Version;
  expect([refused.state, refused.detail]).toEqual([
    'invalid',
    expect.stringContaining(`submission ${salt} of p/m is open with the same bytes`),
  ]);
  expect(refused.detail).toContain('withdraw it, or have a manager reject it, roll it back or retire it');
  const actor = name === 'withdraw' ? 'sam' : 'mia';
  await world.give(salt, actor, name, { reason: 'the card is wrong' });
  await world.client.workflow.getHandle(world.idOf(salt)).result();
  // An invalid submission has no claim to the bytes either.
  const third = `${salt}-3`;
  await world.startLifecycle(third, { directory: other });
  expect(await world.untilState(third, 'new')).toMatchObject({ state: 'new' });
});

it('a release number held by another command in the release store is refused and not used again', async () => {
  await world.approved('number-1');
  const earlier = (await world.records.releases({ type: 'kind', limit: 100 })).at(-1);
  const [taken, next] = [(earlier?.sequence ?? 0) + 1, (earlier?.sequence ?? 0) + 2];
  const manifest = {
    ...{ v: 1, release: `kind-${taken}`, type: 'kind', sequence: taken, project: 'p', model: 'm' },
    ...{ submission: 'lost', version: 1, command: 'lost-1', digest: 'ab'.repeat(32), files: [] },
  };
  const path = `manifests/kind/${String(taken).padStart(9, '0')}.json` as StorePath;
  await world.releases.write(path, once(Buffer.from(JSON.stringify(manifest))));
  const refused = await world.give('number-1', 'mia', 'release');
  expect(refused).toMatchObject({
    status: 'failed',
    reason: 'Conflict',
    message: expect.stringContaining(
      `number ${taken} of type kind is held in the release store by command lost-1`,
    ) as string,
  });
  expect(await world.records.fenced(`kind-${taken}`)).toBe(true);
  expect(await world.release('number-1')).toBe(`kind-${next}`);
});

it('a release into an application whose project may no longer consume the type fails, and says why', async () => {
  const project = await world.records.project('p');
  if (!project) throw new Error('no project');
  await world.records.createProject({ project: 'q', types: [], policy: project.policy }, auditEntry('project.created'));
  const grant = (granted: boolean) =>
    world.records.setTypeGrant({ owner: 'p', type: 'kind', consumer: 'q', granted }, auditEntry('type.granted'));
  await grant(true);
  await world.addApplication('guest', ['function'], 'q');
  const delivered = await world.released('granted-1');
  await world.untilLive('guest', delivered);
  await grant(false);
  const refused = await world.released('granted-2');
  const delivery = await until(`an end of ${refused}`, async () => {
    const found = await world.records.delivery('guest', refused);
    return found?.state === 'failed' && found;
  });
  expect(delivery.detail).toContain('project p no longer lets project q consume kind');
  expect((await world.records.livePointer('guest', 'kind')).release).toBe(delivered);
});
