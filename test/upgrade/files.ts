// The files of the upgrade test: submissions, test sets and the code of its trainings.
import { createHash } from 'node:crypto';
import { encodeModel, FLOAT, floats, model, node, value } from '../model-format/onnx-model.ts';

/** What is particular about a submission's files. */
export interface Files {
  readonly type: string;
  /** Golden samples that the model does not answer: a gate finds it. */
  readonly golden: 'right' | 'wrong';
  /** A card that no model can have. */
  readonly card: 'right' | 'wrong';
  readonly isLarge: boolean;
}
const tensor = (data: readonly number[]) => ({ datatype: 'FP32', shape: [1, 2], data });
const cardOf = (type: string) => ({
  ...{ name: 'm', type, framework: 'none', classes: ['NO', 'YES'], prediction: { output: 'y', positive: 'YES' } },
  signature: {
    inputs: [{ name: 'x', datatype: 'FP32', shape: [-1, 2] }],
    outputs: [{ name: 'y', datatype: 'FP32', shape: [-1, 2] }],
  },
  ...{ threshold: 0.5, data: [], metrics: {}, revises: null },
  preprocessing: { name: 'none', version: 1, description: 'none' },
});
const goldenOf = (answer: readonly number[]) => ({
  samples: [
    {
      request: { inputs: [{ name: 'x', ...tensor([0.25, 0.75]) }] },
      response: { outputs: [{ name: 'y', ...tensor(answer) }] },
      tolerance: 1e-6,
    },
  ],
});
/** Copying and checking so much takes some seconds. */
const LARGE_BYTES = 160 * 2 ** 20;

/** A small valid model that returns its input, its card and its golden samples; `submission` makes its bytes its own. */
export function filesOf(given: Partial<Files> & { readonly submission: string; readonly type: string }) {
  const { submission, type, golden = 'right', card = 'right', isLarge = false } = given;
  const padding = () => ({
    name: 'padding',
    dims: [LARGE_BYTES / 4],
    data_type: FLOAT,
    raw_data: new Uint8Array(LARGE_BYTES),
  });
  const graph = {
    node: [node('Mul', ['x', 'one'], ['y'])],
    initializer: [floats('one', [1], [1]), ...(isLarge ? [padding()] : [])],
    input: [value('x', FLOAT, ['batch', 2])],
    output: [value('y', FLOAT, ['batch', 2])],
  };
  const answer = golden === 'right' ? [0.25, 0.75] : [0.5, 0.5];
  return {
    'model.onnx': encodeModel(model(graph, { producer_name: `upgrade ${submission}` })),
    'model.json': Buffer.from(JSON.stringify({ ...cardOf(type), ...(card === 'wrong' && { classes: [] }) })),
    'golden.json': Buffer.from(JSON.stringify(goldenOf(answer))),
  };
}

/** So many rows keep an evaluation busy for some seconds. */
export const MANY_ROWS = 300_000;
export const testRows = (count: number): string =>
  Array.from({ length: count }, (_, i) => {
    const score = i % 2 === 0 ? 0.9 : 0.1;
    const id = createHash('sha256').update(String(i)).digest('hex').slice(0, 16);
    return JSON.stringify({ id, inputs: { x: [1 - score, score] }, label: score > 0.5 ? 'YES' : 'NO' });
  }).join('\n');

/** A training that lasts until a moment, or fails. */
export const trainingCode = {
  'train.py': [
    'import base64, json, pathlib, sys, time',
    'import ocdl',
    'parameters = ocdl.parameters()',
    'print("training", flush=True)',
    'while time.time() < parameters.get("until", 0):',
    '    time.sleep(0.2)',
    'if parameters.get("fails"):',
    '    sys.exit("the data is not good enough")',
    'here = pathlib.Path(__file__).parent',
    'ocdl.outputs("model.onnx").write_bytes(base64.b64decode(parameters["model"]))',
    'ocdl.outputs("model.json").write_bytes((here / "card.json").read_bytes())',
    'ocdl.outputs("golden.json").write_bytes((here / "golden-samples.json").read_bytes())',
    'ocdl.outputs("metrics.json").write_text(json.dumps({"loss": 0.1}))',
    '',
  ].join('\n'),
  'card.json': JSON.stringify(cardOf('w')),
  'golden-samples.json': JSON.stringify(goldenOf([0.25, 0.75])),
  'none.lock': '# no packages\n',
  // As locks were before each line had to name the digests of its files.
  'undigested.lock': 'threadpoolctl==3.8.0\n',
} as const;
