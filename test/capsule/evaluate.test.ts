// The evaluation job with small models whose metrics can be computed by hand, and with invalid test sets.
import { createHash } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { pythonEnvironment } from '../python.ts';
import { type Ended, jobFolders, type JobFolders, runProgram } from './programs.ts';
import { onlyAtRegistration, testSetCases } from './test-set-cases.ts';

/** A graph whose prediction is its input, row by row: what a test row holds is what the model "answers". */
const ECHO = `
import sys
from onnx import TensorProto, helper
width, path, name = int(sys.argv[1]), sys.argv[2], sys.argv[4]
kind = TensorProto.INT64 if sys.argv[5] == "INT64" else TensorProto.FLOAT
ends = [helper.make_tensor_value_info(name, kind, ["N", width]) for name in (name, "probabilities")]
node = helper.make_node("Mul", [name, "one"], ["probabilities"])
factor = float(sys.argv[3])
one = helper.make_tensor("one", kind, [1], [factor if kind == TensorProto.FLOAT else int(factor)])
graph = helper.make_graph([node], "echo", [ends[0]], [ends[1]], [one])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
open(path, "wb").write(model.SerializeToString())
`;

type Report = {
  testSet: { sha256: string; rows: number; positives: number | null };
  model: { sha256: string };
  metrics: Record<string, number | null>;
  confusion: number[][];
  curves: { roc: number[][]; precision_recall: number[][] };
  histogram: { positive: number[]; negative: number[] } | null;
  checks: { metric: string; passed: boolean; value: number | null }[];
  passed: boolean;
  notes: string[];
  baseline: { metrics: Record<string, number>; delta: Record<string, number> } | null;
};

let python: string;
let folders: JobFolders;

beforeAll(async () => {
  python = await pythonEnvironment();
}, 300_000);

beforeEach(async () => {
  folders = await jobFolders({ thresholds: { f1: 0.6, average_precision: 0.6 }, seed: 0 });
});

afterEach(() => folders.remove());

async function putModel(
  name: string,
  options: {
    classes?: string[];
    positive?: string | undefined;
    factor?: string;
    threshold?: number;
    width?: number;
    input?: string;
    datatype?: 'FP32' | 'INT64';
  } = {},
) {
  const classes = options.classes ?? ['NO', 'YES'];
  const width = options.width ?? classes.length;
  const path = join(folders.inputs, `${name}.onnx`);
  const { input = 'x', datatype = 'FP32', factor = '1' } = options;
  const made = await runProgram(python, ['-c', ECHO, String(width), path, factor, input, datatype]);
  expect(made).toMatchObject({ status: 0, stderr: '' });
  const description = {
    signature: { inputs: [{ name: input, datatype, shape: [-1, width] }], outputs: [] },
    classes,
    prediction: { output: 'probabilities', ...(classes.length === 2 ? { positive: options.positive ?? 'YES' } : {}) },
    threshold: options.threshold ?? 0.5,
  };
  await writeFile(join(folders.inputs, `${name}.json`), JSON.stringify(description));
}

const row = (id: number, score: number, label: unknown) =>
  JSON.stringify({ id: `r${id}`, inputs: { x: [1 - score, score] }, label });
const putRows = (lines: readonly string[]) => writeFile(join(folders.inputs, 'test.jsonl'), lines.join('\n') + '\n');
const evaluate = (env: Record<string, string> = {}): Promise<Ended> =>
  runProgram(python, ['-m', 'ocdl.evaluate'], { env: { ...folders.env, ...env } });
const expectRefusal = async (status: number, message: string) => {
  const ended = await evaluate();
  expect(ended.status).toBe(status);
  expect(ended.stderr).toContain(message);
};
const report = async () => JSON.parse(await readFile(join(folders.outputs, 'report.json'), 'utf8')) as Report;

// By hand, at threshold .5: 2 true positives, 1 false one, 1 missed, 2 true negatives; 8 of 9 pairs in the right order.
const SOUND = [
  row(1, 0.9, 'YES'),
  row(2, 0.75, 1),
  row(3, 0.625, 'NO'),
  row(4, 0.375, 'YES'),
  row(5, 0.25, 0),
  row(6, 0.125, 'NO'),
];

