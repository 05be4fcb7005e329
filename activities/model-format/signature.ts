// Compares two tensor signatures of a model: the one its card declares and the one its file declares.
import type { Datatype } from '../inference/protocol.ts';

export interface TensorSpec {
  readonly name: string;
  readonly datatype: Datatype;
  /** -1 means a symbolic or unknown size. */
  readonly shape: readonly number[];
  /** The model does not declare a rank; `shape` is then empty and matches any shape. */
  readonly rankUnknown?: true;
}

export interface Signature {
  readonly inputs: readonly TensorSpec[];
  readonly outputs: readonly TensorSpec[];
}

/** The conflicts between declared and inspected signature; empty when they agree. -1 matches any size. */
export const compareSignature = (declared: Signature, inspected: Signature): string[] => [
  ...compareTensors('input', declared.inputs, inspected.inputs),
  ...compareTensors('output', declared.outputs, inspected.outputs),
];

const compareTensors = (
  side: 'input' | 'output',
  declared: readonly TensorSpec[],
  inspected: readonly TensorSpec[],
): string[] => {
  const inModel = new Map(inspected.map((tensor) => [tensor.name, tensor]));
  const inCard = new Set(declared.map((tensor) => tensor.name));
  return [
    ...declared.flatMap((tensor) => {
      const actual = inModel.get(tensor.name);
      return actual === undefined
        ? [`${side} '${tensor.name}' is declared, but the model has no ${side} of that name`]
        : compareTensor(side, tensor, actual);
    }),
    ...inspected
      .filter((tensor) => !inCard.has(tensor.name))
      .map((tensor) => `${side} '${tensor.name}' of the model is not declared in the card`),
  ];
};

const compareTensor = (side: string, declared: TensorSpec, actual: TensorSpec): string[] => {
  const problems: string[] = [];
  if (declared.datatype !== actual.datatype)
    problems.push(`${side} '${declared.name}' is declared ${declared.datatype} but the model has ${actual.datatype}`);
  if (!shapesAgree(declared, actual))
    problems.push(
      `${side} '${declared.name}' is declared with shape [${declared.shape.join(', ')}] but the model has [${actual.shape.join(', ')}]`,
    );
  return problems;
};

/** Whether two shapes can describe one tensor: same rank, and each size is equal or open on one side. */
export const shapesAgree = (
  one: Pick<TensorSpec, 'shape' | 'rankUnknown'>,
  other: Pick<TensorSpec, 'shape' | 'rankUnknown'>,
): boolean => {
  if (one.rankUnknown === true || other.rankUnknown === true) return true;
  return (
    one.shape.length === other.shape.length &&
    one.shape.every((size, axis) => size === -1 || other.shape[axis] === -1 || size === other.shape[axis])
  );
};
