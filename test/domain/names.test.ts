// Names, paths, digests and addresses: valid and invalid ones, and round trips of each maker and its inverse.
import { createHash } from 'node:crypto';
import { checkPath } from '../../activities/adapters/store-rules.ts';
import { importFolder } from '../../workflows/domain/import.ts';
import type { Digest, Location } from '../../workflows/domain/names.ts';
import {
  areaPathProblem,
  isDigest,
  isName,
  locationOf,
  nameProblem,
  NAME_LIMIT,
  pathProblem,
  releasePath,
  stagingFolder,
  storePath,
  systemName,
} from '../../workflows/domain/names.ts';
import { sha256Hex } from '../../workflows/domain/sha256.ts';
import { parseWorkflowId, workflowId } from '../../workflows/messages.ts';

const odd: readonly unknown[] = [undefined, null, 0, 1n, true, Symbol('x'), {}, [], ['a'], () => 'a', NaN];

it.each(['a', 'random-forest', 'a1', 'a-1', 'code-vulnerability', 'a-b-c-d', 'constructor', 'a'.repeat(NAME_LIMIT)])(
  'takes %s as a name',
  (name) => {
    expect(nameProblem(name)).toBeUndefined();
  },
);

it.each([
  '',
  'A',
  'Random',
  '1a',
  '-a',
  'a-',
  'a--b',
  'a_b',
  'a.b',
  'a b',
  ' a',
  'a\n',
  'a/b',
  '..',
  'é',
  'а', // Cyrillic
  'a\u0000',
  'a\u200b',
  '__proto__',
  'a'.repeat(NAME_LIMIT + 1),
  'a'.repeat(100_000),
])('refuses %j as a name', (name) => {
  expect(nameProblem(name)).toMatch(/^a name /);
});

it.each(['a', 'A', '_x', '0', 'model.onnx', 'a/b/c', 'runs/rf-1/model.onnx', 'a..b', 'x-', 'a.'.repeat(64)])(
  'takes %s as a path',
  (path) => {
    expect(pathProblem(path)).toBeUndefined();
  },
);

it.each([
  '',
  '.',
  '..',
  '/',
  '/a',
  'a/',
  'a//b',
  'a/../b',
  '../a',
  './a',
  '.hidden',
  'a/.hidden',
  '-rf',
  'a/-b',
  'a\\b',
  'a b',
  'a%2fb',
  'a:b',
  'a?b',
  'a#b',
  'a*b',
  '~',
  '$HOME',
  'é',
  'a\u0000',
  'a\n',
  'a'.repeat(129),
  'a/'.repeat(12) + 'a',
  `${'a'.repeat(120)}/`.repeat(5) + 'a',
])('refuses %j as a path', (path) => {
  expect(typeof pathProblem(path)).toBe('string');
  // The message is safe to print.
  expect(pathProblem(path)).toMatch(/^[\x20-\x7e]*$/);
});

it.each(odd)('refuses a value that is not text: %p', (value) => {
  expect([isName(value), isDigest(value)]).toEqual([false, false]);
  expect([nameProblem(value), pathProblem(value)]).toEqual(['a name must be text', 'a path must be text']);
});

it('recognises digests', () => {
  expect(isDigest('0123456789abcdef'.repeat(4))).toBe(true);
  for (const text of ['', 'f'.repeat(63), 'f'.repeat(65), 'F'.repeat(64), 'g'.repeat(64), `${'f'.repeat(64)}\n`])
    expect(isDigest(text)).toBe(false);
});

const locations: readonly Location[] = [
  { area: 'private', project: 'p', user: 'sam', path: 'a' },
  { area: 'private', project: 'random-forest', user: 'p', path: 'runs/rf-1/model.onnx' },
  { area: 'common', project: 'p', path: 'a' },
  { area: 'common', project: 'private', path: 'private/p/sam' },
  { area: 'staging', project: 'p', path: `${stagingFolder('m', 'rf-1')}/record/000001.json` },
];

it.each(locations)('finds the location of its own store path: %j', (location) => {
  expect(locationOf(storePath(location))).toEqual(location);
});

it.each([
  '',
  'private',
  'private/p',
  'private/p/sam',
  'private/p/sam/',
  'private/P/sam/a',
  'private/p/../a',
  'common',
  'common/p',
  'common/p/',
  'staging/p/../q/a',
  'releases/kind/a',
  'other/p/a',
  '/common/p/a',
  'common//a',
])('finds no location in %j', (path) => {
  expect(locationOf(path)).toBeUndefined();
});

it('throws for invalid names and paths', () => {
  const bad: readonly Location[] = [
    { area: 'private', project: 'p', user: '..', path: 'a' },
    { area: 'private', project: '../p', user: 'sam', path: 'a' },
    { area: 'private', project: 'p', user: 'sam/x', path: 'a' },
    { area: 'common', project: 'p', path: '../a' },
    { area: 'staging', project: '', path: 'a' },
  ];
  for (const location of bad) expect(() => storePath(location)).toThrow(TypeError);
  const digest = 'f'.repeat(64) as Digest;
  expect(releasePath('kind', digest, 'model.onnx')).toBe(`releases/kind/${digest}/model.onnx`);
  expect(() => releasePath('Kind', digest, 'a')).toThrow(TypeError);
  expect(() => releasePath('kind', 'f' as Digest, 'a')).toThrow(TypeError);
  expect(() => releasePath('kind', digest, '../a')).toThrow(TypeError);
});

