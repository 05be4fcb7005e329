// The calls of Records that are about starts, commands and decisions, each once, with its prerequisites.
import assert from 'node:assert/strict';
import type { Records } from '../../activities/records.ts';
import { inputDigest } from '../../activities/adapters/postgres/starts.ts';
import type { CommandBody, SignedCommand } from '../../workflows/domain/command.ts';
import { workflowId } from '../../workflows/domain/ids.ts';
import { openLifecycle, sceneKeys, signed } from '../contracts/records/lifecycle-scene.ts';
import * as set from '../contracts/records/scene.ts';
import type { Scene } from '../contracts/records/scene.ts';
import type { Prepare } from './postgres-material.ts';

const open = (direct: Records, scene: Scene) => openLifecycle(direct, scene, {}, ['sam', 'mia', 'max', 'eve']);
const NO = { args: { reason: 'no' } };
const WHY = { reason: 'Corrupt', message: 'the bytes have changed' };
const FAR = '2999-01-01T00:00:00.000Z';

const startOf = ({ project }: Scene) => ({
  ...{ workflowId: `feedback/${project}/s-1`, type: 'feedback' as const, input: { project, scan: 's-1' } },
  ...{ askedBy: 'shop', roles: ['application' as const], project },
});
const withStart = (direct: Records, scene: Scene) => direct.recordStart(startOf(scene), scene.entry(), []);

/** A new version with a recorded command about it. */
async function withCommand(direct: Records, scene: Scene, name = 'reject', given: Partial<CommandBody> = NO) {
  const life = await open(direct, scene);
  await life.submit('rf-1');
  const command = await life.about('rf-1', name, 'mia', given);
  await life.record(command);
  return { ...life, command, id: life.idOf('rf-1') };
}

/** A release whose decision is pending. */
async function withPendingRelease(direct: Records, scene: Scene) {
  const life = await open(direct, scene);
  await life.submit('rf-1');
  const report = await life.evaluate('rf-1', { evaluation: 'e-1' });
  await life.give('rf-1', 'approve', 'mia', { report });
  const { command } = await life.give('rf-1', 'release', 'mia');
  return { ...life, id: life.idOf('rf-1'), commandId: command.body.commandId, release: `${scene.type}-1` };
}

/** Two releases, the second one live over the first, and a recorded command to go back. */
async function withRevert(direct: Records, scene: Scene) {
  const life = await open(direct, scene);
  await life.addApplication();
  const releases: string[] = [];
  for (const version of [1, 2]) {
    const { release } = await set.allot(direct, scene, version);
    await direct.announced(release);
    await life.deliver(release);
    releases.push(release);
  }
  const [release = ''] = releases;
  const given = { workflowId: life.pointerId, name: 'revert', actor: 'mia', revision: 2 };
  const command = signed({ ...given, args: { reason: 'it was better', release } });
  await life.record(command);
  return { ...life, command };
}

/** A scan with a recorded label. */
async function withLabel(direct: Records, scene: Scene) {
  const life = await open(direct, scene);
  const id = startOf(scene).workflowId;
  await direct.recordStart(startOf(scene), scene.entry(), [{ kind: 'scan', row: set.scanRow(scene) }]);
  const command = signed({ workflowId: id, name: 'confirm', actor: 'eve', args: { findings: ['f-1'] } });
  await life.record(command);
  return { ...life, id, command };
}

async function withDecidedLabel(direct: Records, scene: Scene) {
  const { id, command } = await withLabel(direct, scene);
  await direct.decideLabels(id, command);
  return { id, commandId: command.body.commandId };
}

/** An application with a gate and an announced release on its way into it. */
async function withDelivery(direct: Records, scene: Scene) {
  const { addApplication, pointerId } = await open(direct, scene);
  await addApplication(['integrity']);
  const { release } = await set.allot(direct, scene, 1);
  await direct.announced(release);
  const { application, type } = scene;
  return { pointerId, of: { application, type, release } };
}

const gate = { gate: 'integrity', passed: true, detail: 'the same bytes', seconds: 0.25 };
const runOf = {
  spec: {
    ...{ code: { repository: 'p/code', commit: 'a'.repeat(40) }, entrypoint: 'train.py', lock: 'lock', data: [] },
    ...{ parameters: {}, seed: 1, compute: 'cpu' as const, deadlineSeconds: 60 },
  },
  ...{ attempt: 1, inputs: [], environment: set.digestOf('lock'), outputs: [], metrics: {}, log: null },
  ...{ startedAt: set.START, endedAt: set.at(9) },
};

