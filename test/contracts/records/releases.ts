// Cases on Records: releases, fences, applications and their live pointers, scans.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import type { Scan } from '../../../workflows/domain/model.ts';
import type { RecordsCase } from './scene.ts';
import {
  addApplication,
  allot,
  at,
  deliveryRow,
  digestOf,
  fails,
  move,
  scanRow,
  setApplication,
  setProject,
} from './scene.ts';

/** Enough to reveal a check that is not atomic with its write. */
const RACES = 50;

export const releaseCases: readonly RecordsCase[] = [
  {
    name: 'releases of a type are numbered without gaps, once per command',
    async run(records, scene) {
      await setProject(records, scene);
      const commands = Array.from({ length: 20 }, (_, n) => `${scene.project}-${n}`);
      const made = await Promise.all(commands.map((command, n) => allot(records, scene, n + 1, command)));
      const again = await Promise.all(commands.map((command, n) => allot(records, scene, n + 1, command)));
      assert.deepEqual(again, made);
      assert.deepEqual(
        made.map(({ sequence }) => sequence).sort((a, b) => a - b),
        commands.map((_, n) => n + 1),
      );
      for (const release of made) assert.equal(release.release, `${scene.type}-${release.sequence}`);
      const two = await records.releases({ type: scene.type, after: 5, limit: 2 });
      assert.deepEqual(
        two.map(({ sequence }) => sequence),
        [6, 7],
      );
      const [third] = made.slice(2);
      const standing = [{ ...third, withdrawn: null }];
      assert.deepEqual(await records.releasesOf(scene.project, 'forest', 'rf-3'), standing);
    },
  },
  {
    name: 'the same command id on two submissions makes two releases',
    async run(records, scene) {
      await setProject(records, scene);
      const first = await allot(records, scene, 1, 'release-1');
      const second = await allot(records, scene, 2, 'release-1');
      assert.deepEqual([first.submission, second.submission], ['rf-1', 'rf-2']);
      assert.deepEqual([first.sequence, second.sequence], [1, 2]);
      assert.deepEqual(await allot(records, scene, 1, 'release-1'), first);
      assert.deepEqual(await allot(records, scene, 2, 'release-1'), second);
    },
  },
  {
    name: 'an announcement is final, and a release has a type of its project',
    async run(records, scene) {
      await setProject(records, scene);
      const { release } = await allot(records, scene, 1, `${scene.project}-1`);
      assert.equal((await records.release(release))?.state, 'allotted');
      await records.announced(release);
      await records.announced(release);
      assert.equal((await records.release(release))?.state, 'announced');
      assert.equal((await allot(records, scene, 1, `${scene.project}-1`)).state, 'announced');
      await fails(records.announced('none-1'), 'NotFound', 'none-1');
      assert.equal(await records.release('none-1'), undefined);
      await fails(allot(records, { ...scene, project: 'elsewhere' }, 1), 'NotAuthorized', scene.project);
      await fails(allot(records, { ...scene, type: 'no-such-type' }, 1), 'NotFound', 'no-such-type');
    },
  },
  {
    name: 'releases are listed by number, optionally only announced ones',
    async run(records, scene) {
      const { type } = scene;
      await setProject(records, scene);
      const made: string[] = [];
      for (let n = 1; n <= 4; n++) made.push((await allot(records, scene, n)).release);
      for (const n of [3, 1, 2]) await records.announced(made[n - 1] ?? '');
      const announced = await records.releases({ type, announced: true, limit: 2 });
      assert.deepEqual(
        announced.map(({ sequence }) => sequence),
        [1, 2],
      );
      const after = await records.releases({ type, announced: true, after: 2 });
      assert.deepEqual(
        after.map(({ sequence }) => sequence),
        [3],
      );
      assert.equal((await records.releases({ type })).length, 4);
    },
  },
  {
    name: 'an older version is not released if a newer one is live',
    async run(records, scene) {
      await setApplication(records, scene);
      const { release } = await allot(records, scene, 2);
      await allot(records, scene, 1);
      await move(records, scene, release);
      const older = allot(records, scene, 1);
      await fails(older, 'Conflict', `version 2 of ${scene.project}/forest is live in ${scene.application}`);
      assert.equal((await allot(records, scene, 2)).sequence, 3);
      assert.equal((await allot(records, scene, 3)).sequence, 4);
    },
  },
  {
    name: 'an application has a unique name and types of its project',
    async run(records, scene) {
      const { application, project, type } = scene;
      await setApplication(records, scene);
      await fails(addApplication(records, scene, application), 'Conflict', application);
      const foreign = { ...scene, type: 'no-such-type' };
      await fails(addApplication(records, foreign, `${application}-2`), 'InvalidInput', 'no-such-type');
      assert.equal((await records.application(application))?.owner, 'dan');
      assert.equal(await records.application(`${application}-2`), undefined);
      assert.equal((await records.applications({ project, type })).length, 1);
      assert.deepEqual(await records.applications({ project, type: 'no-such-type' }), []);
      const nothing = { application, type, generation: 0, release: null, movedAt: null };
      assert.deepEqual(await records.livePointer(application, type), nothing);
      const { release } = await allot(records, scene, 1);
      await fails(move(records, { ...scene, application: 'no-such-app' }, release), 'NotFound', 'no-such-app');
      await fails(move(records, scene, 'none-1'), 'NotFound', 'none-1');
    },
  },
  {
    name: 'the live pointer moves by compare-and-set, with its deliveries and audit rows',
    async run(records, scene) {
      const { application, type } = scene;
      await setApplication(records, scene);
      const one = await allot(records, scene, 1);
      const two = await allot(records, scene, 2);
      const gates = [{ gate: 'integrity', passed: true, detail: '', seconds: 1 }];
      const deploying = deliveryRow(scene, one.release, { state: 'deploying', gates, updatedAt: at(60) });
      await records.record([], [{ kind: 'delivery', row: deploying }]);
      const first = await move(records, scene, one.release);
      assert.ok(first.moved);
      assert.equal(first.pointer.generation, 1);
      assert.deepEqual(await records.livePointer(application, type), first.pointer);
      assert.deepEqual(await records.delivery(application, one.release), { ...deploying, state: 'live' });
      const stale = await move(records, scene, two.release, { generation: 0 });
      assert.deepEqual(stale, { moved: false, why: 'generation' });
      assert.deepEqual(await records.livePointer(application, type), first.pointer);
      assert.equal(await records.delivery(application, two.release), undefined);
      assert.ok((await move(records, scene, two.release)).moved);
      assert.equal((await records.delivery(application, one.release))?.state, 'superseded');
      assert.equal((await records.delivery(application, two.release))?.state, 'live');
      // Late results of the first delivery do not make it live again.
      await records.record([], [{ kind: 'delivery', row: { ...deploying, state: 'live', updatedAt: at(99) } }]);
      assert.equal((await records.delivery(application, one.release))?.state, 'superseded');
      const page = await records.deliveries({ application, limit: 1 });
      assert.equal(page.rows[0]?.release, two.release);
      assert.equal((await records.deliveries({ application, after: page.next ?? '' })).rows.length, 1);
      assert.equal((await records.deliveries({ release: one.release })).rows.length, 1);
      assert.equal((await records.audit({ subject: application })).rows.length, 2);
    },
  },
  {
    name: 'of many concurrent moves from one generation, one is made',
    async run(records, scene) {
      await setApplication(records, scene);
      const releases = [];
      for (let n = 1; n <= 8; n++) releases.push(await allot(records, scene, n));
      const answers = await Promise.all(
        releases.map(({ release }) => move(records, scene, release, { generation: 0 })),
      );
      assert.equal(answers.filter(({ moved }) => moved).length, 1);
      const deliveries = await records.deliveries({ application: scene.application });
      assert.deepEqual(
        deliveries.rows.map(({ state }) => state),
        ['live'],
      );
    },
  },
  {
    name: 'an idempotency key gets its first answer, even after later moves',
    async run(records, scene) {
      const { application, type } = scene;
      await setApplication(records, scene);
      const one = await allot(records, scene, 1);
      const two = await allot(records, scene, 2);
      const key = randomUUID();
      const first = await move(records, scene, one.release, { key, generation: 0 });
      const older = randomUUID();
      const refused = await move(records, scene, one.release, { key: older, generation: 1 });
      assert.deepEqual(refused, { moved: false, why: 'older' });
      assert.ok((await move(records, scene, two.release)).moved);
      assert.deepEqual(await move(records, scene, one.release, { key, generation: 0 }), first);
      assert.deepEqual(await move(records, scene, one.release, { key: older, generation: 1 }), refused);
      assert.equal((await records.livePointer(application, type)).release, two.release);
      await fails(move(records, scene, two.release, { key }), 'Conflict', key);
    },
  },
  {
    name: 'moving back is a revert, to a release that was live there',
    async run(records, scene) {
      const { application } = scene;
      await setApplication(records, scene);
      const [one, two, three] = [
        await allot(records, scene, 1),
        await allot(records, scene, 2),
        await allot(records, scene, 3),
      ];
      await move(records, scene, one.release);
      await move(records, scene, three.release);
      const older = { moved: false, why: 'older' };
      assert.deepEqual(await move(records, scene, two.release), older);
      assert.deepEqual(await move(records, scene, one.release), older);
      assert.deepEqual(await move(records, scene, two.release, { revert: true }), older);
      assert.deepEqual(await move(records, scene, three.release, { revert: true }), older);
      assert.ok((await move(records, scene, one.release, { revert: true })).moved);
      assert.equal((await records.delivery(application, three.release))?.state, 'reverted');
      assert.equal((await records.delivery(application, one.release))?.state, 'live');
      await records.fence([three.release], 'c');
      assert.deepEqual(await move(records, scene, three.release, { revert: true }), { moved: false, why: 'fenced' });
    },
  },
  {
    name: 'returns the release that was live at a given time, and all that were live',
    async run(records, scene) {
      const { application, type } = scene;
      await setApplication(records, scene);
      const before = new Date(Date.now() - 86_400_000).toISOString();
      const one = await move(records, scene, (await allot(records, scene, 1)).release);
      // Moves within one millisecond count as one instant in queries.
      await pause(5);
      const two = await move(records, scene, (await allot(records, scene, 2)).release);
      assert.ok(one.moved && two.moved);
      assert.equal((await records.liveAt(application, type, before)).release, null);
      assert.deepEqual(await records.liveAt(application, type, one.pointer.movedAt ?? ''), one.pointer);
      assert.deepEqual(await records.liveAt(application, type, two.pointer.movedAt ?? ''), two.pointer);
      const history = { application, type };
      assert.deepEqual(await records.liveHistory(history), { rows: [two.pointer, one.pointer] });
      const page = await records.liveHistory({ ...history, limit: 1 });
      assert.deepEqual(page.rows, [two.pointer]);
      assert.deepEqual(await records.liveHistory({ ...history, after: page.next ?? '' }), { rows: [one.pointer] });
      await fails(records.liveAt(application, type, 'yesterday'), 'InvalidInput', 'ISO 8601');
    },
  },
  {
    name: 'fencing a live release fails and names the applications where it is live',
    async run(records, scene) {
      await setApplication(records, scene);
      const one = await allot(records, scene, 1);
      const two = await allot(records, scene, 2);
      await move(records, scene, one.release);
      assert.deepEqual(await records.fence([one.release, two.release], 'c1'), { live: [scene.application] });
      assert.equal(await records.fenced(two.release), false);
      assert.ok((await move(records, scene, two.release)).moved);
      assert.deepEqual(await records.fence([one.release], 'c2'), { live: [] });
      assert.deepEqual(await records.fence([one.release], 'c2'), { live: [] });
      assert.equal(await records.fenced(one.release), true);
      const back = await move(records, scene, one.release, { revert: true });
      assert.deepEqual(back, { moved: false, why: 'fenced' });
      assert.deepEqual(await records.fence([], 'c3'), { live: [] });
    },
  },
  {
    name: 'a concurrent fence and move never both succeed',
    async run(records, scene) {
      await setApplication(records, scene);
      for (let race = 1; race <= RACES; race++) {
        const { release } = await allot(records, scene, race);
        const { generation } = await records.livePointer(scene.application, scene.type);
        const fence = async () => records.fence([release], `c-${race}`);
        const step = async () => move(records, scene, release, { generation });
        // Started in both orders, with and without delays, so that they interleave differently.
        const apart = Math.floor(race / 2) % 5;
        const [fenced, moved] =
          race % 2
            ? await Promise.all([fence(), pause(apart).then(step)])
            : await Promise.all([pause(apart).then(fence), step()]);
        assert.notEqual(fenced.live.length === 0, moved.moved, `race ${race}: both or neither succeeded`);
        assert.equal(await records.fenced(release), !moved.moved);
        assert.equal((await records.livePointer(scene.application, scene.type)).release === release, moved.moved);
      }
    },
  },
  {
    name: 'a scan is created once, with its start',
    async run(records, scene) {
      const { project, application } = scene;
      const create = (id: string, some: Partial<Scan> = {}) =>
        records.recordStart(
          {
            ...{ workflowId: `feedback/${project}/${id}`, type: 'feedback', input: { project, scan: id } },
            ...{ askedBy: application, roles: ['application'], project },
          },
          scene.entry(),
          [{ kind: 'scan', row: scanRow(scene, { scan: id, ...some }) }],
        );
      await create('s-1');
      await create('s-1');
      const labelled = scanRow(scene, { revision: 1, state: 'labelled', updatedAt: at(5) });
      await records.record([], [{ kind: 'scan', row: labelled }]);
      await create('s-1', { commit: digestOf('no'), revision: 2 });
      assert.deepEqual(await records.scan(project, 's-1'), labelled);
      await create('s-2', { application: 'other' });
      // A page of scans does not carry their findings.
      const { findings, ...summary } = labelled;
      const labels = findings.filter(({ label }) => label !== null).length;
      assert.deepEqual((await records.scans({ project, application })).rows, [
        { ...summary, findingCount: findings.length, labelCount: labels },
      ]);
      const page = await records.scans({ project, limit: 1 });
      assert.equal(page.rows[0]?.scan, 's-2');
      assert.equal((await records.scans({ project, after: page.next ?? '' })).rows[0]?.scan, 's-1');
    },
  },
];
