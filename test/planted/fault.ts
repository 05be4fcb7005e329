// A planted fault: one small replacement in the source that a named test must detect.

/** A test file, or only those of its tests whose full name contains `test`. */
export interface Target {
  readonly file: string;
  readonly test?: string;
}

export interface PlantedFault {
  /** Lower-case words joined by hyphens: what `npm run planted -- NAME` takes. */
  readonly name: string;
  /** Path of the source file, from the root of the checkout. */
  readonly file: string;
  /** Text that occurs exactly once in the file, and its replacement. */
  readonly from: string;
  readonly to: string;
  /** The tests at the lowest layer that must fail with it, each of them. */
  readonly noticedBy: readonly Target[];
  /** Why it is accepted that no test detects it. Remove this if a test detects it. */
  readonly survives?: string;
}

/** Why the fault cannot be planted into this text of its file; undefined when it can. */
export function misfit({ name, file, from, to }: PlantedFault, source: string): string | undefined {
  if (from === to) return `${name}: it replaces a text with itself`;
  const times = source.split(from).length - 1;
  if (times === 1) return undefined;
  const text = JSON.stringify(from.length > 80 ? `${from.slice(0, 80)}…` : from);
  return `${name}: ${text} occurs ${times} times in ${file}, not once: adapt the fault to the current code`;
}

/** The file's text with the fault in it. Throws when it does not fit. */
export function plant(fault: PlantedFault, source: string): string {
  const problem = misfit(fault, source);
  if (problem !== undefined) throw new Error(problem);
  return source.split(fault.from).join(fault.to);
}

/** What the table calls a target. */
export const nameOf = ({ file, test }: Target): string => (test === undefined ? file : `${file} (${test})`);

/** Whether `npm run planted -- NAME` accepts the name. */
export const isFaultName = (name: string): boolean => /^[a-z0-9]+(-[a-z0-9]+)*$/.test(name);