export const decisionWrites = {
  recordStart: async (_, scene) => {
    const audit = scene.entry();
    const row = set.versionRow(scene, { state: 'validating', revision: 0, version: null, digest: null });
    const id = workflowId.modelLifecycle(row);
    const { project, model, submission, type, author } = row;
    const input = { project, model, submission, type, author, beginning: { directory: 'd' } };
    const start = { workflowId: id, type: 'modelLifecycle', input, askedBy: 'sam', roles: [], project } as const;
    return (records) => records.recordStart(start, audit, [{ kind: 'version', row }]);
  },
  admit: async (direct, scene) => {
    await withStart(direct, scene);
    const { workflowId: id, type, input } = startOf(scene);
    const run = { workflowId: id, type, digest: inputDigest(input), runId: 'run-1' };
    return (records) => records.admit(run);
  },
  closeStart: async (direct, scene) => {
    const { id } = await withCommand(direct, scene);
    return (records) => records.closeStart(id, 'over');
  },
  closeQuiet: async (direct, scene) => {
    const { id } = await withCommand(direct, scene);
    const since = await direct.clock();
    return (records) => records.closeQuiet(id, { since, forMs: 0 });
  },
  restarted: async (direct, scene) => {
    await withStart(direct, scene);
    return (records) => records.restarted(startOf(scene).workflowId, FAR);
  },
  registerKeys:
    async (_, { project }) =>
    (records) =>
      records.registerKeys({ [project]: 'a'.repeat(64), [`${project}-2`]: 'b'.repeat(64) }),
  recordCommand: async (direct, scene) => {
    const { submit, about } = await open(direct, scene);
    await submit('rf-1');
    // Refused, so that its outcome and the audit are written, too.
    const command = await about('rf-1', 'retire', 'mia');
    return (records) => records.recordCommand(command, { project: scene.project, subject: scene.project });
  },
  decideVersion: async (direct, scene) => {
    const { command, id, place } = await withCommand(direct, scene);
    return (records) => records.decideVersion(id, command, { place });
  },
  completeDecision: async (direct, scene) => {
    const { id, commandId, release } = await withPendingRelease(direct, scene);
    await direct.announced(release);
    return (records) => records.completeDecision(id, commandId);
  },
  failDecision: async (direct, scene) => {
    const { id, commandId } = await withPendingRelease(direct, scene);
    return (records) => records.failDecision(id, commandId, WHY);
  },
  noteReturned: async (direct, scene) => {
    const { id, command, decide } = await withCommand(direct, scene, 'rollback');
    await decide(command);
    return (records) => records.noteReturned(id, command.body.commandId, 'returned/rf-1');
  },
  advanceVersion: async (direct, scene) => {
    const { start, keyOf, idOf } = await open(direct, scene);
    await start('rf-1');
    await direct.recordStaged(keyOf('rf-1'), []);
    await direct.recordValidation(keyOf('rf-1'), { digest: set.digestOf('rf-1'), revises: null });
    return (records) => records.advanceVersion(idOf('rf-1'), { revision: 0 });
  },
  recordRun: async (direct, scene) => {
    const { start, keyOf } = await open(direct, scene);
    await start('rf-1');
    return (records) => records.recordRun(keyOf('rf-1'), 1, runOf);
  },
  recordStaged: async (direct, scene) => {
    const { start, keyOf } = await open(direct, scene);
    await start('rf-1');
    return (records) => records.recordStaged(keyOf('rf-1'), []);
  },
  recordValidation: async (direct, scene) => {
    const { start, keyOf } = await open(direct, scene);
    await start('rf-1');
    await direct.recordStaged(keyOf('rf-1'), []);
    return (records) => records.recordValidation(keyOf('rf-1'), { problems: ['no model.json'] });
  },
  filed: async (direct, scene) => {
    const { submit, keyOf } = await open(direct, scene);
    await submit('rf-1');
    return (records) => records.filed(keyOf('rf-1'), 1);
  },
  endEvaluation: async (direct, scene) => {
    const { submit, ask } = await open(direct, scene);
    await submit('rf-1');
    await ask('rf-1', { evaluation: 'e-1' });
    const row = await direct.evaluation(scene.project, 'e-1');
    assert.ok(row);
    const sha256 = set.digestOf('report');
    const report = { name: 'report.json', uri: 'memory:report' as never, sha256, bytes: 1 };
    const ended = { ...row, state: 'done', digest: set.digestOf('rf-1'), report, updatedAt: set.at(9) } as const;
    return (records) => records.endEvaluation(ended, { inStaging: true });
  },
  applicationStanding: async (direct, scene) => {
    const { addApplication, pointerId } = await open(direct, scene);
    await addApplication();
    return (records) => records.applicationStanding(pointerId);
  },
  decidePointer: async (direct, scene) => {
    const { pointerId, command } = await withRevert(direct, scene);
    return (records) => records.decidePointer(pointerId, command);
  },
  completePointer: async (direct, scene) => {
    const { pointerId, command } = await withRevert(direct, scene);
    await direct.decidePointer(pointerId, command);
    return (records) => records.completePointer(pointerId, command.body.commandId, '');
  },
  openDelivery: async (direct, scene) => {
    const { pointerId } = await withDelivery(direct, scene);
    return (records) => records.openDelivery(pointerId);
  },
  recordStep: async (direct, scene) => {
    await withStart(direct, scene);
    return (records) => records.recordStep(startOf(scene).workflowId, 'prepared', { inputs: [] });
  },
  beginGates: async (direct, scene) => {
    const { pointerId, of } = await withDelivery(direct, scene);
    await direct.openDelivery(pointerId);
    return (records) => records.beginGates(of);
  },
  recordGate: async (direct, scene) => {
    const { pointerId, of } = await withDelivery(direct, scene);
    await direct.openDelivery(pointerId);
    return (records) => records.recordGate(of, gate);
  },
  concludeDelivery: async (direct, scene) => {
    const { pointerId, of } = await withDelivery(direct, scene);
    await direct.openDelivery(pointerId);
    await direct.recordGate(of, gate);
    return (records) => records.concludeDelivery(of);
  },
  decideLabels: async (direct, scene) => {
    const { id, command } = await withLabel(direct, scene);
    return (records) => records.decideLabels(id, command);
  },
  completeLabels: async (direct, scene) => {
    const { id, commandId } = await withDecidedLabel(direct, scene);
    return (records) => records.completeLabels(id, commandId, 'a'.repeat(40));
  },
  failLabels: async (direct, scene) => {
    const { id, commandId } = await withDecidedLabel(direct, scene);
    return (records) => records.failLabels(id, commandId, WHY);
  },
} satisfies Partial<Record<keyof Records, Prepare>>;

