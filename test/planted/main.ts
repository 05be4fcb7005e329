// `npm run planted`: plants one fault after the other in a copy of the checkout, and says which ones the tests notice.
import { parseArgs } from 'node:util';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { endRunsOfDeadOwners } from '../servers-stop.ts';
import { copyCheckout } from './copy.ts';
import type { PlantedFault, Target } from './fault.ts';
import { misfit, nameOf, plant } from './fault.ts';
import { faults } from './faults.ts';
import type { Verdict } from './jest-run.ts';
import { runTests } from './jest-run.ts';

/** A fault may make tests wait in vain; the slowest file takes minutes without one. */
const LIMIT_MS = 15 * 60_000;

const { values, positionals } = parseArgs({
  options: { list: { type: 'boolean', default: false }, help: { type: 'boolean', default: false } },
  allowPositionals: true,
});
const say = (line: string): void => void process.stdout.write(`${line}\n`);
const usage = 'npm run planted -- [--list] [NAME…]   names may be beginnings: "delivery-" takes all that begin so';

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

/** The exit code: 0 when each fault was noticed by each of its targets. */
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
    const run = (target: Target): Promise<Verdict> => runTests(copy.folder, target, LIMIT_MS, aborted.signal);
    const baselines = new Map<string, Verdict>();
    const targets = new Map(selected.flatMap(({ noticedBy }) => noticedBy.map((target) => [nameOf(target), target])));
    say(`${selected.length} faults, ${targets.size} targets. First the targets without a fault:`);
    for (const [name, target] of targets) {
      const verdict = await run(target);
      baselines.set(name, verdict);
      say(`  ${verdict.status === 'passed' ? 'passes' : `RED (${saidOf(verdict)})`}  ${name}  ${verdict.seconds} s`);
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

/** Runs each target of a fault that is planted. */
async function tryFault(
  fault: PlantedFault,
  run: (target: Target) => Promise<Verdict>,
  baselines: ReadonlyMap<string, Verdict>,
): Promise<Row> {
  const said: string[] = [];
  let seconds = 0;
  let isGood = true;
  for (const target of fault.noticedBy) {
    if (baselines.get(nameOf(target))?.status !== 'passed') {
      said.push(`NO VERDICT: ${nameOf(target)} is red without the fault`);
      isGood = false;
      continue;
    }
    const verdict = await run(target);
    seconds += verdict.seconds;
    if (verdict.status === 'unclear') said.push(`NO VERDICT: ${verdict.why}`);
    else if (verdict.status === 'failed') said.push(`noticed by "${verdict.test}"`);
    else if (fault.survives === undefined) said.push(`SURVIVED ${nameOf(target)}`);
    else said.push(`survived as accepted: ${fault.survives}`);
    // An accepted survivor that is noticed has a wrong entry in the table.
    if (verdict.status === 'failed' && fault.survives !== undefined) said.push('NOTICED although "survives" is given');
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
    `${rows.length} faults: ${rows.length - bad.length - accepted} noticed, ${accepted} survived as accepted, ${bad.length} not noticed or without a verdict${bad.length > 0 ? `: ${bad.map(({ fault }) => fault.name).join(', ')}` : ''}`,
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
