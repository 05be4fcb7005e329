// Cases on Records: compute profiles, offers to projects, and which pool gets which job.
import assert from 'node:assert/strict';
import type { JobRow } from '../../../activities/records.ts';
import type { ComputeProfile, Pool } from '../../../workflows/domain/compute.ts';
import { builtInProfiles, misfit, profileBefore } from '../../../workflows/domain/compute.ts';
import { queuedJob, testPool } from './jobs.ts';
import type { RecordsCase, Scene } from './scene.ts';
import { fails, setProject } from './scene.ts';

/** A profile of the scene's own. */
export const profileOf = ({ project }: Scene, own: Partial<ComputeProfile> = {}): ComputeProfile => ({
  name: `${project}-large`.slice(0, 63),
  ...{ cpus: 8, memoryBytes: 2 ** 35, diskBytes: 2 ** 36, gpus: 2, deadlineSeconds: 86_400 },
  image: `registry.example/torch@sha256:${'a'.repeat(64)}`,
  nodeSelector: { accelerator: 'h200' },
  tolerations: [{ key: 'nvidia.com/gpu', operator: 'Exists' }],
  pools: ['cloud'],
  ...own,
});

export const computeCases: readonly RecordsCase[] = [
  {
    name: 'a compute profile is kept as given and replaced, and a built-in one never changes',
    async run(records, scene) {
      const profile = profileOf(scene);
      const own = async () => (await records.computeProfiles()).filter(({ name }) => name === profile.name);
      const first = scene.entry();
      await records.putComputeProfile(profile, first);
      assert.deepEqual(await own(), [profile]);
      const other = profileOf(scene, { cpus: 1, gpus: 0 });
      await records.putComputeProfile(other, scene.entry());
      await records.putComputeProfile(profile, first);
      assert.deepEqual(await own(), [other]);
      assert.equal((await records.audited(first.key))?.key, first.key);
      for (const { name } of builtInProfiles) {
        await fails(records.putComputeProfile(profileOf(scene, { name }), scene.entry()), 'Conflict', 'built in');
        await fails(records.deleteComputeProfile(name, scene.entry()), 'Conflict', 'built in');
      }
      await records.deleteComputeProfile(profile.name, scene.entry());
      assert.deepEqual(await own(), []);
      await fails(records.deleteComputeProfile(profile.name, scene.entry()), 'NotFound', profile.name);
    },
  },
  {
    name: 'a project is offered the built-in profiles, or what an administrator has chosen, which then is not deleted',
    async run(records, scene) {
      await setProject(records, scene);
      const profile = profileOf(scene);
      const offered = async () => (await records.offeredProfiles(scene.project)).map(({ name }) => name);
      assert.deepEqual(await offered(), ['cpu', 'gpu']);
      const offer = (names: readonly string[]) => records.offerProfiles(scene.project, names, scene.entry());
      await fails(offer(['cpu', profile.name]), 'NotFound', profile.name);
      await records.putComputeProfile(profile, scene.entry());
      await offer([profile.name, 'cpu']);
      assert.deepEqual(await records.offeredProfiles(scene.project), [profile, profileBefore('cpu')]);
      await fails(records.deleteComputeProfile(profile.name, scene.entry()), 'Conflict', scene.project);
      await fails(records.offerProfiles(`${scene.project}-not`, ['cpu'], scene.entry()), 'NotFound', 'project');
      await offer([]);
      assert.deepEqual(await offered(), []);
      await records.deleteComputeProfile(profile.name, scene.entry());
    },
  },
  {
    name: 'a job is at its turn only in a pool that can run it, and not while a pool before it can',
    async run(records, scene) {
      const pools: readonly Pool[] = [
        { name: 'lab', kind: 'local', gpus: 0 },
        { name: 'onprem', kind: 'kubernetes', gpus: 1 },
        { name: 'cloud', kind: 'kubernetes', gpus: 8 },
      ];
      const plain = profileOf(scene, { gpus: 0, pools: undefined, image: undefined, nodeSelector: undefined });
      const profiles: Readonly<Record<string, ComputeProfile | undefined>> = {
        plain,
        cards: { ...plain, gpus: 2 },
        image: { ...plain, image: 'registry.example/x@sha256:0' },
        nodes: { ...plain, nodeSelector: { disk: 'ssd' } },
        cloud: { ...plain, pools: ['cloud', 'edge'] },
        nowhere: { ...plain, pools: ['edge'] },
        before: undefined,
      };
      for (const [id, profile] of Object.entries(profiles)) {
        const { job, ...row } = queuedJob(scene, id);
        const compute = id === 'before' ? 'gpu' : 'large';
        await records.queueJob({ ...row, job: { ...job, compute, ...(profile && { profile }) } });
        const queued = (await records.queuedJobs({ limit: 10_000 })).find(({ name }) => name === row.name);
        assert.ok(queued);
        const own = profile ?? profileBefore('gpu');
        const { gpus, pools: allowed = null, image, nodeSelector } = own;
        assert.deepEqual(queued.needs, { gpus, pools: allowed, onCluster: (image ?? nodeSelector) !== undefined });
        for (const pool of pools)
          for (const before of [[], ...pools.map((one) => [one])]) {
            const turns = await records.jobTurns('training', pool, before);
            const isMine: boolean = misfit(queued.needs, pool) === undefined;
            const isOthers: boolean = before.some((one) => misfit(queued.needs, one) === undefined);
            const [turn] = turns.filter(({ project }) => project === scene.project);
            assert.deepEqual(turn?.needs, isMine && !isOthers ? queued.needs : undefined, `${id} in ${pool.name}`);
          }
        await records.endJob(row.name);
      }
    },
  },
  {
    name: 'watched pools are listed in order with the number of their jobs, and only while they are watched',
    async run(records, scene) {
      const own = (rank: number) => testPool(`${scene.project}-${rank}`, { rank, kind: 'kubernetes', gpus: rank });
      const jobs: readonly Pick<JobRow, 'name'>[] = [
        queuedJob(scene, 'a'),
        queuedJob(scene, 'b'),
        queuedJob(scene, 'e', 'evaluation'),
      ];
      for (const id of ['a', 'b']) await records.queueJob(queuedJob(scene, id));
      await records.queueJob(queuedJob(scene, 'e', 'evaluation'));
      await records.watchedPool(own(2), 3_600_000);
      await records.watchedPool(own(1), 3_600_000);
      for (const { name } of jobs) await records.takeJob(name, own(2).id, 'why');
      const found = async (withinMs: number) =>
        (await records.pools(withinMs)).filter(({ id }) => id.startsWith(`${scene.project}-`));
      assert.deepEqual(await found(60_000), [
        { ...own(1), taken: { training: 0, evaluation: 0 } },
        { ...own(2), taken: { training: 2, evaluation: 1 } },
      ]);
      assert.deepEqual(await found(0), []);
      for (const { name } of jobs) await records.endJob(name);
    },
  },
];
