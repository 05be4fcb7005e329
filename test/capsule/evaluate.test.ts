// The evaluation job over small models whose figures can be worked out by hand, and over test sets that are not sound.
import { createHash } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { pythonEnvironment } from '../python.ts';
import { type Ended, jobFolders, type JobFolders, runProgram } from './programs.ts';

/** A graph whose prediction is its input, row by row: what a test row holds is what the model "answers". */
const ECHO = `
import sys
from onnx import TensorProto, helper
width, path = int(sys.argv[1]), sys.argv[2]
ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", width]) for name in ("x", "probabilities")]
node = helper.make_node("Mul", ["x", "one"], ["probabilities"])
one = helper.make_tensor("one", TensorProto.FLOAT, [1], [float(sys.argv[3])])
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
  options: { classes?: string[]; factor?: string; threshold?: number; width?: number } = {},
) {
  const classes = options.classes ?? ['NO', 'YES'];
  const width = options.width ?? classes.length;
  const path = join(folders.inputs, `${name}.onnx`);
  const made = await runProgram(python, ['-c', ECHO, String(width), path, options.factor ?? '1']);
  expect(made).toMatchObject({ status: 0, stderr: '' });
  const description = {
    signature: { inputs: [{ name: 'x', datatype: 'FP32', shape: [-1, width] }], outputs: [] },
    classes,
    prediction: { output: 'probabilities', ...(classes.length === 2 ? { positive: 'YES' } : {}) },
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

test('figures, checks and digests are those worked out by hand', async () => {
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

test('the threshold stored with the model decides, and a check that fails fails the report', async () => {
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

test('the live version is judged on the same rows', async () => {
  await putModel('model');
  await putModel('baseline', { factor: '-1' });
  await putRows(SOUND);
  expect(await evaluate()).toMatchObject({ status: 0, stderr: '' });
  const found = await report();
  expect(found.baseline?.metrics['roc_auc']).toBe(0.111111);
  expect(found.baseline?.delta['roc_auc']).toBe(0.777778);
});

test('curves have at most 200 points and keep their ends', async () => {
  await putModel('model');
  await putRows(Array.from({ length: 1000 }, (_, index) => row(index, index / 1000, index % 2)));
  expect(await evaluate()).toMatchObject({ status: 0 });
  const { curves } = await report();
  expect(curves.precision_recall.length).toBe(200);
  expect(curves.precision_recall.at(-1)?.[0]).toBe(1);
  expect(curves.roc.at(-1)).toEqual([1, 1]);
});

test('more than two classes are averaged over classes', async () => {
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

test('with one label only, what is not defined is null, is said, and has not passed', async () => {
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
  ['a truth value for a label', row(9, 0.5, true), "has the label 'True'"],
  ['a missing input', JSON.stringify({ id: 'x', inputs: { y: 1 }, label: 1 }), "lacks the model's input 'x'"],
  [
    'an input of the wrong shape',
    JSON.stringify({ id: 'x', inputs: { x: [1] }, label: 1 }),
    'has 1 values for the shape [2]',
  ],
  ['an input of the wrong kind', JSON.stringify({ id: 'x', inputs: { x: ['a', 'b'] }, label: 1 }), 'is not all FP32'],
  ['a line that is cut', '{"id": "x", "inp', 'is no JSON'],
  ['an empty line', '', 'is no JSON'],
  ['an id that comes twice', row(1, 0.5, 1), "the id 'r1' stands there twice"],
])('%s is refused with 2 and the line', async (_name, line, message) => {
  await putModel('model');
  await putRows([...SOUND.slice(0, 2), line, ...SOUND.slice(2)]);
  const ended = await evaluate();
  expect(ended.status).toBe(2);
  expect(ended.stderr).toContain('test set line 3: ');
  expect(ended.stderr).toContain(message);
  await expect(report()).rejects.toThrow('ENOENT');
});

test('an empty test set and a gzip file that is cut are refused with 2', async () => {
  await putModel('model');
  await writeFile(join(folders.inputs, 'test.jsonl'), '');
  expect(await evaluate()).toMatchObject({ status: 2 });
  await writeFile(join(folders.inputs, 'test.jsonl.gz'), gzipSync(SOUND.join('\n')));
  expect((await evaluate()).stderr).toContain('exactly one is needed');
  const cut = await jobFolders({});
  await writeFile(join(cut.inputs, 'test.jsonl.gz'), gzipSync(SOUND.join('\n')).subarray(0, 60));
  for (const name of ['model.onnx', 'model.json'])
    await writeFile(join(cut.inputs, name), await readFile(join(folders.inputs, name)));
  const ended = await evaluate(cut.env);
  await cut.remove();
  expect(ended.status).toBe(2);
  expect(ended.stderr).toMatch(/test set line \d+: cannot be read/);
});

test.each([
  ['answers that are no numbers', 'nan', 'is not a finite number'],
  ['answers without bound', 'inf', 'is not a finite number'],
])('a model with %s fails with 3', async (_name, factor, message) => {
  await putModel('model', { factor });
  await putRows(SOUND);
  const ended = await evaluate();
  expect(ended.status).toBe(3);
  expect(ended.stderr).toContain(message);
});

test('a graph that is none and a description that does not fit fail with 3', async () => {
  await putModel('model');
  await putRows(SOUND);
  await writeFile(join(folders.inputs, 'model.json'), '{"classes": ["NO", "YES"]}');
  await expectRefusal(3, 'model.json');
  await putModel('model');
  await writeFile(join(folders.inputs, 'model.onnx'), 'not a graph');
  await expectRefusal(3, 'cannot be loaded');
});

test.each([
  [{ f2: 0.5 }, "no metric is called 'f2'"],
  [{ f1: 'high' }, "the threshold of f1 is 'high'"],
])('a threshold that cannot be checked is refused with 2: %j', async (thresholds, message) => {
  await writeFile(join(folders.root, 'parameters.json'), JSON.stringify({ thresholds }));
  await putModel('model');
  await putRows(SOUND);
  await expectRefusal(2, message);
});
