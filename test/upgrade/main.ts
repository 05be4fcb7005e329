// `npm run test:upgrade`: the earlier program leaves work in every state and is stopped; the new one finishes it on the same home.
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { parseArgs } from 'node:util';
import { z } from 'zod';
import { anyFreePort } from '../../deploy/local/ports.ts';
import { endLeftovers } from '../../deploy/local/run-records.ts';
import { openSite } from '../adapters/web-server.ts';
import { deliveryThings } from './deliveries.ts';
import { unpackCommit } from './earlier-code.ts';
import { acknowledged } from './facts.ts';
import { openOrchestration } from './orchestration.ts';
import { startPlatform } from './running.ts';
import { openScene, type Scene } from './scene.ts';
import { evaluationThings, importThings, scanThings } from './sources.ts';
import type { Thing } from './thing.ts';
import { trainingThings } from './trainings.ts';
import { versionThings } from './versions.ts';

/** The last commit before Records decided. */
const EARLIER = '7f3d199';
const HELP = `Usage: npm run test:upgrade [-- flags]

Starts the code of commit ${EARLIER} on a new home, leaves each kind of workflow waiting in each state, stops it, starts the
present code on the same home and finishes everything. It prints what became of each thing; the exit status is 1 where one
did not reach its end. It takes about ten minutes.

  --graceful  let the worker end its activities in order, instead of stopping it in the middle of them
  --keep      leave the home behind
  --help      this text`;
const root = fileURLToPath(new URL('../../', import.meta.url));
const auditSchema = z.object({
  broken: z.number().nullable(),
  overdue: z.number(),
  rows: z.number(),
  decisions: z.object({ checked: z.number(), problems: z.array(z.string()) }),
});

const began = Date.now();
const say = (line: string): void =>
  console.log(`${String(Math.round((Date.now() - began) / 1000)).padStart(4)} s  ${line}`);

async function main(): Promise<number> {
  const flag = { type: 'boolean', default: false } as const;
  const { values } = parseArgs({ options: { graceful: flag, keep: flag, help: flag } });
  if (values.help) {
    console.log(HELP);
    return 0;
  }
  const folder = await mkdtemp(join(tmpdir(), 'ocdl-upgrade-'));
  const ending = new AbortController();
  process.once('SIGINT', () => ending.abort(new Error('interrupted')));
  process.once('SIGTERM', () => ending.abort(new Error('interrupted')));
  try {
    return await upgrade(folder, { isGraceful: values.graceful, signal: ending.signal });
  } finally {
    await endLeftovers(join(folder, 'home', 'run'));
    if (values.keep) say(`the home is kept in ${folder}/home`);
    else await rm(folder, { recursive: true, force: true, maxRetries: 5 });
  }
}

async function upgrade(
  folder: string,
  { isGraceful, signal }: { readonly isGraceful: boolean; readonly signal: AbortSignal },
): Promise<number> {
  const [home, earlier] = [join(folder, 'home'), join(folder, 'earlier')];
  await unpackCommit(EARLIER, earlier, say);
  const site = await openSite(folder);
  const ca = join(folder, 'site.pem');
  await writeFile(ca, site.ca);
  const temporalPort = await anyFreePort('127.0.0.1');
  const { PATH, HOME, OCDL_CACHE, OCDL_PYTHON } = process.env;
  const env = {
    ...{ PATH, HOME, OCDL_CACHE, OCDL_PYTHON, OCDL_HOME: home },
    OCDL_API_PORT: String(await anyFreePort('127.0.0.1')),
    OCDL_UI_PORT: String(await anyFreePort('127.0.0.1')),
    OCDL_TEMPORAL_PORT: String(temporalPort),
    ...{ OCDL_IMPORT_HOSTS: `localhost:${site.port}`, OCDL_IMPORT_CA_FILE: ca },
    OCDL_IMPORT_PRIVATE_ADDRESSES: `127.0.0.1:${site.port},[::1]:${site.port}`,
  };
  const before = await startPlatform({ checkout: earlier, home, env, signal });
  const running = { now: before };
  try {
    say(`commit ${EARLIER} runs on ${home}`);
    const api = before.apiUrl;
    const scene = await openScene({ api, home, adminToken: before.adminToken ?? '', site, signal });
    const [deliveries, imports] = [deliveryThings(scene, before.holdService), importThings(scene)];
    const groups: readonly (readonly Thing[])[] = [
      [...evaluationThings(scene), ...versionThings(scene)],
      [...deliveries.things, ...scanThings(scene)],
      trainingThings(scene),
      imports.things,
    ];
    const things = groups.flat();
    await Promise.all(groups.map((group) => inOrder(group, 'leave')));
    const facts = await acknowledged(scene);
    say(`what waits for people waits; ${facts.length} facts are acknowledged`);
    await begin(things, temporalPort, scene);
    if (!isGraceful) before.stopWorker();
    for (const thing of things) await step(thing, 'ask');
    const left = new Map(await Promise.all(things.map(async (thing) => [thing, await thing.state()] as const)));
    await before.stop();
    say(`the earlier platform has ended; ${things.length} things are left`);
    for (const { between } of [deliveries, imports]) await between();

    const upgraded = new Date();
    running.now = await startPlatform({ checkout: root, home, env, signal });
    say('the new platform is ready');
    const lost = await missing(facts, scene);
    const failures = new Map<Thing, string>();
    await Promise.all(groups.map((group) => inOrder(group, 'finish', failures)));
    const rows = [];
    for (const thing of things) {
      const end = await thing.state().catch((error: unknown) => messageOf(error));
      rows.push({ thing, left: left.get(thing) ?? '', end, failed: failures.get(thing) });
    }
    const wrong = report(rows, isGraceful);
    const also = [...lost, ...(await missing(facts, scene)), ...(await orchestrationProblems(temporalPort, upgraded))];
    also.push(...(await auditProblems(scene)));
    for (const problem of new Set(also)) console.log(`WRONG  ${problem}`);
    await running.now.stop();
    say(
      wrong + also.length === 0
        ? `all ${things.length} things have reached their end`
        : `${wrong} things have not reached their end, and ${new Set(also).size} other things are wrong`,
    );
    return wrong + also.length === 0 ? 0 : 1;
  } catch (error) {
    console.log(running.now.said());
    throw error;
  } finally {
    await running.now.kill();
    await site.close();
  }
}

