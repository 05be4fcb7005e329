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

export interface Slope {
  readonly slope: number;
  /** The ends of its 95 % confidence interval. */
  readonly low: number;
  readonly high: number;
}

/**
 * The straight line through points (x, y) by Theil and Sen: the median of the slopes of all pairs, which a few outliers (a
 * garbage collection) do not move. The interval is Kendall's. Neighbours in time are alike, which would make it too narrow:
 * so at most 60 points count, each the median of those around it.
 */
export function slopeOf(points: readonly (readonly [x: number, y: number])[]): Slope {
  const size = Math.max(1, Math.ceil(points.length / 60));
  const thinned = Array.from({ length: Math.floor(points.length / size) }, (_, i) => {
    const some = points.slice(i * size, (i + 1) * size);
    return [
      quantile(
        some.map(([x]) => x),
        0.5,
      ),
      quantile(
        some.map(([, y]) => y),
        0.5,
      ),
    ] as const;
  });
  const slopes = thinned
    .flatMap(([x, y], i) => thinned.slice(i + 1).map(([x2, y2]) => (y2 - y) / (x2 - x)))
    .sort((a, b) => a - b);
  const n = thinned.length;
  // 1.96: two-sided 95 % of the normal distribution, which Kendall's statistic follows from about ten points on.
  const half = 1.96 * Math.sqrt((n * (n - 1) * (2 * n + 5)) / 18);
  const at = (index: number): number =>
    slopes[Math.min(slopes.length - 1, Math.max(0, Math.round(index)))] ?? Number.NaN;
  return {
    slope: quantile(slopes, 0.5),
    low: at((slopes.length - half) / 2 - 1),
    high: at((slopes.length + half) / 2),
  };
}

export interface Ratio {
  readonly ratio: number;
  /** The ends of its 95 % confidence interval. */
  readonly low: number;
  readonly high: number;
}

/**
 * How many times as long one contender took, round by round: what slowed the machine slowed both. The median of the ratios,
 * with the interval of ranks that holds it in 95 % of cases whatever their distribution (binomial, as a normal one).
 */
export function ratioOf(values: readonly number[], peers: readonly number[]): Ratio {
  const ratios = values.map((value, round) => value / (peers[round] ?? Number.NaN)).sort((a, b) => a - b);
  const n = ratios.length;
  const half = (1.96 * Math.sqrt(n)) / 2;
  const at = (rank: number): number => ratios[Math.min(n, Math.max(1, rank)) - 1] ?? Number.NaN;
  return { ratio: quantile(ratios, 0.5), low: at(Math.floor(n / 2 - half)), high: at(Math.ceil(n / 2 + 1 + half)) };
}
