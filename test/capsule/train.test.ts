// The case study's training run: its figures on the held-out projects, its files, and that a seed fixes every byte.
import { copyFile, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pythonEnvironment } from '../python.ts';
import { CAPSULE, EXAMPLE, jobFolders, type JobFolders, runProgram } from './programs.ts';

/** Asks a model for its golden samples, together and one by one, and gives the largest difference. */
const ASK = `
import json, sys, numpy as np, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1] + "/model.onnx")
samples = json.load(open(sys.argv[1] + "/golden.json"))["samples"]
texts = [s["request"]["inputs"][0]["data"][0] for s in samples]
wanted = np.array([s["response"]["outputs"][0]["data"] for s in samples])
ask = lambda rows: session.run(["label", "probabilities"], {"source": np.array(rows, dtype=object).reshape(-1, 1)})
label, together = ask(texts)
single = np.concatenate([ask([text])[1] for text in texts])
print(json.dumps({"off": float(max(np.abs(together - wanted).max(), np.abs(single - wanted).max())), "labels": label.tolist(),
                  "inputs": [[i.name, i.type, i.shape] for i in session.get_inputs()],
                  "outputs": [[o.name, o.type, o.shape] for o in session.get_outputs()]}))
`;

let python: string;
const made: JobFolders[] = [];

beforeAll(async () => {
  python = await pythonEnvironment();
}, 300_000);

afterAll(() => Promise.all(made.map((folders) => folders.remove())));

async function train(parameters: unknown, more: Record<string, string> = {}) {
  const folders = await jobFolders(parameters);
  made.push(folders);
  await copyFile(join(EXAMPLE, 'data', 'train.npz'), join(folders.inputs, 'train.npz'));
  const ended = await runProgram(python, [join(EXAMPLE, 'model', 'train.py')], {
    env: { ...folders.env, ...more },
    cwd: folders.root,
  });
  return { folders, ended };
}

async function metricsOnHeldOut(trained: JobFolders): Promise<Record<string, number>> {
  const folders = await jobFolders({ thresholds: {} });
  made.push(folders);
  await copyFile(join(EXAMPLE, 'data', 'heldout.jsonl.gz'), join(folders.inputs, 'test.jsonl.gz'));
  for (const name of ['model.onnx', 'model.json'])
    await copyFile(join(trained.outputs, name), join(folders.inputs, name));
  expect(await runProgram(python, ['-m', 'ocdl.evaluate'], { env: folders.env })).toMatchObject({
    status: 0,
    stderr: '',
  });
  return (
    JSON.parse(await readFile(join(folders.outputs, 'report.json'), 'utf8')) as { metrics: Record<string, number> }
  ).metrics;
}

const json = async (folders: JobFolders, name: string): Promise<unknown> =>
  JSON.parse(await readFile(join(folders.outputs, name), 'utf8'));

test('the random forest reaches its expected metrics, and the same seed gives the same bytes', async () => {
  // Python orders sets by a hash that differs from process to process: two seeds of it that are known to differ.
  const first = await train({ seed: 7 }, { PYTHONHASHSEED: '0' });
  const second = await train({ seed: 7 }, { PYTHONHASHSEED: '1' });
  expect(first.ended).toMatchObject({ status: 0, stderr: '' });
  expect(first.ended.stdout.match(/^::progress \{"done":\d+,"total":4,"message":".*"\}$/gm)).toHaveLength(5);
  for (const name of ['model.onnx', 'model.json', 'golden.json', 'metrics.json']) {
    const one = await readFile(join(first.folders.outputs, name));
    const other = await readFile(join(second.folders.outputs, name));
    expect({ name, same: one.equals(other) }).toEqual({ name, same: true });
  }
  const metrics = await metricsOnHeldOut(first.folders);
  expect(metrics['roc_auc']).toBeGreaterThan(0.89);
  expect(metrics['average_precision']).toBeGreaterThan(0.79);
  expect(metrics['f1']).toBeGreaterThan(0.6);
}, 600_000);

test('the linear SVM reaches its expected metrics, which are below those of the forest', async () => {
  const { folders, ended } = await train({ model: 'svm' });
  expect(ended).toMatchObject({ status: 0, stderr: '' });
  const metrics = await metricsOnHeldOut(folders);
  expect(metrics['roc_auc']).toBeGreaterThan(0.82);
  expect(metrics['roc_auc']).toBeLessThan(0.88);
  expect(metrics['average_precision']).toBeGreaterThan(0.66);
  expect(metrics['average_precision']).toBeLessThan(0.74);
}, 600_000);

