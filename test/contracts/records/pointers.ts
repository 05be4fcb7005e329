// Cases on Records: deliveries with their gates, moves of the live pointer by people, and labels.
import assert from 'node:assert/strict';
import { openLifecycle, signed } from './lifecycle-scene.ts';
import type { RecordsCase } from './scene.ts';
import { scanRow } from './scene.ts';

export const pointerCases: readonly RecordsCase[] = [
  {
    name: 'the next delivery is the oldest announced release after where the application began',
    async run(records, scene) {
      const { released, addApplication, addRelease, pointerId, deliver, give, idOf } = await openLifecycle(
        records,
        scene,
      );
      await released('rf-1');
      const second = await released('rf-2');
      // Numbered and not announced: it is nobody's yet.
      const hidden = await addRelease('rf-9');
      await addApplication();
      // A new application begins with the newest release that stands.
      assert.deepEqual((await records.applicationStanding(pointerId)).wake, []);
      const next = async () => (await records.openDelivery(pointerId)).release?.release ?? null;
      assert.equal(await next(), second);
      assert.equal(await next(), second);
      const child = await records.start(`delivery/${scene.application}/${second}`);
      assert.deepEqual([child?.parent, child?.closedAt], [pointerId, null]);
      assert.equal((await records.delivery(scene.application, second))?.state, 'received');
      const of = { application: scene.application, type: scene.type, release: second };
      assert.equal((await records.concludeDelivery(of)).state, 'deploying');
      // A run of it that comes again may still find what is there; once it is live there is nothing more to do.
      const isOver = async () => (await records.start(`delivery/${scene.application}/${second}`))?.closedAt !== null;
      assert.equal(await isOver(), false);
      assert.ok((await deliver(second)).moved);
      assert.equal(await isOver(), true);
      // Whoever resumes the application tells the lifecycles that may not have heard.
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
    name: 'a release goes live only when every gate that is configured has passed it',
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
      // The newest result of a gate counts; a result that is written twice is one.
      for (const _ of [1, 2]) await records.recordGate(of, result('function', true, 2));
      assert.deepEqual(await records.missingGates(of), []);
      assert.ok((await deliver(release)).moved);
      assert.equal((await records.livePointer(scene.application, scene.type)).release, release);
    },
  },
  {
    name: 'a delivery ends with its reason: a failed gate, what it was told, gates that were not run',
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
      assert.deepEqual(await end(), ['failed', 'gates that were not run: integrity, function']);
      assert.deepEqual(await end('taken back'), ['failed', 'taken back']);
      await records.recordGate(of, { gate: 'integrity', passed: false, detail: 'other bytes', seconds: 1 });
      assert.deepEqual(await end('taken back'), ['failed', 'gate integrity: other bytes']);
      const { rows } = await records.audit({ project: scene.project });
      // Its entries say the same, with what the gates found: one for each attempt.
      assert.deepEqual(
        rows.flatMap(({ entry: { kind, reason, detail } }) => (kind === 'delivery.failed' ? [[reason, detail]] : [])),
        [
          ['gates that were not run: integrity, function', { release, gates: [] }],
          [
            'gate integrity: other bytes',
            { release, gates: [{ gate: 'integrity', passed: false, detail: 'other bytes', seconds: 1 }] },
          ],
        ],
      );
    },
  },
  {
    name: 'an older version of a model never goes live over a newer one but by a revert',
    async run(records, scene) {
      const { released, release, approve, addApplication, deliver, movePointer, pointerId } = await openLifecycle(
        records,
        scene,
      );
      await addApplication();
      const first = await released('rf-1');
      await approve('rf-2');
      // Released again, the older version has the higher sequence.
      await deliver(first);
      const again = await release('rf-1');
      const second = await release('rf-2');
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
    name: 'a pointer is moved back or emptied by one decision, with its deliveries, and then nothing else is under way',
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
      // Decided again it is the same, and says again whom to wake.
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
      assert.equal((await records.liveHistory(scene.application, scene.type)).length, 4);
      assert.equal(await outcomeOf(back.command), 'done');
    },
  },
  {
    name: 'a revert goes to what was live there, and of many at once one is made',
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
];

export const labelCases: readonly RecordsCase[] = [
  {
    name: 'labels are decided by one transaction, then committed, one command after the other',
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
];