test('metrics, checks and digests equal those computed by hand', async () => {
  await putModel('model');
  await putRows(SOUND);
  expect(await evaluate()).toMatchObject({ status: 0, stderr: '' });
  const found = await report();
  expect(found.confusion).toEqual([
    [2, 1],
    [1, 2],
  ]);
  const third = 0.666667;
  expect(found.metrics).toEqual({
    accuracy: third,
    precision: third,
    recall: third,
    f1: third,
    roc_auc: 0.888889,
    average_precision: 0.916667,
  });
  expect(found.testSet).toMatchObject({ rows: 6, positives: 3 });
  const digest = async (name: string) =>
    createHash('sha256')
      .update(await readFile(join(folders.inputs, name)))
      .digest('hex');
  expect(found.testSet.sha256).toBe(await digest('test.jsonl'));
  expect(found.model.sha256).toBe(await digest('model.onnx'));
  expect(found.passed).toBe(true);
  expect(found.baseline).toBeNull();
  expect([found.curves.roc[0], found.curves.roc.at(-1)]).toEqual([
    [0, 0],
    [1, 1],
  ]);
  expect(found.histogram?.positive.reduce((sum, count) => sum + count)).toBe(3);
});

test('the threshold stored with the model is used, and a failed check fails the report', async () => {
  await putModel('model', { threshold: 0.8 });
  await putRows(SOUND);
  expect(await evaluate()).toMatchObject({ status: 0 });
  const found = await report();
  expect(found.confusion).toEqual([
    [3, 0],
    [2, 1],
  ]);
  expect(found.checks.map(({ metric, passed }) => [metric, passed])).toEqual([
    ['f1', false],
    ['average_precision', true],
  ]);
  expect(found.passed).toBe(false);
});

test('the live version is evaluated on the same rows', async () => {
  await putModel('model');
  await putModel('baseline', { factor: '-1' });
  await putRows(SOUND);
  expect(await evaluate()).toMatchObject({ status: 0, stderr: '' });
  const found = await report();
  expect(found.baseline?.metrics['roc_auc']).toBe(0.111111);
  expect(found.baseline?.delta['roc_auc']).toBe(0.777778);
});

test.each<[string, Parameters<typeof putModel>[1], RegExp]>([
  ['fewer features', { classes: ['NO', 'YES'], width: 3 }, /input 'x' has 2 values, which do not fit the shape \[3\]/],
  ['other classes', { classes: ['NO', 'YES', 'MAYBE'], width: 2 }, /it has the classes .*'MAYBE'/],
  ['predictions that are not numbers', { factor: 'nan' }, /baseline\.onnx: its prediction .* not a finite number/],
  ['another input', { input: 'y' }, /test set line 1: input 'y' is missing/],
])('a live version with %s is not compared, and the report says why', async (_name, options, note) => {
  await putModel('model');
  await putModel('baseline', options);
  await putRows(SOUND);
  expect(await evaluate()).toMatchObject({ status: 0, stderr: '' });
  const found = await report();
  expect([found.baseline, found.passed, found.notes.length]).toEqual([null, true, 1]);
  expect(found.notes[0]).toMatch(/^there is no comparison with the live version/);
  expect(found.notes[0]).toMatch(note);
});

test('a byte order mark and blank last lines are skipped', async () => {
  await putModel('model');
  await putRows([`\uFEFF${SOUND[0]}`, ...SOUND.slice(1), '', '  ']);
  expect(await evaluate()).toMatchObject({ status: 0, stderr: '' });
  expect((await report()).testSet.rows).toBe(6);
});

test.each([
  [['1', '0'], 1],
  [['1.0', '2.0'], 1],
  [['1', '2', '3'], 3],
])('with the classes %j the label %j is ambiguous, and its text is not', async (classes, label) => {
  await writeFile(join(folders.root, 'parameters.json'), JSON.stringify({ thresholds: {} }));
  await putModel('model', { classes, ...(classes.length === 2 && { positive: classes[0] }) });
  const x = classes.map((_, i) => (i === 0 ? 1 : 0));
  await putRows([JSON.stringify({ id: 'a', inputs: { x }, label })]);
  await expectRefusal(2, `has the label ${label}, which may be the class`);
  await putRows([JSON.stringify({ id: 'a', inputs: { x }, label: classes[0] })]);
  expect(await evaluate()).toMatchObject({ status: 0 });
  expect((await report()).metrics['accuracy']).toBe(1);
});

test('large integers are decimal strings, as in requests', async () => {
  await putModel('model', { datatype: 'INT64' });
  const line = (id: string, x: unknown[], label: string) => JSON.stringify({ id, inputs: { x }, label });
  await putRows([line('a', ['0', '9007199254740993'], 'YES'), line('b', [1, 0], 'NO')]);
  expect(await evaluate()).toMatchObject({ status: 0, stderr: '' });
  await putRows([line('a', ['0', '1.5'], 'YES')]);
  await expectRefusal(2, 'has values that are not INT64');
});

test('curves have at most 200 points and keep their end points', async () => {
  await putModel('model');
  await putRows(Array.from({ length: 1000 }, (_, index) => row(index, index / 1000, index % 2)));
  expect(await evaluate()).toMatchObject({ status: 0 });
  const { curves } = await report();
  expect(curves.precision_recall.length).toBe(200);
  expect(curves.precision_recall.at(-1)?.[0]).toBe(1);
  expect(curves.roc.at(-1)).toEqual([1, 1]);
});

