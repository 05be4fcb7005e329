// Reads one ValueInfoProto: the name, datatype and shape of a graph's input or output.
import type protobuf from 'protobufjs';
import { z } from 'zod';
import type { Datatype } from '../inference/protocol.ts';
import type { TensorSpec } from './signature.ts';
import { WireError } from './wire-walk.ts';

// TensorProto.DataType by number; the missing types (complex, bfloat16, 8- and 4-bit floats) have no datatype in the inference protocol.
const datatypeOf: Readonly<Record<number, Datatype>> = {
  1: 'FP32',
  2: 'UINT8',
  3: 'INT8',
  4: 'UINT16',
  5: 'INT16',
  6: 'INT32',
  7: 'INT64',
  8: 'BYTES',
  9: 'BOOL',
  10: 'FP16',
  11: 'FP64',
  12: 'UINT32',
  13: 'UINT64',
};
// NumPy supports at most 32 or 64 dimensions, most kernels of ONNX Runtime at most 8.
const MAX_RANK = 32;

const dimension = z.object({ dim_value: z.number().optional(), dim_param: z.string().optional() });
const tensorType = z.object({
  elem_type: z.number().default(0),
  shape: z.object({ dim: z.array(dimension).default([]) }).optional(),
});
const valueInfo = z.object({
  name: z.string().default(''),
  type: z
    .object({
      tensor_type: tensorType.optional(),
      sequence_type: z.unknown().optional(),
      map_type: z.unknown().optional(),
      sparse_tensor_type: z.unknown().optional(),
      optional_type: z.unknown().optional(),
    })
    .optional(),
});

/** The tensor described in `bytes`, or the reason why a service cannot use it. */
export const readTensorSpec = (
  schema: protobuf.Root,
  bytes: Buffer,
  side: 'input' | 'output',
): TensorSpec | { readonly name: string; readonly problem: string } => {
  const { name, type } = decoded(schema, bytes);
  const label = `${side} ${JSON.stringify(name.slice(0, 80))}`;
  if (name === '') return { name, problem: `an ${side} has no name` };
  if (type?.tensor_type === undefined) return { name, problem: `${label} is ${kindOf(type)}, not a tensor` };
  const datatype = datatypeOf[type.tensor_type.elem_type];
  if (datatype === undefined)
    return { name, problem: `${label} has the element type ${type.tensor_type.elem_type}, which cannot be served` };
  if (type.tensor_type.shape === undefined) return { name, datatype, shape: [], rankUnknown: true };
  const dimensions = type.tensor_type.shape.dim;
  if (dimensions.length > MAX_RANK)
    return { name, problem: `${label} has ${dimensions.length} dimensions; the limit is ${MAX_RANK}` };
  const shape = dimensions.map((size) => size.dim_value ?? -1);
  // Some exporters write an open dimension as -1 or 0 instead of omitting it.
  return { name, datatype, shape: shape.map((size) => (size > 0 && Number.isSafeInteger(size) ? size : -1)) };
};

const kindOf = (type: z.infer<typeof valueInfo>['type']): string => {
  if (type?.sequence_type !== undefined) return "a sequence (with scikit-learn's converter, set zipmap to False)";
  if (type?.map_type !== undefined) return "a map (with scikit-learn's converter, set zipmap to False)";
  if (type?.sparse_tensor_type !== undefined) return 'a sparse tensor';
  if (type?.optional_type !== undefined) return 'an optional';
  return 'of an undeclared type';
};

const decoded = (schema: protobuf.Root, bytes: Buffer): z.infer<typeof valueInfo> => {
  const type = schema.lookupType('onnx.ValueInfoProto');
  return valueInfo.parse(type.toObject(decodedMessage(type, bytes), { longs: Number }));
};

const decodedMessage = (type: protobuf.Type, bytes: Buffer): protobuf.Message => {
  try {
    return type.decode(bytes);
  } catch (error) {
    throw new WireError(`ValueInfoProto: ${error instanceof Error ? error.message : 'unreadable'}`, bytes.byteOffset);
  }
};
