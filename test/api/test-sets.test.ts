// The check of test sets at registration: every case, in pieces of any size, in turns with other work and with limits.
import { describe, expect, test } from '@jest/globals';
import { createHash } from 'node:crypto';
import { gzipSync } from 'node:zlib';
import { createApp } from '../../api/app.ts';
import { checkTestSet, TestSetProblem } from '../../api/test-sets.ts';
import type { StorePath } from '../../workflows/domain/names.ts';
import { onlyAtRegistration, type TestSetCase, testSetCases } from '../capsule/test-set-cases.ts';
import { worldOfThisFile } from './world-of.ts';
import { PROJECT } from './world.ts';

async function* inPieces(bytes: Buffer, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) {
    await Promise.resolve();
    yield bytes.subarray(at, at + size);
  }
}
const check = (bytes: Buffer | string, size = 1 << 16, name = 'test.jsonl', limits = {}) =>
  checkTestSet({ name }, inPieces(Buffer.from(bytes), size), {
    limits: { lineBytes: 32 << 20, rows: 1_000, ...limits },
  });
/** Why it is refused; the empty text if it is not. */
const refusal = (checking: Promise<unknown>): Promise<string> =>
  checking.then(
    () => '',
    (error: unknown) => {
      if (error instanceof TestSetProblem) return error.message;
      throw error;
    },
  );
const expected = ({ refused }: TestSetCase): RegExp =>
  refused === 'none' ? /^$/ : refused === 'any' ? /^(line [1-9]\d* |has )/ : new RegExp(`^line ${refused} `);

describe('the check says which line is wrong', () => {
  test.each([...testSetCases, ...onlyAtRegistration].map((one) => [one.name, one] as const))('%s', async (_, one) => {
    for (const size of one.bytes.length > 1 << 20 ? [1 << 16] : [1, 7, 1 << 16]) {
      expect(await refusal(check(one.bytes, size, one.file))).toMatch(expected(one));
    }
  });
});

test('a valid test set has its digest as the answer', async () => {
  for (const { file, bytes } of testSetCases.filter(({ refused }) => refused === 'none'))
    expect(await check(bytes, 1 << 16, file)).toBe(createHash('sha256').update(bytes).digest('hex'));
});

test('inputs have one datatype over all rows', async () => {
  const row = (id: number, x: unknown) => JSON.stringify({ id: `r${id}`, inputs: { x }, label: 0 });
  const of = (...values: unknown[]) => refusal(check(values.map((x, id) => row(id, x)).join('\n')));
  expect(await of('12', 12, '-3')).toBe('');
  expect(await of('12', 'a text')).toBe('');
  expect(await of(true, false)).toBe('');
  expect(await of([1, 2], [[3], [4.5]])).toBe('');
  expect(await of('12', 12, 0.5)).toMatch(/^line 3 has values in input "x" that have no datatype in common/);
  expect(await of('12', 'a text', 12)).toMatch(/^line 3 /);
  expect(await of(true, 1)).toMatch(/^line 2 /);
});

test('rows and lines have limits', async () => {
  const rows = (count: number) => Array.from({ length: count }, (_, id) => `{"id":"${id}","inputs":{"x":1},"label":0}`);
  expect(await refusal(check(rows(10).join('\n'), 50, 'test.jsonl', { rows: 10 }))).toBe('');
  expect(await refusal(check(rows(11).join('\n'), 50, 'test.jsonl', { rows: 10 }))).toBe(
    'line 11 is one row more than the limit of 10 rows',
  );
  const names = (count: number) => Array.from({ length: count }, (_, i) => `"${i}":1`).join();
  for (const of of [
    (many: string) => `{"id":"a","inputs":{${many}},"label":0}`,
    (many: string) => `{"id":"a","inputs":{"x":1},"label":0,"note":{${many}}}`,
  ]) {
    expect(await refusal(check(of(names(1_000)), 1 << 16, 'test.jsonl'))).toBe('');
    expect(await refusal(check(of(names(1_001)), 1 << 16, 'test.jsonl'))).toBe(
      'line 1 has an object with more than 1000 names',
    );
  }
  const bomb = gzipSync(Buffer.alloc(64 << 20, ' '));
  expect(await refusal(check(bomb, 1 << 16, 'test.jsonl.gz'))).toBe('line 1 is longer than 33554432 bytes');
});

