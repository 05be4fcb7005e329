// Cases on Records: the evidence of an approval, and which approvals count at the time of the decision.
import assert from 'node:assert/strict';
import { openLifecycle } from './lifecycle-scene.ts';
import type { RecordsCase } from './scene.ts';
import { digestOf } from './scene.ts';

export const approvalCases: readonly RecordsCase[] = [
  {
    name: 'an approval requires an evaluation of these bytes, requested by a manager after the submission',
    async run(records, scene) {
      const life = await openLifecycle(records, scene);
      const { give, start, validate, submit, evaluate, ask, standing, setTestSet } = life;
      await setTestSet('by-sam', { registeredBy: 'sam' });
      await setTestSet('by-dan', { registeredBy: 'dan' });
      await setTestSet('no-test', { kind: 'training' });
      await start('rf-1');
      const early = await ask('rf-1');
      await validate('rf-1');
      await submit('rf-2');
      const bad: readonly (readonly [string, string, RegExp])[] = [
        ['asked for before it was new', await early(), /before the version became new/],
        ['by its author', await evaluate('rf-1', { actor: 'sam' }), /by the version's author/],
        ['by its author as a manager', await evaluate('rf-1', { actor: 'sam', roles: ['manager'] }), /author/],
        ['by no manager', await evaluate('rf-1', { actor: 'sue' }), /by sue, who is not a manager/],
        ['by no manager then', await evaluate('rf-1', { actor: 'max', roles: [] }), /by max, who is not a manager/],
        ['by no manager now', await evaluate('rf-1', { actor: 'dan', roles: ['manager'] }), /by dan, who is not/],
        ['on no test set', await evaluate('rf-1', { dataset: 'no-test' }), /not a test set/],
        ['on no data set at all', await evaluate('rf-1', { dataset: 'gone' }), /not a test set/],
        ["on the author's test set", await evaluate('rf-1', { dataset: 'by-sam' }), /by sam, who is the version's/],
        ["on no manager's test set", await evaluate('rf-1', { dataset: 'by-dan' }), /by dan, who is not a manager/],
        ['of other bytes', await evaluate('rf-1', { bytes: 'others' }), /not about/],
        ['of another version', await evaluate('rf-2'), /no evaluation of forest\/rf-1/],
        ['outside of staging', await evaluate('rf-1', { inStaging: false }), /no evaluation of forest\/rf-1/],
        ['of nothing', digestOf('nothing'), /no evaluation of forest\/rf-1/],
      ];
      for (const [what, report, message] of bad) {
        const found = await give('rf-1', 'approve', 'mia', { report });
        assert.deepEqual([what, found.came], [what, 'failed'], found.message);
        assert.match(found.message, message, what);
      }
      assert.deepEqual([(await standing('rf-1')).version.state, (await standing('rf-1')).version.revision], ['new', 1]);
      const good = await give('rf-1', 'approve', 'mia', { report: await evaluate('rf-1') });
      assert.deepEqual([good.came, (await standing('rf-1')).version.state], ['done', 'approved']);
    },
  },
  {
    name: 'a report counts only for the version it evaluates',
    async run(records, scene) {
      const { submit, give, evaluate } = await openLifecycle(records, scene);
      await submit('rf-1');
      await submit('rf-2');
      const args = { reason: 'no' };
      const other = await give('rf-1', 'reject', 'mia', { args, report: await evaluate('rf-2') });
      assert.deepEqual([other.came, /no evaluation/.test(other.message)], ['failed', true]);
      const own = await give('rf-1', 'reject', 'mia', { args, report: await evaluate('rf-1', { actor: 'sam' }) });
      assert.equal(own.came, 'done');
    },
  },
  {
    name: 'the first end of an evaluation wins; requester and time decide whether it is evidence',
    async run(records, scene) {
      const { submit, ask, give } = await openLifecycle(records, scene);
      await submit('rf-1');
      const end = await ask('rf-1');
      const [row] = (await records.evaluations({ project: scene.project })).rows;
      assert.ok(row?.state === 'running');
      const failed = { ...row, state: 'failed', detail: 'it broke' } as const;
      assert.deepEqual(await records.endEvaluation(failed, { inStaging: false }), failed);
      const report = await end();
      assert.deepEqual(await records.evaluation(scene.project, row.evaluation), failed);
      assert.equal((await give('rf-1', 'approve', 'mia', { report })).came, 'failed');
      assert.notEqual((await records.start(`evaluation/${scene.project}/${row.evaluation}`))?.closedAt, null);
      const { rows } = await records.audit({ project: scene.project });
      assert.equal(rows.filter(({ entry }) => entry.kind.startsWith('evaluation.')).length, 1);
    },
  },
  {
    name: 'approvals lapse when the manager leaves or the policy changes; a complete approval stays valid',
    async run(records, scene) {
      const { submit, give, evaluate, standing, setPolicy } = await openLifecycle(records, scene, { quorum: 2 });
      const roles = (user: string, ...held: 'manager'[]) =>
        records.setMember(scene.project, { user, roles: held }, scene.entry());
      await submit('rf-1');
      const report = await evaluate('rf-1', { actor: 'moe' });
      const approve = (actor: string) => give('rf-1', 'approve', actor, { report });
      assert.equal((await approve('mia')).message, 'approval 1 of 2');
      const shown = async () => {
        const { counting, lapsed, quorum, version } = await standing('rf-1');
        return [counting, lapsed.map(({ actor }) => actor), quorum, version.state];
      };
      assert.deepEqual(await shown(), [['mia'], [], 2, 'new']);
      assert.equal((await approve('mia')).came, 'wrong-state');
      await roles('mia');
      assert.deepEqual(await shown(), [[], ['mia'], 2, 'new']);
      assert.equal((await approve('max')).message, 'approval 1 of 2');
      await roles('mia', 'manager');
      assert.deepEqual(await shown(), [['mia', 'max'], [], 2, 'new']);
      await setPolicy(2, { quorum: 3 });
      assert.deepEqual(await shown(), [[], ['mia', 'max'], 3, 'new']);
      await setPolicy(3, { quorum: 2 });
      assert.deepEqual(await shown(), [[], ['mia', 'max'], 2, 'new']);
      await approve('mia');
      assert.equal((await approve('max')).came, 'done');
      assert.deepEqual(await shown(), [['mia', 'max'], [], 2, 'approved']);
      // A complete approval stays valid, whatever changes afterwards.
      await roles('max');
      await setPolicy(4, { quorum: 9, thresholds: { f1: 1 } });
      assert.equal((await standing('rf-1')).version.state, 'approved');
      const { came, message } = await give('rf-1', 'release', 'mia');
      assert.equal(came, 'accepted', message);
      const { pending } = await standing('rf-1');
      assert.deepEqual((await records.release(pending?.release ?? ''))?.approvedBy, ['mia', 'max']);
    },
  },
  {
    name: 'a policy change concurrent with the last approval is applied before or after it',
    async run(records, scene) {
      const { submit, about, record, decide, evaluate, standing, setPolicy, outcomeOf } = await openLifecycle(
        records,
        scene,
      );
      for (let race = 1; race <= 10; race++) {
        await setPolicy(race * 2, { quorum: 1 });
        await submit(`rf-${race}`);
        const command = await about(`rf-${race}`, 'approve', 'mia', { report: await evaluate(`rf-${race}`) });
        await record(command);
        await Promise.all([setPolicy(race * 2 + 1, { quorum: 2 }), decide(command)]);
        assert.equal(await outcomeOf(command), 'done');
        const { version } = await standing(`rf-${race}`);
        const { policyVersion } = version.decisions[0] ?? assert.fail('no decision');
        assert.equal(version.state, policyVersion === race * 2 ? 'approved' : 'new', `under policy ${policyVersion}`);
      }
    },
  },
  {
    name: 'a person cannot relax the policy for their own version',
    async run(records, scene) {
      const { submit, give, evaluate, standing, setPolicy } = await openLifecycle(records, scene);
      await setPolicy(2, { quorum: 2, thresholds: { f1: 0.8 } }, 'mia');
      await setPolicy(3, { quorum: 1, thresholds: { f1: 0.1 } }, 'moe');
      await submit('rf-1', 'moe');
      await submit('rf-2', 'sam');
      assert.deepEqual([(await standing('rf-1')).quorum, (await standing('rf-2')).quorum], [2, 1]);
      const poor = { metrics: { f1: 0.5 } };
      const own = await give('rf-1', 'approve', 'mia', { report: await evaluate('rf-1', poor) });
      assert.deepEqual([own.came, own.message], ['failed', 'f1 is 0.5, the project asks for at least 0.8']);
      const others = await give('rf-2', 'approve', 'mia', { report: await evaluate('rf-2', poor) });
      assert.deepEqual([others.came, (await standing('rf-2')).version.state], ['done', 'approved']);
      // Another manager may; their policy applies from then on.
      await setPolicy(4, { quorum: 1, thresholds: { f1: 0.4 } }, 'max');
      const again = await give('rf-1', 'approve', 'mia', { report: await evaluate('rf-1', poor) });
      assert.deepEqual([again.came, (await standing('rf-1')).version.state], ['done', 'approved']);
    },
  },
];