const ofScene = (scene: Scene) => (command: SignedCommand) => command.body.workflowId.includes(scene.project);

export const decisionReads = {
  start: async (direct, scene) => {
    await withStart(direct, scene);
    return (records) => records.start(startOf(scene).workflowId);
  },
  step: async (direct, scene) => {
    const { workflowId } = startOf(scene);
    await direct.recordStep(workflowId, 'ended', { status: 'succeeded' });
    return (records) => records.step(workflowId, 'ended');
  },
  openStarts: async (direct, scene) => {
    // The last page: other tests' starts come before.
    let after: string | undefined;
    for (let page = await direct.openStarts({ limit: 1_000 }); page.next !== undefined;) {
      after = page.next;
      page = await direct.openStarts({ limit: 1_000, after });
    }
    await withStart(direct, scene);
    return async (records) => {
      const { rows } = await records.openStarts({ limit: 1_000, ...(after !== undefined && { after }) });
      return rows.filter(({ project }) => project === scene.project);
    };
  },
  reopenUnfiled: async (direct, scene) => {
    const { submit, give, idOf } = await open(direct, scene);
    await submit('rf-1');
    await give('rf-1', 'withdraw', 'sam');
    return async (records) => {
      await records.reopenUnfiled(0);
      return { closedAt: (await records.start(idOf('rf-1')))?.closedAt };
    };
  },
  keys: async (direct) => {
    await direct.registerKeys(sceneKeys);
    const [id = ''] = Object.keys(sceneKeys);
    return async (records) => (await records.keys())[id];
  },
  command: async (direct, scene) => {
    const { id, command } = await withCommand(direct, scene);
    return (records) => records.command(id, command.body.commandId);
  },
  openCommands: async (direct, scene) => {
    await withCommand(direct, scene);
    return async (records) => (await records.openCommands({ before: FAR, limit: 100_000 })).filter(ofScene(scene));
  },
  decision: async (direct, scene) => {
    const { id, command, decide } = await withCommand(direct, scene);
    await decide(command);
    return (records) => records.decision(id, command.body.commandId);
  },
  verifyDecisions: async (direct, scene) => {
    const { command, decide } = await withCommand(direct, scene);
    await decide(command);
    return async (records) => {
      const { problems } = await records.verifyDecisions();
      return problems.find((problem) => problem.includes(scene.project)) ?? 'whole';
    };
  },
  versionStanding: async (direct, scene) => {
    const { submit, keyOf } = await open(direct, scene);
    await submit('rf-1');
    return (records) => records.versionStanding(keyOf('rf-1'));
  },
  run: async (direct, scene) => {
    const { start, keyOf } = await open(direct, scene);
    await start('rf-1');
    await direct.recordRun(keyOf('rf-1'), 1, runOf);
    return (records) => records.run(keyOf('rf-1'), 1);
  },
  staged: async (direct, scene) => {
    const { submit, keyOf } = await open(direct, scene);
    await submit('rf-1');
    return (records) => records.staged(keyOf('rf-1'));
  },
  unfiled: async (direct, scene) => {
    const { submit, keyOf } = await open(direct, scene);
    await submit('rf-1');
    return (records) => records.unfiled(keyOf('rf-1'));
  },
  missingGates: async (direct, scene) => {
    const { of } = await withDelivery(direct, scene);
    return (records) => records.missingGates(of);
  },
  scanStanding: async (direct, scene) => {
    const { id } = await withLabel(direct, scene);
    return (records) => records.scanStanding(id);
  },
} satisfies Partial<Record<keyof Records, Prepare>>;
