// The watcher of jobs over a real PostgreSQL: whoever watches dies, the jobs go on, and each is started once.
import { ActivityCancelledError, ActivityNotFoundError } from '@temporalio/client';
import { createPostgresRecords } from '../../activities/adapters/postgres/records.ts';
import type { JobEnd } from '../../activities/jobs.ts';
import { failure } from '../../activities/failures.ts';
import type { JobOutcome, LockArchives } from '../../activities/ports.ts';
import type { Records } from '../../activities/records.ts';
import { watchJobs, type JobWatchDeps } from '../../workers/job-watch.ts';
import { jobsOf } from '../contracts/run-job.ts';
import { artifactOf } from '../contracts/cluster-job-api.ts';
import { queuedJob, testPool } from '../contracts/records/jobs.ts';
import { createScene } from '../contracts/records.ts';
import { freshDatabase } from '../servers.ts';
import { until } from '../workflows/until.ts';

const succeeded: JobOutcome = { status: 'succeeded', seconds: 1, log: 'trained\n' };

/** A cluster whose jobs end when the test says so, and a Temporal that knows what the test tells it. */
async function openGround(places = { training: 2, evaluation: 2 }, lockArchives?: LockArchives) {
  const records = await createPostgresRecords({ url: await freshDatabase() });
  const begun: string[] = [];
  const stopped: string[] = [];
  const ends = new Map<string, (outcome: JobOutcome) => void>();
  const jobs = jobsOf(
    (spec, { signal, onLog }) =>
      new Promise((resolve, reject) => {
        begun.push(spec.name);
        onLog('epoch 1');
        ends.set(spec.name, resolve);
        signal.addEventListener('abort', () => {
          stopped.push(spec.name);
          reject(signal.reason as Error);
        });
      }),
  );
  const temporal = { answer: undefined as Error | undefined, isRunning: true, isAway: false };
  const completed: unknown[] = [];
  const cancelled: unknown[] = [];
  const kept: string[] = [];
  const waits: unknown[] = [];
  const away = (): void => {
    if (temporal.isAway) throw new Error('Temporal is unavailable');
  };
  const client = {
    activity: {
      heartbeat: async (_: Uint8Array, details: unknown) => {
        away();
        waits.push((details as { waits?: unknown } | undefined)?.waits);
        if (temporal.answer) throw temporal.answer;
      },
      complete: async (token: Uint8Array) => {
        away();
        completed.push([...token]);
      },
      reportCancellation: async (token: Uint8Array) => void cancelled.push([...token]),
    },
    workflow: {
      getHandle: () => ({
        describe: async () => ({ status: { name: temporal.isRunning ? 'RUNNING' : 'TERMINATED' } }),
      }),
    },
  };
  const watch = (own: Records = records) =>
    watchJobs({
      ...{ records: own, cluster: jobs, lockArchives, client, pool: testPool('one', { places }), earlier: [] },
      ...{ apiUrl: '', onWarn: () => undefined },
      areas: { write: async (path: string) => void kept.push(path) },
    } as unknown as JobWatchDeps);
  return { records, begun, stopped, ends, jobs, temporal, completed, cancelled, kept, waits, watch };
}
type Ground = Awaited<ReturnType<typeof openGround>>;

const endOf = ({ records }: Ground, workflowId: string) => records.step<JobEnd>(workflowId, 'ended');
const job = queuedJob(createScene(), 'a');

async function over(ground: Ground, watches: readonly { stop(): Promise<void> }[]): Promise<void> {
  for (const watch of watches) await watch.stop();
  await ground.jobs.close();
  await ground.records.close();
}

it('starts a job once, with one token, however many workers watch, and goes on when the watching one ends', async () => {
  const ground = await openGround();
  const [first, second] = [ground.watch(), ground.watch()];
  try {
    await ground.records.queueJob(job);
    await until('the job to begin', async () => ground.begun.length > 0);
    await until('it to be followed', async () => (await ground.records.job(job.name))?.state === 'running');
    const began = Date.now();
    await first.stop();
    ground.ends.get(job.name)?.(succeeded);
    await until('its end', async () => ground.completed.length > 0);
    expect(Date.now() - began).toBeLessThan(10_000);
    await until('its row to go', async () => (await ground.records.job(job.name)) === undefined);
    expect(ground.begun).toEqual([job.name]);
    expect(ground.completed).toEqual([[0, 255, 7]]);
    const ran = { pool: 'local', reason: 'pool local is first in order and has free places' };
    expect(await endOf(ground, job.workflowId)).toEqual({ status: 'succeeded', log: 'trained\n', ran });
    expect(await ground.records.tokens(job.name)).toEqual([
      expect.objectContaining({ revokedAt: expect.any(String) as unknown }),
    ]);
    expect(await ground.jobs.jobState(job.name)).toEqual({ phase: 'missing' });
  } finally {
    await over(ground, [first, second]);
  }
}, 60_000);

