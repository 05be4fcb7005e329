// The engineer's labels: each is recorded and committed to Git once, with the ground truth for training.
import type { CommandBody } from '../../workflows/domain/command.ts';
import type { Scan } from '../../workflows/domain/model.ts';
import type { Digest } from '../../workflows/domain/names.ts';
import { workflowId } from '../../workflows/messages.ts';
import { until } from './until.ts';
import type { World } from './world.ts';
import { openWorld } from './world.ts';

let world: World;
let id: string;
const finding = (name: string, vulnerable: boolean): Scan['findings'][number] => ({
  finding: name,
  name: `f, "${name}"`,
  path: `src/${name}.c`,
  vulnerable,
  probability: vulnerable ? 0.9 : 0.2,
  source: 'a'.repeat(64) as Digest,
  label: null,
});
beforeAll(async () => {
  world = await openWorld();
  await world.addApplication('shop');
  const release = await world.released('f-1');
  await world.untilLive('shop', release);
  id = await world.startFeedback({
    scan: 'scan-1',
    project: 'p',
    application: 'shop',
    type: 'kind',
    release,
    findings: [finding('one', true), finding('two', true), finding('three', false)],
    state: 'open',
    revision: 0,
    commit: null,
    keyId: 'k1',
    updatedAt: new Date().toISOString(),
  });
}, 600_000);
afterAll(() => world.close());

/** Labels at the current revision and waits for the outcome. */
async function label(
  name: string,
  actor: string,
  findings: readonly string[] | undefined,
  more: Partial<CommandBody> = {},
) {
  const revision = (await world.records.scan('p', 'scan-1'))?.revision ?? 0;
  const sent = world.signed({ workflowId: id, name, actor, revision, args: findings ? { findings } : {}, ...more });
  return world.send(sent);
}
const csv = async (): Promise<string[]> => {
  const text = await world.code.read('p/labels', 'main', 'labels/shop/scan-1.csv');
  return Buffer.from(text ?? '')
    .toString('utf8')
    .split('\r\n')
    .filter(Boolean);
};
const commits = async () => (await world.code.log('p/labels', 'main', 50)).length;

it('commits confirmed and denied findings with the ground truth for training', async () => {
  expect(await label('confirm', 'eve', ['one'])).toMatchObject({ status: 'done' });
  expect(await label('deny', 'eve', ['two', 'three'])).toMatchObject({ status: 'done' });
  const [header, ...rows] = await csv();
  expect(header).toMatch(
    /^finding,name,path,source_sha256,probability,predicted,label,by,at,application,release,model_sha256$/,
  );
  const short = rows.map((row) => row.replace(/^(\w+),"f, ""\w+""",.*,(YES|NO),(YES|NO),eve,.*$/, '$1 $2 $3'));
  // Confirmed: the model's verdict. Denied: the opposite.
  expect(short).toEqual(['one YES YES', 'two YES NO', 'three NO YES']);
  const scan = await world.records.scan('p', 'scan-1');
  expect(scan).toMatchObject({ state: 'labelled', revision: 2 });
  expect(scan?.commit).toBe(await world.code.resolve('p/labels', 'main'));
});

it('makes no commit for a repeated label, but one for a different label', async () => {
  const before = [await commits(), await csv()];
  expect(await label('confirm', 'eve', ['one'])).toMatchObject({ status: 'done' });
  expect([await commits(), await csv()]).toEqual(before);
  expect(await label('deny', 'eve', ['one'])).toMatchObject({ status: 'done' });
  expect(await commits()).toBe((before[0] as number) + 1);
  expect((await csv()).find((row) => row.startsWith('one,'))).toContain(',YES,NO,eve,');
});

it('refuses other roles, unknown findings and empty lists', async () => {
  expect(await label('confirm', 'sam', ['one'])).toMatchObject({ status: 'refused', reason: 'not-authorized' });
  expect(await label('confirm', 'eve', ['one', 'nine'])).toMatchObject({ status: 'refused', reason: 'invalid' });
  expect(await label('confirm', 'eve', undefined)).toMatchObject({ status: 'refused', reason: 'invalid' });
  expect(await label('approve', 'eve', ['one'])).toMatchObject({ status: 'refused', reason: 'wrong-state' });
  await until('the refusals to be in the audit', async () => {
    const rows = await world.auditOf('p/scans/scan-1');
    return rows.filter(({ kind }) => kind === 'command.refused').length === 4;
  });
});

