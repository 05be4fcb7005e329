// Cases on Records: types of a project, grants of them to others, and applications that change.
import assert from 'node:assert/strict';
import { TYPES_LIMIT } from '../../../activities/records.ts';
import type { Records } from '../../../activities/records.ts';
import { defaultPolicy } from '../../../workflows/domain/model.ts';
import type { RecordsCase, Scene } from './scene.ts';
import { addApplication, allot, fails, move, setApplication, setProject } from './scene.ts';

/** A second project, which owns `<type>-x`. */
async function setOther(records: Records, { project, type, entry }: Scene): Promise<string> {
  const other = `${project}-2`;
  await records.createProject({ project: other, types: [`${type}-x`], policy: defaultPolicy }, entry());
  return other;
}

const applicationOf = async (records: Records, { application }: Scene) => {
  const found = await records.application(application);
  assert.ok(found);
  return found;
};

export const typeCases: readonly RecordsCase[] = [
  {
    name: 'a project gets further types, each once, none of another project’s, up to its limit',
    async run(records, scene) {
      const { project, type, entry } = scene;
      await setProject(records, scene);
      await setOther(records, scene);
      await records.addTypes(project, [`${type}-c`, type, `${type}-b`], entry());
      const types = [type, `${type}-c`, `${type}-b`];
      assert.deepEqual((await records.project(project))?.types, types);
      await Promise.all([1, 2, 3].map((n) => records.addTypes(project, [`${type}-n${n}`], entry())));
      assert.equal((await records.project(project))?.types.length, 6);
      await fails(records.addTypes(project, [`${type}-d`, `${type}-x`], entry()), 'Conflict', `${project}-2`);
      assert.equal((await records.project(project))?.types.length, 6);
      const many = Array.from({ length: TYPES_LIMIT - 5 }, (_, n) => `${type}-m${n}`);
      await fails(records.addTypes(project, many, entry()), 'InvalidInput', `at most ${TYPES_LIMIT}`);
      await records.addTypes(project, many.slice(1), entry());
      await fails(records.addTypes('nowhere', [type], entry()), 'NotFound', 'nowhere');
    },
  },
  {
    name: 'a type is consumed by its own project and, while granted, by another one',
    async run(records, scene) {
      const { project, type, entry } = scene;
      await setProject(records, scene);
      const consumer = await setOther(records, scene);
      const grant = (granted: boolean, given = {}) =>
        records.setTypeGrant({ owner: project, type, consumer, granted, ...given }, entry());
      assert.deepEqual(
        [await records.mayConsume(project, type), await records.mayConsume(consumer, type)],
        [true, false],
      );
      await fails(addApplication(records, { ...scene, project: consumer }, scene.application), 'InvalidInput', type);
      for (let times = 0; times < 2; times++) await grant(true);
      assert.equal(await records.mayConsume(consumer, type), true);
      assert.deepEqual(await records.typeAccess(project), [{ type, owner: project, consumers: [consumer] }]);
      // Only the owner sees the other consumers.
      assert.deepEqual(await records.typeAccess(consumer), [
        { type, owner: project, consumers: [] },
        { type: `${type}-x`, owner: consumer, consumers: [] },
      ]);
      await addApplication(records, { ...scene, project: consumer }, scene.application);
      for (let times = 0; times < 2; times++) await grant(false);
      assert.equal(await records.mayConsume(consumer, type), false);
      assert.equal((await records.typeAccess(consumer)).length, 1);
      await fails(grant(true, { type: `${type}-x` }), 'NotFound', `${type}-x`);
      await fails(grant(true, { consumer: 'nowhere' }), 'NotFound', 'nowhere');
      await fails(grant(true, { consumer: project }), 'InvalidInput', project);
      assert.equal(await records.mayConsume(project, 'no-such-type'), false);
    },
  },
  {
    name: 'an application is changed from its current revision, once',
    async run(records, scene) {
      const { project, type, application, entry } = scene;
      await setApplication(records, scene);
      await records.addTypes(project, [`${type}-b`], entry());
      const before = await applicationOf(records, scene);
      assert.equal(before.revision, 0);
      const key = entry();
      const after = { ...before, revision: 1, owner: 'dora', gates: ['other'], types: [type, `${type}-b`] };
      for (let times = 0; times < 2; times++) await records.changeApplication(after, key);
      assert.deepEqual(await records.application(application), after);
      assert.equal((await records.applications({ type: `${type}-b` })).length, 1);
      assert.equal((await records.livePointer(application, `${type}-b`)).generation, 0);
      await fails(records.changeApplication({ ...before, revision: 1 }, entry()), 'Conflict', 'revision 1');
      const wrong = { ...after, revision: 2 };
      await fails(
        records.changeApplication({ ...wrong, types: ['no-such-type'] }, entry()),
        'InvalidInput',
        'no-such-type',
      );
      await fails(records.changeApplication({ ...wrong, project: 'nowhere' }, entry()), 'InvalidInput', project);
      await fails(
        records.changeApplication({ ...wrong, application: 'none', repository: `${project}/app-none` }, entry()),
        'NotFound',
        'none',
      );
      await addApplication(records, scene, `${application}-2`);
      const repository = (await records.application(`${application}-2`))?.repository ?? '';
      await fails(records.changeApplication({ ...wrong, repository }, entry()), 'Conflict', `${application}-2`);
      assert.deepEqual(await records.application(application), after);
    },
  },
  {
    name: 'a live type cannot be removed; a removed one accepts no release and keeps its history',
    async run(records, scene) {
      const { project, type, application, entry } = scene;
      await setApplication(records, scene);
      const other = `${type}-b`;
      await records.addTypes(project, [other], entry());
      const two = { ...(await applicationOf(records, scene)), revision: 1, types: [type, other] };
      await records.changeApplication(two, entry());
      const one = await allot(records, scene, 1);
      assert.ok((await move(records, scene, one.release)).moved);
      const without = { ...two, revision: 2, types: [other] };
      await fails(records.changeApplication(without, entry()), 'Conflict', `${one.release} is live in ${application}`);
      const kept = { ...two, revision: 2, types: [type] };
      await records.changeApplication(kept, entry());
      assert.deepEqual(await records.applications({ type: other }), []);
      const release = await allot(records, { ...scene, type: other }, 1);
      await fails(move(records, { ...scene, type: other }, release.release), 'NotFound', other);
      await records.changeApplication({ ...kept, revision: 3, types: [type, other] }, entry());
      assert.ok((await move(records, { ...scene, type: other }, release.release)).moved);
    },
  },
  {
    name: 'types of an application whose workflow has no recorded start are listed',
    async run(records, scene) {
      const { project, type, application, entry } = scene;
      await setApplication(records, scene);
      await records.addTypes(project, [`${type}-b`], entry());
      const two = { ...(await applicationOf(records, scene)), revision: 1, types: [type, `${type}-b`] };
      await records.changeApplication(two, entry());
      const listed = async () =>
        (await records.unstartedTypes(1_000)).filter((found) => found.application === application);
      const row = { application, project, owner: two.owner };
      assert.deepEqual(await listed(), [
        { ...row, type },
        { ...row, type: `${type}-b` },
      ]);
      assert.equal((await records.unstartedTypes(1)).length, 1);
      const input = { application, type };
      const start = { workflowId: `application/${application}/${type}`, type: 'application', input } as const;
      await records.recordStart({ ...start, askedBy: 'dan', roles: [], project }, entry(), []);
      assert.deepEqual(await listed(), [{ ...row, type: `${type}-b` }]);
    },
  },
  {
    name: 'a type cannot be removed and go live concurrently',
    async run(records, scene) {
      const { project, type, entry } = scene;
      await setApplication(records, scene);
      await records.addTypes(project, [`${type}-b`], entry());
      for (let race = 1; race <= 10; race++) {
        const before = await applicationOf(records, scene);
        const both = { ...before, revision: before.revision + 1, types: [`${type}-b`, `${type}-r${race}`] };
        await records.addTypes(project, [`${type}-r${race}`], entry());
        await records.changeApplication(both, entry());
        const racing = { ...scene, type: `${type}-r${race}` };
        const { release } = await allot(records, racing, 1);
        const [moved, removed] = await Promise.allSettled([
          move(records, racing, release),
          records.changeApplication({ ...both, revision: both.revision + 1, types: [`${type}-b`] }, entry()),
        ]);
        assert.notEqual(moved.status, removed.status, `race ${race}: both or neither succeeded`);
        const { types } = await applicationOf(records, scene);
        const pointer = await records.livePointer(scene.application, racing.type);
        assert.equal(types.includes(racing.type), pointer.release === release);
        // The next race starts without a live release.
        if (pointer.release) scene = await another(records, scene);
      }
    },
  },
  {
    name: 'returns every release that was ever live, and no other',
    async run(records, scene) {
      const { application, type } = scene;
      await setApplication(records, scene);
      const [one, two, three] = [
        await allot(records, scene, 1),
        await allot(records, scene, 2),
        await allot(records, scene, 3),
      ];
      await move(records, scene, one.release);
      await move(records, scene, two.release);
      // Refused: the pointer has moved on.
      await move(records, scene, three.release, { generation: 0 });
      const was = (release: string, where = application) => records.wasLive(where, type, release);
      assert.deepEqual(await Promise.all([one, two, three].map(({ release }) => was(release))), [true, true, false]);
      assert.equal(await was(one.release, 'elsewhere'), false);
    },
  },
];

/** Another application of the same project. */
async function another(records: Records, scene: Scene): Promise<Scene> {
  const application = `${scene.application}-n`;
  await addApplication(records, scene, application);
  return { ...scene, application };
}
