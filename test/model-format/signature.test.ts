// Declared and inspected signatures: when they match, and the message for each conflict.
import { compareSignature } from '../../activities/model-format.ts';

describe('compareSignature', () => {
  const inspected = {
    inputs: [{ name: 'x', datatype: 'FP32', shape: [-1, 2] }],
    outputs: [{ name: 'y', datatype: 'INT64', shape: [3] }],
  } as const;

  it('finds no conflict between equal signatures, or if one side is open', () => {
    expect(compareSignature(inspected, inspected)).toEqual([]);
    const open = { ...inspected, inputs: [{ name: 'x', datatype: 'FP32', shape: [7, -1] }] } as const;
    expect(compareSignature(open, inspected)).toEqual([]);
    const unknown = {
      ...inspected,
      outputs: [{ name: 'y', datatype: 'INT64', shape: [], rankUnknown: true }],
    } as const;
    expect(compareSignature(inspected, unknown)).toEqual([]);
  });

  it('names what is missing, extra, of another datatype, rank or size', () => {
    const declared = {
      inputs: [
        { name: 'x', datatype: 'BYTES', shape: [2] },
        { name: 'z', datatype: 'BOOL', shape: [] },
      ],
      outputs: [{ name: 'other', datatype: 'INT64', shape: [4] }],
    } as const;
    const problems = compareSignature(declared, inspected).join('\n');
    expect(problems).toContain("input 'x' is declared BYTES but the model has FP32");
    expect(problems).toContain("input 'x' is declared with shape [2] but the model has [-1, 2]");
    expect(problems).toContain("input 'z' is declared, but the model has no input of that name");
    expect(problems).toContain("output 'other' is declared, but the model has no output of that name");
    expect(problems).toContain("output 'y' of the model is not declared");
    const size = { ...inspected, outputs: [{ name: 'y', datatype: 'INT64', shape: [4] }] } as const;
    expect(compareSignature(size, inspected)).toHaveLength(1);
  });
});
