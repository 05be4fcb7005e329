// Training and collecting are two activities: a training runs once, even if its outputs, metrics or log cannot be stored afterwards.
import { createHash } from 'node:crypto';
import type { RunRecord } from '../../workflows/domain/model.ts';
import type { Digest } from '../../workflows/domain/names.ts';
import { isFailure } from '../../activities/failures.ts';
import { createLauncherActivities } from '../../activities/launcher.ts';
import { createRoverActivities } from '../../activities/rover.ts';
import { once } from '../../activities/model-center.ts';
import type { UploadedOutput } from '../../activities/records.ts';
import { inActivity } from './activity.ts';
import { sorted } from '../../activities/jobs.ts';
import type { JobOutcome } from '../../activities/ports.ts';
import type { JobRow } from '../../activities/records.ts';

type Deps = Parameters<typeof createRoverActivities>[0];
const sha256 = 'a'.repeat(64) as Digest;
const input = {
  ...{ project: 'p', model: 'm', submission: 's', attempt: 1, author: 'sam' },
  spec: {
    ...{ code: { repository: 'p/code', commit: 'c' }, entrypoint: 'e', lock: 'l', data: [], parameters: {}, seed: 0 },
    ...{ compute: 'cpu', deadlineSeconds: 604_800 },
  },
  provisioned: {
    inputs: [],
    code: { name: 'code.tar', uri: 'u', sha256, bytes: 1 },
    environment: sha256,
    startedAt: '',
  },
} as unknown as Parameters<ReturnType<typeof createRoverActivities>['trainModel']>[0];

interface Given {
  metrics?: string;
  /** What the metrics are when they are read, after their digest was computed. */
  metricsLater?: string;
  fail?: (what: string) => void;
  outcome?: JobOutcome;
  /** The run began before steps were recorded: its input contains what was provisioned. */
  broughtOver?: boolean;
  /** What the API recorded as the uploaded model. */
  uploaded?: UploadedOutput;
}

const digestOf = (text: string): Digest => createHash('sha256').update(text).digest('hex') as Digest;

/** A rover over stores in memory, with a provisioned run; `fail` throws to make the store unavailable. */
function roverOf(given: Given = {}) {
  const { metrics = '{"f1": 0.5}', fail = () => undefined, broughtOver = false } = given;
  const seen = { trainings: 0, written: {} as Record<string, string>, runs: [] as RunRecord[] };
  const steps: Record<string, object> = broughtOver ? {} : { 'run/p/m/s/1 prepared': input.provisioned };
  if (given.uploaded) steps['run/p/m/s/1 output/model.onnx'] = given.uploaded;
  const areas = {
    uri: (path: string) => path,
    stat: async () => ({ bytes: 1 }),
    async digest(uri: string) {
      fail('digest');
      return uri.endsWith('metrics.json') ? digestOf(metrics) : sha256;
    },
    read: async () => once(Buffer.from(given.metricsLater ?? metrics)),
    async write(path: string, source: AsyncIterable<Uint8Array>) {
      fail('write');
      const chunks: Uint8Array[] = [];
      for await (const chunk of source) chunks.push(chunk);
      seen.written[path] = Buffer.concat(chunks).toString();
      return { uri: path, sha256, bytes: 1 };
    },
  };
  const records = {
    /** The job ends at once. */
    async queueJob(row: JobRow) {
      seen.trainings += 1;
      const outcome = given.outcome ?? ({ status: 'succeeded', seconds: 604_000, log: 'trained\n' } as const);
      steps[`${row.workflowId} ended`] = sorted({ ...row, kills: 0 }, outcome);
    },
    // The first activity of the current program proves its input; this is what remains of it.
    start: async () => ({ earlier: false, broughtOver }),
    recordStep: async (id: string, step: string, value: object) => void (steps[`${id} ${step}`] = value),
    step: async (id: string, step: string) => steps[`${id} ${step}`],
    recordRun: async (_: object, __: number, run: RunRecord) => void seen.runs.push(run),
  };
  const code = { read: async () => Buffer.from('') };
  const rover = createRoverActivities({
    ...({ areas, records, code, releases: {} } as unknown as Deps),
    platformLock: '',
  });
  return { rover, seen };
}

