// How long a page of the catalogue takes, with filters, at 1,000 and 100,000 versions, beside MLflow's registry: `npm run bench:catalogue`.
import { homedir } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { startApi } from './api-process.ts';
import { addDatabase, fillMlflow, fillPlatform } from './catalogue-rows.ts';
import { machine, startDatabase } from './database.ts';
import { installMlflow, startMlflow } from './mlflow.ts';
import { figuresOf, quantile } from './statistics.ts';

const options = z
  .object({
    /** Pages per question that count, of each contender. */
    BENCH_N: z.coerce.number().int().min(5).max(1_000).default(40),
    BENCH_WARM_UP: z.coerce.number().int().min(0).max(100).default(5),
    BENCH_SMALL: z.coerce.number().int().min(100).default(1_000),
    BENCH_LARGE: z.coerce.number().int().min(100).max(1_000_000).default(100_000),
    OCDL_CACHE: z.string().default(join(homedir(), '.cache', 'ocdl')),
    OCDL_PYTHON: z.string().default('python3'),
  })
  .parse(process.env);
const GOAL = 10;
/** A page of the larger catalogue may take so much longer than one of the small one to be called flat. */
const FLAT = 1.5;
const PAGE = 50;
const PROJECT = 'bench';

/** The same question to both, newest first. MLflow filters by name and tags: what it has no column for is a tag there. */
const questions = [
  ['newest', '', ''],
  ['model, state', 'model=model-7&state=released', "name = 'model-7' AND tags.state = 'released'"],
  ['type, author', 'type=type-3&author=user-5', "tags.type = 'type-3' AND tags.author = 'user-5'"],
  ['tag', 'tag=gold', "tags.grade = 'gold'"],
  [
    'tag, type, state',
    'tag=gold&type=type-2&state=new',
    "tags.grade = 'gold' AND tags.type = 'type-2' AND tags.state = 'new'",
  ],
  ['text', 'text=model+42', "name LIKE 'model-42%'"],
] as const;

interface Contender {
  readonly name: string;
  /** Asks for a page and returns how many rows it has. */
  readonly ask: (question: (typeof questions)[number]) => Promise<number>;
}

const say = (line: string): void => console.log(line);
const mlflowProgram = await installMlflow(options.OCDL_CACHE, { python: options.OCDL_PYTHON, say });
const database = await startDatabase(say);
const stops = [() => database.stop()];
try {
  const ours = await addDatabase(database.url, 'catalogue');
  const theirs = await addDatabase(database.url, 'mlflow');
  const api = await startApi(join(database.folder, 'home'), { DATABASE_URL: ours });
  stops.unshift(() => api.stop());
  await api.ask('POST', '/v1/projects', { project: PROJECT, types: ['type-0'] });
  const token = await api.addPerson('mia', PROJECT, 'manager');
  const mlflow = await startMlflow(mlflowProgram, { url: theirs, folder: database.folder });
  stops.unshift(() => mlflow.stop());
  const contenders = [platform(api.url, token), registry(mlflow.address)] as const;
  say(`${machine()}; pages of ${PAGE}, ${options.BENCH_N} of each question; milliseconds`);
  const medians: Record<number, readonly (readonly number[])[]> = {};
  for (const count of [options.BENCH_SMALL, options.BENCH_LARGE]) {
    await fillPlatform(ours, PROJECT, count);
    await fillMlflow(theirs, count);
    medians[count] = await measure(contenders, count);
  }
  sayFlat(medians[options.BENCH_SMALL] ?? [], medians[options.BENCH_LARGE] ?? []);
} finally {
  for (const stop of stops) await stop();
}

/** Over HTTP, with a token that is looked up, as every client asks. */
function platform(url: string, token: string): Contender {
  const schema = z.object({ rows: z.array(z.object({ submission: z.string() })) });
  return {
    name: 'platform',
    async ask([, query]) {
      const address = `${url}/v1/projects/${PROJECT}/versions?limit=${PAGE}${query && `&${query}`}`;
      return schema.parse(await get(address, { authorization: `Bearer ${token}` })).rows.length;
    },
  };
}

