// The service with ONNX Runtime in a separate process: the runtime's arrays are not instances of the test realm's classes.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInferenceClient, type InferenceClient } from '../../activities/inference/client.ts';
import type { Datatype } from '../../activities/inference/protocol.ts';
import { encodeModel, FLOAT, identityModel, model, node, value, type Message } from '../model-format/onnx-model.ts';
import { killServices, startService } from './service-process.ts';

const folder = mkdtempSync(join(tmpdir(), 'runtime-'));
afterAll(() => {
  killServices();
  rmSync(folder, { recursive: true, force: true });
});

type Tensors = [name: string, datatype: Datatype][];

const serve = async (name: string, content: Message, inputs: Tensors, outputs: Tensors): Promise<InferenceClient> => {
  const place = mkdtempSync(join(folder, 'model-'));
  const tensors = (list: Tensors) => list.map(([tensor, datatype]) => ({ name: tensor, datatype, shape: [-1] }));
  writeFileSync(join(place, 'model.onnx'), encodeModel(content));
  writeFileSync(
    join(place, 'model.json'),
    JSON.stringify({ name, signature: { inputs: tensors(inputs), outputs: tensors(outputs) } }),
  );
  const address = await startService(place, ['--socket', join(place, 's')]).listening;
  return createInferenceClient({ address, name });
};

const soon = (): AbortSignal => AbortSignal.timeout(60_000);
const x = (name: string, data: number[]) => ({ name, datatype: 'FP32' as const, shape: [data.length], data });

it('every datatype passes through and comes back unchanged', async () => {
  const types: [string, Datatype, number, unknown[]][] = [
    ['f', 'FP32', 1, [0.5, -2]],
    ['u8', 'UINT8', 2, [0, 255]],
    ['i8', 'INT8', 3, [-128, 127]],
    ['u16', 'UINT16', 4, [0, 65_535]],
    ['i16', 'INT16', 5, [-32_768, 32_767]],
    ['i32', 'INT32', 6, [-(2 ** 31), 2 ** 31 - 1]],
    ['i64', 'INT64', 7, [-1, '9007199254740993']],
    ['s', 'BYTES', 8, ['def f():\n  "ü😀"', '']],
    ['b', 'BOOL', 9, [true, false]],
    ['h', 'FP16', 10, [0.5, -2]],
    ['d', 'FP64', 11, [0.1, 1e300]],
    ['u32', 'UINT32', 12, [0, 2 ** 32 - 1]],
    ['u64', 'UINT64', 13, [0, '18446744073709551615']],
  ];
  const client = await serve(
    'echo',
    identityModel(Object.fromEntries(types.map(([name, , type]) => [name, type]))),
    types.map(([name, datatype]) => [name, datatype]),
    types.map(([name, datatype]) => [`${name}_out`, datatype]),
  );
  const inputs = types.map(([name, datatype, , data]) => ({ name, datatype, shape: [2], data }));
  const { outputs } = await client.infer({ inputs }, soon());
  expect(outputs).toEqual(inputs.map((input) => ({ ...input, name: `${input.name}_out` })));
  const chosen = await client.infer({ inputs, outputs: [{ name: 's_out' }] }, soon());
  expect(chosen.outputs.map(({ name }) => name)).toEqual(['s_out']);
  const none = inputs.map((input) => ({ ...input, shape: [0], data: [] }));
  expect((await client.infer({ inputs: none }, soon())).outputs[0]).toMatchObject({ shape: [0], data: [] });
});

it('fails with a clear error on a result that JSON cannot represent', async () => {
  const log = model({
    node: [node('Log', ['x'], ['y'])],
    input: [value('x', FLOAT, ['n'])],
    output: [value('y', FLOAT, ['n'])],
  });
  const client = await serve('log', log, [['x', 'FP32']], [['y', 'FP32']]);
  await expect(client.infer({ inputs: [x('x', [1, -1])] }, soon())).rejects.toMatchObject({
    kind: 'failed',
    message: "output 'y' has NaN at element 1, which JSON cannot represent",
  });
  await expect(client.infer({ inputs: [x('x', [0])] }, soon())).rejects.toThrow('-Infinity');
  expect((await client.infer({ inputs: [x('x', [1])] }, soon())).outputs[0]?.data).toEqual([0]);
});

it('a request the model fails on does not end the service', async () => {
  const sum = model({
    node: [node('Add', ['x', 'z'], ['y'])],
    input: [value('x', FLOAT, ['n']), value('z', FLOAT, ['k'])],
    output: [value('y', FLOAT, ['n'])],
  });
  const client = await serve(
    'sum',
    sum,
    [
      ['x', 'FP32'],
      ['z', 'FP32'],
    ],
    [['y', 'FP32']],
  );
  await expect(client.infer({ inputs: [x('x', [1, 1]), x('z', [1, 1, 1])] }, soon())).rejects.toMatchObject({
    kind: 'failed',
    message: expect.stringContaining('the model failed on this input') as string,
  });
  expect((await client.infer({ inputs: [x('x', [1]), x('z', [2])] }, soon())).outputs[0]?.data).toEqual([3]);
});
