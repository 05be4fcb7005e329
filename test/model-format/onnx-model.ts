// Builds small ONNX models for tests, by encoding plain objects through the schema the model check reads with.
import { readFileSync } from 'node:fs';
import protobuf from 'protobufjs';

const root = protobuf.parse(readFileSync(new URL('../../activities/onnx.proto', import.meta.url), 'utf8'), {
  keepCase: true,
}).root;

export const FLOAT = 1;
export const INT64 = 7;
export const STRING = 8;

export type Message = Record<string, unknown>;

/** The bytes of a ModelProto. */
export const encodeModel = (model: Message): Buffer => {
  const type = root.lookupType('onnx.ModelProto');
  return Buffer.from(type.encode(type.fromObject(model)).finish());
};

/** A graph's input or output; a size may be a number or a symbol's name. */
export const value = (name: string, elementType: number, sizes: readonly (number | string)[]): Message => ({
  name,
  type: {
    tensor_type: {
      elem_type: elementType,
      shape: { dim: sizes.map((size) => (typeof size === 'number' ? { dim_value: size } : { dim_param: size })) },
    },
  },
});

export const node = (type: string, input: string[], output: string[], more: Message = {}): Message => ({
  op_type: type,
  input,
  output,
  ...more,
});

/** A float tensor with embedded data. */
export const floats = (name: string, dims: number[], values: number[]): Message => ({
  name,
  dims,
  data_type: FLOAT,
  raw_data: new Uint8Array(Float32Array.from(values).buffer),
});

export const opset = (domain: string, version: number): Message => ({ domain, version });

/** A model with one graph of standard operators. */
export const model = (graph: Message, more: Message = {}): Message => ({
  ir_version: 8,
  producer_name: 'test',
  graph: { name: 'g', ...graph },
  opset_import: [opset('', 17)],
  ...more,
});

/** y = x + [1, 2], x of shape [batch, 2]. */
export const addModel = (): Message =>
  model({
    node: [node('Add', ['x', 'one'], ['y'])],
    initializer: [floats('one', [2], [1, 2])],
    input: [value('x', FLOAT, ['batch', 2])],
    output: [value('y', FLOAT, ['batch', 2])],
  });

/** A model with one Identity node per tensor, for any element types. */
export const identityModel = (tensors: Record<string, number>, sizes: (number | string)[] = ['n']): Message => {
  const names = Object.entries(tensors);
  return model({
    node: names.map(([name]) => node('Identity', [name], [`${name}_out`])),
    input: names.map(([name, type]) => value(name, type, sizes)),
    output: names.map(([name, type]) => value(`${name}_out`, type, sizes)),
  });
};
