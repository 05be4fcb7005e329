// A withdrawn release is shown as withdrawn everywhere, with who, when and why, and its files can no longer be downloaded.
import { beforeEach, expect, test } from '@jest/globals';
import type { StorePath } from '../../workflows/domain/names.ts';
import { commandingIn, forgetSent } from './commanding.ts';
import { decides, once } from './passage.ts';
import { json, PROJECT, TYPE } from './world.ts';
import { worldOfThisFile } from './world-of.ts';

const { world, machines } = worldOfThisFile();
beforeEach(() => forgetSent(world()));
const { give, another } = commandingIn(world);

const BYTES = Buffer.from('model bytes that leak');

/** A version whose release is announced: the path of its submission, and the release. */
async function released(): Promise<{ submission: string; release: string }> {
  const { areas, releases, records } = world().deps;
  const area = `staging/${PROJECT}/models/random-forest/leaky/${Date.now()}/model.onnx` as StorePath;
  const staged = { ...(await areas.write(area, once(BYTES))), name: 'model.onnx' };
  const submission = await another({ files: [staged], version: 2 });
  const stored = await releases.write(`releases/${TYPE}/${staged.sha256}/model.onnx` as StorePath, once(BYTES));
  const { release } = await records.allotRelease(`release of ${submission}`, {
    ...{ type: TYPE, project: PROJECT, model: 'random-forest', submission: submission.split('/').at(-1) ?? '' },
    ...{ version: 2, digest: staged.sha256, files: [{ ...stored, name: 'model.onnx' }], report: null },
    ...{ approvedBy: ['mia'], releasedBy: 'mia', releasedAt: '2026-01-01T00:00:00.000Z' },
  });
  await records.announced(release);
  return { submission, release };
}
const rowsOf = async (who: string): Promise<readonly Record<string, unknown>[]> =>
  (await json(world().ask(who, 'GET', `/v1/types/${TYPE}/releases`)))['rows'] as Record<string, unknown>[];

test('can be downloaded until it is withdrawn; then every download is 410, including ranges and conditional requests', async () => {
  const { submission, release } = await released();
  const file = `/v1/releases/${release}/files/model.onnx`;
  const standing = await world().ask(machines().scanner, 'GET', file);
  expect([standing.status, Buffer.from(await standing.arrayBuffer()).equals(BYTES)]).toEqual([200, true]);
  const etag = standing.headers.get('etag') ?? '';
  expect((await json(world().ask('mia', 'GET', `/v1/releases/${release}`)))['withdrawn']).toBeNull();
  expect((await rowsOf('mia')).map((row) => row['withdrawn'])).toEqual([null, null]);

  world().deps.workflows.onCommand = decides(world());
  const { version } = (await json(world().ask('mia', 'GET', submission))) as {
    version: { revision: number; digest: string };
  };
  const reject = { name: 'reject', revision: version.revision, digest: version.digest, args: { reason: 'it leaks' } };
  const before = Date.now();
  expect((await give('mia', reject, {}, submission)).status).toBe(202);

  const withdrawn = { decision: 'reject', by: 'mia', reason: 'it leaks', at: expect.any(String) as unknown };
  for (const who of [machines().scanner, 'dev', 'mia', 'admin']) {
    const asked: readonly Record<string, string>[] = [{}, { range: 'bytes=0-3' }, { 'if-none-match': etag }];
    for (const headers of asked) {
      const refused = await world().ask(who, 'GET', file, undefined, headers);
      // Not a member: whether there is such a release is not said.
      if (who === 'admin' && refused.status === 403) continue;
      expect([who, refused.status, refused.headers.get('content-type')]).toEqual([
        who,
        410,
        'application/problem+json',
      ]);
      expect(await json(refused)).toMatchObject({ type: 'urn:ocdl:problem:release-withdrawn', withdrawn });
    }
    expect((await world().ask(who, 'HEAD', file)).status).not.toBe(200);
  }
  // Lists and views still have it, marked as withdrawn.
  for (const who of [machines().scanner, 'dev', 'mia'])
    expect((await rowsOf(who)).find((row) => row['release'] === release)).toMatchObject({ withdrawn });
  expect((await rowsOf('mia')).filter((row) => row['withdrawn'] === null)).toHaveLength(1);
  const shown = await json(world().ask('dev', 'GET', `/v1/releases/${release}`));
  expect(shown).toMatchObject({ withdrawn });
  expect(Date.parse((shown['withdrawn'] as { at: string }).at)).toBeGreaterThanOrEqual(before - 1_000);
  expect((await json(world().ask('mia', 'GET', submission)))['releases']).toEqual([
    { release, state: 'announced', releasedAt: '2026-01-01T00:00:00.000Z', withdrawn },
  ]);
  // The same bytes stay with the version, so that the decision can be checked.
  const kept = await world().ask('mia', 'GET', `${submission}/files/model.onnx`);
  expect([kept.status, Buffer.from(await kept.arrayBuffer()).equals(BYTES)]).toEqual([200, true]);
});
