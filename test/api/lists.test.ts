// Lists with many rows: full pages, short rows, a bounded number of queries; and refused requests that are counted.
import { describe, expect, test } from '@jest/globals';
import type { Projection } from '../../activities/records.ts';
import { DIGEST, evaluationRow, versionRow } from './passage.ts';
import { json, PROJECT, TYPE } from './world.ts';
import { worldOfThisFile } from './world-of.ts';

const { world, machines } = worldOfThisFile();

type Row = Readonly<Record<string, unknown>>;
interface Listed {
  readonly rows: readonly Row[];
  readonly next?: string;
}
const list = async (who: string, path: string): Promise<Listed> => {
  const response = await world().ask(who, 'GET', path);
  expect(response.status).toBe(200);
  return (await response.json()) as Listed;
};

/** Every page of a list, the limit in its query; each but the last is full. */
async function pages(who: string, path: string, limit: number): Promise<Row[]> {
  const found: Row[] = [];
  for (let after: string | undefined, count = 0; count < 100; count += 1) {
    const { rows, next } = await list(who, `${path}limit=${limit}${after === undefined ? '' : `&after=${after}`}`);
    found.push(...rows);
    if (next === undefined) return found;
    expect(rows).toHaveLength(limit);
    after = next;
  }
  throw new Error(`${path} has no end`);
}

/** How many calls of Records a request makes. */
async function callsOf(work: () => Promise<unknown>): Promise<number> {
  const records = world().deps.records as unknown as Record<string, (...args: unknown[]) => unknown>;
  let calls = 0;
  const originals = Object.entries(records);
  for (const [name, original] of originals)
    records[name] = (...args) => {
      calls += 1;
      return original(...args);
    };
  try {
    await work();
  } finally {
    for (const [name, original] of originals) records[name] = original;
  }
  return calls;
}

describe('a list', () => {
  test('of evaluations has full pages of what a person may see, regardless of others’ evaluations', async () => {
    const { records } = world().deps;
    await records.record([], [{ kind: 'version', row: versionRow({ submission: 'sid-1', author: 'sid' }) }]);
    for (let n = 0; n < 200; n += 1) {
      const submission = n % 20 === 0 ? 'sid-1' : 'rf-1';
      const row = evaluationRow({ evaluation: `many-${n}`, submission, actor: 'mia' });
      await records.record([], [{ kind: 'evaluation', row }]);
    }
    const path = `/v1/projects/${PROJECT}/evaluations?`;
    const ofSid = await pages('sid', path, 3);
    expect(ofSid.map((row) => row['evaluation'])).toEqual(Array.from({ length: 10 }, (_, n) => `many-${180 - 20 * n}`));
    expect(await pages('mia', `${path}submission=rf-1&`, 50)).toHaveLength(191);
    const [few, many] = [
      await callsOf(() => list('sam', `${path}limit=1`)),
      await callsOf(() => list('sam', `${path}limit=200`)),
    ];
    expect(many).toBe(few);
  });

  test('of versions is short, filtered, and in the requested order', async () => {
    const { records } = world().deps;
    const file = { name: 'model.onnx', uri: 'local:areas/x' as never, sha256: DIGEST, bytes: 1 };
    const decision = { commandId: 'c-1', name: 'undo', actor: 'mia', reason: 'x'.repeat(500), report: null, at: '' };
    await records.record(
      [],
      Array.from({ length: 60 }, (_, n): Projection => {
        const row = versionRow({
          ...{ model: 'oak', submission: `oak-${n}`, author: n % 2 ? 'sid' : 'sam', version: n + 1 },
          ...{ tags: n % 3 ? [] : ['nightly'], detail: 'long '.repeat(200) },
          ...{ files: [file, file, file], decisions: [decision, decision] as never },
          updatedAt: new Date(Date.parse('2026-03-01') + n * 1_000).toISOString(),
        });
        return { kind: 'version', row };
      }),
    );
    const path = `/v1/projects/${PROJECT}/versions?`;
    const names = async (who: string, query: string) =>
      (await list(who, `${path}${query}`)).rows.map((row) => row['submission']);
    const response = await world().ask('mia', 'GET', `${path}model=oak&limit=50`);
    const text = await response.text();
    expect(text.length).toBeLessThan(50 * 1_000);
    const [first] = (JSON.parse(text) as Listed).rows;
    expect(Object.keys(first ?? {}).sort()).toEqual(
      ['author', 'detail', 'digest', 'model', 'project', 'revises', 'revision', 'state', 'submission', 'tags', 'type', 'updatedAt', 'version'], // prettier-ignore
    );
    expect(await names('mia', 'model=oak&limit=2')).toEqual(['oak-59', 'oak-58']);
    expect(await names('mia', 'model=oak&limit=2&order=oldest')).toEqual(['oak-0', 'oak-1']);
    expect(await names('mia', 'tag=nightly&author=sam&limit=2&order=number')).toEqual(['oak-54', 'oak-48']);
    expect(await names('mia', 'text=oak-12')).toEqual(['oak-12']);
    expect(await names('mia', 'type=sentiment')).toEqual([]);
    expect(await names('sid', 'tag=nightly&limit=1')).toEqual(['oak-57']);
    expect(await names('sid', 'tag=nightly&author=sam')).toEqual([]);
    expect(await pages('sid', `${path}model=oak&order=number&`, 7)).toHaveLength(30);
    for (const query of ['order=best', 'after=12', 'text=', 'tag=No'])
      expect((await world().ask('mia', 'GET', `${path}${query}`)).status).toBe(400);
    const { next } = await list('mia', `${path}limit=1`);
    expect((await world().ask('mia', 'GET', `${path}order=number&after=${next}`)).status).toBe(400);
  });

  test('of releases shows an application only announced ones, however many are not', async () => {
    const { records } = world().deps;
    const first = await records.release(`${TYPE}-1`);
    if (!first) throw new Error('no release');
    const { release: _release, sequence: _sequence, state: _state, ...again } = first;
    for (let n = 0; n < 6; n += 1) await records.allotRelease(`command-${n}`, again);
    await records.announced(`${TYPE}-7`);
    const rows = async (who: string, query: string) =>
      (await list(who, `/v1/types/${TYPE}/releases?${query}`)).rows.map((row) => row['sequence']);
    expect(await rows(machines().scanner, 'limit=2')).toEqual([1, 7]);
    expect(await rows(machines().scanner, 'limit=2&after=1')).toEqual([7]);
    expect(await rows('mia', 'limit=3')).toEqual([1, 2, 3]);
  });

  test('of applications shows an application token only its own application', async () => {
    const named = async (who: string) =>
      (await list(who, `/v1/projects/${PROJECT}/applications`)).rows.map((row) => row['application']);
    expect(await named(machines().scanner)).toEqual(['scanner']);
    expect(await named('mia')).toEqual(['probe', 'scanner']);
  });
});

