// Cases on Records: commands are recorded once, refused immediately if impossible, and always answered.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { inspect } from 'node:util';
import { isFailure } from '../../../activities/failures.ts';
import { openLifecycle, sceneKeys, signed } from './lifecycle-scene.ts';
import type { RecordsCase } from './scene.ts';
import { fails } from './scene.ts';

const ten = Array.from({ length: 10 }, (_, n) => n);

export const commandCases: readonly RecordsCase[] = [
  {
    name: 'a command is recorded once; its id is taken for any other content or person',
    async run(records, scene) {
      const { submit, about, record, idOf } = await openLifecycle(records, scene);
      await submit('rf-1');
      await submit('rf-2');
      const commandId = randomUUID();
      const command = await about('rf-1', 'reject', 'mia', { commandId, args: { reason: 'no' } });
      const open = { commandId, actor: 'mia', isOpen: true, outcome: { status: 'accepted' as const } };
      assert.deepEqual(
        new Set((await Promise.all(ten.map(() => record(command)))).map(({ isOpen }) => isOpen)),
        new Set([true]),
      );
      assert.deepEqual(await record(command), open);
      // The API sets a new time for each repeat: it is still the same command.
      assert.deepEqual(await record(signed({ ...command.body, issuedAt: '2026-02-01T00:00:00.000Z' })), open);
      for (const change of [
        { actor: 'max' },
        { args: { reason: 'another' } },
        { name: 'rollback' },
        { revision: 9 },
        { digest: null },
        { report: 'e'.repeat(64) },
      ])
        await assert.rejects(record(signed({ ...command.body, ...change })), (error: object) => {
          assert.ok(isFailure(error, 'Conflict'), inspect(error));
          assert.deepEqual(Reflect.get(error, 'details'), ['repeated']);
          return true;
        });
      assert.deepEqual(await records.command(idOf('rf-1'), commandId), open);
      assert.equal(await records.command(idOf('rf-2'), commandId), undefined);
      // In another workflow the same id can be used.
      assert.ok((await record(await about('rf-2', 'reject', 'max', { commandId, args: { reason: 'no' } }))).isOpen);
    },
  },
  {
    name: 'if two people use one command id concurrently, one is recorded',
    async run(records, scene) {
      const { submit, about, record } = await openLifecycle(records, scene);
      await submit('rf-1');
      const commandId = randomUUID();
      const tags = { tags: ['x'] };
      const commands = await Promise.all(
        ten.map((n) => about('rf-1', 'tag', n % 2 ? 'mia' : 'max', { commandId, args: tags })),
      );
      const settled = await Promise.allSettled(commands.map(record));
      assert.equal(settled.filter(({ status }) => status === 'fulfilled').length, 5);
    },
  },
  {
    name: 'a command not signed by a registered key is not recorded',
    async run(records, scene) {
      const { submit, about, record, idOf } = await openLifecycle(records, scene);
      await submit('rf-1');
      const command = await about('rf-1', 'reject', 'mia', { args: { reason: 'no' } });
      const forged = [
        { ...command, body: { ...command.body, actor: 'max' } },
        { ...command, signature: command.signature.replace(/^./, (first) => (first === 'A' ? 'B' : 'A')) },
        { ...command, signature: '' },
        { ...command, body: { ...command.body, keyId: 'no-such-key' } },
        // Signed, but with the id of another key.
        signed({ ...command.body, keyId: scene.project }),
      ];
      await records.registerKeys({
        [scene.project]: Object.values(sceneKeys)[0]?.replace(/^./, (first) => (first === '0' ? '1' : '0')) ?? '',
      });
      for (const one of forged) await fails(record(one), 'NotAuthorized');
      assert.equal(await records.command(idOf('rf-1'), command.body.commandId), undefined);
      // An unrecorded command without a signature is not decided either.
      for (const one of forged)
        await fails(records.decideVersion(idOf('rf-1'), one, { place: (_, file) => file }), 'NotAuthorized');
      assert.equal(
        (await records.versionStanding({ project: scene.project, model: 'forest', submission: 'rf-1' })).version
          .revision,
        1,
      );
    },
  },
  {
    name: 'an impossible command is refused when it is recorded, once, with an audit row',
    async run(records, scene) {
      const { submit, about, record, outcomeOf } = await openLifecycle(records, scene);
      await submit('rf-1');
      for (const [reason, name, actor, change] of [
        ['stale', 'reject', 'mia', { revision: 0, args: { reason: 'no' } }],
        ['wrong-state', 'retire', 'mia', {}],
        ['not-authorized', 'reject', 'sam', { args: { reason: 'no' } }],
        ['invalid', 'reject', 'mia', {}],
      ] as const) {
        const command = await about('rf-1', name, actor, change);
        const row = await record(command);
        assert.deepEqual([row.isOpen, row.outcome.status, await outcomeOf(command)], [false, 'refused', reason]);
        assert.deepEqual(await record(command), row);
      }
      const { rows } = await records.audit({ project: scene.project });
      assert.equal(rows.filter(({ entry }) => entry.kind === 'command.refused').length, 4);
      const other = signed({ workflowId: `evaluation/${scene.project}/e-1`, name: 'cancel', actor: 'mia' });
      assert.equal((await record(other)).outcome.status, 'refused');
      await fails(
        record(signed({ workflowId: `model/${scene.project}/forest/none`, name: 'tag', actor: 'mia' })),
        'NotFound',
      );
    },
  },
  {
    name: 'waiting commands are listed until they are decided, oldest first',
    async run(records, scene) {
      const { submit, about, record, decide } = await openLifecycle(records, scene);
      await submit('rf-1');
      const commands = [];
      for (const tag of ['a', 'b', 'c']) commands.push(await about('rf-1', 'tag', 'mia', { args: { tags: [tag] } }));
      for (const command of commands) await record(command);
      const open = async (before: string) =>
        (await records.openCommands({ before, limit: 1000 })).filter(({ body }) =>
          body.workflowId.includes(scene.project),
        );
      assert.deepEqual(await open('2999-01-01T00:00:00.000Z'), commands);
      assert.deepEqual(await open('2026-01-01T00:00:00.000Z'), []);
      const [first, second, third] = commands;
      assert.ok(first && second && third);
      await decide(first);
      // Decided on a later revision than it names: it is answered, too.
      await decide(second);
      assert.deepEqual(await open('2999-01-01T00:00:00.000Z'), [third]);
      const before = '2999-01-01T00:00:00.000Z';
      assert.equal((await records.openCommands({ before, limit: 1 })).length, 1);
      const after = await records.openCommands({ before, limit: 1000, after: third.body });
      assert.ok(after.every(({ body }) => body.commandId !== third.body.commandId));
      const further = await about('rf-1', 'tag', 'mia', { args: { tags: ['d'] } });
      await record(further);
      const [next] = await records.openCommands({ before, limit: 1, after: third.body });
      assert.ok(next && next.body.commandId !== third.body.commandId);
    },
  },
  {
    name: 'a decision that waits to be carried out is listed with the waiting commands, from a time of its own',
    async run(records, scene) {
      const { approve, give } = await openLifecycle(records, scene);
      await approve('rf-1');
      const { command, came } = await give('rf-1', 'release', 'mia');
      assert.equal(came, 'accepted');
      const [early, late] = ['2026-01-01T00:00:00.000Z', '2999-01-01T00:00:00.000Z'];
      const listed = async (filter: { before: string; pendingBefore?: string }) =>
        (await records.openCommands({ ...filter, limit: 1000 })).filter(({ body }) =>
          body.workflowId.includes(scene.project),
        );
      assert.deepEqual(await listed({ before: early, pendingBefore: late }), [command]);
      assert.deepEqual(await listed({ before: late, pendingBefore: early }), []);
      assert.deepEqual(await listed({ before: late }), []);
      await records.failDecision(command.body.workflowId, command.body.commandId, { reason: 'x', message: 'y' });
      assert.deepEqual(await listed({ before: late, pendingBefore: late }), []);
    },
  },
  {
    name: 'no command stays open after its workflow closes',
    async run(records, scene) {
      const { submit, about, record, decide, outcomeOf } = await openLifecycle(records, scene);
      for (const race of ten) {
        await submit(`rf-${race}`);
        const end = await about(`rf-${race}`, 'withdraw', 'sam');
        await record(end);
        const tags = await Promise.all(
          ten.map((n) => about(`rf-${race}`, 'tag', 'mia', { args: { tags: [`t-${n}`] } })),
        );
        await Promise.all([...tags.slice(0, 5).map(record), decide(end), ...tags.slice(5).map(record)]);
        assert.equal(await outcomeOf(end), 'done');
        for (const tag of tags) assert.equal(await outcomeOf(tag), 'closed');
      }
    },
  },
];