test.each([
  [
    'many rows',
    Array.from({ length: 60_000 }, (_, id) => `{"id":"${id}","inputs":{"x":[1,2,3]},"label":0}`).join('\n'),
  ],
  ['a long row', `{"id":"a","inputs":{"x":[${'1.5,'.repeat(1_000_000)}1]},"label":0}`],
  ['a long text', `{"id":"a","inputs":{"x":"${'\\u0041 '.repeat(1_000_000)}"},"label":0}`],
])('other work goes on during %s', async (_, text) => {
  const turns = { count: 0 };
  const timer = setInterval(() => (turns.count += 1), 1);
  const begun = performance.now();
  await check(text, 1 << 16, 'test.jsonl', { rows: 100_000 });
  clearInterval(timer);
  const took = performance.now() - begun;
  // Without pauses there is no turn at all, because the pieces are in memory.
  expect(turns.count).toBeGreaterThan(Math.min(5, took / 50));
});

describe('registering', () => {
  const { world, said, auditOf } = worldOfThisFile();
  const path = `/v1/projects/${PROJECT}/datasets`;
  const upload = (name: string, bytes: Buffer) =>
    world().ask('mia', 'PUT', `/v1/projects/${PROJECT}/files/private/${name}?replace=true`, bytes);
  const register = (dataset: string, names: readonly string[], kind = 'test') =>
    said(
      world().ask('mia', 'POST', path, {
        ...{ dataset, kind, files: names.map((name) => ({ name, area: 'private', path: name })) },
      }),
    );
  const valid = Buffer.from('{"id":"a","inputs":{"x":1},"label":"YES"}\n');

  test('an invalid test set is refused with file, line and remedy, and leaves nothing', async () => {
    await upload('held-out.jsonl', Buffer.from(`${valid.toString()}{"id":"b","inputs":{"x":1}}\n`));
    const message =
      '"held-out.jsonl": line 2 has no label (the name of a class, or its position as an integer): ' +
      'correct the file, upload it and register it again';
    expect(await register('held-out', ['held-out.jsonl'])).toMatchObject([
      400,
      `invalid: body.files.0: ${message}`,
      { errors: [{ where: 'body.files.0', message }] },
    ]);
    const { areas } = world().deps;
    for (const area of ['staging', 'common'])
      expect((await areas.list(`${area}/${PROJECT}/datasets/held-out` as StorePath)).files).toEqual([]);
    expect((await world().ask('mia', 'GET', `${path}/held-out`)).status).toBe(404);
    expect((await auditOf(`${PROJECT}/datasets/held-out`)).map(({ kind }) => kind)).not.toContain('dataset.registered');
    // The name is free, for a training set too, whose files are not looked at.
    expect((await register('held-out', ['held-out.jsonl'], 'training'))[0]).toBe(201);
    await upload('held-out.jsonl', valid);
    expect((await register('held-out-2', ['held-out.jsonl']))[0]).toBe(201);
    // It is repeated without another look at the rows.
    expect((await register('held-out-2', ['held-out.jsonl']))[0]).toBe(200);
  });

  test.each([
    ['another name', ['rows.csv']],
    ['two files', ['a.jsonl', 'b.jsonl']],
  ])('a test set of %s, which no evaluation takes, is refused', async (_, names) => {
    for (const name of names) await upload(name, valid);
    expect(await register('no-rows', names)).toMatchObject([
      400,
      'invalid: body.files: a test set is one file *.jsonl or *.jsonl.gz, with a labelled row in each line',
      { errors: [{ where: 'body.files' }] },
    ]);
  });

  test('what was checked is what is stored', async () => {
    await upload('swapped.jsonl', valid);
    const { deps, tokens } = world();
    const reads = { count: 0 };
    const read: typeof deps.areas.read = async (uri, options) => {
      reads.count += 1;
      if (reads.count === 2) await upload('swapped.jsonl', Buffer.from(valid).fill('x'));
      return deps.areas.read(uri, options);
    };
    const { app } = createApp({ ...deps, areas: { ...deps.areas, read } });
    const post = app.request(`http://localhost${path}`, {
      method: 'POST',
      headers: { authorization: `Bearer ${tokens['mia']}`, 'content-type': 'application/json' },
      body: JSON.stringify({
        ...{ dataset: 'swapped', kind: 'test' },
        files: [{ name: 'swapped.jsonl', area: 'private', path: 'swapped.jsonl' }],
      }),
    });
    expect((await said(post))[1]).toMatch(/^digest-mismatch/);
    expect((await world().ask('mia', 'GET', `${path}/swapped`)).status).toBe(404);
  });
});