type Step = 'leave' | 'begin' | 'ask' | 'finish';

async function step(thing: Thing, name: Step): Promise<void> {
  await thing[name]?.().catch((error: unknown) => {
    throw new Error(`${thing.name}: ${name}: ${messageOf(error)}`, { cause: error });
  });
}

/** Does one step for each thing, one after the other; with `failures` a failed one is noted and the next one comes. */
async function inOrder(things: readonly Thing[], name: Step, failures?: Map<Thing, string>): Promise<void> {
  for (const thing of things)
    await step(thing, name).catch((error: unknown) => {
      if (!failures) throw error;
      failures.set(thing, messageOf(error));
      say(messageOf(error));
    });
}

/** Sets the work going: first what takes the slots of the earlier worker, last what is caught in the act. */
async function begin(things: readonly Thing[], temporalPort: number, scene: Scene): Promise<void> {
  const orchestration = await openOrchestration(`127.0.0.1:${temporalPort}`);
  const placeOf = ({ runs, caught }: Thing): number => caught ?? (runs === undefined ? 0 : -1);
  try {
    for (const thing of [...things].sort((a, b) => placeOf(a) - placeOf(b))) {
      await step(thing, 'begin');
      if (thing.runs !== undefined) await orchestration.whenRuns(thing.runs, scene);
    }
  } finally {
    await orchestration.close();
  }
}

interface Row {
  readonly thing: Thing;
  readonly left: string;
  readonly end: string;
  readonly failed: string | undefined;
}

/** Prints the table; returns how many did not reach their end, or were not left as they were meant to be. */
function report(rows: readonly Row[], isGraceful: boolean): number {
  const widths = [0, 1, 2].map((i) =>
    Math.max(...rows.map(({ thing, left, end }) => ([thing.name, left, end][i] ?? '').length)),
  );
  const line = (...cells: readonly string[]): string => cells.map((cell, i) => cell.padEnd(widths[i] ?? 0)).join('  ');
  console.log(`\n       ${line('thing', 'left by the earlier program', 'end')}`);
  let wrong = 0;
  for (const { thing, left, end, failed } of rows) {
    // A worker that ends in order may have done more than it was meant to.
    const isLeft = isGraceful || left === thing.left;
    const isGood = isLeft && end === thing.end && failed === undefined;
    if (!isGood) wrong += 1;
    console.log(`${isGood ? 'ok   ' : 'WRONG'}  ${line(thing.name, left, end)}`);
    if (!isLeft) console.log(`         it was to be left ${thing.left}`);
    if (end !== thing.end) console.log(`         it was to end ${thing.end}`);
    if (failed !== undefined) console.log(`         ${failed}`);
  }
  console.log('');
  return wrong;
}

/** Facts of the earlier program that this one does not know. */
async function missing(facts: readonly string[], scene: Scene): Promise<readonly string[]> {
  const now = new Set(await acknowledged(scene));
  return facts.filter((fact) => !now.has(fact)).map((fact) => `was acknowledged and is not there: ${fact}`);
}

async function orchestrationProblems(temporalPort: number, since: Date): Promise<readonly string[]> {
  const orchestration = await openOrchestration(`127.0.0.1:${temporalPort}`);
  try {
    const { problems, runs } = await orchestration.problems(since);
    say(`${runs} runs of workflows looked at`);
    return problems;
  } finally {
    await orchestration.close();
  }
}

async function auditProblems(scene: Scene): Promise<readonly string[]> {
  const { broken, overdue, rows, decisions } = await scene.admin.get('/v1/audit/verification', auditSchema);
  say(`the audit has ${rows} rows, ${decisions.checked} decisions were checked`);
  return [
    ...(broken === null ? [] : [`the audit's chain is broken at row ${broken}`]),
    ...(overdue === 0 ? [] : [`${overdue} rows of the audit are not linked`]),
    ...decisions.problems.map((problem) => `audit: ${problem}`),
  ];
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

process.exitCode = await main();
