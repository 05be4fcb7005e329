// Cases on Records: what may run, which runs are ours, what is to be resumed, and the commands that are recorded.
import assert from 'node:assert/strict';
import { createHash, randomUUID } from 'node:crypto';
import canonicalize from 'canonicalize';
import type { NewStart } from '../../../activities/records.ts';
import { openLifecycle, sceneKeys, signed } from './lifecycle-scene.ts';
import type { RecordsCase, Scene } from './scene.ts';
import { fails, setProject } from './scene.ts';

const ten = Array.from({ length: 10 }, (_, n) => n);
const digestOfInput = (input: object): string =>
  createHash('sha256')
    .update(canonicalize(input) ?? '')
    .digest('hex');

const startOf = ({ project }: Scene, id: string, some: Partial<NewStart> = {}): NewStart => ({
  workflowId: `feedback/${project}/${id}`,
  type: 'feedback',
  input: { project, scan: id },
  askedBy: 'shop',
  roles: ['application'],
  project,
  ...some,
});

export const startCases: readonly RecordsCase[] = [
  {
    name: 'a start is recorded once, and another one under its id is a conflict',
    async run(records, scene) {
      const start = startOf(scene, 's-1');
      await Promise.all(ten.map(() => records.recordStart(start, scene.entry({ key: scene.project }), [])));
      const { input: _, ...rest } = start;
      const found = await records.start(start.workflowId);
      assert.deepEqual(
        { ...found, recordedAt: null, input: null },
        {
          ...{ ...rest, input: null, recordedAt: null, parent: null, earlier: false, runId: null },
          ...{ restarts: 0, restartAt: null, closedAt: null, detail: '' },
        },
      );
      assert.deepEqual(found?.input, start.input);
      assert.equal((await records.audit({ project: scene.project })).rows.length, 1);
      const other = { ...start, input: { project: scene.project, scan: 's-2' } };
      await fails(records.recordStart(other, scene.entry(), []), 'Conflict', start.workflowId);
      assert.equal(await records.start(`feedback/${scene.project}/s-2`), undefined);
    },
  },
  {
    name: 'a run is admitted by its recorded id, type and input, and by these alone',
    async run(records, scene) {
      const start = startOf(scene, 's-1');
      const digest = digestOfInput(start.input);
      const run = { workflowId: start.workflowId, type: 'feedback', digest, runId: 'run-1' };
      assert.equal(await records.admit(run), 'unknown');
      await records.recordStart(start, scene.entry(), []);
      assert.equal(await records.admit({ ...run, type: 'application' }), 'unknown');
      assert.equal(await records.admit({ ...run, digest: digestOfInput({ project: 'p' }) }), 'other-input');
      assert.equal(await records.admit({ ...run, digest: null }), 'other-input');
      assert.equal((await records.start(start.workflowId))?.runId, null);
      assert.equal(await records.admit(run), 'admitted');
      // A later run of the same workflow goes on.
      assert.equal(await records.admit({ ...run, runId: 'run-2' }), 'admitted');
      assert.equal((await records.start(start.workflowId))?.runId, 'run-2');
    },
  },
  {
    name: 'once a start is closed only the run that closed it may tidy up, and open commands are refused',
    async run(records, scene) {
      const { idOf, start, about, record, outcomeOf } = await openLifecycle(records, scene);
      await start('rf-1');
      const { input } = (await records.start(idOf('rf-1'))) ?? assert.fail('no start');
      const run = { workflowId: idOf('rf-1'), type: 'modelLifecycle', digest: digestOfInput(input), runId: 'run-1' };
      assert.equal(await records.admit(run), 'admitted');
      const command = await about('rf-1', 'withdraw', 'sam');
      assert.ok((await record(command)).isOpen);
      await records.closeStart(idOf('rf-1'), 'over');
      await records.closeStart(idOf('rf-1'), 'over once more');
      assert.equal((await records.start(idOf('rf-1')))?.detail, 'over');
      assert.equal(await records.admit(run), 'admitted');
      assert.equal(await records.admit({ ...run, runId: 'run-2' }), 'closed');
      assert.equal((await records.start(idOf('rf-1')))?.runId, 'run-1');
      assert.equal(await outcomeOf(command), 'closed');
      const late = await about('rf-1', 'withdraw', 'sam');
      assert.deepEqual((await record(late)).isOpen, false);
      assert.equal(await outcomeOf(late), 'closed');
    },
  },
  {
    name: 'open roots are listed oldest first, by page, without children and what is closed',
    async run(records, scene) {
      const ids = ['s-1', 's-2', 's-3', 's-4'].map((id) => startOf(scene, id));
      for (const start of ids) await records.recordStart(start, scene.entry(), []);
      const parent = ids[0]?.workflowId ?? '';
      await records.recordStart(startOf(scene, 'child', { parent }), scene.entry(), []);
      await records.closeStart(ids[1]?.workflowId ?? '', '');
      const open: string[] = [];
      // Other cases' starts are in between.
      for (let after: string | undefined; ;) {
        const page = await records.openStarts({ limit: 2, ...(after !== undefined && { after }) });
        assert.ok(page.rows.length <= 2);
        open.push(...page.rows.map(({ workflowId }) => workflowId));
        if (page.next === undefined) break;
        after = page.next;
      }
      assert.deepEqual(
        open.filter((id) => id.includes(scene.project)),
        [0, 2, 3].map((n) => ids[n]?.workflowId),
      );
      assert.equal(new Set(open).size, open.length);
    },
  },
  {
    name: 'restarts are counted, each once, until it goes on',
    async run(records, scene) {
      const start = startOf(scene, 's-1');
      await records.recordStart(start, scene.entry(), []);
      const seen = async () => {
        const row = await records.start(start.workflowId);
        return [row?.restarts, row?.restartAt];
      };
      const [first, second] = ['2999-01-01T00:00:00.000Z', '2999-01-01T00:01:00.000Z'];
      await records.restarted(start.workflowId, first);
      await records.restarted(start.workflowId, first);
      assert.deepEqual(await seen(), [1, first]);
      await records.restarted(start.workflowId, second);
      assert.deepEqual(await seen(), [2, second]);
      await records.restarted(start.workflowId, null);
      assert.deepEqual(await seen(), [0, null]);
    },
  },
  {
    name: 'work that is exclusive is done by one at a time, and again when it is over',
    async run(records, { project }) {
      let atOnce = 0;
      let most = 0;
      const work = async () => {
        most = Math.max(most, (atOnce += 1));
        await new Promise((resolve) => setTimeout(resolve, 300));
        atOnce -= 1;
        return 'done';
      };
      const answers = await Promise.all([1, 2, 3].map(() => records.exclusively(project, work)));
      assert.equal(most, 1);
      assert.deepEqual([...answers].sort(), ['done', undefined, undefined]);
      assert.equal(await records.exclusively(`${project}-other`, work), 'done');
      await assert.rejects(
        records.exclusively(project, () => Promise.reject(new Error('it broke'))),
        /it broke/,
      );
      assert.equal(await records.exclusively(project, work), 'done');
    },
  },
  {
    name: 'a signing key is registered once and keeps its value',
    async run(records, { project }) {
      const id = project.slice(0, 16);
      await records.registerKeys({ [id]: 'a'.repeat(64) });
      await records.registerKeys({ [id]: 'b'.repeat(64), [`${id}-2`]: 'c'.repeat(64) });
      const keys = await records.keys();
      assert.deepEqual([keys[id], keys[`${id}-2`]], ['a'.repeat(64), 'c'.repeat(64)]);
    },
  },
];

