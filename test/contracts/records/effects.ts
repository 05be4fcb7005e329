// Cases on Records: decisions with effects outside the database, which are pending until these effects are complete; and rows that require decisions.
import assert from 'node:assert/strict';
import { openLifecycle } from './lifecycle-scene.ts';
import type { RecordsCase } from './scene.ts';
import { digestOf, fails } from './scene.ts';

const NO = { args: { reason: 'no' } };

export const auditCases: readonly RecordsCase[] = [
  {
    name: 'every decision is signed, including approvals, releases and moves of the live pointer',
    async run(records, scene) {
      const { released, addApplication, deliver, movePointer, pointerId, addRelease } = await openLifecycle(
        records,
        scene,
      );
      const problems = async () =>
        (await records.verifyDecisions()).problems.filter((problem) => problem.includes(scene.project.slice(2)));
      await addApplication();
      const [first, second] = [await released('rf-1'), await released('rf-2')];
      await deliver(first);
      await deliver(second);
      const { command } = await movePointer('revert', 'mia', { args: { release: first } });
      await records.completePointer(pointerId, command.body.commandId, '');
      await movePointer('take-down', 'mia');
      const { checked } = await records.verifyDecisions();
      assert.ok(checked >= 6, `${checked} were checked`);
      assert.deepEqual(await problems(), []);
      // A release without a decision is reported, and so is its live pointer.
      const third = await addRelease('rf-3');
      await records.announced(third);
      assert.deepEqual(await problems(), [`release ${third} has no decision`]);
      await deliver(third);
      const move = `move 5 of ${scene.application}/${scene.type} to ${third} has no decision`;
      assert.deepEqual(await problems(), [`release ${third} has no decision`, move]);
    },
  },
];