const thrown = (work: Promise<unknown>): Promise<unknown> =>
  work.then(
    () => 'nothing was thrown',
    (error: unknown) => error,
  );

/** A forged provisioning. */
const forged = { ...input, provisioned: { ...input.provisioned, environment: 'f'.repeat(64) as Digest } };

it('trains once even if the store is unavailable afterwards, also for runs of an earlier program', async () => {
  const state = { failures: 2 };
  const { rover, seen } = roverOf({
    broughtOver: true,
    fail: (what) => {
      if (what === 'digest' && state.failures-- > 0) throw new Error('HDFS: safe mode');
    },
  });
  const run: RunRecord = await inActivity(() => rover.trainModel(input));
  expect(run).toMatchObject({ metrics: { f1: 0.5 }, log: { name: 'log.txt' } });
  expect(seen).toMatchObject({ trainings: 1, written: { 'private/p/sam/runs/s-1/log.txt': 'trained\n' } });
});

it('retries collecting without training again', async () => {
  const state = { isAway: true };
  const { rover, seen } = roverOf({
    fail: () => {
      if (state.isAway) throw new Error('HDFS: safe mode');
    },
  });
  await inActivity(() => rover.runTraining(input));
  for (let again = 0; again < 3; again += 1)
    expect(await thrown(inActivity(() => rover.collectRun(input)))).toMatchObject({
      ...{ message: 'HDFS: safe mode' },
    });
  state.isAway = false;
  const first = await inActivity(() => rover.collectRun(input));
  const second = await inActivity(() => rover.collectRun(input));
  expect({ ...second, endedAt: '' }).toEqual({ ...first, endedAt: '' });
  expect(seen.trainings).toBe(1);
  expect(seen.runs).toEqual([first, second]);
});

it('uses what is recorded about a run, whatever its workflow passes', async () => {
  const { rover } = roverOf();
  await inActivity(() => rover.runTraining(forged));
  const run = await inActivity(() => rover.collectRun(forged));
  expect(run.environment).toBe(input.provisioned.environment);
});

it('records only the outputs that the job uploaded: its author can write where they lie', async () => {
  const collected = async (uploaded: string): Promise<unknown> => {
    const { rover } = roverOf({ uploaded: { sha256: uploaded.repeat(64) as Digest, bytes: 1 } });
    await inActivity(() => rover.runTraining(input));
    return thrown(inActivity(() => rover.collectRun(input)));
  };
  expect(await collected('a')).toBe('nothing was thrown');
  const error = await collected('b');
  expect(isFailure(error, 'DigestMismatch')).toBe(true);
  expect(String(error)).toMatch(/runs\/s-1\/model\.onnx has sha256:a+, expected sha256:b+: it was changed after/);
});

it('refuses to train what is not provisioned, and to collect what has not ended', async () => {
  const { rover, seen } = roverOf();
  const other = { workflowId: 'run/p/m/other/1' };
  const works: readonly (() => Promise<unknown>)[] = [
    () => rover.runTraining(input),
    () => rover.collectRun(input),
    () => rover.trainModel(input),
  ];
  for (const work of works) {
    const error = await thrown(inActivity<unknown>(work, other));
    expect(isFailure(error, 'NotAuthorized')).toBe(true);
    expect(String(error)).toContain('run/p/m/other/1 has prepared nothing');
  }
  expect(String(await thrown(inActivity(() => rover.collectRun(input))))).toContain('run/p/m/s/1 has not ended');
  expect(seen).toEqual({ trainings: 0, written: {}, runs: [] });
});