test('metrics of more than two classes are averaged over classes', async () => {
  await putModel('model', { classes: ['a', 'b', 'c'] });
  const line = (id: number, x: number[], label: string) => JSON.stringify({ id: `r${id}`, inputs: { x }, label });
  await putRows([
    line(1, [0.8, 0.1, 0.1], 'a'),
    line(2, [0.1, 0.8, 0.1], 'b'),
    line(3, [0.1, 0.7, 0.2], 'c'),
    line(4, [0.1, 0.3, 0.6], 'c'),
  ]);
  expect(await evaluate()).toMatchObject({ status: 0, stderr: '' });
  const found = await report();
  expect(found.confusion).toEqual([
    [1, 0, 0],
    [0, 1, 0],
    [0, 1, 1],
  ]);
  expect(found.metrics).toMatchObject({ accuracy: 0.75, recall: 0.833333, precision: 0.833333 });
  expect(found.testSet.positives).toBeNull();
});

test('with one label only, undefined metrics are null, noted and not passed', async () => {
  await putModel('model');
  await putRows([row(1, 0.9, 'YES'), row(2, 0.8, 'YES')]);
  expect(await evaluate()).toMatchObject({ status: 0, stderr: '' });
  const found = await report();
  expect(found.metrics).toMatchObject({ roc_auc: null, average_precision: null, f1: 1 });
  expect(found.notes).toHaveLength(1);
  expect(found.checks).toContainEqual({ metric: 'average_precision', minimum: 0.6, value: null, passed: false });
  expect(found.passed).toBe(false);
});

test.each([
  ['no label', JSON.stringify({ id: 'x', inputs: { x: [0, 1] } }), 'has no label'],
  ['an unknown class', row(9, 0.5, 'MAYBE'), "has the label 'MAYBE'; the model's classes are NO, YES"],
  ['a class index out of range', row(9, 0.5, 2), "has the label '2'"],
  ['a boolean label', row(9, 0.5, true), "has the label 'True'"],
  [
    'a missing input',
    JSON.stringify({ id: 'x', inputs: { y: 1 }, label: 1 }),
    "has no value for the model's input 'x'",
  ],
  [
    'an input of the wrong shape',
    JSON.stringify({ id: 'x', inputs: { x: [1] }, label: 1 }),
    'has 1 values, which do not fit the shape [2]',
  ],
  [
    'an input of the wrong datatype',
    JSON.stringify({ id: 'x', inputs: { x: ['a', 'b'] }, label: 1 }),
    'has values that are not FP32',
  ],
  ['a truncated line', '{"id": "x", "inp', 'is not valid JSON'],
  ['an empty line', '', 'is not valid JSON'],
  ['a label given twice', '{"id":"x","inputs":{"x":[0,1]},"label":"YES","label":"NO"}', "'label' is given twice"],
  ['an input given twice', '{"id":"x","inputs":{"x":[0,1],"x":[1,0]},"label":"YES"}', "'x' is given twice"],
  ['a duplicate id', row(1, 0.5, 1), "has the id 'r1' of an earlier row"],
])('%s is refused with status 2 and the line number', async (_name, line, message) => {
  await putModel('model');
  await putRows([...SOUND.slice(0, 2), line, ...SOUND.slice(2)]);
  const ended = await evaluate();
  expect(ended.status).toBe(2);
  expect(ended.stderr).toContain('test set line 3: ');
  expect(ended.stderr).toContain(message);
  await expect(report()).rejects.toThrow('ENOENT');
});

// In one process per kind: starting one for each of the cases would take minutes.
const READ_ALL = `
import json, pathlib, sys
from ocdl.model import load_model
from ocdl.test_set import TestSetError, find_test_set, read_rows
root = pathlib.Path(sys.argv[1])
model = load_model(root / "model.onnx", root / "model.json")
for folder in sorted(root.glob("case-*")):
    try:
        rows = list(read_rows(find_test_set(folder), tuple(entry.name for entry in model.inputs), model.classes))
        model.score(rows)
        print(json.dumps([folder.name, ""]))
    except TestSetError as error:
        print(json.dumps([folder.name, str(error)]))
`;

