// The cluster contract detects faults: each faulty cluster fails its named case.
import assert from 'node:assert/strict';
import type { Cluster, JobOutcome, JobSpec, JobState } from '../../activities/ports.ts';
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

/** Starts another job than the one that was given. */
const starting = (cluster: Cluster, other: (spec: JobSpec) => JobSpec): Cluster => ({
  ...cluster,
  startJob: (spec, token) => cluster.startJob(other(spec), token),
});

/** Runs jobs as the cluster does, but reports other ends. */
function ending(cluster: Cluster, other: (outcome: JobOutcome) => JobOutcome): Cluster {
  const changed = (state: JobState): JobState =>
    state.phase === 'ended' ? { phase: 'ended', outcome: other(state.outcome) } : state;
  return {
    ...cluster,
    jobState: async (name) => changed(await cluster.jobState(name)),
    watchJobs: (onChange, signal) => cluster.watchJobs((name, state) => onChange(name, changed(state)), signal),
  };
}

const renaming = (cluster: Cluster, from: Reason, to: Reason): Cluster =>
  ending(cluster, (outcome) =>
    outcome.status === 'failed' && outcome.reason === from ? { ...outcome, reason: to } : outcome,
  );

const faults: readonly Fault[] = [
  {
    name: 'reports success on exit 1',
    noticedBy: 'a job that exits with status 1 has failed, even if its outputs exist',
    of: (cluster) =>
      ending(cluster, (outcome) =>
        outcome.status === 'failed' ? { status: 'succeeded', seconds: 1, log: outcome.log } : outcome,
      ),
  },
  {
    name: 'loses outputs',
    noticedBy: 'a job gets its inputs, code and parameters, and its outputs arrive',
    of: (cluster) => starting(cluster, (spec) => ({ ...spec, outputs: [] })),
  },
  {
    name: 'lets a job survive its removal',
    noticedBy: 'removing a job stops it and all processes it started, and nothing of it is left',
    of: (cluster) => ({ ...cluster, removeJob: async () => {} }),
  },
  {
    name: 'starts a job before its token is issued',
    noticedBy: 'a job whose token cannot be issued does not start',
    of: (cluster) => ({
      ...cluster,
      startJob: async (spec, token) => {
        await cluster.startJob(spec, () => Promise.resolve('no token yet'));
        await token();
      },
    }),
  },
  {
    name: 'issues a token for a job that is already there',
    noticedBy:
      'a job is started once, however often it is asked for: it is found again while it runs and after its end',
    of: (cluster) => ({
      ...cluster,
      startJob: async (spec, token) => {
        const secret = await token();
        await cluster.startJob(spec, () => Promise.resolve(secret));
      },
    }),
  },
  {
    name: 'does not show the log of a running job',
    noticedBy:
      'a job is started once, however often it is asked for: it is found again while it runs and after its end',
    of: (cluster) => ({
      ...cluster,
      jobLog: async (name) => ((await cluster.jobState(name)).phase === 'ended' ? cluster.jobLog(name) : ''),
    }),
  },
  {
    name: 'does not report the jobs that are there when watching begins',
    noticedBy: 'a watcher learns of the jobs that are there, of their ends and of their removal',
    of: (cluster) => ({
      ...cluster,
      watchJobs: (onChange, signal) => {
        const state = { hasBegun: false };
        const watched = cluster.watchJobs((name, change) => {
          if (state.hasBegun) onChange(name, change);
        }, signal);
        setTimeout(() => (state.hasBegun = true), 100);
        return watched;
      },
    }),
  },
  {
    name: 'does not report ends',
    noticedBy: 'a watcher learns of the jobs that are there, of their ends and of their removal',
    of: (cluster) => ({
      ...cluster,
      watchJobs: (onChange, signal) =>
        cluster.watchJobs((name, state) => {
          if (state.phase !== 'ended') onChange(name, state);
        }, signal),
    }),
  },
  {
    name: 'leaves an earlier job of the same name as it is',
    noticedBy: 'starting another job under the same name stops the earlier one',
    of: (cluster) => ({
      ...cluster,
      startJob: async (spec, token) => {
        if ((await cluster.jobState(spec.name)).phase === 'missing') await cluster.startJob(spec, token);
      },
    }),
  },
  {
    name: 'ignores the deadline',
    noticedBy: 'a job past its deadline is stopped and has timed out',
    of: (cluster) => starting(cluster, (spec) => ({ ...spec, deadlineSeconds: 600 })),
  },
  {
    name: 'does not report progress',
    noticedBy: 'progress lines are reported and left out of the log; malformed ones are ordinary lines',
    of: (cluster) => ({
      ...cluster,
      watchJobs: (onChange, signal) =>
        cluster.watchJobs((name, { phase, ...state }) => {
          onChange(name, phase === 'running' ? { phase } : ({ phase, ...state } as JobState));
        }, signal),
    }),
  },
  {
    name: 'runs without checking what was fetched',
    noticedBy: 'an input that differs from its declared digest fails the fetch, and the program never runs',
    of: (cluster) => starting(cluster, (spec) => ({ ...spec, inputs: [], argv: ['true'] })),
  },
  {
    name: 'runs a finished job again',
    noticedBy: 'a job that finished while the API was unavailable does not run again: its outputs are uploaded',
    of: (cluster) =>
      starting(cluster, (spec) => ({ ...spec, parameters: { ...spec.parameters, again: Math.random() } })),
  },
  {
    name: 'treats a temporary failure as final',
    noticedBy: 'inputs that the API cannot provide at the moment fail the fetch with a retryable failure',
    of: (cluster) => renaming(cluster, 'fetch', 'inputs'),
  },
  {
    name: 'reports a killed job as failed',
    noticedBy: 'a job that is killed from outside is reported as killed, and can run again under its name',
    of: (cluster) => renaming(cluster, 'killed', 'exit'),
  },
  {
    name: 'counts the upload towards the deadline',
    noticedBy: 'the deadline applies to the program only: a slow upload after it does not lose the outputs',
    of: (cluster) => {
      const late = new Set<string>();
      const timedOut = { phase: 'ended', outcome: { status: 'timed-out', log: '' } } as const;
      return {
        ...cluster,
        startJob: async (spec, token) => {
          await cluster.startJob(spec, token);
          setTimeout(() => late.add(spec.name), spec.deadlineSeconds * 1_000).unref();
        },
        jobState: async (name) => (late.has(name) ? timedOut : cluster.jobState(name)),
      };
    },
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
  'a job that was never started is missing, has no log, and can be removed',
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
