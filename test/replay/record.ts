// Records histories of every terminal path into histories/. replay.test.ts replays them with every later program.
// Run it with `node --import tsx test/replay/record.ts`. It adds new paths only; recorded histories never change, and a changed workflow
// uses `patched`. Names that end in `-decided` were recorded since Records decide, those in `-begun` since workflows begin within their
// first task; the others are older.
import { randomBytes } from 'node:crypto';
import type { Digest } from '../../workflows/domain/names.ts';
import type { LifecycleInput } from '../../workflows/messages.ts';
import { workflowId } from '../../workflows/messages.ts';
import stopServers from '../servers-stop.ts';
import type { ImportWorld } from '../workflows/import-world.ts';
import { openImportWorld } from '../workflows/import-world.ts';
import { jsonPayload, junk, sendRaw } from '../workflows/raw-signals.ts';
import { until } from '../workflows/until.ts';
import type { World } from '../workflows/world.ts';
import { openWorld } from '../workflows/world.ts';
import { keepHistories } from './keep.ts';

/** Runs one path; returns the workflows whose histories are stored, by file name. */
type Path<W = World> = (world: W) => Promise<Readonly<Record<string, string>>>;

const ended = (world: World, submission: string) => world.client.workflow.getHandle(world.idOf(submission)).result();
const untilFailed = (world: World, application: string, release: string) =>
  until(`${release} to fail in ${application}`, async () => {
    const delivery = await world.records.delivery(application, release);
    return delivery?.state === 'failed';
  });
const untilDetail = (world: World, submission: string, detail: string) =>
  until(`${submission} to say "${detail}"`, async () =>
    (await world.records.version('p', 'm', submission))?.detail.includes(detail),
  );
const done = async (outcome: Promise<{ status: string }>): Promise<void> => {
  const found = await outcome;
  if (found.status !== 'done') throw new Error(`a command was not done: ${JSON.stringify(found)}`);
};

