// Converts IEEE 754 half precision, for which JavaScript without Float16Array has no type.

const scratch = new DataView(new ArrayBuffer(4));

/** The number whose half-precision bits these are. */
export const fromHalf = (bits: number): number => {
  const sign = (bits & 0x8000) === 0 ? 1 : -1;
  const exponent = (bits >>> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0x1f) return fraction === 0 ? sign * Infinity : NaN;
  // Subnormal numbers have no implicit leading one.
  return exponent === 0 ? sign * fraction * 2 ** -24 : sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
};

/** The bits of the half-precision number nearest to `value`, ties to even; infinity if it is out of range. */
export const toHalf = (value: number): number => {
  scratch.setFloat32(0, value);
  const sign = (scratch.getUint32(0) >>> 16) & 0x8000;
  const size = Math.abs(value);
  if (Number.isNaN(value)) return 0x7e00;
  // 65520 is halfway between the largest half and the next power of two.
  if (size >= 65520) return sign | 0x7c00;
  // Below 2^-14 the step is constant (2^-24); a carry out of the fraction correctly becomes the next exponent.
  if (size < 2 ** -14) return sign | roundToEven(size * 2 ** 24);
  const exponent = exponentOf(size);
  return sign | (((exponent + 15) << 10) + roundToEven((size / 2 ** exponent - 1) * 1024));
};

const exponentOf = (size: number): number => {
  scratch.setFloat32(0, size);
  const exponent = ((scratch.getUint32(0) >>> 23) & 0xff) - 127;
  // Rounding to single precision may have carried into the next power of two.
  return 2 ** exponent > size ? exponent - 1 : exponent;
};

const roundToEven = (value: number): number => {
  const floor = Math.floor(value);
  const rest = value - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? floor + 1 : floor;
};