/** Over HTTP, as its own client asks its server; nobody has to prove who they are. */
function registry(address: string): Contender {
  const schema = z.object({ model_versions: z.array(z.object({ name: z.string() })).default([]) });
  return {
    name: 'MLflow',
    async ask([, , filter]) {
      const query = new URLSearchParams({ max_results: String(PAGE), order_by: 'last_updated_timestamp DESC' });
      if (filter) query.set('filter', filter);
      return schema.parse(await get(`${address}/api/2.0/mlflow/model-versions/search?${query.toString()}`, {}))
        .model_versions.length;
    },
  };
}

async function get(address: string, headers: Record<string, string>): Promise<unknown> {
  const response = await fetch(address, { headers });
  const text = await response.text();
  if (!response.ok) throw new Error(`${address} answered ${response.status}: ${text.slice(0, 500)}`);
  return JSON.parse(text);
}

/** Asks by turns; returns the medians of the platform and of MLflow for each question. */
async function measure(
  contenders: readonly [Contender, Contender],
  count: number,
): Promise<readonly (readonly number[])[]> {
  say(
    `\n${count} versions${' '.repeat(20)}rows   platform p50      p95    least MLflow p50      p95    least    ratio of p50, of least`,
  );
  const all: (readonly number[])[] = [];
  for (const question of questions) {
    const taken = contenders.map((): number[] => []);
    const rows = contenders.map(() => -1);
    for (let round = 0; round < options.BENCH_WARM_UP + options.BENCH_N; round += 1)
      for (const at of round % 2 === 0 ? [0, 1] : [1, 0]) {
        const begun = performance.now();
        rows[at] = (await contenders[at]?.ask(question)) ?? -1;
        if (round >= options.BENCH_WARM_UP) taken[at]?.push(performance.now() - begun);
      }
    // Other answers would be other work.
    if (rows[0] !== rows[1]) throw new Error(`${question[0]}: ${rows[0]} rows, and ${rows[1]} of MLflow`);
    const [own, other] = [figuresOf(taken[0] ?? []), figuresOf(taken[1] ?? [])];
    all.push([own.p50, other.p50]);
    const [least, otherLeast] = [Math.min(...(taken[0] ?? [])), Math.min(...(taken[1] ?? []))];
    const figures = [own.p50, own.p95, least, other.p50, other.p95, otherLeast]
      .map((ms) => ms.toFixed(1).padStart(9))
      .join('');
    say(
      `${question[0].padEnd(32)}${String(rows[0]).padStart(4)} ${figures}${(other.p50 / own.p50).toFixed(1).padStart(9)}${(otherLeast / least).toFixed(1).padStart(9)}`,
    );
  }
  const ratio = quantile(
    all.map(([own = Number.NaN, other = Number.NaN]) => other / own),
    0.5,
  );
  say(
    `MLflow ÷ platform at p50, median of the questions: ${ratio.toFixed(1)} (goal ≥ ${GOAL} at ${options.BENCH_LARGE})`,
  );
  return all;
}

function sayFlat(small: readonly (readonly number[])[], large: readonly (readonly number[])[]): void {
  const growth = (who: 0 | 1) =>
    large.map((medians, at) => (medians[who] ?? Number.NaN) / (small[at]?.[who] ?? Number.NaN));
  const worst = Math.max(...growth(0));
  const shown = (who: 0 | 1) =>
    growth(who)
      .map((each) => each.toFixed(2))
      .join(' ');
  say(
    `\np50 at ${options.BENCH_LARGE} ÷ p50 at ${options.BENCH_SMALL}, by question: platform ${shown(0)}; MLflow ${shown(1)}`,
  );
  say(`goal: flat, at most ${FLAT} × for each question: ${worst <= FLAT ? 'met' : 'missed'}`);
}
