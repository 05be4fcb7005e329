// Every recorded history replays on the workflows as they are now; a workflow that takes another way is noticed.
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { historyFromJSON } from '@temporalio/common/lib/proto-utils.js';
import { bundleWorkflowCode, DefaultLogger, Runtime, Worker } from '@temporalio/worker';
import { z } from 'zod';
import { dataConverter, workflowBundle, workflowTime } from '../../workers/bundle.ts';
import * as workflows from '../../workflows/index.ts';

const folder = join(import.meta.dirname, 'histories');
const listSchema = z.record(z.string(), z.object({ workflowId: z.string(), sha256: z.string() }));
const list = listSchema.parse(JSON.parse(readFileSync(join(import.meta.dirname, 'digests.json'), 'utf8')));
const read = (name: string): string => readFileSync(join(folder, `${name}.json`), 'utf8');
const idOf = (name: string): string => list[name]?.workflowId ?? '';

type Answers = ReadonlyMap<string, string>;
/** How each recorded history replays as it is, and with its first activity under another name. */
const answers: { asRecorded: Answers; altered: Answers } = { asRecorded: new Map(), altered: new Map() };
/** The first activity of a history under another name. */
const altered = (name: string): string =>
  read(name).replace(/("activityType": \{\s*"name": ")(\w+)"/, '$1somethingElse"');

beforeAll(async () => {
  // A strayed replay is told by its error, not by the log.
  Runtime.install({
    logger: new DefaultLogger('ERROR', () => undefined),
    telemetryOptions: { logging: { filter: 'ERROR' } },
  });
  const codePath = await workflowBundle(join(tmpdir(), 'ocdl-test-bundle'));
  answers.asRecorded = await replayAll(read, codePath);
  answers.altered = await replayAll(altered, codePath);
}, 600_000);

/** Replays every history in one worker; by name what it said, nothing of one that took the recorded way. */
async function replayAll(textOf: (name: string) => string, codePath: string): Promise<Answers> {
  const names = Object.keys(list);
  const histories = names.map((name) => ({
    workflowId: idOf(name),
    history: historyFromJSON(JSON.parse(textOf(name))),
  }));
  const options = { workflowBundle: { codePath }, dataConverter, ...workflowTime };
  const found: [string, string][] = [];
  // They come in the order in which they are given.
  for await (const { workflowId, error } of Worker.runReplayHistories(options, histories)) {
    const name = names[found.length] ?? '';
    expect(workflowId).toBe(idOf(name));
    found.push([name, error?.message ?? '']);
  }
  return new Map(found);
}

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
  expect([...types].sort()).toEqual(Object.keys(workflows).sort());
});

it.each(Object.keys(list))('replays %s', (name) => {
  expect(answers.asRecorded.get(name)).toBe('');
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
      Worker.runReplayHistory(
        { workflowBundle: { code }, dataConverter, ...workflowTime },
        JSON.parse(read(name)),
        idOf(name),
      ),
    ).rejects.toThrow(/nondeterminism|does not match/i);
  });

  it.each(Object.keys(list))('another step in %s', (name) => {
    expect(altered(name)).not.toBe(read(name));
    expect(answers.altered.get(name)).toMatch(/nondeterminism|does not match/i);
  });
});
