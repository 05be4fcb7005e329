// Every recorded history replays on the workflows as they are now; a workflow that takes another way is noticed.
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { bundleWorkflowCode, DefaultLogger, Runtime, Worker } from '@temporalio/worker';
import { z } from 'zod';
import { dataConverter, workflowBundle } from '../../workers/bundle.ts';

const folder = join(import.meta.dirname, 'histories');
const listSchema = z.record(z.string(), z.object({ workflowId: z.string(), sha256: z.string() }));
const list = listSchema.parse(JSON.parse(readFileSync(join(import.meta.dirname, 'digests.json'), 'utf8')));
const read = (name: string): string => readFileSync(join(folder, `${name}.json`), 'utf8');
const idOf = (name: string): string => list[name]?.workflowId ?? '';

const bundles = { current: '' };
beforeAll(async () => {
  // A strayed replay is told by its error, not by the log.
  Runtime.install({
    logger: new DefaultLogger('ERROR', () => undefined),
    telemetryOptions: { logging: { filter: 'ERROR' } },
  });
  bundles.current = await workflowBundle(join(tmpdir(), 'ocdl-test-bundle'));
}, 600_000);

const replay = (name: string, history: unknown = JSON.parse(read(name)), codePath = bundles.current): Promise<void> =>
  Worker.runReplayHistory({ workflowBundle: { codePath }, dataConverter, replayName: name }, history, idOf(name));

it('keeps each history as it was recorded, and all of them', () => {
  const files = readdirSync(folder).sort();
  expect(files).toEqual(
    Object.keys(list)
      .map((name) => `${name}.json`)
      .sort(),
  );
  expect(files.length).toBeGreaterThanOrEqual(10);
  for (const [name, { sha256 }] of Object.entries(list))
    expect([name, createHash('sha256').update(read(name)).digest('hex')]).toEqual([name, sha256]);
});

it('has a history of every workflow', () => {
  const types = new Set(
    Object.keys(list).map((name) => /"workflowType": \{\s*"name": "(\w+)"/.exec(read(name))?.[1] ?? name),
  );
  expect([...types].sort()).toEqual(
    ['application', 'delivery', 'evaluation', 'feedback', 'modelLifecycle', 'release', 'trainingRun'].sort(),
  );
});

it.each(Object.keys(list))('replays %s', async (name) => {
  await expect(replay(name)).resolves.toBeUndefined();
});

describe('what must be noticed', () => {
  it('a workflow with its activities in another order', async () => {
    const { code } = await bundleWorkflowCode({
      workflowsPath: join(import.meta.dirname, 'planted-release.ts'),
      ...dataConverter,
      logger: new DefaultLogger('ERROR', () => undefined),
    });
    const [name = ''] = Object.keys(list).filter((one) => one.startsWith('release-'));
    await expect(
      Worker.runReplayHistory({ workflowBundle: { code }, dataConverter }, JSON.parse(read(name)), idOf(name)),
    ).rejects.toThrow(/nondeterminism|does not match/i);
  });

  it.each(Object.keys(list))('another step in %s', async (name) => {
    // The first activity of each history under another name.
    const altered = read(name).replace(/("activityType": \{\s*"name": ")(\w+)"/, '$1somethingElse"');
    expect(altered).not.toBe(read(name));
    await expect(replay(name, JSON.parse(altered))).rejects.toThrow(/nondeterminism|does not match/i);
  });
});
