// Records histories of every terminal path into histories/, for ever after replayed by replay.test.ts.
// Run it as `node --import tsx test/replay/record.ts`. It replaces what is there: only before a first release of the workflows;
// afterwards old histories stay, and a changed workflow uses `patched`.
import { createHash } from 'node:crypto';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { historyToJSON } from '@temporalio/common/lib/proto-utils.js';
import type { Digest } from '../../workflows/domain/names.ts';
import { workflowId } from '../../workflows/messages.ts';
import stopServers from '../servers-stop.ts';
import { jsonPayload, junk, sendRaw } from '../workflows/raw-signals.ts';
import { until } from '../workflows/until.ts';
import type { World } from '../workflows/world.ts';
import { openWorld } from '../workflows/world.ts';

const folder = join(import.meta.dirname, 'histories');

/** Drives the world through one path; returns the workflows whose histories are kept, by file name. */
type Path = (world: World) => Promise<Readonly<Record<string, string>>>;

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
      'model-lifecycle-retired': world.idOf('one'),
      'model-lifecycle-released': world.idOf('two'),
      'training-run-done': 'run/p/m/one/1',
      'evaluation-done': workflowId.evaluation(evaluation),
      'release-announced': workflowId.release({ release: first }),
      'delivery-passed': workflowId.delivery({ application: 'shop', release: first }),
      'application-reverted': workflowId.application({ application: 'shop', type: 'kind' }),
    };
  },
  /** Rejected, undone, rejected for good. */
  async (world) => {
    await world.submitted('rejected', { policy: { undoWithinSeconds: 3 } });
    await done(world.give('rejected', 'mia', 'reject', { reason: 'too slow' }));
    await done(world.give('rejected', 'mia', 'undo'));
    await done(world.give('rejected', 'mia', 'reject', { reason: 'too slow all the same' }));
    await ended(world, 'rejected');
    return { 'model-lifecycle-rejected': world.idOf('rejected') };
  },
  async (world) => {
    const report = await world.approved('rolled-back');
    await done(world.give('rolled-back', 'mia', 'rollback', { reason: 'one more look' }, { report }));
    await ended(world, 'rolled-back');
    return { 'model-lifecycle-rolled-back': world.idOf('rolled-back') };
  },
  async (world) => {
    await world.submitted('withdrawn');
    await done(world.give('withdrawn', 'sam', 'withdraw'));
    await ended(world, 'withdrawn');
    return { 'model-lifecycle-withdrawn': world.idOf('withdrawn') };
  },
  async (world) => {
    world.script.train = 'hang';
    await world.startLifecycle('stopped', world.run);
    await world.untilState('stopped', 'training');
    await done(world.give('stopped', 'sam', 'withdraw', { reason: 'wrong data' }));
    await ended(world, 'stopped');
    world.script.train = 'succeed';
    return {
      'model-lifecycle-withdrawn-in-training': world.idOf('stopped'),
      'training-run-cancelled': 'run/p/m/stopped/1',
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
    return { 'model-lifecycle-failed-then-withdrawn': world.idOf('failed'), 'training-run-failed': 'run/p/m/failed/2' };
  },
  async (world) => {
    await world.putSubmission('invalid', 'invalid', { name: 'other' });
    await (await world.startLifecycle('invalid', { directory: 'invalid' })).result();
    return { 'model-lifecycle-invalid': world.idOf('invalid') };
  },
  /** Cancelled in Temporal itself. */
  async (world) => {
    world.script.train = 'hang';
    const handle = await world.startLifecycle('cancelled', world.run);
    await world.untilState('cancelled', 'training');
    await handle.cancel();
    await handle.result().catch(() => undefined);
    world.script.train = 'succeed';
    return { 'model-lifecycle-cancelled': world.idOf('cancelled') };
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
      'model-lifecycle-reassigned': world.idOf('reassigned'),
      'delivery-failed': workflowId.delivery({ application: 'shop', release: failed }),
      'delivery-stopped': workflowId.delivery({ application: 'shop', release: slow }),
    };
  },
  async (world) => {
    await world.submitted('lied-about');
    world.script.evaluate = 'crash';
    const failed = await world.evaluation('lied-about');
    world.script.evaluate = 'pass';
    // Evidence that is not there fails a command.
    await world.give('lied-about', 'mia', 'approve', {}, { report: '0'.repeat(64) });
    return {
      'evaluation-failed': workflowId.evaluation(failed),
      'model-lifecycle-no-evidence': world.idOf('lied-about'),
    };
  },
  /** Hostile signals of every kind, then a lawful command. */
  async (world) => {
    const report = await world.submitted('hostile');
    const id = world.idOf('hostile');
    for (const payloads of Object.values(junk))
      if (payloads.every(({ data }) => data.length < 10_000)) await sendRaw(world, id, 'command', payloads);
    await sendRaw(world, id, '__temporal_default', [jsonPayload(1)]);
    await sendRaw(world, id, 'wake', [{ encoding: 'json/plain', data: '{' }]);
    await done(world.give('hostile', 'mia', 'approve', {}, { report }));
    return { 'model-lifecycle-hostile-signals': id };
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
    for (const [name, findings] of [
      ['confirm', ['one']],
      ['deny', ['two']],
      ['deny', ['three']],
    ] as const) {
      const sent = world.signed({ workflowId: id, name, actor: 'eve', args: { findings } });
      await world.client.workflow.getHandle(id).signal('command', sent);
      await world.settled(id, sent.body.commandId);
    }
    return { feedback: id };
  },
];

/** What is of this machine and this run alone goes: replay does not look at it. */
function withoutTraces(value: unknown): unknown {
  // A worker's identity, also in the name of its own task queue.
  if (typeof value === 'string') return value.replaceAll(`@${hostname()}`, '@recorded');
  if (Array.isArray(value)) return value.map(withoutTraces);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).flatMap(([key, inner]) => {
      if (key === 'stackTrace') return [];
      return [[key, withoutTraces(inner)]];
    }),
  );
}

/** The text with every payload decoded, to look for what must not be in it. */
const decoded = (text: string): string =>
  text.replace(/"data": ?"([A-Za-z0-9+/=]+)"/g, (_, data: string) => Buffer.from(data, 'base64').toString('utf8'));

async function record(): Promise<void> {
  const world = await openWorld();
  const kept: Record<string, string> = {};
  for (const path of paths) Object.assign(kept, await path(world));
  await world.stopWorkers();
  const texts: Record<string, string> = {};
  for (const [name, id] of Object.entries(kept).sort(([a], [b]) => (a < b ? -1 : 1))) {
    const history = await world.client.workflow.getHandle(id).fetchHistory();
    const text = `${JSON.stringify(withoutTraces(JSON.parse(historyToJSON(history))), null, 1)}\n`;
    for (const own of [`@${hostname()}`, world.home, process.cwd()])
      if (decoded(text).includes(own)) throw new Error(`${name} holds ${own}: histories are for every machine`);
    texts[name] = text;
  }
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true });
  const list: Record<string, { workflowId: string; sha256: string }> = {};
  for (const [name, text] of Object.entries(texts)) {
    await writeFile(join(folder, `${name}.json`), text);
    list[name] = { workflowId: kept[name] ?? '', sha256: createHash('sha256').update(text).digest('hex') };
  }
  await writeFile(join(import.meta.dirname, 'digests.json'), `${JSON.stringify(list, null, 2)}\n`);
  process.stdout.write(`${Object.keys(list).length} histories recorded\n`);
  await world.close();
}

try {
  await record();
} finally {
  await stopServers();
}
process.exit(0);