test('test sets that registration refuses are refused at the same line, and those that it accepts are evaluated', async () => {
  await putModel('model');
  const cases = [...testSetCases, ...onlyAtRegistration.map((one) => ({ ...one, refused: 'none' as const }))];
  for (const [index, { file, bytes }] of cases.entries()) {
    const folder = join(folders.inputs, `case-${1000 + index}`);
    await mkdir(folder);
    await writeFile(join(folder, file), bytes);
  }
  const ended = await runProgram(python, ['-c', READ_ALL, folders.inputs], { env: folders.env });
  expect(ended).toMatchObject({ status: 0, stderr: '' });
  const said = ended.stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as [string, string]);
  const found = said.map(([folder, message]) => {
    const { name, refused } = cases[Number(folder.slice(5)) - 1000] ?? {};
    const line = /^test set line (\d+): /.exec(message)?.[1];
    return [name, message === '' ? 'none' : refused === 'any' && line !== undefined ? 'any' : (line ?? message)];
  });
  expect(found).toEqual(cases.map(({ name, refused }) => [name, String(refused)]));
}, 120_000);

test('blank lines at the end and a byte order mark change nothing', async () => {
  await putModel('model');
  await putRows(SOUND);
  expect(await evaluate()).toMatchObject({ status: 0, stderr: '' });
  const { metrics } = await report();
  await writeFile(join(folders.inputs, 'test.jsonl'), `\ufeff${SOUND.join('\r\n')}\n\n  \n`);
  expect(await evaluate()).toMatchObject({ status: 0, stderr: '' });
  expect((await report()).metrics).toEqual(metrics);
});

test('a whole number that is the name of another class than the one at its position is refused', async () => {
  await putModel('model', { classes: ['1', '0', '2'] });
  const line = (id: number, label: unknown) => JSON.stringify({ id: `r${id}`, inputs: { x: [0.8, 0.1, 0.1] }, label });
  await putRows([line(1, '1'), line(2, 2), line(3, 1)]);
  await expectRefusal(
    2,
    "test set line 3: has the label 1, which may be the class '1' or a position in the classes 1, 0, 2",
  );
  await putRows([line(1, '1'), line(2, 2), line(3, '0')]);
  expect(await evaluate()).toMatchObject({ status: 0, stderr: '' });
});

test('a damaged gzip file is refused with status 2', async () => {
  await putModel('model');
  const damaged = gzipSync(SOUND.join('\n'));
  damaged.fill(0xff, 20, 40);
  await writeFile(join(folders.inputs, 'test.jsonl.gz'), damaged);
  await expectRefusal(2, 'cannot be read');
});

test('an empty test set and a truncated gzip file are refused with status 2', async () => {
  await putModel('model');
  await writeFile(join(folders.inputs, 'test.jsonl'), '');
  expect(await evaluate()).toMatchObject({ status: 2 });
  await writeFile(join(folders.inputs, 'test.jsonl.gz'), gzipSync(SOUND.join('\n')));
  expect((await evaluate()).stderr).toContain('provide exactly one of them');
  const cut = await jobFolders({});
  await writeFile(join(cut.inputs, 'test.jsonl.gz'), gzipSync(SOUND.join('\n')).subarray(0, 60));
  for (const name of ['model.onnx', 'model.json'])
    await writeFile(join(cut.inputs, name), await readFile(join(folders.inputs, name)));
  const ended = await evaluate(cut.env);
  expect(ended.status).toBe(2);
  expect(ended.stderr).toMatch(/test set line \d+: cannot be read/);
  const damaged = gzipSync(SOUND.join('\n')).fill(0xff, 20, 40);
  await writeFile(join(cut.inputs, 'test.jsonl.gz'), damaged);
  const broken = await evaluate(cut.env);
  await cut.remove();
  expect(broken.status).toBe(2);
  expect(broken.stderr).toMatch(/^ocdl\.evaluate: test set line \d+: cannot be read/);
});

test.each([
  ['non-numeric predictions', 'nan', 'is not a finite number'],
  ['infinite predictions', 'inf', 'is not a finite number'],
])('a model with %s fails with status 3', async (_name, factor, message) => {
  await putModel('model', { factor });
  await putRows(SOUND);
  const ended = await evaluate();
  expect(ended.status).toBe(3);
  expect(ended.stderr).toContain(message);
});

test('an invalid graph and a description that does not match it fail with status 3', async () => {
  await putModel('model');
  await putRows(SOUND);
  await writeFile(join(folders.inputs, 'model.json'), '{"classes": ["NO", "YES"]}');
  await expectRefusal(3, 'model.json');
  await putModel('model');
  await writeFile(join(folders.inputs, 'model.onnx'), 'not a graph');
  await expectRefusal(3, 'cannot be loaded');
});

test.each([
  [{ f2: 0.5 }, "unknown metric 'f2'"],
  [{ f1: 'high' }, "the threshold of f1 must be a number, not 'high'"],
])('invalid thresholds are refused with status 2: %j', async (thresholds, message) => {
  await writeFile(join(folders.root, 'parameters.json'), JSON.stringify({ thresholds }));
  await putModel('model');
  await putRows(SOUND);
  await expectRefusal(2, message);
});
