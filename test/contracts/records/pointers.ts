// Cases on Records: deliveries with their gates, moves of the live pointer by people, and labels.
import assert from 'node:assert/strict';
import { defaultPolicy } from '../../../workflows/domain/model.ts';
import { openLifecycle, signed } from './lifecycle-scene.ts';
import type { RecordsCase } from './scene.ts';
import { addApplication, scanRow } from './scene.ts';

export const pointerCases: readonly RecordsCase[] = [
  {
    name: 'the next delivery is the oldest announced release after the application’s start',
    async run(records, scene) {
      const { released, addApplication, addRelease, pointerId, deliver, give, idOf } = await openLifecycle(
        records,
        scene,
      );
      await released('rf-1');
      const second = await released('rf-2');
      // Numbered but not announced: no application sees it yet.
      const hidden = await addRelease('rf-9');
      await addApplication();
      // A new application starts with the newest release that is not withdrawn.
      assert.deepEqual((await records.applicationStanding(pointerId)).wake, []);
      const next = async () => (await records.openDelivery(pointerId)).release?.release ?? null;
      assert.equal(await next(), second);
      assert.equal(await next(), second);
      const child = await records.start(`delivery/${scene.application}/${second}`);
      assert.deepEqual([child?.parent, child?.closedAt], [pointerId, null]);
      assert.equal((await records.delivery(scene.application, second))?.state, 'received');
      const of = { application: scene.application, type: scene.type, release: second };
      assert.equal((await records.concludeDelivery(of)).state, 'deploying');
      // A repeated run still finds its delivery; once it is live there is nothing left to do.
      const isOver = async () => (await records.start(`delivery/${scene.application}/${second}`))?.closedAt !== null;
      assert.equal(await isOver(), false);
      assert.ok((await deliver(second)).moved);
      assert.equal(await isOver(), true);
      // Resuming the application wakes the lifecycles again.
      assert.deepEqual((await records.applicationStanding(pointerId)).wake, [idOf('rf-2')]);
      assert.equal(await next(), null);
      await records.announced(hidden);
      assert.equal(await next(), hidden);
      await records.fence([hidden], 'taken-back');
      assert.equal(await next(), null);
      const third = await released('rf-3');
      const fourth = await released('rf-4');
      const { command } = await give('rf-3', 'retire', 'mia');
      await records.completeDecision(idOf('rf-3'), command.body.commandId);
      assert.equal(await records.fenced(third), true);
      assert.equal(await next(), fourth);
    },
  },
  {
    name: 'a release goes live only after passing every configured gate',
    async run(records, scene) {
      const { released, addApplication, pointerId, deliver } = await openLifecycle(records, scene);
      await addApplication(['integrity', 'function']);
      const release = await released('rf-1');
      await records.openDelivery(pointerId);
      const of = { application: scene.application, type: scene.type, release };
      const result = (gate: string, passed: boolean, seconds = 1) => ({
        gate,
        passed,
        detail: `${gate} said so`,
        seconds,
      });
      assert.deepEqual(await records.missingGates(of), ['integrity', 'function']);
      const refused = { moved: false, why: 'gates' };
      assert.deepEqual(await deliver(release), refused);
      await records.recordGate(of, result('integrity', true));
      await records.recordGate(of, result('no-such-gate', true));
      assert.deepEqual([await records.missingGates(of), await deliver(release)], [['function'], refused]);
      await records.recordGate(of, result('function', false));
      assert.deepEqual([await records.missingGates(of), await deliver(release)], [['function'], refused]);
      const failed = await records.concludeDelivery(of);
      assert.deepEqual([failed.state, failed.detail], ['failed', 'gate function: function said so']);
      assert.deepEqual(failed.gates, [result('integrity', true), result('function', false)]);
      assert.notEqual((await records.start(`delivery/${scene.application}/${release}`))?.closedAt, null);
      // The newest result of a gate counts; a repeated result is stored once.
      for (const _ of [1, 2]) await records.recordGate(of, result('function', true, 2));
      assert.deepEqual(await records.missingGates(of), []);
      assert.ok((await deliver(release)).moved);
      assert.equal((await records.livePointer(scene.application, scene.type)).release, release);
    },
  },
  {
    name: 'a delivery ends with its reason: a failed gate, a given reason, gates that did not run',
    async run(records, scene) {
      const { released, addApplication, pointerId } = await openLifecycle(records, scene);
      await addApplication(['integrity', 'function']);
      const release = await released('rf-1');
      await records.openDelivery(pointerId);
      const of = { application: scene.application, type: scene.type, release };
      const end = async (ended?: string) => {
        const { state, detail } = await records.concludeDelivery(of, ended);
        return [state, detail];
      };
      assert.deepEqual(await end(), ['failed', 'gates that did not run: integrity, function']);
      assert.deepEqual(await end('withdrawn'), ['failed', 'withdrawn']);
      await records.recordGate(of, { gate: 'integrity', passed: false, detail: 'other bytes', seconds: 1 });
      assert.deepEqual(await end('withdrawn'), ['failed', 'gate integrity: other bytes']);
      const { rows } = await records.audit({ project: scene.project });
      // Its entries say the same, with what the gates found: one for each attempt.
      assert.deepEqual(
        rows.flatMap(({ entry: { kind, reason, detail } }) => (kind === 'delivery.failed' ? [[reason, detail]] : [])),
        [
          ['gates that did not run: integrity, function', { release, gates: [] }],
          [
            'gate integrity: other bytes',
            { release, gates: [{ gate: 'integrity', passed: false, detail: 'other bytes', seconds: 1 }] },
          ],
        ],
      );
    },
  },
  {
    name: 'an older version of a model replaces a newer live one only by a revert',
    async run(records, scene) {
      const { released, release, approve, addApplication, deliver, movePointer, pointerId } = await openLifecycle(
        records,
        scene,
      );
      await addApplication();
      const first = await released('rf-1');
      await approve('rf-2');
      await deliver(first);
      const second = await release('rf-2');
      // Released again before the newer one is live, the older version has the higher sequence.
      const again = await release('rf-1');
      await deliver(second);
      assert.deepEqual(await deliver(again), { moved: false, why: 'older' });
      assert.deepEqual(await deliver(first), { moved: false, why: 'older' });
      const { came, command } = await movePointer('revert', 'dan', { args: { release: first } });
      assert.equal(came, 'accepted');
      await records.completePointer(pointerId, command.body.commandId, '');
      assert.equal((await records.livePointer(scene.application, scene.type)).release, first);
    },
  },
  {
    name: 'after a revert or a take-down no release below the highest live one is delivered',
    async run(records, scene) {
      const { released, addApplication, addRelease, deliver, movePointer, pointerId } = await openLifecycle(
        records,
        scene,
      );
      await addApplication();
      const next = async () => (await records.openDelivery(pointerId)).release?.release ?? null;
      const first = await released('rf-1');
      await records.applicationStanding(pointerId);
      await deliver(first);
      // Its announcement takes longer than that of the next number.
      const late = await addRelease('rf-7');
      const third = await released('rf-3');
      await deliver(third);
      await records.announced(late);
      assert.equal(await next(), null);
      const back = await movePointer('revert', 'mia', { args: { release: first } });
      assert.equal(back.came, 'accepted', back.message);
      assert.equal(await next(), null);
      await records.completePointer(pointerId, back.command.body.commandId, '');
      const down = await movePointer('take-down', 'mia');
      assert.equal(down.came, 'accepted', down.message);
      assert.equal(await next(), null);
      const fourth = await released('rf-4');
      assert.equal(await next(), fourth);
    },
  },
  {
    name: 'a type that an application consumes again continues with the newest release that stands',
    async run(records, scene) {
      const { released, addApplication, pointerId } = await openLifecycle(records, scene);
      await addApplication();
      await records.applicationStanding(pointerId);
      const change = async (types: readonly string[]) => {
        const before = await records.application(scene.application);
        assert.ok(before);
        await records.changeApplication({ ...before, types, revision: before.revision + 1 }, scene.entry());
      };
      const other = `${scene.type}-other`;
      await records.addTypes(scene.project, [other], scene.entry());
      await change([other]);
      await released('rf-1');
      const second = await released('rf-2');
      const next = async () => (await records.openDelivery(pointerId)).release?.release ?? null;
      assert.equal(await next(), null);
      await change([other, scene.type]);
      assert.equal(await next(), second);
    },
  },
  {
    name: 'one decision moves the pointer back or empties it, with its deliveries, and leaves no other in progress',
    async run(records, scene) {
      const { released, addApplication, deliver, movePointer, pointerId, idOf, outcomeOf } = await openLifecycle(
        records,
        scene,
      );
      await addApplication();
      const [first, second] = [await released('rf-1'), await released('rf-2')];
      await deliver(first);
      await deliver(second);
      const back = await movePointer('revert', 'mia', { args: { release: first } });
      const { commandId } = back.command.body;
      assert.equal(back.came, 'accepted', back.message);
      assert.deepEqual(back.decided?.pending, { commandId, name: 'revert', release: first });
      assert.deepEqual(back.decided?.wake, [idOf('rf-1'), idOf('rf-2')]);
      // Repeating the decision returns the same result, including whom to wake.
      const again = await records.decidePointer(pointerId, back.command);
      assert.deepEqual([again.pointer.generation, again.wake], [3, back.decided?.wake]);
      const state = async (release: string) => (await records.delivery(scene.application, release))?.state;
      assert.deepEqual([await state(first), await state(second)], ['live', 'reverted']);
      assert.equal((await movePointer('take-down', 'mia')).came, 'busy');
      assert.equal((await records.completePointer(pointerId, 'another-one', '')).pending?.commandId, commandId);
      for (const _ of [1, 2]) await records.completePointer(pointerId, commandId, '');
      const outcome = (await records.command(pointerId, commandId))?.outcome;
      assert.deepEqual(outcome, { status: 'done', message: `${first} is live again` });
      const down = await movePointer('take-down', 'dan');
      assert.equal(down.came, 'accepted');
      assert.deepEqual(down.decided?.wake, [idOf('rf-1')]);
      assert.deepEqual([down.decided?.pointer.release, await state(first)], [null, 'taken-down']);
      await records.completePointer(pointerId, down.command.body.commandId, 'the repository has no main branch');
      assert.deepEqual((await records.command(pointerId, down.command.body.commandId))?.outcome, {
        status: 'done',
        message: 'the repository has no main branch',
      });
      assert.equal((await movePointer('take-down', 'mia')).came, 'wrong-state');
      assert.equal((await records.liveHistory({ application: scene.application, type: scene.type })).rows.length, 4);
      assert.equal(await outcomeOf(back.command), 'done');
    },
  },
  {
    name: 'a revert goes to an earlier live release, and of many concurrent reverts one is made',
    async run(records, scene) {
      const { released, addApplication, deliver, movePointer, pointerId, outcomeOf, record } = await openLifecycle(
        records,
        scene,
      );
      await addApplication();
      const [first, second] = [await released('rf-1'), await released('rf-2')];
      const never = await released('rf-3');
      await deliver(first);
      await deliver(second);
      for (const release of [never, second, 'no-such-1']) {
        const { came, message } = await movePointer('revert', 'mia', { args: { release } });
        assert.deepEqual([release, came], [release, 'failed'], message);
      }
      const doubted = signed({
        ...{ workflowId: pointerId, name: 'revert', actor: 'mia', revision: 2 },
        args: { reason: 'better', release: first },
      });
      await record(doubted);
      await records.decidePointer(pointerId, doubted, { reason: 'NotFound', message: 'its files are gone' });
      assert.equal(await outcomeOf(doubted), 'failed');
      assert.equal((await records.livePointer(scene.application, scene.type)).generation, 2);
      const commands = ['mia', 'max', 'dan', 'moe'].map((actor) =>
        signed({ ...doubted.body, commandId: `revert-by-${actor}`, actor }),
      );
      await Promise.all(commands.map(record));
      await Promise.all(commands.map((command) => records.decidePointer(pointerId, command)));
      const came = await Promise.all(commands.map(outcomeOf));
      assert.deepEqual([...came].sort(), ['accepted', 'stale', 'stale', 'stale']);
      assert.equal((await records.livePointer(scene.application, scene.type)).generation, 3);
    },
  },
  {
    name: 'a revert after the grant of its type was revoked moves nothing',
    async run(records, scene) {
      const { released, deliver, movePointer, record, outcomeOf, pointerId } = await openLifecycle(records, scene);
      const { project, type, application, entry } = scene;
      const consumer = `${project}-c`;
      await records.createProject({ project: consumer, types: [], policy: defaultPolicy }, entry());
      await records.setMember(consumer, { user: 'dan', roles: ['developer'] }, entry());
      const grant = (granted: boolean) => records.setTypeGrant({ owner: project, type, consumer, granted }, entry());
      await grant(true);
      await addApplication(records, { ...scene, project: consumer }, application);
      const start = { workflowId: pointerId, type: 'application', input: { application, type } } as const;
      await records.recordStart({ ...start, askedBy: 'dan', roles: [], project: consumer }, entry(), []);
      const first = await released('rf-1');
      await deliver(first);
      await grant(false);
      // What is live may always be taken down.
      const { command } = await movePointer('take-down', 'dan');
      await records.completePointer(pointerId, command.body.commandId, '');
      const revert = (revision: number) =>
        signed({
          ...{ workflowId: pointerId, name: 'revert', actor: 'dan', revision },
          args: { reason: 'it was better', release: first },
        });
      const without = revert(2);
      assert.ok((await record(without)).isOpen);
      await records.decidePointer(pointerId, without);
      assert.equal(await outcomeOf(without), 'failed');
      assert.equal((await records.livePointer(application, type)).release, null);
      await grant(true);
      const granted = revert(2);
      await record(granted);
      await records.decidePointer(pointerId, granted);
      assert.equal((await records.livePointer(application, type)).release, first);
    },
  },
  {
    name: 'a revert recorded before its type was removed from the application moves nothing',
    async run(records, scene) {
      const { released, addApplication, deliver, movePointer, record, outcomeOf, pointerId } = await openLifecycle(
        records,
        scene,
      );
      await addApplication();
      const first = await released('rf-1');
      await deliver(first);
      const { command } = await movePointer('take-down', 'dan');
      await records.completePointer(pointerId, command.body.commandId, '');
      const revert = signed({
        ...{ workflowId: pointerId, name: 'revert', actor: 'dan', revision: 2 },
        args: { reason: 'it was better', release: first },
      });
      assert.ok((await record(revert)).isOpen);
      const found = (await records.application(scene.application)) ?? assert.fail('no application');
      await records.changeApplication({ ...found, types: [], revision: found.revision + 1 }, scene.entry());
      await records.decidePointer(pointerId, revert);
      assert.equal(await outcomeOf(revert), 'failed');
      const { generation, release } = await records.livePointer(scene.application, scene.type);
      assert.deepEqual([generation, release], [2, null]);
    },
  },
];