export const commandCases: readonly RecordsCase[] = [
  {
    name: 'a command is recorded once; its id stands for nothing else, and for nobody else',
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
      // The API stamps each sending with another time: it is the same command.
      assert.deepEqual(await record(signed({ ...command.body, issuedAt: '2026-02-01T00:00:00.000Z' })), open);
      for (const change of [
        { actor: 'max' },
        { args: { reason: 'another' } },
        { name: 'rollback' },
        { revision: 9 },
        { digest: null },
      ])
        await assert.rejects(record(signed({ ...command.body, ...change })), (error: object) => {
          assert.deepEqual(Reflect.get(error, 'type'), 'Conflict', String(error));
          assert.deepEqual(Reflect.get(error, 'details'), ['repeated']);
          return true;
        });
      assert.deepEqual(await records.command(idOf('rf-1'), commandId), open);
      assert.equal(await records.command(idOf('rf-2'), commandId), undefined);
      // In another workflow the same id is free.
      assert.ok((await record(await about('rf-2', 'reject', 'max', { commandId, args: { reason: 'no' } }))).isOpen);
    },
  },
  {
    name: 'of two people with one command id at once one is recorded',
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
    name: 'a command without a signature of a registered key is not recorded',
    async run(records, scene) {
      const { submit, about, record, idOf } = await openLifecycle(records, scene);
      await submit('rf-1');
      const command = await about('rf-1', 'reject', 'mia', { args: { reason: 'no' } });
      const forged = [
        { ...command, body: { ...command.body, actor: 'max' } },
        { ...command, signature: command.signature.replace(/^./, (first) => (first === 'A' ? 'B' : 'A')) },
        { ...command, signature: '' },
        { ...command, body: { ...command.body, keyId: 'no-such-key' } },
        // Signed, but for another key's name.
        signed({ ...command.body, keyId: scene.project }),
      ];
      await records.registerKeys({
        [scene.project]: Object.values(sceneKeys)[0]?.replace(/^./, (first) => (first === '0' ? '1' : '0')) ?? '',
      });
      for (const one of forged) await fails(record(one), 'NotAuthorized');
      assert.equal(await records.command(idOf('rf-1'), command.body.commandId), undefined);
      // What is not recorded is not decided either, if it is not signed.
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
    name: 'what cannot be is refused as it is recorded, once, with its audit',
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
    name: 'commands that wait are found until they are decided, oldest first',
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
      // Decided upon another revision than it was given at: it has been answered, too.
      await decide(second);
      assert.deepEqual(await open('2999-01-01T00:00:00.000Z'), [third]);
      assert.equal((await records.openCommands({ before: '2999-01-01T00:00:00.000Z', limit: 1 })).length, 1);
    },
  },
  {
    name: 'no command stays open when its workflow closes',
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