test('excluded projects are not used for training, and every metric in the card is a number', async () => {
  const { folders, ended } = await train({ leave_out: 'commons-configuration, jedis', trees: 20 });
  expect(ended).toMatchObject({ status: 0, stderr: '' });
  const own = (await json(folders, 'metrics.json')) as Record<string, unknown>;
  expect(own['rows']).toBe(3608 - 219);
  expect(Object.values(own).filter((value) => typeof value !== 'number')).toEqual([]);
  expect((await json(folders, 'model.json')) as { metrics: unknown }).toMatchObject({ metrics: own });
}, 600_000);

test.each(['random-forest', 'svm'])(
  '%s: a model trained on shuffled labels learns nothing',
  async (model) => {
    const { folders, ended } = await train({ model, shuffle_labels: true, trees: 40 });
    expect(ended).toMatchObject({ status: 0, stderr: '' });
    const own = (await json(folders, 'metrics.json')) as Record<string, number>;
    expect(own['roc_auc']).toBeGreaterThan(0.42);
    expect(own['roc_auc']).toBeLessThan(0.58);
    const metrics = await metricsOnHeldOut(folders);
    expect(metrics['average_precision']).toBeLessThan(0.5);
  },
  600_000,
);

test.each(['random-forest', 'svm'])(
  '%s: any server can verify itself with the golden samples',
  async (model) => {
    const { folders } = await train({ model, trees: 20, name: 'mine', type: 'other-type' });
    const ended = await runProgram(python, ['-c', ASK, folders.outputs]);
    expect(ended).toMatchObject({ status: 0, stderr: '' });
    const asked = JSON.parse(ended.stdout) as { off: number; labels: number[]; inputs: unknown; outputs: unknown };
    expect(asked.off).toBeLessThan(1e-6);
    expect(asked.labels).toHaveLength(8);
    expect([...new Set(asked.labels)].sort()).toEqual([0, 1]);
    expect(asked.inputs).toEqual([['source', 'tensor(string)', ['N', 1]]]);
    expect(asked.outputs).toEqual([
      ['label', 'tensor(int64)', ['N']],
      ['probabilities', 'tensor(float)', ['N', 2]],
    ]);
    expect(await json(folders, 'model.json')).toMatchObject({
      name: 'mine',
      type: 'other-type',
      classes: ['NO', 'YES'],
    });
  },
  600_000,
);

test.each([
  [{ model: 'resnet' }, 'model is random-forest or svm'],
  [{ tres: 5 }, 'tres unknown'],
  [{ trees: '5' }, 'trees is'],
  [{ trees: 0 }, 'trees is 1 to 1000'],
  [{ shuffle_labels: 1 }, 'shuffle_labels is 1, not a bool'],
  [{ leave_out: 'jedis, jdeis' }, 'leave_out names jdeis'],
])(
  'parameters %j are refused',
  async (parameters, message) => {
    const { ended } = await train(parameters);
    expect(ended.status).toBe(1);
    expect(ended.stderr).toContain(message);
  },
  600_000,
);

test('a graph whose predictions differ from the library’s is not written', async () => {
  const folders = await jobFolders({ trees: 5 });
  made.push(folders);
  await copyFile(join(EXAMPLE, 'data', 'train.npz'), join(folders.inputs, 'train.npz'));
  // One vote moved: what a converter's mistake looks like from outside.
  const broken = `
import sys; sys.path.insert(0, sys.argv[1])
import export, train
right = export._ask
export._ask = lambda session, texts: right(session, texts) + 0.001
train.main()`;
  const ended = await runProgram(python, ['-c', broken, join(EXAMPLE, 'model')], { env: folders.env });
  expect(ended.status).toBe(1);
  expect(ended.stderr).toContain("from scikit-learn's answers");
  await expect(readFile(join(folders.outputs, 'model.onnx'))).rejects.toThrow('ENOENT');
}, 600_000);

test('the lock in the code tree equals the platform’s', async () => {
  const [own, platform] = [join(EXAMPLE, 'model'), CAPSULE].map((folder) =>
    readFile(join(folder, 'requirements.lock'), 'utf8'),
  );
  expect(await own).toBe(await platform);
});
