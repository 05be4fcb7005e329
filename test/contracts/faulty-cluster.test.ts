// The contract of clusters notices faults: each faulty cluster makes the case fail that is named for it.
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Cluster, JobOutcome } from '../../activities/ports.ts';
import { openLocalCluster } from '../adapters/local-cluster.ts';
import { patience } from './cases.ts';
import { clusterCases, type ClusterHarness } from './cluster.ts';

/** Ten times what a sound cluster takes; one that ignores a deadline is waited for so long. */
patience.ms = 20_000;

interface Fault {
  readonly name: string;
  /** The case that must notice. */
  readonly noticedBy: string;
  readonly of: (cluster: Cluster) => Cluster;
}

type Reason = Extract<JobOutcome, { status: 'failed' }>['reason'];

/** Runs jobs as the cluster does, with one reason of failure told as another. */
const renaming =
  (cluster: Cluster, from: Reason, to: Reason): Cluster['runJob'] =>
  async (spec, watch) => {
    const outcome = await cluster.runJob(spec, watch);
    return outcome.status === 'failed' && outcome.reason === from ? { ...outcome, reason: to } : outcome;
  };

const faults: readonly Fault[] = [
  {
    name: 'reports success on exit 1',
    noticedBy: 'a job that exits with status 1 has failed, even when its outputs are there',
    of: (cluster) => ({
      ...cluster,
      runJob: async (spec, watch) => {
        const outcome = await cluster.runJob(spec, watch);
        return outcome.status === 'failed' ? { status: 'succeeded', seconds: 1, log: outcome.log } : outcome;
      },
    }),
  },
  {
    name: 'loses outputs',
    noticedBy: 'a job gets its inputs, its code and its parameters, and its outputs arrive',
    of: (cluster) => ({ ...cluster, runJob: (spec, watch) => cluster.runJob({ ...spec, outputs: [] }, watch) }),
  },
  {
    name: 'lets a job outlive its cancel',
    noticedBy: 'an abort ends the job and everything it started, then rejects',
    of: (cluster) => ({
      ...cluster,
      runJob: (spec, watch) => {
        const aborted = new Promise<never>((_, reject) => {
          watch.signal.addEventListener('abort', () => reject(watch.signal.reason as Error));
        });
        const running = cluster.runJob(spec, { ...watch, signal: new AbortController().signal });
        running.catch(() => undefined);
        return Promise.race([running, aborted]);
      },
    }),
  },
  {
    name: 'ignores the deadline',
    noticedBy: 'a job past its deadline is ended and has timed out',
    of: (cluster) => ({
      ...cluster,
      runJob: (spec, watch) => cluster.runJob({ ...spec, deadlineSeconds: 600 }, watch),
    }),
  },
  {
    name: 'puts the progress lines into the log instead of telling them',
    noticedBy: 'progress lines are told and left out of the log; what does not parse is an ordinary line',
    of: (cluster) => ({
      ...cluster,
      runJob: (spec, { signal, onLog }) => cluster.runJob(spec, { signal, ...(onLog && { onLog }) }),
    }),
  },
  {
    name: 'runs without looking at what was fetched',
    noticedBy: 'an input with other bytes than declared fails to be fetched, and the program never runs',
    of: (cluster) => ({
      ...cluster,
      runJob: (spec, watch) => cluster.runJob({ ...spec, inputs: [], argv: ['true'] }, watch),
    }),
  },
  {
    name: 'trains again what had finished',
    noticedBy: 'a job that had finished when the API was unavailable is not run again: its outputs are uploaded',
    of: (cluster) => ({
      ...cluster,
      runJob: (spec, watch) =>
        cluster.runJob({ ...spec, parameters: { ...spec.parameters, again: Math.random() } }, watch),
    }),
  },
  {
    name: 'takes what passes for an end',
    noticedBy: 'inputs that the API cannot give now fail the fetch, which passes',
    of: (cluster) => ({ ...cluster, runJob: renaming(cluster, 'fetch', 'inputs') }),
  },
  {
    name: 'takes a killed job for one that failed',
    noticedBy: 'a job that somebody else kills was killed, and runs again under its name',
    of: (cluster) => ({ ...cluster, runJob: renaming(cluster, 'killed', 'exit') }),
  },
  {
    name: 'counts the upload to the deadline',
    noticedBy: 'the deadline is the program’s own: a slow upload after it does not lose what was made',
    of: (cluster) => ({
      ...cluster,
      runJob: (spec, watch) =>
        Promise.race([
          cluster.runJob(spec, watch),
          sleep(spec.deadlineSeconds * 1_000, { status: 'timed-out', log: '' } as const, { ref: false }),
        ]),
    }),
  },
  {
    name: 'cannot tell that a service was killed',
    noticedBy: 'a service that somebody else kills says so',
    of: (cluster) => ({
      ...cluster,
      startService: async (spec, signal) => ({ address: (await cluster.startService(spec, signal)).address }),
    }),
  },
  {
    name: 'says that a service is ready before it is',
    noticedBy: 'a model that cannot be served is an error with the last lines of its log',
    of: (cluster) => ({
      ...cluster,
      startService: async (spec, signal) => {
        void cluster.startService(spec, signal).catch(() => undefined);
        return Promise.resolve({ address: 'unix:/nowhere' });
      },
    }),
  },
];

/** Cases that no fault here has ever made fail. */
const unproven = [
  'a job that exits with a status has failed with it',
  'a job that a signal ends has failed',
  'a job without its required output has failed for its outputs',
  'an output that is a link, a folder or a pipe does not leave',
  'a token that the API refuses fails the fetch',
  'the program sees neither the token nor variables of the platform',
  'the log holds both streams as readable text, whatever bytes they are, and its last 64 KiB',
  'a job that is aborted before it began never runs',
  'the same name again ends the earlier job and starts over',
  'a name that is none is refused',
  'a service is ready when it has started, answers under its name once more, and stops',
  'to stop a service that is not there is fine',
];

describe('the contract of clusters notices a cluster that', () => {
  const opened: { harness?: ClusterHarness } = {};
  beforeAll(async () => {
    opened.harness = await openLocalCluster({ sandbox: 'none' });
  });
  afterAll(() => opened.harness?.close());

  test.each(faults)('$name', async ({ noticedBy, of }) => {
    const found = clusterCases.find(({ name }) => name === noticedBy);
    if (!found || !opened.harness) throw new Error(`there is no case "${noticedBy}", or no cluster`);
    const { harness } = opened;
    // The case holds for the sound cluster, so that it is the fault that it notices.
    await found.run(harness);
    await assert.rejects(found.run({ ...harness, cluster: of(harness.cluster) }), assert.AssertionError);
  });

  test('has a fault for each case but these', () => {
    const proven = new Set(faults.map(({ noticedBy }) => noticedBy));
    assert.deepEqual(
      clusterCases.map(({ name }) => name).filter((name) => !proven.has(name)),
      unproven,
    );
  });
});
