// A loaded model: the only file that imports ONNX Runtime. Runs inside the sandbox, never in the control plane.
import { InferenceSession, Tensor as RuntimeTensor } from 'onnxruntime-node';
import type { Datatype, TensorMetadata } from '../../activities/inference/protocol.ts';
import type { Elements, Tensor } from '../../activities/inference/tensor-data.ts';

/** The parts of a model that the service needs. */
export interface ModelSession {
  readonly inputs: readonly TensorMetadata[];
  readonly outputs: readonly TensorMetadata[];
  readonly run: (
    inputs: Readonly<Record<string, Tensor>>,
    outputs: readonly string[],
  ) => Promise<Readonly<Record<string, Tensor>>>;
  readonly close: () => Promise<void>;
}

const datatypeOf: Readonly<Record<string, Datatype>> = {
  bool: 'BOOL',
  uint8: 'UINT8',
  uint16: 'UINT16',
  uint32: 'UINT32',
  uint64: 'UINT64',
  int8: 'INT8',
  int16: 'INT16',
  int32: 'INT32',
  int64: 'INT64',
  float16: 'FP16',
  float32: 'FP32',
  float64: 'FP64',
  string: 'BYTES',
};

/** Loads the model in `bytes` on the CPU. Throws ONNX Runtime's error if it cannot be loaded. */
export const loadSession = async (bytes: Uint8Array): Promise<ModelSession> => {
  // Unless this is set before the first session, the runtime creates a machine identifier in the home folder and sends telemetry
  // about loaded models to its vendor.
  process.env.ORT_DISABLE_TELEMETRY = '1';
  // One thread: a machine runs many services, and each answers one request at a time.
  const session = await InferenceSession.create(bytes, {
    executionProviders: ['cpu'],
    intraOpNumThreads: 1,
    interOpNumThreads: 1,
    // 3: errors only. The optimizer's warnings would fill the log at every start.
    logSeverityLevel: 3,
  });
  return {
    inputs: session.inputMetadata.map(metadataOf),
    outputs: session.outputMetadata.map(metadataOf),
    run: async (inputs, outputs) => {
      const feeds = Object.fromEntries(Object.entries(inputs).map(([name, tensor]) => [name, toRuntime(tensor)]));
      const results = await session.run(feeds, outputs);
      return Object.fromEntries(Object.entries(results).map(([name, tensor]) => [name, fromRuntime(name, tensor)]));
    },
    close: () => session.release(),
  };
};

const metadataOf = (tensor: InferenceSession.ValueMetadata): TensorMetadata => {
  const datatype = tensor.isTensor ? datatypeOf[tensor.type] : undefined;
  if (!tensor.isTensor || datatype === undefined)
    throw new Error(`'${tensor.name}' of the model is not a tensor with a supported type`);
  return { name: tensor.name, datatype, shape: tensor.shape.map((size) => (typeof size === 'number' ? size : -1)) };
};

const toRuntime = ({ datatype, shape, elements }: Tensor): RuntimeTensor => {
  // `decodeElements` has created the array for the datatype; the checks are for the compiler.
  if (datatype === 'BYTES' && Array.isArray(elements)) return new RuntimeTensor('string', elements, shape);
  // The constructor for booleans accepts only lists of booleans; the general one accepts bytes.
  if (datatype === 'BOOL' && elements instanceof Uint8Array) return new RuntimeTensor('bool', elements, shape);
  if (datatype === 'FP16' && elements instanceof Uint16Array) return new RuntimeTensor('float16', elements, shape);
  if (Array.isArray(elements)) throw new TypeError(`strings given for ${datatype}`);
  return new RuntimeTensor(elements, shape);
};

const fromRuntime = (name: string, tensor: RuntimeTensor): Tensor => {
  const datatype = datatypeOf[tensor.type];
  if (datatype === undefined) throw new Error(`output '${name}' is of type ${tensor.type}, which cannot be served`);
  return { datatype, shape: tensor.dims, elements: elementsOf(tensor) };
};

const elementsOf = (tensor: RuntimeTensor): Elements => {
  const data: unknown = tensor.data;
  // Node 24 and newer return a Float16Array; the rest of the service uses the bits.
  if (tensor.type === 'float16' && ArrayBuffer.isView(data))
    return new Uint16Array(data.buffer, data.byteOffset, data.byteLength / 2);
  return tensor.data;
};
