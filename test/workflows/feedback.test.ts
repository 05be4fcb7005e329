// The engineer's labels: recorded, committed to Git with the truth that training needs, each once.
import type { Scan } from '../../workflows/domain/model.ts';
import type { Digest } from '../../workflows/domain/names.ts';
import { until } from './until.ts';
import type { World } from './world.ts';
import { openWorld } from './world.ts';

let world: World;
let id: string;
beforeAll(async () => {
  world = await openWorld();
  await world.addApplication('shop');
  const release = await world.released('f-1');
  await world.untilLive('shop', release);
  const finding = (name: string, vulnerable: boolean): Scan['findings'][number] => ({
    finding: name,
    name: `f, "${name}"`,
    path: `src/${name}.c`,
    vulnerable,
    probability: vulnerable ? 0.9 : 0.2,
    source: 'a'.repeat(64) as Digest,
    label: null,
  });
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

async function label(name: string, actor: string, findings: readonly string[] | undefined) {
  const sent = world.signed({ workflowId: id, name, actor, args: findings ? { findings } : {} });
  await world.client.workflow.getHandle(id).signal('command', sent);
  return world.settled(id, sent.body.commandId);
}
const csv = async (): Promise<string[]> => {
  const text = await world.code.read('p/labels', 'main', 'labels/shop/scan-1.csv');
  return Buffer.from(text ?? '')
    .toString('utf8')
    .split('\r\n')
    .filter(Boolean);
};
const commits = async () => (await world.code.log('p/labels', 'main', 50)).length;

it('commits what is confirmed and denied, with the truth for training', async () => {
  expect(await label('confirm', 'eve', ['one'])).toMatchObject({ status: 'done' });
  expect(await label('deny', 'eve', ['two', 'three'])).toMatchObject({ status: 'done' });
  const [header, ...rows] = await csv();
  expect(header).toMatch(
    /^finding,name,path,source_sha256,probability,predicted,label,by,at,application,release,model_sha256$/,
  );
  const short = rows.map((row) => row.replace(/^(\w+),"f, ""\w+""",.*,(YES|NO),(YES|NO),eve,.*$/, '$1 $2 $3'));
  // Confirmed: as the model said. Denied: the opposite.
  expect(short).toEqual(['one YES YES', 'two YES NO', 'three NO YES']);
  const scan = await world.records.scan('p', 'scan-1');
  expect(scan).toMatchObject({ state: 'labelled', revision: 2 });
  expect(scan?.commit).toBe(await world.code.resolve('p/labels', 'main'));
});

it('makes no commit for the same label again, and one for another', async () => {
  const before = [await commits(), await csv()];
  expect(await label('confirm', 'eve', ['one'])).toMatchObject({ status: 'done' });
  expect([await commits(), await csv()]).toEqual(before);
  expect(await label('deny', 'eve', ['one'])).toMatchObject({ status: 'done' });
  expect(await commits()).toBe((before[0] as number) + 1);
  expect((await csv()).find((row) => row.startsWith('one,'))).toContain(',YES,NO,eve,');
});

it('refuses others, unknown findings and no findings', async () => {
  expect(await label('confirm', 'sam', ['one'])).toMatchObject({ status: 'refused', reason: 'not-authorized' });
  expect(await label('confirm', 'eve', ['one', 'nine'])).toMatchObject({ status: 'refused', reason: 'invalid' });
  expect(await label('confirm', 'eve', undefined)).toMatchObject({ status: 'refused', reason: 'invalid' });
  expect(await label('approve', 'eve', ['one'])).toMatchObject({ status: 'refused', reason: 'unlawful' });
  await until('the refusals to be in the audit', async () => {
    const rows = await world.auditOf('p/scans/scan-1');
    return rows.filter(({ kind }) => kind === 'command.refused').length === 4;
  });
});

it('fails a label of an unknown finding that came before the scan was read', async () => {
  await world.stopWorkers();
  const scan = await world.records.scan('p', 'scan-1');
  if (!scan) throw new Error('no scan');
  const early = await world.startFeedback({ ...scan, scan: 'scan-2', state: 'open', revision: 0, commit: null });
  const sent = world.signed({ workflowId: early, name: 'confirm', actor: 'eve', args: { findings: ['nine'] } });
  await world.client.workflow.getHandle(early).signal('command', sent);
  await world.startWorkers();
  expect(await world.settled(early, sent.body.commandId)).toMatchObject({ status: 'failed', reason: 'NotFound' });
});
