// The files of a valid submission: a small model, its card, its golden samples.
import { addModel, encodeModel } from '../model-format/onnx-model.ts';

const card = {
  name: 'm',
  type: 'kind',
  framework: 'none',
  signature: {
    inputs: [{ name: 'x', datatype: 'FP32', shape: [-1, 2] }],
    outputs: [{ name: 'y', datatype: 'FP32', shape: [-1, 2] }],
  },
  classes: ['NO', 'YES'],
  prediction: { output: 'y', positive: 'YES' },
  threshold: 0.5,
  preprocessing: { name: 'none', version: 1, description: 'none' },
  data: [],
  metrics: {},
  revises: null,
};
const golden = {
  samples: [
    {
      request: { inputs: [{ name: 'x', datatype: 'FP32', shape: [1, 2], data: [1, 2] }] },
      response: { outputs: [{ name: 'y', datatype: 'FP32', shape: [1, 2], data: [2, 4] }] },
      tolerance: 1e-6,
    },
  ],
};

/** The three files of a valid submission. */
export function submissionFiles(
  salt: string,
  change: Record<string, unknown> = {},
): Record<string, string | Uint8Array> {
  return {
    'model.onnx': encodeModel({ ...addModel(), producer_name: `test ${salt}` }),
    'model.json': JSON.stringify({ ...card, ...change }),
    'golden.json': JSON.stringify(golden),
  };
}
