// Cases on Records: decisions about versions, each one transaction, judged by what holds then.
import assert from 'node:assert/strict';
import { newVersion } from '../../../workflows/domain/model.ts';
import { openLifecycle } from './lifecycle-scene.ts';
import type { RecordsCase } from './scene.ts';
import { digestOf, fails } from './scene.ts';

const NO = { args: { reason: 'no' } };

export const auditCases: readonly RecordsCase[] = [
  {
    name: 'every decision is signed, and approvals, releases and moves of the live pointer have theirs',
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
      // What got out without a decision is named, and what was made live by it.
      const third = await addRelease('rf-3');
      await records.announced(third);
      assert.deepEqual(await problems(), [`release ${third} has no decision`]);
      await deliver(third);
      const move = `move 5 of ${scene.application}/${scene.type} to ${third} has no decision`;
      assert.deepEqual(await problems(), [`release ${third} has no decision`, move]);
    },
  },
];

export const decisionCases: readonly RecordsCase[] = [
  {
    name: 'a submission becomes new by its recorded facts, each step once',
    async run(records, scene) {
      const { start, standing, keyOf, idOf, validate } = await openLifecycle(records, scene);
      await start('rf-1');
      const step = (revision: number, ended?: string) => records.advanceVersion(idOf('rf-1'), { revision, ended });
      // Nothing is known yet: nothing follows.
      assert.equal((await step(0)).version.state, 'validating');
      assert.equal((await step(7)).version.revision, 0);
      const steps = await Promise.all([validate('rf-1'), validate('rf-1'), validate('rf-1')]);
      assert.deepEqual([...new Set(steps.map(({ version }) => version.revision))], [1]);
      const { version } = await standing('rf-1');
      assert.deepEqual([version.state, version.version, version.digest], ['new', 1, digestOf('rf-1')]);
      assert.equal((await records.staged(keyOf('rf-1')))?.[0]?.sha256, digestOf('rf-1'));
      assert.deepEqual(await records.version(scene.project, 'forest', 'rf-1'), version);
      // What is judged is not staged again.
      await records.recordStaged(keyOf('rf-1'), []);
      assert.equal((await records.staged(keyOf('rf-1')))?.length, 1);
      const left = await records.unfiled(keyOf('rf-1'));
      assert.deepEqual(
        left.map(({ revision, from, version: to, command }) => [revision, from, to.state, command]),
        [[1, 'validating', 'new', null]],
      );
      await records.filed(keyOf('rf-1'), 1);
      assert.deepEqual(await records.unfiled(keyOf('rf-1')), []);
    },
  },
  {
    name: 'what is not valid, or stands open with the same bytes, is invalid and closed',
    async run(records, scene) {
      const { start, standing, keyOf, idOf, validate, submit, give } = await openLifecycle(records, scene);
      await start('rf-1');
      await records.recordStaged(keyOf('rf-1'), []);
      await records.recordValidation(keyOf('rf-1'), { problems: ['no model.json', 'no golden.json'] });
      const invalid = await records.advanceVersion(idOf('rf-1'), { revision: 0 });
      assert.deepEqual([invalid.version.state, invalid.closed], ['invalid', true]);
      assert.equal(invalid.version.detail, 'no model.json\nno golden.json');
      assert.notEqual((await records.start(idOf('rf-1')))?.closedAt, null);
      await submit('rf-2');
      await start('rf-3');
      const same = await validate('rf-3', 'rf-2');
      assert.equal(same.version.state, 'invalid');
      assert.match(same.version.detail, /rf-2 .* open with the same bytes/);
      await start('rf-4');
      assert.equal(
        (await records.advanceVersion(idOf('rf-4'), { revision: 0, ended: 'it broke' })).version.detail,
        'it broke',
      );
      // After its end the bytes are free.
      assert.equal((await give('rf-2', 'withdraw', 'sam')).came, 'done');
      await start('rf-5');
      assert.equal((await validate('rf-5', 'rf-2')).version.state, 'new');
      // A number is given to what became new, and never again.
      assert.deepEqual([(await standing('rf-2')).version.version, (await standing('rf-5')).version.version], [1, 2]);
    },
  },
  {
    name: 'a training is followed by its record, and a failed one is tried again',
    async run(records, scene) {
      const { keyOf, idOf, give } = await openLifecycle(records, scene);
      const { project, type } = scene;
      const spec = {
        ...{ code: { repository: `${project}/code`, commit: 'a'.repeat(40) }, entrypoint: 'train.py', lock: 'lock' },
        ...{ data: [], parameters: {}, seed: 1, compute: 'cpu' as const, deadlineSeconds: 60 },
      };
      const input = { ...keyOf('rf-1'), type, author: 'sam', beginning: { run: spec } };
      await records.recordStart(
        { workflowId: idOf('rf-1'), type: 'modelLifecycle', input, askedBy: 'sam', roles: ['scientist'], project },
        scene.entry(),
        [{ kind: 'version', row: newVersion(input, 'k1', '2026-01-02T03:04:05.000Z') }],
      );
      const step = async (revision: number, ended?: string) => {
        const { version, attempt } = await records.advanceVersion(idOf('rf-1'), { revision, ended });
        return [version.state, version.revision, attempt];
      };
      const child = (attempt: number) => records.start(`run/${project}/forest/rf-1/${attempt}`);
      assert.deepEqual(await step(0), ['training', 1, 1]);
      assert.deepEqual((await child(1))?.input, { ...keyOf('rf-1'), attempt: 1, author: 'sam', spec });
      assert.equal((await child(1))?.parent, idOf('rf-1'));
      assert.deepEqual(await step(1), ['training', 1, 1]);
      assert.deepEqual(await step(1, 'out of memory'), ['failed', 2, 1]);
      assert.notEqual((await child(1))?.closedAt, null);
      assert.equal((await give('rf-1', 'retry', 'sam')).came, 'done');
      assert.deepEqual(await step(3), ['training', 4, 2]);
      const run = {
        ...{
          attempt: 2,
          spec,
          inputs: [],
          environment: digestOf('lock'),
          outputs: [],
          metrics: { loss: 0.1 },
          log: null,
        },
        ...{ startedAt: '2026-01-02T03:04:05.000Z', endedAt: '2026-01-02T03:05:05.000Z' },
      };
      await records.recordRun(keyOf('rf-1'), 2, run);
      await records.recordRun(keyOf('rf-1'), 2, { ...run, metrics: { loss: 0 } });
      assert.deepEqual(await records.run(keyOf('rf-1'), 2), run);
      assert.equal(await records.run(keyOf('rf-1'), 1), undefined);
      // A result that is there counts, whatever else is said.
      assert.deepEqual(await step(4, 'its workflow was ended'), ['trained', 5, 2]);
      assert.deepEqual((await records.version(project, 'forest', 'rf-1'))?.run, run);
    },
  },
  {
    name: 'of two decisions at once upon one revision one is made, the other is stale',
    async run(records, scene) {
      const { submit, about, record, decide, outcomeOf, standing } = await openLifecycle(records, scene);
      for (let race = 0; race < 10; race++) {
        await submit(`rf-${race}`);
        const commands = await Promise.all(
          ['mia', 'max', 'moe'].map((actor) => about(`rf-${race}`, 'reject', actor, NO)),
        );
        await Promise.all(commands.map(record));
        await Promise.all(commands.map((command) => decide(command)));
        const came = await Promise.all(commands.map(outcomeOf));
        assert.deepEqual([...came].sort(), ['done', 'stale', 'stale']);
        const { version } = await standing(`rf-${race}`);
        assert.deepEqual([version.state, version.revision, version.decisions.length], ['rejected', 2, 1]);
        assert.equal(version.decisions[0]?.actor, commands[came.indexOf('done')]?.body.actor);
      }
    },
  },
  {
    name: 'a command is decided once: the same again returns how it stands',
    async run(records, scene) {
      const { submit, about, record, decide, idOf } = await openLifecycle(records, scene);
      await submit('rf-1');
      const command = await about('rf-1', 'reject', 'mia', NO);
      await record(command);
      const answers = await Promise.all([1, 2, 3, 4].map(() => decide(command)));
      for (const { version } of answers) assert.deepEqual([version.state, version.revision], ['rejected', 2]);
      assert.equal((await decide(command)).version.decisions.length, 1);
      const note = await records.decision(idOf('rf-1'), command.body.commandId);
      assert.deepEqual(note?.command, command);
      assert.deepEqual([note.status, note.policyVersion], ['complete', 1]);
      const { rows } = await records.audit({ project: scene.project });
      assert.equal(rows.filter(({ entry }) => entry.kind === 'version.reject').length, 1);
      assert.equal(await records.decision(idOf('rf-1'), 'never-given'), undefined);
    },
  },
  {
    name: 'a person who is no manager any more decides nothing, also when both come at once',
    async run(records, scene) {
      const { submit, about, record, decide, outcomeOf, standing } = await openLifecycle(records, scene);
      const roles = (...held: 'manager'[]) =>
        records.setMember(scene.project, { user: 'max', roles: held }, scene.entry());
      await submit('rf-1');
      const command = await about('rf-1', 'reject', 'max', NO);
      await record(command);
      await roles();
      await decide(command);
      assert.equal(await outcomeOf(command), 'not-authorized');
      assert.equal((await standing('rf-1')).version.state, 'new');
      for (let race = 2; race < 12; race++) {
        await roles('manager');
        await submit(`rf-${race}`);
        const late = await about(`rf-${race}`, 'reject', 'max', NO);
        await record(late);
        const [{ version }] = await Promise.all([decide(late), roles()]);
        const came = await outcomeOf(late);
        assert.deepEqual(version.state === 'rejected', came === 'done', `${version.state} and ${came}`);
        assert.ok(['done', 'not-authorized'].includes(came), came);
      }
    },
  },
  {
    name: 'a doubt from outside fails the command and leaves the version',
    async run(records, scene) {
      const { submit, about, record, decide, outcomeOf, standing } = await openLifecycle(records, scene);
      await submit('rf-1');
      const command = await about('rf-1', 'reject', 'mia', NO);
      await record(command);
      await decide(command, { reason: 'Corrupt', message: 'the report has changed' });
      assert.equal(await outcomeOf(command), 'failed');
      assert.deepEqual([(await standing('rf-1')).version.state, (await standing('rf-1')).version.revision], ['new', 1]);
    },
  },
  {
    name: 'a release is pending until it is announced, and nothing else is decided meanwhile',
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
    name: 'a release that fails is fenced, unless it got out, and the version is as it was',
    async run(records, scene) {
      const { approve, give, standing, idOf } = await openLifecycle(records, scene);
      const why = { reason: 'Corrupt', message: 'the bytes have changed' };
      await approve('rf-1');
      const { command } = await give('rf-1', 'release', 'mia');
      const { commandId } = command.body;
      assert.equal((await records.failDecision(idOf('rf-1'), 'another-one', why)).pending?.commandId, commandId);
      for (const _ of [1, 2]) {
        const failed = await records.failDecision(idOf('rf-1'), commandId, why);
        assert.deepEqual([failed.version.state, failed.version.revision, failed.pending], ['approved', 2, null]);
      }
      assert.deepEqual((await records.command(idOf('rf-1'), commandId))?.outcome, { status: 'failed', ...why });
      assert.equal(await records.fenced(`${scene.type}-1`), true);
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
    name: 'what is live somewhere is not let go, and what is let go never goes live',
    async run(records, scene) {
      const { released, addApplication, deliver, give, standing, movePointer, idOf, pointerId } = await openLifecycle(
        records,
        scene,
      );
      await addApplication();
      const release = await released('rf-1');
      await deliver(release);
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
      assert.equal((await standing('rf-1')).version.state, 'released');
      const retired = await records.completeDecision(idOf('rf-1'), command.body.commandId);
      assert.deepEqual([retired.version.state, retired.closed], ['retired', true]);
      const back = await movePointer('revert', 'mia', { args: { release } });
      assert.equal(back.came, 'failed');
      assert.match(back.message, /taken back/);
    },
  },
  {
    name: 'whom to wake is said again to whoever did not hear of the decision',
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
    name: 'files that go back to a scientist are noted before their decision is complete',
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
    name: 'until when a rejection can be undone is fixed with it',
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
      // A tag does not change it either, and time that is left closes nothing.
      await give('rf-1', 'tag', 'mia', { args: { tags: ['x'] } });
      assert.equal((await standing('rf-1')).undoUntil, undoUntil);
      assert.equal((await records.advanceVersion(idOf('rf-1'), { revision: 3 })).closed, false);
      const undone = await give('rf-1', 'undo', 'max');
      assert.equal(undone.came, 'done', undone.message);
      assert.deepEqual([(await standing('rf-1')).version.state, (await standing('rf-1')).undoUntil], ['new', null]);
      await give('rf-1', 'reject', 'mia', NO);
      // Under the policy of now there is no time at all.
      const late = await give('rf-1', 'undo', 'max');
      assert.equal(late.came, 'wrong-state');
      const { revision } = (await standing('rf-1')).version;
      assert.equal((await records.advanceVersion(idOf('rf-1'), { revision })).closed, true);
      assert.equal((await give('rf-1', 'undo', 'max')).came, 'closed');
    },
  },
];
