// Names defined by the platform: gates and metrics. An unknown name is refused with a list of the known ones.

/** The known gates; `activities/gates/gate.ts` has one implementation of each. */
export const gateNames = ['function'] as const;
export type GateName = (typeof gateNames)[number];

/** The metrics in an evaluation report: `METRICS` of deploy/capsule/ocdl/figures.py. All are between 0 and 1. */
export const metricNames = ['accuracy', 'precision', 'recall', 'f1', 'roc_auc', 'average_precision'] as const;
export type MetricName = (typeof metricNames)[number];

/** Why `name` is not a known name of its kind; `undefined` if it is known. */
export function unknownName(kind: 'gate' | 'metric', name: string): string | undefined {
  const known: readonly string[] = kind === 'gate' ? gateNames : metricNames;
  if (known.includes(name)) return undefined;
  const nearest = nearestName(name, known);
  const hint = nearest === undefined ? '' : `: did you mean "${nearest}"?`;
  return `there is no ${kind} "${name.slice(0, 64)}", only ${known.join(', ')}${hint}`;
}

/** The known name that was most likely meant, if one is similar enough. */
function nearestName(name: string, known: readonly string[]): string | undefined {
  // Only the beginning of long texts is compared, which limits the cost.
  const given = fold(name.slice(0, 64));
  if (given === '') return undefined;
  // A part of a name, an abbreviation ("avg_precision"), or a name with a prefix or suffix.
  const similar =
    known.find((one) => fold(one).includes(given)) ??
    known.find((one) => given.length > 2 && hasInOrder(fold(one), given)) ??
    known.find((one) => given.includes(fold(one)));
  if (similar !== undefined) return similar;
  const [best] = known.map((one) => ({ one, steps: editSteps(given, fold(one)) })).sort((a, b) => a.steps - b.steps);
  // Up to a third of the letters may be wrong.
  return best && best.steps <= Math.max(1, Math.floor(given.length / 3)) ? best.one : undefined;
}

const fold = (name: string): string => name.toLowerCase().replace(/[^a-z0-9]/g, '');

/** Whether the letters of `part` appear in `whole` in this order. */
function hasInOrder(whole: string, part: string): boolean {
  let from = 0;
  return [...part].every((letter) => (from = whole.indexOf(letter, from) + 1) > 0);
}

/** Levenshtein distance: the number of letters to add, remove or change. */
function editSteps(from: string, to: string): number {
  let row = Array.from({ length: to.length + 1 }, (_, i) => i);
  for (const [i, letter] of [...from].entries()) {
    const next = [i + 1];
    for (const [j, other] of [...to].entries())
      next.push(Math.min((next[j] ?? 0) + 1, (row[j + 1] ?? 0) + 1, (row[j] ?? 0) + (letter === other ? 0 : 1)));
    row = next;
  }
  return row[to.length] ?? 0;
}
