// Figures of a measurement: quantiles and their ratios.

export interface Figures {
  readonly n: number;
  readonly p50: number;
  readonly p95: number;
}

/** Quantile by the nearest rank, so that each figure is one that was measured. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const found = sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)];
  if (found === undefined) throw new RangeError('there is no quantile of nothing');
  return found;
}

export const figuresOf = (values: readonly number[]): Figures => ({
  n: values.length,
  p50: quantile(values, 0.5),
  p95: quantile(values, 0.95),
});

/** One line of the table: milliseconds, and how many times the bare exchange that is. */
export const lineOf = (name: string, { n, p50, p95 }: Figures, bare: Figures): string =>
  [
    name.padEnd(28),
    String(n).padStart(5),
    p50.toFixed(1).padStart(8),
    p95.toFixed(1).padStart(8),
    (p50 / bare.p50).toFixed(2).padStart(8),
    (p95 / bare.p95).toFixed(2).padStart(8),
  ].join(' ');

export const headOf = (): string =>
  ['', 'n', 'p50 ms', 'p95 ms', '× p50', '× p95']
    .map((text, column) => (column === 0 ? text.padEnd(28) : text.padStart(column === 1 ? 5 : 8)))
    .join(' ');
