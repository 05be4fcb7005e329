// The cluster contract detects faults: each faulty cluster fails its named case.
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Cluster, JobOutcome } from '../../activities/ports.ts';
import { openLocalCluster } from '../adapters/local-cluster.ts';
import { patience } from './cases.ts';
import { clusterCases, type ClusterHarness } from './cluster.ts';

/** Ten times what a correct cluster takes; the time limit for one that ignores a deadline. */
patience.ms = 20_000;

interface Fault {
  readonly name: string;
  /** The case that must fail. */
  readonly noticedBy: string;
  readonly of: (cluster: Cluster) => Cluster;
}

type Reason = Extract<JobOutcome, { status: 'failed' }>['reason'];

/** Runs jobs as the cluster does, but reports one failure reason as another. */
const renaming =
  (cluster: Cluster, from: Reason, to: Reason): Cluster['runJob'] =>
  async (spec, watch) => {
    const outcome = await cluster.runJob(spec, watch);
    return outcome.status === 'failed' && outcome.reason === from ? { ...outcome, reason: to } : outcome;
  };

const faults: readonly Fault[] = [
  {
    name: 'reports success on exit 1',
    noticedBy: 'a job that exits with status 1 has failed, even if its outputs exist',
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
    noticedBy: 'a job gets its inputs, code and parameters, and its outputs arrive',
    of: (cluster) => ({ ...cluster, runJob: (spec, watch) => cluster.runJob({ ...spec, outputs: [] }, watch) }),
  },
  {
    name: 'lets a job survive its cancellation',
    noticedBy: 'an abort stops the job and all processes it started, then rejects',
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
    noticedBy: 'a job past its deadline is stopped and has timed out',
    of: (cluster) => ({
      ...cluster,
      runJob: (spec, watch) => cluster.runJob({ ...spec, deadlineSeconds: 600 }, watch),
    }),
  },
  {
    name: 'writes progress lines into the log instead of reporting them',
    noticedBy: 'progress lines are reported and left out of the log; malformed ones are ordinary lines',
    of: (cluster) => ({
      ...cluster,
      runJob: (spec, { signal, onLog }) => cluster.runJob(spec, { signal, ...(onLog && { onLog }) }),
    }),
  },
  {
    name: 'runs without checking what was fetched',
    noticedBy: 'an input that differs from its declared digest fails the fetch, and the program never runs',
    of: (cluster) => ({
      ...cluster,
      runJob: (spec, watch) => cluster.runJob({ ...spec, inputs: [], argv: ['true'] }, watch),
    }),
  },
  {
    name: 'runs a finished job again',
    noticedBy: 'a job that finished while the API was unavailable does not run again: its outputs are uploaded',
    of: (cluster) => ({
      ...cluster,
      runJob: (spec, watch) =>
        cluster.runJob({ ...spec, parameters: { ...spec.parameters, again: Math.random() } }, watch),
    }),
  },
  {
    name: 'treats a temporary failure as final',
    noticedBy: 'inputs that the API cannot provide at the moment fail the fetch with a retryable failure',
    of: (cluster) => ({ ...cluster, runJob: renaming(cluster, 'fetch', 'inputs') }),
  },
  {
    name: 'reports a killed job as failed',
    noticedBy: 'a job that is killed from outside is reported as killed, and can run again under its name',
    of: (cluster) => ({ ...cluster, runJob: renaming(cluster, 'killed', 'exit') }),
  },
  {
    name: 'counts the upload towards the deadline',
    noticedBy: 'the deadline applies to the program only: a slow upload after it does not lose the outputs',
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
    name: 'does not report that a service was killed',
    noticedBy: 'a service that is killed from outside is reported as killed',
    of: (cluster) => ({
      ...cluster,
      startService: async (spec, signal) => ({ address: (await cluster.startService(spec, signal)).address }),
    }),
  },
  {
    name: 'reports a service as ready too early',
    noticedBy: 'a model that cannot be served gives an error with the last lines of its log',
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
  'a job that exits with a non-zero status has failed with that status',
  'a job that is ended by a signal has failed',
  'a job without a required output has failed for that reason',
  'an output that is a link, a folder or a pipe is not uploaded',
  'a token that the API refuses fails the fetch',
  'the program sees neither the token nor the platform’s variables',
  'the log has the last 64 KiB of both streams as readable text, whatever their bytes',
  'a job that is aborted before its start never runs',
  'starting the same name again stops the earlier job',
  'an invalid name is refused',
  'a service is ready once it has started, is found again by its name, and stops',
  'stopping a service that does not exist succeeds',
];

describe('the cluster contract detects a cluster that', () => {
  const opened: { harness?: ClusterHarness } = {};
  beforeAll(async () => {
    opened.harness = await openLocalCluster({ sandbox: 'none' });
  });
  afterAll(() => opened.harness?.close());

  test.each(faults)('$name', async ({ noticedBy, of }) => {
    const found = clusterCases.find(({ name }) => name === noticedBy);
    if (!found || !opened.harness) throw new Error(`there is no case "${noticedBy}", or no cluster`);
    const { harness } = opened;
    // The case passes without the fault, so it detects the fault.
    await found.run(harness);
    await assert.rejects(found.run({ ...harness, cluster: of(harness.cluster) }), assert.AssertionError);
  });

  test('has a fault for each case except these', () => {
    const proven = new Set(faults.map(({ noticedBy }) => noticedBy));
    assert.deepEqual(
      clusterCases.map(({ name }) => name).filter((name) => !proven.has(name)),
      unproven,
    );
  });
});
