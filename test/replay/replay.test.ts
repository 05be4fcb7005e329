// Every recorded history replays with the current workflows; a workflow that behaves differently is detected.
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
/** The replay results of each recorded history: unchanged, and with its first activity renamed. */
const answers: { asRecorded: Answers; altered: Answers } = { asRecorded: new Map(), altered: new Map() };
/** A history with its first activity renamed. */
const altered = (name: string): string =>
  read(name).replace(/("activityType": \{\s*"name": ")(\w+)"/, '$1somethingElse"');

beforeAll(async () => {
  // A failed replay is detected by its error, not by the log.
  Runtime.install({
    logger: new DefaultLogger('ERROR', () => undefined),
    telemetryOptions: { logging: { filter: 'ERROR' } },
  });
  const codePath = await workflowBundle(join(tmpdir(), 'ocdl-test-bundle'));
  answers.asRecorded = await replayAll(read, codePath);
  answers.altered = await replayAll(altered, codePath);
}, 600_000);

/** Replays every history in one worker; returns the errors by name, empty for a history that replays. */
async function replayAll(textOf: (name: string) => string, codePath: string): Promise<Answers> {
  const names = Object.keys(list);
  const histories = names.map((name) => ({
    workflowId: idOf(name),
    history: historyFromJSON(JSON.parse(textOf(name))),
  }));
  const options = { workflowBundle: { codePath }, dataConverter, ...workflowTime };
  const found: [string, string][] = [];
  // Results have the order of the histories.
  for await (const { workflowId, error } of Worker.runReplayHistories(options, histories)) {
    const name = names[found.length] ?? '';
    expect(workflowId).toBe(idOf(name));
    found.push([name, error?.message ?? '']);
  }
  return new Map(found);
}

it('has every recorded history, unchanged', () => {
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

describe('detects', () => {
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

  it.each(Object.keys(list))('another activity in %s', (name) => {
    expect(altered(name)).not.toBe(read(name));
    expect(answers.altered.get(name)).toMatch(/nondeterminism|does not match/i);
  });
});