it.each([
  ['{"f1": 0.5, "loss": NaN, "best": -Infinity, "of": {"a": 1}, "none": null}', { f1: 0.5 }, 4],
  ['{"says \\"NaN\\" here": 1, "NaN": 2}', { 'says "NaN" here': 1, NaN: 2 }, 0],
  ['{"f1 (YES)": 1}', { 'f1 (YES)': 1 }, 0],
  [`{"${'n'.repeat(65)}": 1}`, {}, 1],
  ['[1]', {}, 1],
  ['no JSON', {}, 1],
])('keeps a run with the metrics %s', async (metrics, kept, notes) => {
  const { rover, seen } = roverOf({ metrics });
  await inActivity(() => rover.runTraining(input));
  expect(await inActivity(() => rover.collectRun(input))).toMatchObject({ metrics: kept });
  const log = seen.written['private/p/sam/runs/s-1/log.txt'] ?? '';
  expect(log.split('\n').filter((line) => line.startsWith('metrics.json'))).toHaveLength(notes);
});

it.each([
  [{ status: 'failed', reason: 'exit', exitCode: 1, log: 'ValueError: x\n' }, 'JobFailed'],
  [{ status: 'timed-out', log: 'ValueError: x\n' }, 'JobTimedOut'],
] as const)('keeps the log of a failed run and says where it lies: %j', async (outcome, type) => {
  const { rover, seen } = roverOf({ outcome });
  await inActivity(() => rover.runTraining(input));
  const error = await thrown(inActivity(() => rover.collectRun(input)));
  expect(isFailure(error, type)).toBe(true);
  expect(String(error)).toMatch(/ValueError: x\nits log: runs\/s-1\/log\.txt in sam's private area$/);
  expect(seen.written).toEqual({ 'private/p/sam/runs/s-1/log.txt': 'ValueError: x\n' });
});

it('reports why a run failed even if its log cannot be stored', async () => {
  const { rover } = roverOf({
    outcome: { status: 'failed', reason: 'exit', exitCode: 1, log: 'x' },
    fail: () => {
      throw new Error('HDFS: safe mode');
    },
  });
  await inActivity(() => rover.runTraining(input));
  const collect = (attempt: number) => thrown(inActivity(() => rover.collectRun(input), { attempt }));
  expect(await collect(1)).toMatchObject({ message: 'HDFS: safe mode' });
  const last = await collect(10);
  expect(isFailure(last, 'JobFailed')).toBe(true);
  expect(String(last)).toMatch(/exit code 1\)[^]*its log could not be kept: HDFS: safe mode$/);
});

it('stages from a directory of any depth that the API accepts; other directories are not retried', async () => {
  const state = { directory: '' };
  const version = { state: 'validating', run: null };
  const launcher = createLauncherActivities({
    records: {
      start: async () => ({ input: { author: 'sam', beginning: { directory: state.directory } } }),
      versionStanding: async () => ({ version, attempt: 1 }),
      staged: async () => undefined,
    } as never,
    areas: { uri: (path: string) => path, stat: async () => undefined } as never,
    signer: {} as never,
  });
  const stage = (directory: string) => {
    state.directory = directory;
    return thrown(inActivity(() => launcher.stageModel(), { workflowId: 'model/p/m/s' }));
  };
  const deep = Array.from({ length: 12 }, (_, i) => `d${i}`).join('/');
  expect(String(await stage(deep))).toMatch(/model\.onnx is missing in d0\//);
  for (const directory of ['../x', `${deep}/${deep}`, '', 'a'.repeat(1_000)]) {
    const error = await stage(directory);
    expect([directory, isFailure(error, 'InvalidInput')]).toEqual([directory, true]);
    expect(error).toMatchObject({ nonRetryable: true });
  }
});

it('refuses metrics that change while they are collected', async () => {
  const { rover } = roverOf({ metricsLater: '{"f1": 1}' });
  await inActivity(() => rover.runTraining(input));
  expect(isFailure(await thrown(inActivity(() => rover.collectRun(input))), 'DigestMismatch')).toBe(true);
});
