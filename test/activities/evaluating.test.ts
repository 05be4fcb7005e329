// The inputs of an evaluation: the version's own bytes, the live version as baseline, the project's thresholds.
import { createHash } from 'node:crypto';
import { createRoverActivities } from '../../activities/rover.ts';
import { isFailure } from '../../activities/failures.ts';
import { once } from '../../activities/model-center.ts';
import { builtInProfiles } from '../../workflows/domain/compute.ts';
import { inActivity } from './activity.ts';

const digest = 'd'.repeat(64);
const former = 'f'.repeat(64);
const file = (name: string, sha256: string, at: string) => ({ name, uri: `${at}:${name}`, sha256, bytes: 1 });
const version = {
  ...{ project: 'p', model: 'm', submission: 'v-2', author: 'sam', type: 'kind', digest, run: null },
  files: ['model.onnx', 'model.json', 'golden.json'].map((name) => file(name, digest, 'staging')),
};
const releaseRow = (sha256: string) => ({
  ...{ release: 'kind-1', digest: sha256 },
  files: ['model.onnx', 'model.json', 'golden.json'].map((name) => file(name, sha256, 'store')),
});
const input = {
  ...{ project: 'p', evaluation: 'e-1', model: 'm', actor: 'mia', dataset: 'held-out' },
  subject: { submission: 'v-2' },
};

const digestOf = (text: string) => createHash('sha256').update(text).digest('hex');

interface Given {
  readonly rows?: readonly string[];
  readonly found?: object;
  /** The live releases, by application. */
  readonly live?: Readonly<Record<string, { release: string | null; digest?: string }>>;
  readonly report?: object;
  /** Digest of the report that the job uploaded, as the API recorded it. */
  readonly uploaded?: string;
}

function evaluatingOf(given: Given = {}) {
  const {
    rows = ['rows.jsonl'],
    live = {},
    report = { v: 1, model: { sha256: digest }, metrics: {}, passed: true },
  } = given;
  const seen = {
    jobs: [] as { inputs: { name: string }[]; parameters: object }[],
    ended: [] as unknown[],
    row: { dataset: 'held-out', submission: 'v-2' as string | null },
  };
  const steps: Record<string, object> = {};
  if (given.uploaded) steps['evaluation/p/e-1 output/report.json'] = { sha256: given.uploaded, bytes: 1 };
  const records = {
    ...{ issueToken: async () => undefined, revokeToken: async () => undefined, tokens: async () => [] },
    dataSet: async () => ({ files: rows.map((name) => file(name, 'a'.repeat(64), 'staging')) }),
    version: async () => ({ ...version, ...given.found }),
    applications: async ({ type }: { type: string }) =>
      type === 'kind' ? Object.keys(live).map((application) => ({ application })) : [],
    livePointer: async (application: string) => ({ release: live[application]?.release ?? null }),
    release: async (id: string) => releaseRow(Object.values(live).find((one) => one.release === id)?.digest ?? former),
    project: async () => ({ policy: { thresholds: { f1: 0.9 } } }),
    offeredProfiles: async () => builtInProfiles,
    recordStep: async (id: string, step: string, value: object) => void (steps[`${id} ${step}`] = value),
    step: async (id: string, step: string) => steps[`${id} ${step}`],
    async queueJob(row: { workflowId: string; job: (typeof seen.jobs)[number] }) {
      seen.jobs.push(row.job);
      await records.recordStep(row.workflowId, 'ended', { status: 'succeeded', log: '' });
    },
    evaluation: async () => ({ evaluation: 'e-1', state: 'running', model: 'm', actor: 'mia', ...seen.row }),
    endEvaluation: async (row: object, how: object) => (seen.ended.push([row, how]), row),
  };
  const rover = createRoverActivities({
    ...{ records, code: {}, platformLock: '' },
    areas: {
      uri: (path: string) => `area:${path}`,
      stat: async () => ({ bytes: 1 }),
      digest: async (uri: string) => (uri.includes('/reports/') ? digestOf(JSON.stringify(report)) : digest),
      read: async () => once(Buffer.from(JSON.stringify(report))),
    },
    releases: { path: (uri: string) => (uri.startsWith('store:') ? uri : undefined) },
  } as never);
  const asked = (change: object) => ({ ...input, ...change }) as never;
  return {
    seen,
    prepare: (change: object = {}) =>
      inActivity(() => rover.prepareEvaluation(asked(change)), { workflowId: 'evaluation/p/e-1' }),
    run: (change: object = {}) =>
      inActivity(() => rover.runEvaluation(asked(change)), { workflowId: 'evaluation/p/e-1' }),
    collect: (change: object = {}) =>
      inActivity(() => rover.collectReport(asked(change)), { workflowId: 'evaluation/p/e-1' }),
  };
}