it('refuses a label of an unknown finding that arrives before the scan is read', async () => {
  await world.stopWorkers();
  const scan = await world.records.scan('p', 'scan-1');
  if (!scan) throw new Error('no scan');
  const early = await world.startFeedback({ ...scan, scan: 'scan-2', state: 'open', revision: 0, commit: null });
  const sent = world.signed({ workflowId: early, name: 'confirm', actor: 'eve', args: { findings: ['nine'] } });
  await world.client.workflow.getHandle(early).signal('command', sent);
  await world.startWorkers();
  expect(await world.settled(early, sent.body.commandId)).toMatchObject({ status: 'refused', reason: 'invalid' });
});

it('refuses a label if the scan has been labelled since', async () => {
  const revision = (await world.records.scan('p', 'scan-1'))?.revision ?? 0;
  expect(await label('confirm', 'eve', ['two'])).toMatchObject({ status: 'done' });
  const stale = await label('deny', 'eve', ['two'], { revision });
  expect(stale).toMatchObject({ status: 'refused', reason: 'stale' });
  expect(stale).toMatchObject({ message: expect.stringContaining(`at revision ${revision + 1}`) as string });
});

it('keeps a burst of labels over a large scan small in its history', async () => {
  const names = Array.from({ length: 2_000 }, (_, index) => `large-${index}`);
  const scan = await world.records.scan('p', 'scan-1');
  if (!scan) throw new Error('no scan');
  const findings = names.map((name) => finding(name, true));
  const fresh = { state: 'open', revision: 0, commit: null } as const;
  const large = await world.startFeedback({ ...scan, ...fresh, scan: 'scan-large', findings });
  const handle = world.client.workflow.getHandle(large);
  // Sent concurrently: one burst.
  const sent = [0, 200, 400].map((from, revision) =>
    world.signed({
      ...{ workflowId: large, name: 'confirm', actor: 'eve', revision },
      args: { findings: names.slice(from, from + 200) },
    }),
  );
  await world.stopWorkers();
  for (const one of sent) await handle.signal('command', one);
  await world.startWorkers();
  for (const { body } of sent) expect(await world.settled(large, body.commandId)).toMatchObject({ status: 'done' });
  const { raw } = await handle.describe();
  const bytes = Number(raw.workflowExecutionInfo?.historySizeBytes ?? 0);
  // The scan is read once; each command appears three times in the history.
  expect(bytes).toBeLessThan(2 * JSON.stringify(findings).length);
  const labelled = (await world.records.scan('p', 'scan-large'))?.findings.filter((one) => one.label);
  expect(labelled).toHaveLength(600);
});

it('records commands with the same id for two scans', async () => {
  const scan = await world.records.scan('p', 'scan-1');
  if (!scan) throw new Error('no scan');
  const fresh = { state: 'open', revision: 0, commit: null, findings: [finding('one', true)] } as const;
  const names = ['scan-a', 'scan-b'];
  await world.stopWorkers();
  for (const name of names) {
    const of = await world.startFeedback({ ...scan, ...fresh, scan: name });
    for (const [commandId, findings] of [
      ['unknown-one', ['nine']],
      ['confirm-all', ['one']],
    ] as const) {
      const sent = world.signed({ workflowId: of, name: 'confirm', actor: 'eve', commandId, args: { findings } });
      await world.client.workflow.getHandle(of).signal('command', sent);
    }
  }
  await world.startWorkers();
  for (const name of names) {
    await world.settled(workflowId.feedback({ project: 'p', scan: name }), 'confirm-all');
    const kinds = (await world.auditOf(`p/scans/${name}`)).map(({ kind }) => kind);
    expect(kinds).toEqual(expect.arrayContaining(['command.refused', 'finding.confirm']));
  }
});