const paths: readonly Path[] = [
  /** Trained, submitted, tagged, approved by two, released, superseded, reverted to and from, retired. */
  async (world) => {
    await world.addApplication('shop');
    await world.startLifecycle('one', world.run, { policy: { quorum: 2 } });
    await world.untilState('one', 'trained');
    await done(world.give('one', 'sam', 'submit'));
    await world.untilState('one', 'new');
    const evaluation = await world.evaluation('one');
    const report = evaluation.report?.sha256 ?? null;
    await done(world.give('one', 'mia', 'tag', { tags: ['baseline'] }));
    await done(world.give('one', 'mia', 'approve', {}, { report }));
    await done(world.give('one', 'max', 'approve', {}, { report }));
    const first = await world.release('one');
    await world.untilLive('shop', first);
    const second = await world.released('two');
    await world.untilLive('shop', second);
    await done(world.revert('shop', 'dev', first));
    await world.give('one', 'mia', 'retire');
    await done(world.revert('shop', 'mia', second));
    await untilDetail(world, 'one', `${first}: reverted in shop`);
    await done(world.give('one', 'mia', 'retire'));
    await ended(world, 'one');
    return {
      'model-lifecycle-retired-decided': world.idOf('one'),
      'model-lifecycle-released-decided': world.idOf('two'),
      'training-run-done-decided': 'run/p/m/one/1',
      'evaluation-done-decided': workflowId.evaluation(evaluation),
      'release-announced-decided': workflowId.release({ release: first }),
      'delivery-passed-decided': workflowId.delivery({ application: 'shop', release: first }),
      'application-reverted-decided': workflowId.application({ application: 'shop', type: 'kind' }),
      'model-lifecycle-retired-begun': world.idOf('one'),
      'training-run-done-begun': 'run/p/m/one/1',
      'evaluation-done-begun': workflowId.evaluation(evaluation),
      'release-announced-begun': workflowId.release({ release: first }),
      'delivery-passed-begun': workflowId.delivery({ application: 'shop', release: first }),
      'application-reverted-begun': workflowId.application({ application: 'shop', type: 'kind' }),
    };
  },
  /** Rejected, undone, rejected for good. */
  async (world) => {
    await world.submitted('rejected', { policy: { undoWithinSeconds: 3 } });
    await done(world.give('rejected', 'mia', 'reject', { reason: 'too slow' }));
    await done(world.give('rejected', 'mia', 'undo'));
    await done(world.give('rejected', 'mia', 'reject', { reason: 'too slow all the same' }));
    await ended(world, 'rejected');
    return { 'model-lifecycle-rejected-decided': world.idOf('rejected') };
  },
  async (world) => {
    await world.submitted('tagged', { policy: { undoWithinSeconds: 5 } });
    await done(world.give('tagged', 'mia', 'reject', { reason: 'too slow' }));
    await done(world.give('tagged', 'mia', 'tag', { tags: ['slow'] }));
    await ended(world, 'tagged');
    return { 'model-lifecycle-tagged-after-rejection-decided': world.idOf('tagged') };
  },
  async (world) => {
    const report = await world.approved('rolled-back');
    await done(world.give('rolled-back', 'mia', 'rollback', { reason: 'one more look' }, { report }));
    await ended(world, 'rolled-back');
    return { 'model-lifecycle-rolled-back-decided': world.idOf('rolled-back') };
  },
  async (world) => {
    await world.submitted('withdrawn');
    await done(world.give('withdrawn', 'sam', 'withdraw'));
    await ended(world, 'withdrawn');
    return { 'model-lifecycle-withdrawn-decided': world.idOf('withdrawn') };
  },
  async (world) => {
    world.script.train = 'hang';
    await world.startLifecycle('stopped', world.run);
    await world.untilState('stopped', 'training');
    await done(world.give('stopped', 'sam', 'withdraw', { reason: 'wrong data' }));
    await ended(world, 'stopped');
    world.script.train = 'succeed';
    return {
      'model-lifecycle-withdrawn-in-training-decided': world.idOf('stopped'),
      'training-run-cancelled-decided': 'run/p/m/stopped/1',
    };
  },
  async (world) => {
    world.script.train = 'crash';
    await world.startLifecycle('failed', world.run);
    await world.untilState('failed', 'failed');
    await done(world.give('failed', 'sam', 'retry'));
    await until('the second attempt to fail', async () => (await world.untilState('failed', 'failed')).revision >= 5);
    await done(world.give('failed', 'sam', 'withdraw'));
    await ended(world, 'failed');
    world.script.train = 'succeed';
    return {
      'model-lifecycle-failed-then-withdrawn-decided': world.idOf('failed'),
      'training-run-failed-decided': 'run/p/m/failed/2',
    };
  },
  async (world) => {
    await world.putSubmission('invalid', 'invalid', { name: 'other' });
    await (await world.startLifecycle('invalid', { directory: 'invalid' })).result();
    return { 'model-lifecycle-invalid-decided': world.idOf('invalid') };
  },
  /** Cancelled in Temporal during its training, then withdrawn by its author. */
  async (world) => {
    world.script.train = 'hang';
    const handle = await world.startLifecycle('cancelled', world.run);
    await world.untilState('cancelled', 'training');
    await until('the run to begin', async () => world.begunJobs.some((name) => name.includes('-cancelled-1-')));
    await handle.cancel();
    await world.untilState('cancelled', 'failed');
    await done(world.give('cancelled', 'sam', 'withdraw'));
    await handle.result();
    world.script.train = 'succeed';
    return { 'model-lifecycle-interrupted-decided': world.idOf('cancelled') };
  },
  /** Released, failed at a gate, released again, stopped, reassigned. */
  async (world) => {
    world.script.service = 'wrong';
    const report = await world.approved('reassigned');
    const failed = await world.release('reassigned');
    await untilFailed(world, 'shop', failed);
    await untilDetail(world, 'reassigned', 'failed in shop');
    await done(world.give('reassigned', 'mia', 'reassign', { reason: 'have a look', to: 'sue' }, { report }));
    await ended(world, 'reassigned');
    world.script.service = 'slow';
    const slow = await world.released('taken-back');
    await until('the gate to run', async () => (await world.records.delivery('shop', slow))?.state === 'gating');
    await done(world.give('taken-back', 'mia', 'reject', { reason: 'found a leak' }));
    await untilFailed(world, 'shop', slow);
    world.script.service = 'golden';
    return {
      'model-lifecycle-reassigned-decided': world.idOf('reassigned'),
      'model-lifecycle-taken-back-decided': world.idOf('taken-back'),
      'delivery-failed-decided': workflowId.delivery({ application: 'shop', release: failed }),
      'delivery-stopped-decided': workflowId.delivery({ application: 'shop', release: slow }),
    };
  },
  async (world) => {
    await world.submitted('lied-about');
    world.script.evaluate = 'crash';
    const failed = await world.evaluation('lied-about');
    world.script.evaluate = 'pass';
    // Missing evidence fails a command.
    await world.give('lied-about', 'mia', 'approve', {}, { report: '0'.repeat(64) });
    return {
      'evaluation-failed-decided': workflowId.evaluation(failed),
      'model-lifecycle-no-evidence-decided': world.idOf('lied-about'),
    };
  },
  /** Terminated and started again from the record, released, taken down, rolled back. */
  async (world) => {
    await world.addApplication('kiosk');
    const report = await world.submitted('resumed');
    const handle = world.client.workflow.getHandle(world.idOf('resumed'));
    await handle.terminate('by mistake');
    const start = await world.records.start(handle.workflowId);
    await world.gateway.startLifecycle(start?.input as LifecycleInput);
    await done(world.give('resumed', 'mia', 'approve', {}, { report }));
    const release = await world.release('resumed');
    for (const name of ['kiosk', 'shop']) await world.untilLive(name, release);
    for (const application of ['kiosk', 'shop']) {
      const { generation: revision } = await world.records.livePointer(application, 'kind');
      const id = workflowId.application({ application, type: 'kind' });
      const args = { reason: 'found a leak' };
      await done(world.send(world.signed({ workflowId: id, name: 'take-down', actor: 'mia', revision, args })));
    }
    await until('the notice of the take-down', async () => {
      const { version, pending } = await world.standing('resumed');
      return !pending && !version.detail.includes(': live');
    });
    await done(world.give('resumed', 'mia', 'rollback', { reason: 'found a leak' }, { report }));
    await ended(world, 'resumed');
    return {
      'model-lifecycle-resumed-decided': world.idOf('resumed'),
      'application-taken-down-decided': workflowId.application({ application: 'kiosk', type: 'kind' }),
    };
  },
  /** Hostile signals of every kind, then a command of the platform. */
  async (world) => {
    const report = await world.submitted('hostile');
    const id = world.idOf('hostile');
    for (const payloads of Object.values(junk))
      if (payloads.every(({ data }) => data.length < 10_000)) await sendRaw(world, id, 'command', payloads);
    await sendRaw(world, id, '__temporal_default', [jsonPayload(1)]);
    await sendRaw(world, id, 'wake', [{ encoding: 'json/plain', data: '{' }]);
    await done(world.give('hostile', 'mia', 'approve', {}, { report }));
    return { 'model-lifecycle-hostile-signals-decided': id };
  },
  async (world) => {
    const { release } = await world.records.livePointer('shop', 'kind');
    const finding = (name: string) => ({
      finding: name,
      name,
      path: `src/${name}.c`,
      vulnerable: true,
      probability: 0.9,
      source: 'a'.repeat(64) as Digest,
      label: null,
    });
    const id = await world.startFeedback({
      scan: 'scan-1',
      project: 'p',
      application: 'shop',
      type: 'kind',
      release: release ?? '',
      findings: [finding('one'), finding('two')],
      state: 'open',
      revision: 0,
      commit: null,
      keyId: 'k1',
      updatedAt: new Date().toISOString(),
    });
    for (const [name, findings, revision] of [
      ['confirm', ['one'], 0],
      ['deny', ['two'], 1],
      ['deny', ['two'], 1],
      ['deny', ['three'], 2],
    ] as const) {
      await world.send(world.signed({ workflowId: id, name, actor: 'eve', revision, args: { findings } }));
    }
    return { 'feedback-decided': id, 'feedback-begun': id };
  },
];