export const effectCases: readonly RecordsCase[] = [
  {
    name: 'a release is pending until it is announced, and no other decision is made in the meantime',
    async run(records, scene) {
      const { approve, about, record, decide, give, standing, idOf } = await openLifecycle(records, scene);
      await approve('rf-1');
      const command = await about('rf-1', 'release', 'mia');
      await record(command);
      const { commandId } = command.body;
      const [{ pending, version }, again] = await Promise.all([decide(command), decide(command)]);
      assert.deepEqual(again.pending, pending);
      assert.deepEqual([version.state, pending?.commandId], ['approved', commandId]);
      const release = pending?.release ?? '';
      assert.equal(release, `${scene.type}-1`);
      const row = await records.release(release);
      assert.deepEqual([row?.state, row?.approvedBy, row?.releasedBy], ['allotted', ['mia'], 'mia']);
      assert.equal(row?.files[0]?.uri, `memory:releases/${scene.type}/${digestOf('rf-1')}`);
      assert.equal((await records.start(`release/${release}`))?.parent, idOf('rf-1'));
      assert.equal((await give('rf-1', 'reject', 'max', NO)).came, 'busy');
      await fails(records.completeDecision(idOf('rf-1'), commandId), 'Conflict', 'not announced');
      assert.equal((await records.completeDecision(idOf('rf-1'), 'another-one')).pending?.commandId, commandId);
      await records.announced(release);
      const done = await Promise.all([1, 2].map(() => records.completeDecision(idOf('rf-1'), commandId)));
      for (const one of done) assert.deepEqual([one.version.state, one.pending], ['released', null]);
      assert.equal((await standing('rf-1')).version.decisions.length, 2);
      assert.equal((await records.command(idOf('rf-1'), commandId))?.outcome.status, 'done');
    },
  },
  {
    name: 'a failed release is fenced unless it was announced, and the version returns to its previous state',
    async run(records, scene) {
      const { approve, give, standing, idOf } = await openLifecycle(records, scene);
      const why = { reason: 'Corrupt', message: 'the bytes have changed' };
      await approve('rf-1');
      const { command } = await give('rf-1', 'release', 'mia');
      const { commandId } = command.body;
      assert.equal((await records.failDecision(idOf('rf-1'), 'another-one', why)).pending?.commandId, commandId);
      // Ending it in Temporal decides nothing: it is repeated.
      const ended = { reason: 'Ended', message: 'ended by an operator' };
      assert.equal((await records.failDecision(idOf('rf-1'), commandId, ended)).pending?.commandId, commandId);
      assert.equal(await records.fenced(`${scene.type}-1`), false);
      assert.equal((await records.command(idOf('rf-1'), commandId))?.outcome.status, 'accepted');
      for (const _ of [1, 2]) {
        const failed = await records.failDecision(idOf('rf-1'), commandId, why);
        assert.deepEqual([failed.version.state, failed.version.revision, failed.pending], ['approved', 2, null]);
      }
      assert.deepEqual((await records.command(idOf('rf-1'), commandId))?.outcome, { status: 'failed', ...why });
      assert.equal(await records.fenced(`${scene.type}-1`), true);
      const { withdrawn } = (await records.release(`${scene.type}-1`)) ?? {};
      assert.deepEqual([withdrawn?.decision, withdrawn?.by, withdrawn?.reason], ['release', 'mia', why.message]);
      assert.equal((await records.decision(idOf('rf-1'), commandId))?.status, 'failed');
      const second = await give('rf-1', 'release', 'mia');
      assert.equal((await standing('rf-1')).pending?.release, `${scene.type}-2`);
      await records.announced(`${scene.type}-2`);
      const out = await records.failDecision(idOf('rf-1'), second.command.body.commandId, why);
      assert.deepEqual([out.version.state, out.pending], ['released', null]);
      assert.equal(await records.fenced(`${scene.type}-2`), false);
    },
  },
  {
    name: 'a live version keeps its releases, and a withdrawn release never goes live',
    async run(records, scene) {
      const { released, addApplication, deliver, give, standing, movePointer, idOf, pointerId } = await openLifecycle(
        records,
        scene,
      );
      await addApplication();
      const release = await released('rf-1');
      await deliver(release);
      assert.equal((await records.release(release))?.withdrawn, null);
      for (const [name, args] of [
        ['reject', NO.args],
        ['rollback', NO.args],
        ['retire', {}],
      ] as const) {
        const { came, message } = await give('rf-1', name, 'mia', { args });
        assert.deepEqual([name, came], [name, 'failed']);
        assert.match(message, new RegExp(`live in ${scene.application}`));
      }
      assert.equal(await records.fenced(release), false);
      const down = await movePointer('take-down', 'mia');
      await records.completePointer(pointerId, down.command.body.commandId, '');
      const { command, came } = await give('rf-1', 'retire', 'mia');
      assert.equal(came, 'accepted');
      assert.equal(await records.fenced(release), true);
      // Lists and single reads of releases show what withdrew them.
      const { at } = (await records.decision(idOf('rf-1'), command.body.commandId)) ?? {};
      const withdrawn = { decision: 'retire', by: 'mia', reason: '', at };
      const shown = [
        await records.release(release),
        ...(await records.releases({ type: scene.type })),
        ...(await records.releasesOf(scene.project, 'forest', 'rf-1')),
      ];
      assert.deepEqual(
        shown.map((row) => row?.withdrawn),
        [withdrawn, withdrawn, withdrawn],
      );
      assert.equal((await standing('rf-1')).version.state, 'released');
      const retired = await records.completeDecision(idOf('rf-1'), command.body.commandId);
      assert.deepEqual([retired.version.state, retired.closed], ['retired', true]);
      const back = await movePointer('revert', 'mia', { args: { release } });
      assert.equal(back.came, 'failed');
      assert.match(back.message, /withdrawn/);
    },
  },
  {
    name: 'a repeated decision returns the workflows to wake again',
    async run(records, scene) {
      const { released, addApplication, about, record, decide, pointerId } = await openLifecycle(records, scene);
      await addApplication();
      await released('rf-1');
      const command = await about('rf-1', 'retire', 'mia');
      await record(command);
      assert.deepEqual((await decide(command)).wake, [pointerId]);
      assert.deepEqual((await decide(command)).wake, [pointerId]);
    },
  },
  {
    name: 'files returned to a scientist are recorded before the decision is complete',
    async run(records, scene) {
      const { submit, released, give, standing, idOf, evaluate } = await openLifecycle(records, scene);
      await submit('rf-1');
      const { command, came } = await give('rf-1', 'rollback', 'mia', NO);
      assert.equal(came, 'accepted');
      const { commandId } = command.body;
      await fails(records.completeDecision(idOf('rf-1'), commandId), 'Conflict', 'were not returned yet');
      await records.noteReturned(idOf('rf-1'), commandId, 'returned/rf-1');
      const done = await records.completeDecision(idOf('rf-1'), commandId);
      assert.deepEqual([done.version.state, done.closed], ['rolled-back', true]);
      const outcome = (await records.command(idOf('rf-1'), commandId))?.outcome;
      assert.deepEqual(outcome, { status: 'done', message: 'returned to sam in returned/rf-1' });
      const release = await released('rf-2');
      const { application, type } = scene;
      const report = await evaluate('rf-2');
      const given = { args: { reason: 'try', to: 'sue' }, report };
      assert.equal((await give('rf-2', 'reassign', 'mia', given)).came, 'wrong-state');
      const row = { application, type, release, state: 'failed', gates: [], detail: 'gate' } as const;
      await records.record([], [{ kind: 'delivery', row: { ...row, updatedAt: '2026-01-02T03:04:05.000Z' } }]);
      const reassigned = await give('rf-2', 'reassign', 'mia', given);
      assert.equal(reassigned.came, 'accepted', reassigned.message);
      const id = reassigned.command.body.commandId;
      assert.equal((await records.decision(idOf('rf-2'), id))?.detail.to, 'sue');
      await fails(records.completeDecision(idOf('rf-2'), id), 'Conflict');
      await records.noteReturned(idOf('rf-2'), id, 'returned/rf-2');
      assert.equal((await records.completeDecision(idOf('rf-2'), id)).version.state, 'reassigned');
      assert.match((await standing('rf-2')).version.detail, /reassigned to sue: try/);
    },
  },
  {
    name: 'the undo window of a rejection is fixed when it is made',
    async run(records, scene) {
      const { submit, give, standing, setPolicy, idOf } = await openLifecycle(records, scene, {
        undoWithinSeconds: 600,
      });
      await submit('rf-1');
      await give('rf-1', 'reject', 'mia', NO);
      const { undoUntil } = await standing('rf-1');
      const rest = Date.parse(undoUntil ?? '') - Date.now();
      assert.ok(rest > 500_000 && rest <= 600_000, `${rest} ms are left`);
      await setPolicy(2, { undoWithinSeconds: 0 });
      assert.equal((await standing('rf-1')).undoUntil, undoUntil);
      // A tag does not change it either, and an open undo window does not close the version.
      await give('rf-1', 'tag', 'mia', { args: { tags: ['x'] } });
      assert.equal((await standing('rf-1')).undoUntil, undoUntil);
      assert.equal((await records.advanceVersion(idOf('rf-1'), { revision: 3 })).closed, false);
      const undone = await give('rf-1', 'undo', 'max');
      assert.equal(undone.came, 'done', undone.message);
      assert.deepEqual([(await standing('rf-1')).version.state, (await standing('rf-1')).undoUntil], ['new', null]);
      await give('rf-1', 'reject', 'mia', NO);
      // The current policy has no undo window.
      const late = await give('rf-1', 'undo', 'max');
      assert.equal(late.came, 'wrong-state');
      const { revision } = (await standing('rf-1')).version;
      assert.equal((await records.advanceVersion(idOf('rf-1'), { revision })).closed, true);
      assert.equal((await give('rf-1', 'undo', 'max')).came, 'closed');
    },
  },
];
