// `npm run planted`: plants one fault after another in a copy of the checkout, and reports which ones the tests detect.
import { parseArgs } from 'node:util';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { endRunsOfDeadOwners } from '../servers-stop.ts';
import { copyCheckout } from './copy.ts';
import type { PlantedFault, Target } from './fault.ts';
import { misfit, nameOf, plant } from './fault.ts';
import { faults } from './faults.ts';
import type { Ran, Verdict } from './jest-run.ts';
import { runTests, verdictOf } from './jest-run.ts';

/** A fault may cause tests to time out; the slowest file takes minutes without a fault. */
const LIMIT_MS = 15 * 60_000;

const { values, positionals } = parseArgs({
  options: { list: { type: 'boolean', default: false }, help: { type: 'boolean', default: false } },
  allowPositionals: true,
});
const say = (line: string): void => void process.stdout.write(`${line}\n`);
const usage =
  'npm run planted -- [--list] [NAME…]   a name may be a prefix: "delivery-" selects all names that start with it';

if (values.help) say(usage);
else if (values.list)
  for (const { name, file, noticedBy } of faults) say(lineOf(name, file, noticedBy.map(nameOf).join(', ')));
else process.exitCode = await plantAll(chosen(positionals));

/** Faults by name or beginning of a name; all without one. */
function chosen(names: readonly string[]): readonly PlantedFault[] {
  const unknown = names.find((name) => !faults.some((fault) => fault.name.startsWith(name)));
  if (unknown !== undefined) {
    process.stderr.write(`There is no planted fault "${unknown}": npm run planted -- --list\n`);
    process.exit(2);
  }
  return names.length === 0 ? faults : faults.filter(({ name }) => names.some((given) => name.startsWith(given)));
}

interface Row {
  readonly fault: PlantedFault;
  readonly seconds: number;
  readonly verdict: string;
  readonly isGood: boolean;
}

/** The exit code: 0 if each target detects its fault. */
async function plantAll(selected: readonly PlantedFault[]): Promise<number> {
  const aborted = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => aborted.abort(new Error(name)));
  const copy = await copyCheckout();
  try {
    const misfits = await Promise.all(
      selected.map(async (fault) =>
        misfit(fault, await readFile(join(copy.folder, fault.file), 'utf8').catch(() => '')),
      ),
    );
    if (misfits.some(Boolean)) {
      process.stderr.write(`${misfits.filter(Boolean).join('\n')}\n`);
      return 2;
    }
    const run = (file: string, tests: readonly string[] | undefined) =>
      runTests(copy.folder, file, tests, LIMIT_MS, aborted.signal);
    const baselines = new Map<string, Verdict>();
    const targets = byFile(selected);
    say(`${selected.length} faults, ${targets.size} test files. First run without a fault:`);
    for (const [file, its] of targets) {
      const ran = await run(file, testsOf(its));
      for (const target of its) baselines.set(nameOf(target), verdictOf(target, ran));
      const red = its.filter((target) => baselines.get(nameOf(target))?.status !== 'passed');
      say(`  ${red.length === 0 ? 'passes' : 'FAILS '}  ${file}  ${ran.seconds} s`);
      for (const target of red) say(`          ${nameOf(target)}: ${saidOf(verdictOf(target, ran))}`);
    }
    const rows: Row[] = [];
    for (const [index, fault] of selected.entries()) {
      const row = await copy.replaced(
        fault.file,
        (source) => plant(fault, source),
        () => tryFault(fault, run, baselines),
      );
      rows.push(row);
      say(`[${index + 1}/${selected.length}] ${fault.name}: ${row.verdict}, ${row.seconds} s`);
    }
    return report(rows);
  } catch (error) {
    if (!aborted.signal.aborted) throw error;
    process.stderr.write('interrupted: the faults after this one were not tried\n');
    return 130;
  } finally {
    await copy.remove();
    // Of tests that were ended, their servers are left.
    await endRunsOfDeadOwners();
  }
}

/** The distinct targets of faults, by file: each file runs once without a fault. */
function byFile(selected: readonly PlantedFault[]): ReadonlyMap<string, readonly Target[]> {
  const files = new Map<string, Target[]>();
  for (const target of selected.flatMap(({ noticedBy }) => noticedBy)) {
    const its = files.get(target.file) ?? [];
    if (!its.some((one) => nameOf(one) === nameOf(target))) its.push(target);
    files.set(target.file, its);
  }
  return files;
}

/** Which tests to run for some targets of one file; undefined: all of them. */
function testsOf(targets: readonly Target[]): readonly string[] | undefined {
  return targets.some(({ test }) => test === undefined) ? undefined : targets.flatMap(({ test = '' }) => [test]);
}

/** Runs each target of a fault that is planted. */
async function tryFault(
  fault: PlantedFault,
  run: (file: string, tests: readonly string[] | undefined) => Promise<Ran>,
  baselines: ReadonlyMap<string, Verdict>,
): Promise<Row> {
  const said: string[] = [];
  let seconds = 0;
  let isGood = true;
  for (const target of fault.noticedBy) {
    if (baselines.get(nameOf(target))?.status !== 'passed') {
      said.push(`NO VERDICT: ${nameOf(target)} fails without the fault`);
      isGood = false;
      continue;
    }
    const ran = await run(target.file, testsOf([target]));
    const verdict = verdictOf(target, ran);
    seconds += ran.seconds;
    if (verdict.status === 'unclear') said.push(`NO VERDICT: ${verdict.why}`);
    else if (verdict.status === 'failed') said.push(`noticed by "${verdict.test}"`);
    else if (fault.survives === undefined) said.push(`SURVIVED ${nameOf(target)}`);
    else said.push(`survived as accepted: ${fault.survives}`);
    // A detected fault must not be listed as an accepted survivor.
    if (verdict.status === 'failed' && fault.survives !== undefined) said.push('DETECTED although it has "survives"');
    isGood &&= verdict.status !== 'unclear' && (verdict.status === 'failed') === (fault.survives === undefined);
  }
  return { fault, seconds, verdict: said.join('; '), isGood };
}

function report(rows: readonly Row[]): number {
  say('');
  for (const { fault, verdict, seconds } of rows) say(lineOf(fault.name, fault.file, `${verdict}, ${seconds} s`));
  const bad = rows.filter(({ isGood }) => !isGood);
  const accepted = rows.filter(({ fault, isGood }) => isGood && fault.survives !== undefined).length;
  say('');
  say(
    `${rows.length} faults: ${rows.length - bad.length - accepted} detected, ${accepted} survived as accepted, ${bad.length} not detected or without a verdict${bad.length > 0 ? `: ${bad.map(({ fault }) => fault.name).join(', ')}` : ''}`,
  );
  return bad.length > 0 ? 1 : 0;
}

function lineOf(name: string, file: string, rest: string): string {
  return `${name.padEnd(44)} ${file.padEnd(52)} ${rest}`;
}

function saidOf(verdict: Verdict): string {
  if (verdict.status === 'failed') return verdict.test;
  return verdict.status === 'unclear' ? verdict.why : verdict.status;
}