it('shows what a lock waits for, and starts the job with a token for the archive of its lock', async () => {
  const archive = { ...artifactOf('lock-1.tar', Buffer.from('x')), name: 'lock-1.tar' };
  const state: { answer: Awaited<ReturnType<LockArchives['find']>> } = { answer: { waits: 'for its packages' } };
  const swept: (readonly string[])[] = [];
  const ground = await openGround(undefined, {
    find: () => Promise.resolve(state.answer),
    sweep: async (locks) => void swept.push(locks),
    close: () => Promise.resolve(),
  });
  const granted: unknown[] = [];
  const watch = ground.watch({
    ...ground.records,
    issueToken: (row, entry) => {
      granted.push(row.job?.inputs);
      return ground.records.issueToken(row, entry);
    },
  });
  try {
    await ground.records.queueJob(job);
    await until('it to wait', async () => ground.waits.includes('for its packages'));
    expect([ground.begun, granted]).toEqual([[], []]);
    state.answer = { archive };
    await until('the job to begin', async () => ground.begun.length > 0);
    expect(granted).toEqual([[archive]]);
    await until('the sweep', async () => swept.length > 0);
  } finally {
    await over(ground, [watch]);
  }
}, 60_000);

it('ends a job whose lock cannot be installed, with the reason', async () => {
  const ground = await openGround(undefined, {
    find: () => Promise.reject(failure('InvalidInput', 'the lock is broken')),
    sweep: () => Promise.resolve(),
    close: () => Promise.resolve(),
  });
  const watch = ground.watch();
  try {
    await ground.records.queueJob(job);
    const end = await until('its end', () => endOf(ground, job.workflowId));
    expect(end).toMatchObject({ status: 'failed', type: 'JobFailed', message: 'the lock is broken' });
    expect(ground.begun).toEqual([]);
  } finally {
    await over(ground, [watch]);
  }
}, 60_000);

it.each([
  ['cancelled', new ActivityCancelledError('cancelled'), true, 1],
  ['terminated', new ActivityNotFoundError('not found'), false, 0],
] as const)(
  'ends the job of a workflow that was %s, and keeps its log',
  async (_, answer, isRunning, cancellations) => {
    const ground = await openGround();
    const watch = ground.watch();
    try {
      await ground.records.queueJob(job);
      await until('the job to begin', async () => ground.begun.length > 0);
      Object.assign(ground.temporal, { answer, isRunning });
      await until('its row to go', async () => (await ground.records.job(job.name)) === undefined);
      expect(ground.stopped).toEqual([job.name]);
      expect(ground.kept).toHaveLength(1);
      expect(ground.cancelled).toHaveLength(cancellations);
      expect(await endOf(ground, job.workflowId)).toBeUndefined();
    } finally {
      await over(ground, [watch]);
    }
  },
  60_000,
);

it('keeps the job of a workflow that was reset, and completes its new activity after an outage of Temporal', async () => {
  const ground = await openGround();
  const watch = ground.watch();
  try {
    await ground.records.queueJob(job);
    await until('the job to begin', async () => ground.begun.length > 0);
    ground.temporal.answer = new ActivityNotFoundError('not found');
    await until('it to be followed', async () => (await ground.records.job(job.name))?.state === 'running');
    await ground.records.queueJob({ ...job, taskToken: Uint8Array.of(5) });
    ground.temporal.answer = undefined;
    ground.temporal.isAway = true;
    ground.ends.get(job.name)?.(succeeded);
    await until('its end', async () => (await endOf(ground, job.workflowId)) !== undefined);
    ground.temporal.isAway = false;
    await until('its row to go', async () => (await ground.records.job(job.name)) === undefined);
    expect([ground.completed, ground.begun]).toEqual([[[5]], [job.name]]);
  } finally {
    await over(ground, [watch]);
  }
}, 60_000);

it('starts a killed job again, three times in all, and another project does not wait for a backlog of 300', async () => {
  const ground = await openGround({ training: 1, evaluation: 0 });
  const many = createScene();
  for (let count = 0; count < 300; count++)
    await ground.records.queueJob(queuedJob(many, String(count).padStart(3, '0')));
  const watch = ground.watch();
  const killed: JobOutcome = { status: 'failed', reason: 'killed', exitCode: 137, log: '' };
  try {
    await until('the first job', async () => ground.begun.length === 1);
    await ground.records.queueJob(job);
    ground.ends.get(ground.begun[0] ?? '')?.(succeeded);
    for (const kills of [1, 2, 3]) {
      const times = () => ground.begun.filter((name) => name === job.name).length;
      while (times() < kills) {
        const running = ground.begun.at(-1) ?? '';
        if (running !== job.name) ground.ends.get(running)?.(succeeded);
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
      if (kills === 1) expect(ground.begun.indexOf(job.name)).toBeLessThanOrEqual(2);
      ground.ends.get(job.name)?.(killed);
    }
    await until('its end', async () => (await endOf(ground, job.workflowId)) !== undefined);
    expect(await endOf(ground, job.workflowId)).toMatchObject({
      ...{ status: 'failed', message: expect.stringContaining('killed from outside 3 times') as unknown },
    });
  } finally {
    await over(ground, [watch]);
  }
}, 120_000);
