// A planted fault: one small replacement in the source that a named test must notice.

/** A test file, or those of its tests alone whose full name holds `test`. */
export interface Target {
  readonly file: string;
  readonly test?: string;
}

export interface PlantedFault {
  /** Lower-case words joined by hyphens: what `npm run planted -- NAME` takes. */
  readonly name: string;
  /** Path of the source file, from the root of the checkout. */
  readonly file: string;
  /** Text that stands in the file exactly once, and what takes its place. */
  readonly from: string;
  readonly to: string;
  /** The tests at the lowest layer that must fail with it, each of them. */
  readonly noticedBy: readonly Target[];
  /** Why no test notices it, where that is accepted. A fault that is noticed after all must lose this. */
  readonly survives?: string;
}

/** Why the fault cannot be planted into this text of its file; undefined when it can. */
export function misfit({ name, file, from, to }: PlantedFault, source: string): string | undefined {
  if (from === to) return `${name}: it replaces a text by itself`;
  const times = source.split(from).length - 1;
  if (times === 1) return undefined;
  const text = JSON.stringify(from.length > 80 ? `${from.slice(0, 80)}…` : from);
  return `${name}: ${text} stands ${times} times in ${file}, not once: write the replacement for the code of today`;
}

/** The file's text with the fault in it. Throws when it does not fit. */
export function plant(fault: PlantedFault, source: string): string {
  const problem = misfit(fault, source);
  if (problem !== undefined) throw new Error(problem);
  return source.split(fault.from).join(fault.to);
}

/** What the table calls a target. */
export const nameOf = ({ file, test }: Target): string => (test === undefined ? file : `${file} (${test})`);

/** Is there a letter of a name that `npm run planted -- NAME` could not take? */
export const isFaultName = (name: string): boolean => /^[a-z0-9]+(-[a-z0-9]+)*$/.test(name);
