// Cases on Records: projections, version numbers, claimed bytes.
import assert from 'node:assert/strict';
import type { Projection, Records } from '../../../activities/records.ts';
import { openLifecycle } from './lifecycle-scene.ts';
import type { RecordsCase } from './scene.ts';
import { at, deliveryRow, digestOf, evaluationRow, fails, linkAll, scanRow, versionRow } from './scene.ts';

const twenty = Array.from({ length: 20 }, (_, index) => index);

async function auditOf(records: Records, project: string) {
  const { rows } = await records.audit({ project });
  return rows;
}

export const passageCases: readonly RecordsCase[] = [
  {
    name: 'hostile text is stored: no content of a command prevents its recording',
    async run(records, scene) {
      const hostile = 'a\u0000b \ud800 \\u0000 "; drop table x; --';
      const version = versionRow(scene, { detail: hostile });
      await records.record(
        [scene.entry({ reason: hostile, detail: { [hostile]: hostile } })],
        [{ kind: 'version', row: version }],
      );
      const [row] = await auditOf(records, scene.project);
      assert.equal(
        row?.entry.reason,
        // A lone surrogate has no representation in RFC 8785; the rest is kept.
        hostile.replace('\ud800', '\ufffd'),
      );
      const stored = await records.version(scene.project, 'forest', 'rf-1');
      assert.match(stored?.detail ?? '', /^a.b . \\u0000 "; drop table x; --$/su);
      await linkAll(records);
      assert.equal((await records.verifyAudit()).broken, null);
    },
  },
  {
    name: 'entries and projections are written together or not at all',
    async run(records, scene) {
      const bad: Projection = { kind: 'version', row: versionRow(scene, { updatedAt: 'never' }) };
      const good: Projection = { kind: 'evaluation', row: evaluationRow(scene) };
      await fails(records.record([scene.entry()], [good, bad]), 'InvalidInput');
      assert.deepEqual(await auditOf(records, scene.project), []);
      assert.equal(await records.evaluation(scene.project, 'e-1'), undefined);
      await records.record([], [good]);
      assert.deepEqual(await records.evaluation(scene.project, 'e-1'), good.row);
    },
  },
  {
    name: 'an older version row never replaces a newer one',
    async run(records, scene) {
      const entry = scene.entry();
      const write = (row: ReturnType<typeof versionRow>) => records.record([entry], [{ kind: 'version', row }]);
      const newer = versionRow(scene, { revision: 3, state: 'approved', updatedAt: at(5) });
      await write(versionRow(scene, { revision: 2 }));
      await write(newer);
      await write(versionRow(scene, { revision: 2, updatedAt: at(9) }));
      await write(versionRow(scene, { revision: 3, updatedAt: at(4) }));
      assert.deepEqual(await records.version(scene.project, 'forest', 'rf-1'), newer);
      const newest = { ...newer, tags: ['candidate'], updatedAt: at(6) };
      await write(newest);
      assert.deepEqual(await records.version(scene.project, 'forest', 'rf-1'), newest);
    },
  },
  {
    name: 'evaluations, deliveries and scans never go back',
    async run(records, scene) {
      const release = `${scene.type}-1`;
      const done = evaluationRow(scene, { state: 'done', passed: true, metrics: { f1: 0.9 }, updatedAt: at(2) });
      const failed = deliveryRow(scene, release, { state: 'failed', detail: 'gate', updatedAt: at(2) });
      const labelled = scanRow(scene, { revision: 2, state: 'labelled', commit: 'c', updatedAt: at(2) });
      await records.record(
        [],
        [
          { kind: 'evaluation', row: evaluationRow(scene) },
          { kind: 'evaluation', row: done },
          { kind: 'delivery', row: deliveryRow(scene, release, { updatedAt: at(3) }) },
          // A clock that is behind does not delay a state.
          { kind: 'delivery', row: failed },
          { kind: 'scan', row: scanRow(scene) },
          { kind: 'scan', row: labelled },
        ],
      );
      await records.record(
        [],
        [
          { kind: 'evaluation', row: evaluationRow(scene, { updatedAt: at(9) }) },
          { kind: 'evaluation', row: { ...done, state: 'failed', updatedAt: at(1) } },
          { kind: 'delivery', row: deliveryRow(scene, release, { state: 'gating', updatedAt: at(9) }) },
          { kind: 'delivery', row: { ...failed, detail: 'older', updatedAt: at(1) } },
          { kind: 'scan', row: scanRow(scene, { revision: 1, state: 'labelled', updatedAt: at(9) }) },
        ],
      );
      assert.deepEqual(await records.evaluation(scene.project, 'e-1'), done);
      assert.deepEqual(await records.delivery(scene.application, release), failed);
      assert.deepEqual(await records.scan(scene.project, 's-1'), labelled);
    },
  },
  {
    name: 'a stopped delivery keeps its gate results',
    async run(records, scene) {
      const release = `${scene.type}-1`;
      const gates = [{ gate: 'function', passed: true, detail: '3 of 3', seconds: 1 }];
      const gating = deliveryRow(scene, release, { state: 'gating', gates, updatedAt: at(1) });
      const stopped = deliveryRow(scene, release, {
        state: 'failed',
        gates: [],
        detail: 'withdrawn',
        updatedAt: at(2),
      });
      for (const row of [gating, stopped]) await records.record([], [{ kind: 'delivery', row }]);
      assert.deepEqual(await records.delivery(scene.application, release), { ...stopped, gates });
      const more = [...gates, { gate: 'load', passed: false, detail: 'slow', seconds: 2 }];
      const expected = { ...stopped, gates: more, updatedAt: at(3) };
      await records.record([], [{ kind: 'delivery', row: expected }]);
      assert.deepEqual(await records.delivery(scene.application, release), expected);
    },
  },
  {
    name: 'each submission has its own version number, which never changes',
    async run(records, scene) {
      const { start, validate, standing } = await openLifecycle(records, scene);
      const submitted = async (n: number) => {
        await start(`rf-${n}`);
        return (await validate(`rf-${n}`)).version.version ?? 0;
      };
      const numbers = await Promise.all(twenty.map(submitted));
      assert.deepEqual(
        [...numbers].sort((a, b) => a - b),
        twenty.map((n) => n + 1),
      );
      const again = await Promise.all(twenty.map(async (n) => (await standing(`rf-${n}`)).version.version));
      assert.deepEqual(again, numbers);
    },
  },
  {
    name: 'submitting the bytes of an open submission is a conflict that names it',
    async run(records, { project }) {
      const digest = digestOf(project);
      await records.claimDigest(project, 'forest', 'rf-1', digest);
      await records.claimDigest(project, 'forest', 'rf-1', digest);
      await fails(records.claimDigest(project, 'forest', 'rf-2', digest), 'Conflict', 'rf-1');
      await fails(records.claimDigest(project, 'forest', 'rf-1', digestOf('other')), 'Conflict', 'rf-1');
      await records.claimDigest(project, 'tree', 'rf-2', digest);
      await records.freeDigest(project, 'forest', 'rf-1');
      await records.freeDigest(project, 'forest', 'rf-1');
      await records.claimDigest(project, 'forest', 'rf-2', digest);
      // Late repeats of an ended lifecycle's activities.
      await records.claimDigest(project, 'forest', 'rf-1', digest);
      await records.freeDigest(project, 'forest', 'rf-1');
      await fails(records.claimDigest(project, 'forest', 'rf-3', digest), 'Conflict', 'rf-2');
      await records.freeDigest(project, 'forest', 'rf-4');
      await records.claimDigest(project, 'forest', 'rf-4', digestOf('late'));
      await records.claimDigest(project, 'forest', 'rf-5', digestOf('late'));
    },
  },
  {
    name: 'of many concurrent claims on the same bytes, one wins',
    async run(records, { project }) {
      const claims = twenty.map((n) => records.claimDigest(project, 'forest', `rf-${n}`, digestOf(project)));
      const settled = await Promise.allSettled(claims);
      assert.equal(settled.filter(({ status }) => status === 'fulfilled').length, 1);
    },
  },
];
