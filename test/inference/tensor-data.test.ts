// Elements between JSON and typed arrays: every datatype, its limits, nesting, and values that JSON cannot represent.
import { fromHalf, toHalf } from '../../activities/inference/half-float.ts';
import { datatypes, type Datatype } from '../../activities/inference/protocol.ts';
import { decodeElements, encodeElements, TensorDataError } from '../../activities/inference/tensor-data.ts';

const samples: Record<Datatype, { good: (string | number | boolean)[]; bad: unknown[] }> = {
  BOOL: { good: [true, false], bad: [1, 'true', null] },
  UINT8: { good: [0, 255], bad: [-1, 256, 1.5, '1'] },
  UINT16: { good: [0, 65_535], bad: [-1, 65_536] },
  UINT32: { good: [0, 4_294_967_295], bad: [-1, 4_294_967_296] },
  UINT64: { good: [0, 2 ** 53 - 1, '18446744073709551615'], bad: [-1, 2 ** 53, '18446744073709551616', '1e3', ''] },
  INT8: { good: [-128, 127], bad: [-129, 128] },
  INT16: { good: [-32_768, 32_767], bad: [-32_769, 32_768] },
  INT32: { good: [-(2 ** 31), 2 ** 31 - 1], bad: [2 ** 31, true] },
  INT64: { good: [-1, '-9223372036854775808', '9223372036854775807'], bad: [1.5, 2 ** 53, '9223372036854775808', 'x'] },
  FP16: { good: [0, -1.5, 65_504], bad: [65_505, '1'] },
  FP32: { good: [0.5, -3], bad: [1e39, Infinity, NaN, '1', null] },
  FP64: { good: [0.1, 1e300], bad: [Infinity, '1', []] },
  BYTES: { good: ['', 'grüße \n', '😀'], bad: [1, null, {}, 'cut\u0000here'] },
};

describe.each(datatypes)('%s', (datatype) => {
  const { good, bad } = samples[datatype];

  it('survives a round trip', () => {
    expect(encodeElements(datatype, decodeElements(datatype, [good.length], good))).toEqual(good);
  });

  it.each(bad.map((element) => [element]))('refuses %p', (element) => {
    expect(() => decodeElements(datatype, [1], [element])).toThrow(TensorDataError);
  });
});

describe('shapes', () => {
  it('takes flat and nested data, scalars and empty tensors', () => {
    const flat = new Int32Array([1, 2, 3, 4]);
    expect(decodeElements('INT32', [2, 2], [1, 2, 3, 4])).toEqual(flat);
    expect(
      decodeElements(
        'INT32',
        [2, 2],
        [
          [1, 2],
          [3, 4],
        ],
      ),
    ).toEqual(flat);
    expect(decodeElements('INT32', [], [7])).toEqual(new Int32Array([7]));
    expect(decodeElements('BYTES', [0, 3], [])).toEqual([]);
  });

  it.each([
    ['too few', [2, 2], [1, 2, 3]],
    ['ragged', [2, 2], [[1, 2], [3]]],
    ['mixed', [2], [1, [2]]],
    ['nested deeper than the shape', [2], [[1], [2]]],
    ['nested less deep than the shape', [1, 2, 1], [[1, 2]]],
    ['nested for a scalar', [], [[1]]],
    ['more than memory could hold', [2 ** 40, 2 ** 40], [1]],
  ])('refuses %s', (_, shape, data) => {
    expect(() => decodeElements('INT32', shape, data)).toThrow(TensorDataError);
  });
});

describe('values that JSON cannot represent', () => {
  it.each([NaN, Infinity, -Infinity])('%p in an output is a clear error', (number) => {
    expect(() => encodeElements('FP64', new Float64Array([0, number]))).toThrow(`has ${number} at element 1`);
  });
  it('also in half precision', () => {
    expect(() => encodeElements('FP16', new Uint16Array([0x7c00]))).toThrow('Infinity');
  });
});

describe('half precision', () => {
  it('all 65536 bit patterns survive a round trip', () => {
    for (let bits = 0; bits < 65_536; bits += 1) {
      const number = fromHalf(bits);
      if (!Number.isNaN(number) && toHalf(number) !== bits) throw new Error(`${bits} became ${toHalf(number)}`);
    }
  });

  it('rounds to the nearest, ties to even', () => {
    expect(fromHalf(toHalf(1 + 2 ** -11))).toBe(1);
    expect(fromHalf(toHalf(1 + 3 * 2 ** -11))).toBe(1 + 2 ** -9);
    expect(fromHalf(toHalf(2 - 2 ** -30))).toBe(2);
    expect(fromHalf(toHalf(2 ** -26))).toBe(0);
    expect(fromHalf(toHalf(65_519))).toBe(65_504);
    expect(fromHalf(toHalf(65_520))).toBe(Infinity);
    expect(Object.is(fromHalf(toHalf(-0)), -0)).toBe(true);
  });
});