const inputsOf = ({ inputs }: { inputs: readonly { name: string; uri: string; sha256: string }[] }) =>
  inputs.map(({ name, uri, sha256 }) => `${name} ${uri} ${sha256.slice(0, 1)}`);
const own = ['model.onnx staging:model.onnx d', 'model.json staging:model.json d', 'test.jsonl staging:rows.jsonl a'];
const baseline = ['baseline.onnx store:model.onnx f', 'baseline.json store:model.json f'];

describe('an evaluation of a version', () => {
  it('uses its staged bytes, the rows, and the live version as baseline', async () => {
    const prepared = await evaluatingOf({ live: { shop: { release: 'kind-1' } } }).prepare();
    expect(inputsOf(prepared)).toEqual([...own, ...baseline]);
    expect(prepared.digest).toBe(digest);
    expect(prepared.report).toEqual({ area: 'staging', project: 'p', path: 'models/m/v-2/reports/e-1.json' });
  });

  it.each<[string, Given['live']]>([
    ['nothing consumes the type', {}],
    ['nothing is live', { shop: { release: null }, bank: { release: null } }],
    ['the version itself is live', { shop: { release: 'kind-1', digest } }],
  ])('has no baseline if %s', async (_, live) => {
    expect(inputsOf(await evaluatingOf({ ...(live && { live }) }).prepare())).toEqual(own);
  });

  it('is compared with another live version if the first application runs this version or none', async () => {
    const live = { bank: { release: null }, club: { release: 'kind-2', digest }, shop: { release: 'kind-1' } };
    expect(inputsOf(await evaluatingOf({ live }).prepare())).toEqual([...own, ...baseline]);
  });

  it.each([[[]], [['a.jsonl', 'b.jsonl']], [['rows.csv']]])('requires one file of rows, not %j', async (rows) => {
    const error = await evaluatingOf({ rows })
      .prepare()
      .catch((reason: unknown) => reason);
    expect(isFailure(error, 'InvalidInput')).toBe(true);
  });

  it("uses the thresholds of the project's policy, whatever was requested", async () => {
    const { prepare, run, seen } = evaluatingOf();
    await prepare();
    await run({ thresholds: { f1: 0 } });
    expect(seen.jobs).toMatchObject([{ parameters: { thresholds: { f1: 0.9 } } }]);
  });

  it('counts as evidence only with a report about its own bytes, from staging', async () => {
    const good = evaluatingOf();
    await good.prepare();
    await good.run();
    await good.collect();
    expect(good.seen.ended).toMatchObject([[{ digest, passed: true, state: 'done' }, { inStaging: true }]]);
    const bad = evaluatingOf({ report: { v: 1, model: { sha256: former }, metrics: {}, passed: true } });
    await bad.prepare();
    await bad.run();
    expect(isFailure(await bad.collect().catch((reason: unknown) => reason), 'DigestMismatch')).toBe(true);
    expect(bad.seen.ended).toEqual([]);
  });
});

it('ends with the report that the job uploaded, and with no other', async () => {
  const report = { v: 1, model: { sha256: digest }, metrics: {}, passed: true };
  for (const [uploaded, rows] of [[digestOf(JSON.stringify(report)), 1] as const, [former, 0] as const]) {
    const { prepare, run, collect, seen } = evaluatingOf({ report, uploaded });
    await prepare();
    await run();
    const error = await collect().catch((reason: unknown) => reason);
    expect([isFailure(error, 'DigestMismatch'), seen.ended.length]).toEqual([rows === 0, rows]);
  }
});

it('uses the recorded request, whatever the input of its workflow says', async () => {
  const { prepare } = evaluatingOf();
  for (const change of [{ dataset: 'easy' }, { model: 'other' }, { actor: 'sam' }, { subject: { directory: 'mine' } }])
    await expect(prepare(change)).rejects.toMatchObject({
      type: 'NotAuthorized',
      message: 'evaluation e-1 was requested for another model, data set or person',
    });
});

describe('a private test', () => {
  const subject = { subject: { directory: 'mine' } };

  it("uses the actor's own files and thresholds, without a baseline", async () => {
    const { prepare, run, collect, seen } = evaluatingOf({ live: { shop: { release: 'kind-1' } } });
    seen.row.submission = null;
    const prepared = await prepare(subject);
    expect(inputsOf(prepared)).toEqual([
      'model.onnx area:private/p/mia/mine/model.onnx d',
      'model.json area:private/p/mia/mine/model.json d',
      'test.jsonl staging:rows.jsonl a',
    ]);
    await run({ ...subject, thresholds: { f1: 0.1 } });
    expect(seen.jobs).toMatchObject([{ parameters: { thresholds: { f1: 0.1 } } }]);
    await collect(subject);
    expect(seen.ended).toMatchObject([[{ state: 'done' }, { inStaging: false }]]);
  });
});
