// Converts tensor elements between JSON and ONNX Runtime's typed arrays, and checks every element.
import { fromHalf, toHalf } from './half-float.ts';
import type { Datatype } from './protocol.ts';

/** Elements in row-major order, in the array type of the datatype. BOOL is 0 or 1, FP16 its bits. */
export type Elements =
  | Float32Array
  | Float64Array
  | Uint8Array
  | Int8Array
  | Uint16Array
  | Int16Array
  | Uint32Array
  | Int32Array
  | BigInt64Array
  | BigUint64Array
  | string[];

export interface Tensor {
  readonly datatype: Datatype;
  readonly shape: readonly number[];
  readonly elements: Elements;
}

/** An invalid element or count; the message is for the caller. */
export class TensorDataError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'TensorDataError';
  }
}

export const elementCount = (shape: readonly number[]): number => shape.reduce((product, size) => product * size, 1);

/** The elements of `data`, flat or nested according to `shape`. Throws `TensorDataError`. */
export const decodeElements = (datatype: Datatype, shape: readonly number[], data: readonly unknown[]): Elements => {
  const count = elementCount(shape);
  const flat = data.some(Array.isArray) ? flatten(data, shape) : data;
  if (flat.length !== count)
    throw new TensorDataError(`has ${flat.length} elements where shape [${shape.join(', ')}] needs ${count}`);
  return decoders[datatype](flat);
};

/** The elements as a flat list of JSON values. Throws `TensorDataError` for values that JSON cannot represent. */
export const encodeElements = (datatype: Datatype, elements: Elements): (string | number | boolean)[] => {
  const values: ArrayLike<string | number | bigint> = elements;
  if (datatype === 'BOOL') return Array.from(values, (element) => Number(element) !== 0);
  return Array.from(values, (element, index) => {
    if (typeof element === 'string') return element;
    // Beyond 2^53 a JSON number would lose digits, so it becomes a decimal string, as in requests.
    if (typeof element === 'bigint') {
      const number = Number(element);
      return Number.isSafeInteger(number) ? number : element.toString();
    }
    const number = datatype === 'FP16' ? fromHalf(Number(element)) : Number(element);
    if (!Number.isFinite(number))
      throw new TensorDataError(`has ${number} at element ${index}, which JSON cannot represent`);
    return number;
  });
};

const flatten = (data: readonly unknown[], shape: readonly number[]): unknown[] => {
  const flat: unknown[] = [];
  // The recursion follows the shape, so the rank bounds its depth.
  const visit = (level: readonly unknown[], axis: number): void => {
    if (level.length !== shape[axis])
      throw new TensorDataError(
        `is nested with ${level.length} entries in dimension ${axis} where shape [${shape.join(', ')}] has ${shape[axis] ?? 'none'}`,
      );
    for (const entry of level)
      if (axis + 1 === shape.length) flat.push(entry);
      else if (Array.isArray(entry)) visit(entry, axis + 1);
      else throw new TensorDataError('is nested unevenly: lists and elements are mixed');
  };
  visit(data, 0);
  return flat;
};

const bad = (index: number, element: unknown, wanted: string): TensorDataError =>
  new TensorDataError(`has ${JSON.stringify(element)?.slice(0, 60) ?? 'nothing'} at element ${index}: ${wanted}`);

const integers =
  <Numbers extends Elements & ArrayLike<number>>(create: (count: number) => Numbers, min: number, max: number) =>
  (flat: readonly unknown[]): Numbers => {
    const numbers = create(flat.length);
    flat.forEach((element, index) => {
      if (typeof element !== 'number' || !Number.isInteger(element) || element < min || element > max)
        throw bad(index, element, `must be an integer from ${min} to ${max}`);
      numbers[index] = element;
    });
    return numbers;
  };

const bigIntegers =
  <Numbers extends BigInt64Array | BigUint64Array>(create: (count: number) => Numbers, min: bigint, max: bigint) =>
  (flat: readonly unknown[]): Numbers => {
    const numbers = create(flat.length);
    flat.forEach((element, index) => {
      const number = bigInteger(element);
      if (number === undefined || number < min || number > max)
        throw bad(index, element, `must be an integer from ${min} to ${max}, beyond 2^53 as a decimal string`);
      numbers[index] = number;
    });
    return numbers;
  };

const bigInteger = (element: unknown): bigint | undefined => {
  if (typeof element === 'number') return Number.isSafeInteger(element) ? BigInt(element) : undefined;
  // Twenty digits are enough for every 64-bit integer; parsing longer strings would only cost time.
  return typeof element === 'string' && /^-?\d{1,20}$/.test(element) ? BigInt(element) : undefined;
};

const reals =
  <Numbers extends Float32Array | Float64Array | Uint16Array>(
    create: (count: number) => Numbers,
    max: number,
    convert: (value: number) => number = (value) => value,
  ) =>
  (flat: readonly unknown[]): Numbers => {
    const numbers = create(flat.length);
    flat.forEach((element, index) => {
      if (typeof element !== 'number' || !(Math.abs(element) <= max))
        throw bad(index, element, `must be a number of at most ${max}`);
      numbers[index] = convert(element);
    });
    return numbers;
  };

const decoders: Readonly<Record<Datatype, (flat: readonly unknown[]) => Elements>> = {
  BOOL: (flat) =>
    Uint8Array.from(flat, (element, index) => {
      if (typeof element !== 'boolean') throw bad(index, element, 'must be true or false');
      return element ? 1 : 0;
    }),
  UINT8: integers((count) => new Uint8Array(count), 0, 255),
  UINT16: integers((count) => new Uint16Array(count), 0, 65_535),
  UINT32: integers((count) => new Uint32Array(count), 0, 2 ** 32 - 1),
  UINT64: bigIntegers((count) => new BigUint64Array(count), 0n, 2n ** 64n - 1n),
  INT8: integers((count) => new Int8Array(count), -128, 127),
  INT16: integers((count) => new Int16Array(count), -32_768, 32_767),
  INT32: integers((count) => new Int32Array(count), -(2 ** 31), 2 ** 31 - 1),
  INT64: bigIntegers((count) => new BigInt64Array(count), -(2n ** 63n), 2n ** 63n - 1n),
  FP16: reals((count) => new Uint16Array(count), 65_504, toHalf),
  FP32: reals((count) => new Float32Array(count), 3.4028234663852886e38),
  FP64: reals((count) => new Float64Array(count), Number.MAX_VALUE),
  BYTES: (flat) =>
    flat.map((element, index) => {
      if (typeof element !== 'string') throw bad(index, element, 'must be a string');
      // The runtime's binding truncates strings at NUL: the model would not see the rest.
      if (element.includes('\0')) throw bad(index, element, 'must not contain a NUL character');
      return element;
    }),
};