it('computes standard SHA-256', () => {
  for (const text of [
    '',
    'abc',
    'é',
    '😀',
    '\ud800',
    'a'.repeat(55),
    'a'.repeat(56),
    'a'.repeat(64),
    'ß'.repeat(1_000),
  ])
    expect(sha256Hex(text)).toBe(createHash('sha256').update(text).digest('hex'));
});

it('makes names for other systems: labels within a limit, the same for the same text, distinct for distinct texts', () => {
  const long = 'n'.repeat(NAME_LIMIT);
  const texts = [
    ...['', '-', '0', 'a', 'A', 'a-', 'a/b', 'a-b', 'a.b', '日本', `${long}/${long}`, `${long}/${long}x`, 'a\n'],
    workflowId.trainingRun({ project: long, model: long, submission: long, attempt: 1 }),
    workflowId.trainingRun({ project: long, model: long, submission: long, attempt: 2 }),
    `function-${long}-${long}-1`,
    `function-${long}-${long}-2`,
  ];
  for (const limit of [20, NAME_LIMIT, 100]) {
    const made = texts.map((text) => systemName(text, limit));
    for (const name of made) expect(name).toMatch(/^[a-z][a-z0-9]*(-[a-z0-9]+)*$/);
    for (const name of made) expect(name.length).toBeLessThanOrEqual(limit);
    expect(new Set(made).size).toBe(texts.length);
    expect(texts.map((text) => systemName(text, limit))).toEqual(made);
  }
  expect(systemName('evaluation/p/e-1')).toMatch(/^evaluation-p-e-1-[0-9a-f]{16}$/);
});

it('allows the platform’s additions to the longest names and paths in an area', () => {
  const n = 'n'.repeat(NAME_LIMIT);
  const path = [...Array<string>(3).fill('p'.repeat(125)), ...'abcdefgh'.split(''), 's'.repeat(118)].join('/');
  expect([path.length, path.split('/').length, pathProblem(path)]).toEqual([512, 12, undefined]);
  const release = `${n}-999999999`;
  const inside = [
    `${path}/model.onnx`,
    `${path}/reports/${n}.json`,
    `${path}/reports/${n}.log.txt`,
    `datasets/${n}/${path}`,
    `${importFolder({ dataset: n, import: n })}/files/${path}.tar`,
    `runs/${n}-999/golden.json`,
    `${stagingFolder(n, n)}/reports/private-${'r'.repeat(128)}`,
    `${stagingFolder(n, n)}/record/evaluation-${n}.json`,
    `${stagingFolder(n, n)}/record/delivery-${n}-${release}-superseded-20.json`,
    `returned/${n}/${n}/reports/${n}.json`,
    `scans/${n}/000001.json`,
  ];
  for (const one of inside)
    for (const location of [
      { area: 'staging', project: n, path: one },
      { area: 'private', project: n, user: n, path: one },
    ] satisfies Location[]) {
      expect([one, areaPathProblem(one)]).toEqual([one, undefined]);
      expect(locationOf(storePath(location))).toEqual(location);
      expect(checkPath(storePath(location))).toBe(storePath(location));
    }
});

const ids = {
  modelLifecycle: { project: 'p', model: 'm', submission: 's-1' },
  trainingRun: { project: 'p', model: 'm', submission: 's-1', attempt: 2 },
  evaluation: { project: 'p', evaluation: 'e-1' },
  release: { release: 'kind-1' },
  application: { application: 'shop', type: 'kind' },
  delivery: { application: 'shop', release: 'kind-1' },
  feedback: { project: 'p', scan: 's-1' },
  dataImport: { project: 'p', import: 'i-1' },
} satisfies { [K in keyof typeof workflowId]: Parameters<(typeof workflowId)[K]>[0] };

it.each(Object.keys(workflowId) as (keyof typeof workflowId)[])('reads the id of %s back', (workflow) => {
  const make = workflowId[workflow] as (of: unknown) => string;
  const of = Object.fromEntries(Object.entries(ids[workflow]).map(([key, value]) => [key, String(value)]));
  expect(parseWorkflowId(make(ids[workflow]))).toEqual({ workflow, of });
});

it('gives distinct workflows distinct ids, and parses no foreign id', () => {
  const made = Object.entries(ids).map(([name, of]) =>
    (workflowId[name as keyof typeof workflowId] as (of: unknown) => string)(of),
  );
  expect(new Set(made).size).toBe(made.length);
  for (const id of [
    '',
    '/',
    'model',
    'model/p/m',
    'model/p/m/s/x',
    'constructor/a',
    '__proto__/a',
    'other/a/b',
    'release',
  ])
    expect(parseWorkflowId(id)).toBeUndefined();
});
