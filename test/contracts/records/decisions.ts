// Cases on Records: decisions about versions, each one transaction, judged by what holds then.
import assert from 'node:assert/strict';
import { newVersion } from '../../../workflows/domain/model.ts';
import { openLifecycle } from './lifecycle-scene.ts';
import type { RecordsCase } from './scene.ts';
import { digestOf } from './scene.ts';

const NO = { args: { reason: 'no' } };

export const decisionCases: readonly RecordsCase[] = [
  {
    name: 'a submission becomes new by its recorded facts, each step once',
    async run(records, scene) {
      const { start, standing, keyOf, idOf, validate } = await openLifecycle(records, scene);
      await start('rf-1');
      const step = (revision: number, ended?: string) => records.advanceVersion(idOf('rf-1'), { revision, ended });
      // No facts are recorded yet, so nothing changes.
      assert.equal((await step(0)).version.state, 'validating');
      assert.equal((await step(7)).version.revision, 0);
      const steps = await Promise.all([validate('rf-1'), validate('rf-1'), validate('rf-1')]);
      assert.deepEqual([...new Set(steps.map(({ version }) => version.revision))], [1]);
      const { version } = await standing('rf-1');
      assert.deepEqual([version.state, version.version, version.digest], ['new', 1, digestOf('rf-1')]);
      assert.equal((await records.staged(keyOf('rf-1')))?.files[0]?.sha256, digestOf('rf-1'));
      assert.deepEqual(await records.version(scene.project, 'forest', 'rf-1'), version);
      // A validated version is not staged again.
      await records.recordStaged(keyOf('rf-1'), []);
      assert.equal((await records.staged(keyOf('rf-1')))?.files.length, 1);
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
    name: 'a version that was closed, and is not stored beside its artifact, is open again after a while',
    async run(records, scene) {
      const { submit, give, keyOf, idOf } = await openLifecycle(records, scene);
      const closedAt = async () => (await records.start(idOf('rf-1')))?.closedAt;
      await submit('rf-1');
      await records.reopenUnfiled(0);
      assert.equal((await give('rf-1', 'withdraw', 'sam')).came, 'done');
      await records.reopenUnfiled(60_000);
      assert.notEqual(await closedAt(), null);
      await records.reopenUnfiled(0);
      assert.equal(await closedAt(), null);
      await records.closeStart(idOf('rf-1'), 'withdrawn');
      for (const { revision } of await records.unfiled(keyOf('rf-1'))) await records.filed(keyOf('rf-1'), revision);
      await records.reopenUnfiled(0);
      assert.notEqual(await closedAt(), null);
    },
  },
  {
    name: 'a submission that is not valid, or has the bytes of an open version, becomes invalid and is closed',
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
      // After its end the bytes can be submitted again.
      assert.equal((await give('rf-2', 'withdraw', 'sam')).came, 'done');
      await start('rf-5');
      assert.equal((await validate('rf-5', 'rf-2')).version.state, 'new');
      // A number is assigned once, when a version becomes new.
      assert.deepEqual([(await standing('rf-2')).version.version, (await standing('rf-5')).version.version], [1, 2]);
    },
  },
  {
    name: 'a training run follows its record, and a failed one is retried',
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
      // An existing result counts, whatever is reported later.
      assert.deepEqual(await step(4, 'its workflow was ended'), ['trained', 5, 2]);
      assert.deepEqual((await records.version(project, 'forest', 'rf-1'))?.run, run);
    },
  },
  {
    name: 'of two concurrent decisions on one revision, one is made and the other is stale',
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
    name: 'a command is decided once: repeating it returns the current state',
    async run(records, scene) {
      const { submit, about, record, decide, outcomeOf, idOf } = await openLifecycle(records, scene);
      await submit('rf-1');
      const command = await about('rf-1', 'reject', 'mia', NO);
      await record(command);
      const answers = await Promise.all([1, 2, 3, 4].map(() => decide(command)));
      for (const { version } of answers) assert.deepEqual([version.state, version.revision], ['rejected', 2]);
      assert.equal((await decide(command)).version.decisions.length, 1);
      assert.equal(await outcomeOf(command), 'done');
      const note = await records.decision(idOf('rf-1'), command.body.commandId);
      assert.deepEqual(note?.command, command);
      assert.deepEqual([note.status, note.policyVersion], ['complete', 1]);
      const { rows } = await records.audit({ project: scene.project });
      assert.equal(rows.filter(({ entry }) => entry.kind === 'version.reject').length, 1);
      assert.equal(await records.decision(idOf('rf-1'), 'never-given'), undefined);
    },
  },
  {
    name: 'a person who is no longer a manager cannot decide, even if both happen concurrently',
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
      // A disabled person is still a member, but has no rights.
      const { user, project, entry } = scene;
      await records.createUser(user, false, entry());
      await records.setMember(project, { user, roles: ['manager'] }, entry());
      await submit('rf-20');
      const disabled = await about('rf-20', 'reject', user, NO);
      assert.ok((await record(disabled)).isOpen);
      await records.changeUser(user, { disabled: true }, entry());
      await decide(disabled);
      assert.equal(await outcomeOf(disabled), 'not-authorized');
      assert.equal((await standing('rf-20')).version.state, 'new');
    },
  },
  {
    name: 'an objection from outside fails the command and leaves the version unchanged',
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
];