const importPaths: readonly Path<ImportWorld>[] = [
  async (world) => {
    world.lay('/rows.csv', () => Buffer.from('a,b\n'));
    await world.ended('done', world.https('/rows.csv'));
    await world.ended('failed', world.https('/none.csv'));
    return {
      'data-import-done-decided': 'import/p/done',
      'data-import-done-begun': 'import/p/done',
      'data-import-failed-decided': 'import/p/failed',
    };
  },
  async (world) => {
    world.lay('/slow.bin', () => randomBytes(4_000_000), { paceMs: () => 500 });
    const handle = await world.start('cancelled', world.https('/slow.bin'));
    await until('bytes', async () => (await world.rowOf('cancelled')).bytes > 100_000);
    await handle.cancel();
    await handle.result().catch(() => undefined);
    return { 'data-import-cancelled-decided': 'import/p/cancelled' };
  },
];

async function record<W extends World | ImportWorld>(world: W, paths: readonly Path<W>[]): Promise<void> {
  const kept: Record<string, string> = {};
  for (const path of paths) Object.assign(kept, await path(world));
  await ('stopWorkers' in world ? world.stopWorkers() : world.stopWorker());
  const names = await keepHistories(world.client, kept, [world.home, process.cwd()]);
  process.stdout.write(`recorded: ${names.join(', ') || 'nothing new'}\n`);
  await world.close();
}

try {
  await record(await openWorld(), paths);
  await record(await openImportWorld(), importPaths);
} finally {
  await stopServers();
}
process.exit(0);
