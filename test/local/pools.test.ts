// Several pools over a real PostgreSQL: each job goes to the first pool in order that can run it and has a place.
import { ActivityNotFoundError } from '@temporalio/client';
import { createPostgresRecords } from '../../activities/adapters/postgres/records.ts';
import type { JobEnd } from '../../activities/jobs.ts';
import type { JobOutcome } from '../../activities/ports.ts';
import type { PoolRow } from '../../activities/records.ts';
import { watchJobs, type JobWatchDeps } from '../../workers/job-watch.ts';
import { profileBefore, type ComputeProfile } from '../../workflows/domain/compute.ts';
import { createScene } from '../contracts/records.ts';
import { queuedJob, testPool } from '../contracts/records/jobs.ts';
import { jobsOf } from '../contracts/run-job.ts';
import { freshDatabase } from '../servers.ts';
import { until } from '../workflows/until.ts';

const places = { training: 1, evaluation: 1 };
const pools: readonly PoolRow[] = [
  testPool('lab', { name: 'lab', places }),
  testPool('onprem', { name: 'onprem', kind: 'kubernetes', rank: 1, gpus: 1, places }),
  testPool('cloud', { name: 'cloud', kind: 'kubernetes', rank: 2, gpus: 8, places }),
];
const cards = (gpus: number, own: Partial<ComputeProfile> = {}): ComputeProfile => ({
  ...profileBefore('cpu'),
  ...{ name: 'own', gpus },
  ...own,
});

async function openGround() {
  const records = await createPostgresRecords({ url: await freshDatabase() });
  const ends = new Map<string, (outcome: JobOutcome) => void>();
  const beats = new Map<string, unknown>();
  const scene = createScene();
  const closing: (() => Promise<void>)[] = [];
  const client = {
    activity: {
      heartbeat: async (token: Uint8Array, details: unknown) => void beats.set(String.fromCharCode(...token), details),
      complete: async () => {
        throw new ActivityNotFoundError('not found');
      },
    },
    workflow: { getHandle: () => ({ describe: async () => ({ status: { name: 'RUNNING' } }) }) },
  };
  return {
    ...{ records, beats, ends, scene },
    /** Watches these pools, each with a cluster of its own. */
    watch(names: readonly string[]): void {
      for (const pool of pools.filter(({ name }) => names.includes(name))) {
        const cluster = jobsOf(
          (spec, { signal }) =>
            new Promise((resolve, reject) => {
              ends.set(spec.name, resolve);
              signal.addEventListener('abort', () => reject(signal.reason as Error));
            }),
        );
        const watching = watchJobs({
          ...{ records, cluster, client, pool, apiUrl: '', onWarn: () => undefined },
          earlier: pools.filter(({ rank }) => rank < pool.rank).map(({ name }) => name),
          areas: { write: async () => undefined },
        } as unknown as JobWatchDeps);
        closing.push(async () => {
          await watching.stop();
          await cluster.close();
        });
      }
    },
    async queue(id: string, profile?: ComputeProfile): Promise<string> {
      const { job, ...row } = queuedJob(scene, id);
      await records.queueJob({
        ...{ ...row, taskToken: Uint8Array.of(id.charCodeAt(0)) },
        job: { ...job, ...(profile && { compute: profile.name, profile }) },
      });
      return row.name;
    },
    async reasonOf(name: string): Promise<string> {
      return until('the job to run', async () => {
        const row = await records.job(name);
        return row?.state === 'running' && row.reason;
      });
    },
    async close(): Promise<void> {
      await Promise.all(closing.map((close) => close()));
      await records.close();
    },
  };
}

it('fills the pools in order, records why, and a job that no pool can run says so', async () => {
  const ground = await openGround();
  try {
    const nowhere = await ground.queue('n', cards(16));
    ground.watch(['lab', 'onprem', 'cloud']);
    const [a, b, c] = [await ground.queue('a'), await ground.queue('b', cards(0)), await ground.queue('c')];
    const reasons = [await ground.reasonOf(a), await ground.reasonOf(b), await ground.reasonOf(c)];
    expect(reasons).toEqual([
      'pool lab is first in order and has free places',
      'pool onprem: lab had no free place',
      'pool cloud: lab had no free place, onprem had no free place',
    ]);
    await until('it to say so', async () => ground.beats.has('n'));
    const why = 'lab has no GPU, onprem has at most 1 GPU for a job, cloud has at most 8 GPUs for a job';
    expect(ground.beats.get('n')).toEqual({ waits: expect.stringContaining(`no pool can run it (${why})`) as unknown });
    expect((await ground.records.job(nowhere))?.state).toBe('queued');
    ground.ends.get(b)?.({ status: 'succeeded', seconds: 1, log: '' });
    const { workflowId } = queuedJob(ground.scene, 'b');
    const end = await until('its end', async () => ground.records.step<JobEnd>(workflowId, 'ended'));
    expect(end.ran).toEqual({ pool: 'onprem', reason: reasons[1] });
  } finally {
    await ground.close();
  }
}, 120_000);

it('passes over pools that cannot run a job, and those that nobody watches', async () => {
  const ground = await openGround();
  try {
    const two = await ground.queue('t', cards(2));
    const chosen = await ground.queue('s', cards(0, { pools: ['onprem'] }));
    ground.watch(['onprem', 'cloud']);
    expect(await ground.reasonOf(two)).toBe('pool cloud: lab is not watched, onprem has at most 1 GPU for a job');
    expect(await ground.reasonOf(chosen)).toBe('pool onprem: lab is not watched');
  } finally {
    await ground.close();
  }
}, 120_000);
