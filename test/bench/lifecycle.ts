// Each type of workflow with instant outside work, beside a plain one with the same business effects: `npm run bench:lifecycle`.
import { z } from 'zod';
import { types, type Arm, type Passage } from './lifecycle/passage-scene.ts';
import { createPassages } from './lifecycle/passages.ts';
import { openLifecycleStage, type LifecycleStage } from './lifecycle/stage.ts';
import { machine } from './database.ts';
import { quantile, ratioOf } from './statistics.ts';

const options = z
  .object({
    /** Passages of each type and contender that are measured. */
    BENCH_N: z.coerce.number().int().min(5).default(60),
    /** Passages before, that are not: connections open, code gets compiled. */
    BENCH_WARM_UP: z.coerce.number().int().min(1).default(5),
    /** Types to measure, all unless given: `modelLifecycle,delivery`. */
    BENCH_ONLY: z.string().optional(),
    /** Prints what each activity costs, too. */
    BENCH_COSTS: z.string().optional(),
  })
  .parse(process.env);
const GOAL = 1.3;
const arms: readonly Arm[] = ['platform', 'plain'];

/** Tables of the business effects. The others are what the platform checks and resumes by: starts, steps, standings. */
const effects = [
  ...['versions', 'evaluations', 'deliveries', 'scans', 'imports'].map((table) => `projection.${table}`),
  ...['audit', 'commands', 'decisions', 'releases', 'live_pointers', 'moves', 'runs', 'evidence', 'gate_results'].map(
    (table) => `authoritative.${table}`,
  ),
  ...['data_sets', 'tokens'].map((table) => `authoritative.${table}`),
];

const say = (line: string): void => console.log(line);
const stage = await openLifecycleStage(types, say);
try {
  const passages = (await createPassages(stage)).filter(
    ({ name }) => options.BENCH_ONLY === undefined || options.BENCH_ONLY.split(',').includes(name),
  );
  say(`${machine()}; ${options.BENCH_N} passages of each`);
  say(['', 'platform ms', 'plain ms', '÷ plain', '95 %'].map((text, i) => text.padStart(i === 0 ? 0 : 13)).join(' '));
  for (const passage of passages) await measure(stage, passage);
  say(`goal: each within ${GOAL} × the plain workflow at p50; ${machine()}`);
} finally {
  await stage.close();
}

/** The effects of one passage must be the same rows; then rounds, in an order that turns round each time. */
async function measure({ watches, ...others }: LifecycleStage, passage: Passage): Promise<void> {
  const taken: Record<Arm, number[]> = { platform: [], plain: [] };
  const rows: Partial<Record<Arm, string>> = {};
  for (let round = 1; round <= options.BENCH_WARM_UP + options.BENCH_N; round += 1) {
    for (const arm of round % 2 === 0 ? arms : [...arms].reverse()) {
      const before = round === 1 ? await count(others) : undefined;
      const ms = await passage[arm](round);
      await watches[arm].rest();
      if (before) rows[arm] = difference(before, await count(others));
      if (round > options.BENCH_WARM_UP) taken[arm].push(ms);
      else watches[arm].takeCosts();
    }
    if (round === 1 && rows.platform !== rows.plain)
      throw new Error(`${passage.name}: other effects: platform ${rows.platform ?? ''}; plain ${rows.plain ?? ''}`);
  }
  const { ratio, low, high } = ratioOf(taken.platform, taken.plain);
  say(
    [
      ...[passage.name.padEnd(16), quantile(taken.platform, 0.5).toFixed(1).padStart(10)],
      ...[quantile(taken.plain, 0.5).toFixed(1).padStart(13), ratio.toFixed(2).padStart(13)],
      ...[`${low.toFixed(2)}–${high.toFixed(2)}`.padStart(13), ratio <= GOAL ? 'met' : 'missed'],
    ].join(' '),
  );
  for (const arm of arms) sayCosts(arm, watches[arm].takeCosts());
}

/** Activities of a passage and their statements to the database; in detail if asked for. */
function sayCosts(arm: Arm, costs: ReturnType<LifecycleStage['watches'][Arm]['takeCosts']>): void {
  const per = (value: number): string => (value / options.BENCH_N).toFixed(1);
  const sum = (of: 'times' | 'statements' | 'ms') => [...costs.values()].reduce((total, cost) => total + cost[of], 0);
  say(`  ${arm}: ${per(sum('times'))} activities, ${per(sum('statements'))} statements, ${per(sum('ms'))} ms in them`);
  if (options.BENCH_COSTS === undefined) return;
  for (const [name, { times, statements, ms }] of costs)
    say(
      `    ${name.padEnd(20)} × ${per(times)}: ${(statements / times).toFixed(1)} statements, ${(ms / times).toFixed(1)} ms`,
    );
}

async function count({ query }: Pick<LifecycleStage, 'query'>): Promise<Readonly<Record<string, number>>> {
  const parts = effects.map((table) => `select '${table}' as name, count(*)::int as rows from ${table}`);
  const found = await query(parts.join(' union all '));
  return Object.fromEntries(found.map(({ name, rows }) => [String(name), Number(rows)]));
}

function difference(before: Readonly<Record<string, number>>, after: Readonly<Record<string, number>>): string {
  const changed = Object.entries(after).flatMap(([table, rows]) => {
    const more = rows - (before[table] ?? 0);
    return more === 0 ? [] : [`${table} +${more}`];
  });
  return changed.sort().join(', ');
}
