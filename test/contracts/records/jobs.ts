// Cases on Records: jobs that wait for a place and jobs that run.
import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';
import type { JobKind, PoolRow } from '../../../activities/records.ts';
import type { RecordsCase, Scene } from './scene.ts';

/** A job as it is queued. */
export const queuedJob = ({ project }: Scene, id = 'a', kind: JobKind = 'training') => ({
  name: `job-${project}-${id}`.toLowerCase(),
  workflowId: `run/${project}/m/${id}/1`,
  project,
  kind,
  taskToken: Uint8Array.of(0, 255, 7),
  beatMs: 30_000,
  job: {
    ...{ inputs: [], outputs: [], argv: ['python'], lock: '', parameters: { depth: 3 }, compute: 'cpu' as const },
    deadlineSeconds: 60,
    log: { area: 'common' as const, project, path: 'log.txt' },
  },
});

/** A pool of local processes, as its watcher describes it. */
export const testPool = (id: string, own: Partial<PoolRow> = {}): PoolRow => ({
  ...{ id, name: 'local', kind: 'local', rank: 0, gpus: 0, places: { training: 2, evaluation: 2 } },
  ...own,
});

export const jobCases: readonly RecordsCase[] = [
  {
    name: 'a job waits in the queue until it has a place, and is gone after its end',
    async run(records, scene) {
      const job = queuedJob(scene, 'a');
      await Promise.all([1, 2, 3].map(() => records.queueJob(job)));
      const found = await records.job(job.name);
      assert.deepEqual(found && { ...found, taskToken: [...(found.taskToken ?? [])] }, {
        ...{
          ...job,
          taskToken: [...job.taskToken],
          state: 'queued',
          starts: 0,
          kills: 0,
          why: '',
          pool: null,
          reason: '',
        },
      });
      const isQueued = async () => (await records.queuedJobs({ limit: 10_000 })).some(({ name }) => name === job.name);
      const isTaken = async () => (await records.takenJobs('one')).some(({ name }) => name === job.name);
      assert.deepEqual([await isQueued(), await isTaken()], [true, false]);
      const taken = await Promise.all(
        ['one', 'other'].map((pool) => records.takeJob(job.name, pool, `${pool} is free`)),
      );
      // One pool gets it, and is told again.
      const pool = taken[0] ? 'one' : 'other';
      assert.deepEqual(taken.map((row) => row?.pool ?? null).sort(), [null, pool].sort());
      const again = await records.takeJob(job.name, pool, `${pool} is free`);
      assert.deepEqual([again?.pool, again?.reason], [pool, `${pool} is free`]);
      await records.changeJob(job.name, { state: 'queued' });
      assert.equal((await records.job(job.name))?.reason, '');
      assert.equal((await records.takeJob(job.name, 'one', 'why'))?.state, 'starting');
      await records.changeJob(job.name, { starts: 1 });
      assert.deepEqual([await isQueued(), await isTaken()], [false, true]);
      assert.equal((await records.job(job.name))?.starts, 1);
      await records.endJob(job.name);
      await records.endJob(job.name);
      assert.deepEqual([await isQueued(), await isTaken()], [false, false]);
      assert.equal(await records.job(job.name), undefined);
    },
  },
  {
    name: 'a job that is queued again goes on, for its new activity; another job of its name starts over',
    async run(records, scene) {
      const job = queuedJob(scene, 'a');
      await records.queueJob(job);
      await records.changeJob(job.name, { state: 'running', starts: 2, kills: 1, why: 'killed' });
      await records.queueJob({ ...job, taskToken: Uint8Array.of(9), beatMs: 5_000 });
      const same = await records.job(job.name);
      assert.deepEqual([...(same?.taskToken ?? [])], [9]);
      const kept = { state: 'running', starts: 2, kills: 1, why: 'killed', beatMs: 5_000 };
      assert.deepEqual({ ...same, ...kept }, same);
      const other = { ...job, taskToken: null, job: { ...job.job, parameters: { depth: 4 } } };
      await records.queueJob(other);
      assert.deepEqual(await records.job(job.name), {
        ...other,
        state: 'queued',
        starts: 0,
        kills: 0,
        why: '',
        pool: null,
        reason: '',
      });
      await records.endJob(job.name);
    },
  },
  {
    name: 'jobs of a pool that nobody watches any more are queued again',
    async run(records, scene) {
      const [own, others] = [`${scene.project}-own`, `${scene.project}-others`];
      const [kept, lost] = [queuedJob(scene, 'kept'), queuedJob(scene, 'lost')];
      for (const [job, pool] of [
        [kept, own],
        [lost, others],
      ] as const) {
        await records.queueJob(job);
        await records.takeJob(job.name, pool, 'why');
        await records.watchedPool(testPool(pool), 60_000);
      }
      const pools = async () => [(await records.job(kept.name))?.pool, (await records.job(lost.name))?.pool];
      assert.deepEqual(await pools(), [own, others]);
      await pause(50);
      await records.watchedPool(testPool(own), 40);
      assert.deepEqual(await pools(), [own, null]);
      assert.equal((await records.job(lost.name))?.state, 'queued');
      for (const { name } of [kept, lost]) await records.endJob(name);
    },
  },
  {
    name: 'each project has its first queued job at its turn, with the number of its jobs that have a place',
    async run(records, scene) {
      const jobs = ['a', 'b', 'c'].map((id) => queuedJob(scene, id));
      for (const job of jobs) await records.queueJob(job);
      const evaluation = queuedJob(scene, 'e', 'evaluation');
      await records.queueJob(evaluation);
      const turn = async () => {
        const turns = await records.jobTurns('training', testPool('one'), []);
        const own = turns.find(({ project }) => project === scene.project);
        return own && { name: own.name, taken: own.taken };
      };
      const [a, b, c] = jobs.map(({ name }) => name);
      assert.deepEqual(await turn(), { name: a, taken: 0 });
      await records.changeJob(a ?? '', { state: 'starting' });
      await records.changeJob(evaluation.name, { state: 'running' });
      assert.deepEqual(await turn(), { name: b, taken: 1 });
      // It waits for its next try.
      await records.changeJob(b ?? '', { state: 'queued', waitMs: 60_000 });
      assert.deepEqual(await turn(), { name: c, taken: 1 });
      await records.changeJob(b ?? '', { waitMs: 0 });
      assert.deepEqual(await turn(), { name: b, taken: 1 });
      for (const { name } of [...jobs, evaluation]) await records.endJob(name);
      assert.equal(await turn(), undefined);
    },
  },
  {
    name: 'queued jobs are read in pages',
    async run(records, scene) {
      const names = ['a', 'b', 'c'].map((id) => queuedJob(scene, id)).map(({ name }) => name);
      for (const id of ['c', 'a', 'b']) await records.queueJob(queuedJob(scene, id));
      const pageAfter = async (after: string) =>
        (await records.queuedJobs({ after, limit: 2 })).map(({ name }) => name);
      assert.deepEqual(await pageAfter(`job-${scene.project}`.toLowerCase()), names.slice(0, 2));
      assert.deepEqual(await pageAfter(names[0] ?? ''), names.slice(1));
      for (const name of names) await records.endJob(name);
    },
  },
];
