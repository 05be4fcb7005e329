// Names of environment variables that the platform does not know.
import { isSecret, variableNames } from './variables.ts';

/** Variables of the project's other programs: the stack, job wrappers, applications, tests. */
const othersOwn = /^OCDL_(STACK_.*|TEST_.*|TOKEN|JOB_TOKEN|INPUTS|OUTPUTS|PARAMETERS)$/;

/** Unknown names with our prefix: if they were ignored, a typing error would silently select the embedded system. */
export function strangers(environment: Readonly<Record<string, string | undefined>>): [name: string, what: string][] {
  const known = [...variableNames, ...variableNames.filter(isSecret).map((name) => `${name}_FILE`)];
  return Object.keys(environment)
    .filter((name) => name.startsWith('OCDL_') && !known.includes(name) && !othersOwn.test(name))
    .map((name) => {
      const [nearest] = known.map((one) => [distance(name, one), one] as const).sort(([a], [b]) => a - b);
      // With more than a third of the letters different, it is another word.
      const isNear = nearest !== undefined && nearest[0] <= name.length / 3;
      return [name, `is not a variable of the platform${isNear ? `: did you mean ${nearest[1]}?` : ''}`];
    });
}

/** Levenshtein distance: letters to insert, remove or replace to turn one word into the other. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++)
      next[j] = Math.min(
        (row[j] ?? 0) + 1,
        (next[j - 1] ?? 0) + 1,
        (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1),
      );
    row = next;
  }
  return row[b.length] ?? 0;
}
