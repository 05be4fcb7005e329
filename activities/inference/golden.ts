// Golden samples: requests with known answers, to check that a service returns what the model returned when it was created.
import type { InferenceClient } from './client.ts';
import type { Datatype, InferRequest, InferResponse, TensorValue } from './protocol.ts';

/** The content of a golden file, as parsed. */
export interface GoldenSamples {
  readonly samples: readonly {
    readonly request: InferRequest;
    readonly response: { readonly outputs: readonly TensorValue[] };
    readonly tolerance: number;
  }[];
}

export interface GoldenResult {
  /** Index of the sample in its file, from 0. */
  readonly index: number;
  /** Empty if the answer was the expected one. */
  readonly problems: readonly string[];
  /** The largest difference of a real number, divided by its size if that is above one; 0 without real numbers. */
  readonly deviation: number;
  readonly latencyMs: number;
}

/**
 * The largest tolerance that a golden file may name for outputs of a datatype: about ten times the precision of half floats,
 * and a thousandth for longer ones, whose results differ by less between machines. Only real numbers have one.
 */
export const mostTolerance = (datatype: Datatype): number =>
  datatype === 'FP16' ? 0.01 : datatype.startsWith('FP') ? 0.001 : Infinity;

// A few differences show the fault; an output may have millions.
const MAX_DIFFERENCES = 5;

/** Sends each sample to the service, in order. Throws `InferenceError` if a call fails. */
export const checkGolden = async (
  client: Pick<InferenceClient, 'infer'>,
  golden: GoldenSamples,
  signal: AbortSignal,
): Promise<GoldenResult[]> => {
  const results: GoldenResult[] = [];
  for (const [index, sample] of golden.samples.entries()) {
    const started = performance.now();
    const response: InferResponse = await client.infer(sample.request, signal);
    const latencyMs = performance.now() - started;
    results.push({
      index,
      latencyMs,
      problems: compareOutputs(sample.response.outputs, response.outputs, sample.tolerance),
      deviation: largestDeviation(sample.response.outputs, response.outputs),
    });
  }
  return results;
};

/**
 * The differences between `actual` and `expected`. Real numbers may differ by `tolerance`, multiplied by their size if it is
 * above one; everything else must be equal. Additional outputs are ignored.
 */
export const compareOutputs = (
  expected: readonly TensorValue[],
  actual: readonly TensorValue[],
  tolerance: number,
): string[] =>
  expected.flatMap((output) => {
    const given = actual.find(({ name }) => name === output.name);
    return given === undefined ? [`output '${output.name}' is missing`] : compareOutput(output, given, tolerance);
  });

const compareOutput = (expected: TensorValue, actual: TensorValue, tolerance: number): string[] => {
  const at = `output '${expected.name}'`;
  if (expected.datatype !== actual.datatype) return [`${at} is ${actual.datatype}, expected ${expected.datatype}`];
  if (expected.shape.join() !== actual.shape.join())
    return [`${at} has shape [${actual.shape.join(', ')}], expected [${expected.shape.join(', ')}]`];
  const wanted: unknown[] = expected.data.flat(expected.shape.length);
  const given: unknown[] = actual.data.flat(actual.shape.length);
  if (wanted.length !== given.length) return [`${at} has ${given.length} elements, expected ${wanted.length}`];
  const differing = wanted.flatMap((element, index) =>
    equal(expected.datatype, element, given[index], tolerance) ? [] : [index],
  );
  const shown = differing
    .slice(0, MAX_DIFFERENCES)
    .map((index) => `${at} is ${shortly(given[index])} at element ${index}, expected ${shortly(wanted[index])}`);
  return differing.length > MAX_DIFFERENCES
    ? [...shown, `${at} differs at ${differing.length} of ${wanted.length} elements`]
    : shown;
};

const largestDeviation = (expected: readonly TensorValue[], actual: readonly TensorValue[]): number => {
  let largest = 0;
  for (const output of expected) {
    const given: readonly unknown[] =
      actual.find(({ name }) => name === output.name)?.data.flat(output.shape.length) ?? [];
    for (const [index, element] of output.data.flat(output.shape.length).entries())
      largest = Math.max(largest, deviationOf(output.datatype, element, given[index]) ?? 0);
  }
  return largest;
};

/** The difference of two real numbers, divided by their size if that is above one; undefined for anything else. */
const deviationOf = (datatype: Datatype, one: unknown, other: unknown): number | undefined => {
  if (!datatype.startsWith('FP') || typeof one !== 'number' || typeof other !== 'number') return undefined;
  // 0.1 in the file and 0.10000000149 from the service are the same single-precision number.
  const rounded = datatype === 'FP64' ? (value: number) => value : Math.fround;
  return Math.abs(rounded(one) - rounded(other)) / Math.max(1, Math.abs(one));
};

const shortly = (element: unknown): string => JSON.stringify(element)?.slice(0, 60) ?? 'nothing';

const equal = (datatype: TensorValue['datatype'], one: unknown, other: unknown, tolerance: number): boolean => {
  switch (datatype) {
    case 'FP16':
    case 'FP32':
    case 'FP64':
      return (deviationOf(datatype, one, other) ?? Infinity) <= tolerance;
    case 'INT64':
    case 'UINT64':
      // Large integers are decimal strings.
      return isInteger(one) && isInteger(other) && BigInt(one) === BigInt(other);
    case 'BOOL':
    case 'UINT8':
    case 'UINT16':
    case 'UINT32':
    case 'INT8':
    case 'INT16':
    case 'INT32':
    case 'BYTES':
      return one === other;
  }
};

const isInteger = (element: unknown): element is number | string =>
  Number.isInteger(element) || (typeof element === 'string' && /^-?\d{1,20}$/.test(element));
