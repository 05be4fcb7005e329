// Every activity sends heartbeats from start to end, whatever it waits for: Temporal must not mistake a slow store for a dead worker.
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { jest } from '@jest/globals';
import { createEarlierActivities } from '../../activities/earlier.ts';
import { allBeating, beating } from '../../activities/heartbeat.ts';
import { createActivities } from '../../workers/wiring.ts';
import { inActivity } from './activity.ts';

/** A port whose asynchronous calls never return; its synchronous calls return text. */
const hanging = (): never =>
  new Proxy(
    {},
    {
      get: (_, name) =>
        name === 'then'
          ? undefined
          : name === 'uri' || name === 'path'
            ? () => 'local:x'
            : () => new Promise(() => undefined),
    },
  ) as never;

/** Values that must be names or paths for an activity to reach a store. */
const texts: Readonly<Record<string, string>> = {
  project: 'p',
  author: 'sam',
  user: 'sam',
  area: 'staging',
  path: 'a',
  release: 'kind-1',
  // For an evaluation: its failure is recorded.
  state: 'failed',
};

/** A value with every property that activities read from their input. */
const anything = (): unknown =>
  new Proxy(() => undefined, {
    get: (_, name) => {
      if (name === Symbol.iterator || name === Symbol.asyncIterator || name === 'then') return undefined;
      if (name === Symbol.toPrimitive || name === 'toString' || name === 'toJSON') return () => 'anything';
      return texts[String(name)] ?? anything();
    },
  });

const activities: Readonly<Record<string, (this: void, ...input: never[]) => Promise<unknown>>> =
  await createActivities({
    ...{ records: hanging(), areas: hanging(), cachedAreas: hanging(), releases: hanging(), code: hanging() },
    ...{
      bus: hanging(),
      cluster: hanging(),
      signer: hanging(),
      apiUrl: '',
      counters: () => ({}),
      close: async () => undefined,
    },
    outside: { sources: hanging(), archives: hanging(), scratch: join(tmpdir(), 'ocdl-none'), importBytes: 1 },
  });

/** The workflow that each activity works for; activities not listed accept any. */
const workflowsOf: Readonly<Record<string, readonly string[]>> = {
  'model/p/m/s': [
    ...['decideVersion', 'fileTransitions', 'announceWithdrawal'],
    ...['stageModel', 'unstageModel', 'validateModel', 'returnToPrivate'],
  ],
  'evaluation/p/e': ['failEvaluation'],
  'release/kind-1': ['publishRelease', 'announceRelease'],
  'delivery/shop/kind-1': ['receiveRelease', 'lockModel', 'runGate'],
  'application/shop/kind': ['moveLivePointer'],
  'feedback/p/f': ['commitLabels'],
};
const workflowOf = (name: string): string =>
  Object.entries(workflowsOf).find(([, names]) => names.includes(name))?.[0] ?? 'run/p/m/s/1';
/** Activities that only workflows of earlier versions call. They do nothing and return immediately. */
const atOnce = Object.keys(createEarlierActivities({ records: hanging() })).filter(
  (name) => name !== 'recordEvaluation',
);

beforeEach(() => jest.useFakeTimers());
afterEach(() => jest.useRealTimers());

it.each(Object.keys(activities).filter((name) => !atOnce.includes(name)))(
  '%s sends heartbeats while it waits',
  async (name) => {
    const run = activities[name] as unknown as (this: void, input: unknown) => Promise<unknown>;
    const beats: unknown[] = [];
    const ended: unknown[] = [];
    void inActivity(() => run(anything()), { workflowId: workflowOf(name) }, beats).then(
      (result) => ended.push(result),
      (error: unknown) => ended.push(error),
    );
    await jest.advanceTimersByTimeAsync(16_000);
    expect(ended).toEqual([]);
    expect(beats.length).toBeGreaterThanOrEqual(3);
  },
);

it('covers activities that wait for a store, a database, a repository and a bus', () => {
  expect(Object.keys(activities).filter((name) => !atOnce.includes(name))).toEqual(
    expect.arrayContaining([
      'decideVersion',
      'unstageModel',
      'announceRelease',
      'moveLivePointer',
      'registerImport',
      'runGate',
      'recordEvaluation',
    ]),
  );
});

it.each(atOnce)('%s answers a workflow of an earlier version immediately', async (name) => {
  const run = activities[name] as unknown as (this: void, input: unknown) => Promise<unknown>;
  expect(await inActivity(() => run(anything()))).toBeUndefined();
});

it('sends heartbeats often enough before, during and after work that reports progress', async () => {
  const beats: unknown[] = [];
  const wrapped = allBeating({
    async work() {
      await new Promise((resolve) => setTimeout(resolve, 16_000));
      await beating(async (_, report) => {
        report('half');
        await new Promise((resolve) => setTimeout(resolve, 16_000));
      });
      await new Promise((resolve) => setTimeout(resolve, 16_000));
    },
  });
  void inActivity(() => wrapped.work(), {}, beats);
  await jest.advanceTimersByTimeAsync(47_000);
  expect(beats).toEqual([...Array<unknown>(3).fill(undefined), ...Array<unknown>(7).fill('half')]);
  await jest.advanceTimersByTimeAsync(60_000);
  expect(beats).toHaveLength(10);
});

it('sends no heartbeats for an activity without a heartbeat timeout', async () => {
  const beats: unknown[] = [];
  void inActivity(() => beating(async (_, report) => report('x')), { heartbeatTimeoutMs: 0 }, beats);
  await jest.advanceTimersByTimeAsync(16_000);
  expect(beats).toEqual([]);
});