export const labelCases: readonly RecordsCase[] = [
  {
    name: 'labels are decided in one transaction, then committed, one command after another',
    async run(records, scene) {
      const { record, outcomeOf } = await openLifecycle(records, scene);
      const { project } = scene;
      const id = `feedback/${project}/s-1`;
      const start = { workflowId: id, type: 'feedback', input: { project, scan: 's-1' }, askedBy: 'shop' } as const;
      await records.recordStart({ ...start, roles: [], project }, scene.entry(), [
        { kind: 'scan', row: scanRow(scene) },
      ]);
      assert.deepEqual(await records.scanStanding(id), {
        ...{ scan: (({ findings: _, ...scan }) => scan)(scanRow(scene)), findings: 1, labelled: 0, pending: null },
      });
      const label = (name: string, revision: number, actor = 'eve') =>
        signed({ workflowId: id, name, actor, revision, args: { findings: ['f-1'] } });
      const [one, two] = [label('confirm', 0), label('deny', 0)];
      await Promise.all([one, two].map(record));
      await Promise.all([one, two].map((command) => records.decideLabels(id, command)));
      const came = [await outcomeOf(one), await outcomeOf(two)];
      assert.deepEqual([...came].sort(), ['accepted', 'stale']);
      const made = came[0] === 'accepted' ? one : two;
      const { commandId } = made.body;
      assert.equal((await records.decideLabels(id, made)).scan.revision, 1);
      assert.equal(await outcomeOf(made), 'accepted');
      const verdict = async () => (await records.scan(project, 's-1'))?.findings[0]?.label?.verdict;
      assert.equal(await verdict(), made === one ? 'true' : 'false');
      const busy = label('deny', 1);
      await record(busy);
      assert.equal(await outcomeOf(busy), 'busy');
      assert.equal((await records.completeLabels(id, 'another-one', 'c')).pending?.commandId, commandId);
      for (const commit of ['a'.repeat(40), 'b'.repeat(40)]) await records.completeLabels(id, commandId, commit);
      assert.equal((await records.scan(project, 's-1'))?.commit, 'a'.repeat(40));
      assert.deepEqual([(await records.scanStanding(id)).labelled, await outcomeOf(made)], [1, 'done']);
      const second = label('deny', 1);
      await record(second);
      await records.decideLabels(id, second);
      const why = { reason: 'Conflict', message: 'the branch is protected' };
      for (const _ of [1, 2]) await records.failLabels(id, second.body.commandId, why);
      assert.deepEqual((await records.command(id, second.body.commandId))?.outcome, { status: 'failed', ...why });
      assert.equal((await records.scanStanding(id)).pending, null);
      const forbidden = label('confirm', 2, 'mia');
      await record(forbidden);
      assert.equal(await outcomeOf(forbidden), 'not-authorized');
    },
  },
  {
    name: 'the commit of labels is kept even if the clock of the process that decided them is ahead',
    async run(records, scene) {
      const { record, outcomeOf } = await openLifecycle(records, scene);
      const { project } = scene;
      const id = `feedback/${project}/s-1`;
      const start = { workflowId: id, type: 'feedback', input: { project, scan: 's-1' }, askedBy: 'shop' } as const;
      await records.recordStart({ ...start, roles: [], project }, scene.entry(), [
        { kind: 'scan', row: scanRow(scene) },
      ]);
      const command = signed({ workflowId: id, name: 'deny', actor: 'eve', args: { findings: ['f-1'] } });
      await record(command);
      await records.decideLabels(id, command);
      const decided = (await records.scan(project, 's-1')) ?? assert.fail('no scan');
      const updatedAt = new Date(Date.now() + 60_000).toISOString();
      await records.record([], [{ kind: 'scan', row: { ...decided, updatedAt } }]);
      const commit = 'a'.repeat(40);
      await records.completeLabels(id, command.body.commandId, commit);
      assert.equal(await outcomeOf(command), 'done');
      const scan = await records.scan(project, 's-1');
      assert.deepEqual([scan?.commit, scan?.updatedAt], [commit, updatedAt]);
    },
  },
];
