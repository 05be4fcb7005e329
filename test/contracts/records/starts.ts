// Cases on Records: which runs are admitted, and which workflows must be resumed.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import canonicalize from 'canonicalize';
import type { NewStart } from '../../../activities/records.ts';
import { workflowId } from '../../../workflows/domain/ids.ts';
import type { Digest } from '../../../workflows/domain/names.ts';
import { systemName } from '../../../workflows/domain/names.ts';
import { openLifecycle } from './lifecycle-scene.ts';
import type { RecordsCase, Scene } from './scene.ts';
import { fails } from './scene.ts';

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
    name: 'a start is recorded once, and a different one under its id is a conflict',
    async run(records, scene) {
      const start = startOf(scene, 's-1');
      await Promise.all(ten.map(() => records.recordStart(start, scene.entry({ key: scene.project }), [])));
      const { input: _, ...rest } = start;
      const found = await records.start(start.workflowId);
      assert.deepEqual(
        { ...found, recordedAt: null, input: null },
        {
          ...{ ...rest, input: null, recordedAt: null, parent: null, earlier: false, broughtOver: false, runId: null },
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
    name: 'a run is admitted only by its recorded id, type and input',
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
      // A later run of the same workflow continues.
      assert.equal(await records.admit({ ...run, runId: 'run-2' }), 'admitted');
      assert.equal((await records.start(start.workflowId))?.runId, 'run-2');
    },
  },
  {
    name: 'once a start is closed, only the run that closed it may clean up, and open commands are refused',
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
    name: 'open root workflows are listed oldest first, by page, without children and closed ones',
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
    name: 'restarts are counted, each once, until the workflow makes progress',
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
    name: 'exclusive work runs one at a time, and can run again afterwards',
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
      assert.equal(await records.exclusively(project, async (held) => held.aborted), false);
    },
  },
  {
    name: 'the clock is the source of recorded times',
    async run(records, scene) {
      const before = await records.clock();
      await records.recordStart(startOf(scene, 's-1'), scene.entry(), []);
      const recorded = (await records.start(startOf(scene, 's-1').workflowId))?.recordedAt ?? '';
      const after = await records.clock();
      assert.deepEqual([before, recorded, after].sort(), [before, recorded, after]);
    },
  },
  {
    name: 'job tokens are revoked when their workflow closes, with one audit row',
    async run(records, scene) {
      const { project } = scene;
      const of = { project, evaluation: 'e-1' };
      const id = workflowId.evaluation(of);
      const job = { job: systemName(id), inputs: [], outputs: [] };
      await records.recordStart(startOf(scene, 'e-1', { workflowId: id, type: 'evaluation' }), scene.entry(), []);
      const issue = async (tokenId: string, name: string) => {
        const sha256 = createHash('sha256').update(tokenId).digest('hex') as Digest;
        const token = { tokenId, sha256, kind: 'job', name, expiresAt: '2999-01-01T00:00:00.000Z', job } as const;
        await records.issueToken(token, scene.entry());
        return async () => (await records.principal(sha256)) !== undefined;
      };
      const own = await issue(`${project}-own`, job.job);
      const other = await issue(`${project}-other`, systemName(workflowId.evaluation({ ...of, evaluation: 'e-2' })));
      assert.deepEqual([await own(), await other()], [true, true]);
      await records.closeStart(id, 'failed');
      await records.closeStart(id, 'failed');
      assert.deepEqual([await own(), await other()], [false, true]);
      const { rows } = await records.audit({ subject: id });
      assert.deepEqual(
        rows.map(({ entry: { key, kind } }) => [key, kind]),
        [[`token/${project}-own/revoked`, 'token.revoked']],
      );
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
