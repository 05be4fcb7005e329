// Runs a job on a cluster to its end, and makes the jobs of a cluster out of one function: for tests.
import { setTimeout as sleep } from 'node:timers/promises';
import { createHeldJobs, type HeldJobs } from '../../activities/adapters/local-process/held-jobs.ts';
import type { Cluster, JobOutcome, JobProgress, JobSpec } from '../../activities/ports.ts';
import type { JobApi } from './cluster-job-api.ts';

interface Watch {
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: JobProgress) => void;
  /** Another token than the one that the API stand-in expects. */
  readonly token?: string;
}

/** Starts the job and resolves with its outcome. An abort removes the job, then rejects. */
export async function runJob(
  { cluster, api }: { readonly cluster: Cluster; readonly api: Pick<JobApi, 'tokenOf'> },
  spec: JobSpec,
  { signal, onProgress, token }: Watch = {},
): Promise<JobOutcome> {
  const watching = new AbortController();
  const watched = cluster.watchJobs((name, state) => {
    if (name === spec.name && state.phase === 'running' && state.progress) onProgress?.(state.progress);
  }, watching.signal);
  try {
    await cluster.startJob(spec, () => Promise.resolve(token ?? api.tokenOf(spec.data.job)));
    for (;;) {
      const state = await cluster.jobState(spec.name);
      if (state.phase === 'ended') return state.outcome;
      if (state.phase === 'missing') throw new Error(`job ${spec.name} is missing`);
      if (signal?.aborted) {
        await cluster.removeJob(spec.name);
        throw signal.reason;
      }
      await sleep(50);
    }
  } finally {
    watching.abort();
    await watched;
  }
}

/** The jobs of a cluster that runs each of them by calling `run`, while this process lives. */
export const jobsOf = (
  run: (
    spec: JobSpec,
    watch: {
      readonly token: string;
      readonly signal: AbortSignal;
      readonly onProgress: (progress: JobProgress) => void;
      readonly onLog: (line: string) => void;
    },
  ) => Promise<JobOutcome>,
): HeldJobs =>
  createHeldJobs({
    run: (spec, token, { signal, onProgress, onLog }) => {
      const said = { log: '' };
      onLog(() => said.log);
      return run(spec, { token, signal, onProgress, onLog: (line) => void (said.log += `${line}\n`) });
    },
  });