describe('the audit', () => {
  const ofProject = async () => (await list('mia', `/v1/projects/${PROJECT}/audit?limit=500`)).rows;
  const refused = async () =>
    (await ofProject())
      .map((row) => row['entry'] as Row)
      .filter(({ kind }) => String(kind).startsWith('command.refused'));

  test('stores fifty refused requests as one row and one count', async () => {
    const command = {
      name: 'approve',
      revision: 1,
      digest: DIGEST,
      report: DIGEST,
      args: { reason: 'x'.repeat(2_000) },
    };
    const send = (who: string, thing: string, body: object = command) =>
      world().ask(who, 'POST', `${thing}/commands`, body);
    const version = `/v1/projects/${PROJECT}/models/random-forest/submissions/rf-1`;
    const before = (await world().deps.records.verifyAudit()).rows;
    const begun = Date.now();
    for (let n = 0; n < 50; n += 1) expect((await send('dev', version)).status).toBe(403);
    // Another person and another action are counted by themselves.
    const confirm = { name: 'confirm', revision: 0, args: { findings: ['f-1'] } };
    for (let n = 0; n < 3; n += 1) expect((await send('sam', version)).status).toBe(403);
    for (let n = 0; n < 3; n += 1)
      expect((await send('dev', `/v1/projects/${PROJECT}/scans/scan-1`, confirm)).status).toBe(403);
    const minutes = Math.floor(Date.now() / 60_000) - Math.floor(begun / 60_000) + 1;
    const rows = (await world().deps.records.verifyAudit()).rows - before;
    expect(rows).toBeGreaterThanOrEqual(3);
    expect(rows).toBeLessThanOrEqual(3 * minutes);
    const [first] = await refused();
    expect(first).toMatchObject({ actor: 'dev', detail: { name: 'approve', refused: 'not-authorized' } });
  });

  test('shows recent actions immediately, and how many are not linked yet', async () => {
    const verification = async () => json(world().ask('admin', 'GET', '/v1/audit/verification'));
    const last = (await ofProject()).at(-1);
    expect(last).toMatchObject({ seq: null, previous: null, hash: null });
    const before = await verification();
    // How much of it is overdue depends on how long this file has taken so far.
    expect(before).toMatchObject({ broken: null });
    expect(before['unlinked']).toBeGreaterThan(0);
    while ((await world().deps.records.linkAudit()) > 0);
    expect(await verification()).toEqual({ ...before, unlinked: 0, overdue: 0 });
    expect((await ofProject()).at(-1)?.['seq']).toEqual(expect.any(Number));
  });
});
