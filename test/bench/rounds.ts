// Contenders of a benchmark by turns, each time in a process of its own, and what their rounds say as ratios.
import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { quantile } from './statistics.ts';

/** What every contender is told: where the systems are, and what to work on. */
export const givenSchema = z.object({
  /** The platform's variables for the started stack. */
  variables: z.record(z.string(), z.string()),
  /** A file on disk, its bytes as random ones, and its digest. */
  file: z.string(),
  bytes: z.number(),
  sha256: z.string(),
  events: z.number(),
  /** No two runs of contenders have the same. */
  name: z.string(),
});
export type Given = z.infer<typeof givenSchema>;

/** Opens what is needed; the work it returns is timed; what that returns is done afterwards. */
export type Contender = (given: Given) => Promise<() => Promise<() => Promise<void>>>;

const outcomeSchema = z.object({
  seconds: z.number(),
  /** Megabytes: before the work, and as sampled while it went on. */
  idle: z.number(),
  samples: z.array(z.number()),
});
export type Outcome = z.infer<typeof outcomeSchema>;

export interface Bench {
  readonly title: string;
  /** The file with the contenders. */
  readonly module: string;
  /** Names of contenders, and the one that the others are measured against. */
  readonly contenders: readonly string[];
  readonly peer: string;
  /** Least ratio of the peer's time to the contender's; without it the figures are for information. */
  readonly goals?: Readonly<Record<string, number>>;
  /** How much is done in one run, in `unit`. */
  readonly amount: number;
  readonly unit: string;
  /** Most megabytes over idle that these may take. */
  readonly memory?: Readonly<Record<string, number>>;
}

/** Runs the rounds, after one that does not count, and prints the figures. */
export async function runBench(bench: Bench, given: Given, rounds: number, say: (line: string) => void): Promise<void> {
  say(`\n${bench.title}`);
  const taken = new Map<string, Outcome[]>(bench.contenders.map((name) => [name, []]));
  for (let round = 0; round <= rounds; round += 1) {
    // Each goes first as often as last: what drifts, drifts for all.
    for (const name of round % 2 === 0 ? bench.contenders : [...bench.contenders].reverse()) {
      const outcome = await runOnce(bench.module, name, { ...given, name: `${name.replace(/\W/g, '-')}-${round}` });
      if (round > 0) taken.get(name)?.push(outcome);
    }
  }
  const secondsOf = (name: string): number[] => (taken.get(name) ?? []).map(({ seconds }) => seconds);
  const peer = secondsOf(bench.peer);
  say(
    `${''.padEnd(36)}${'median s'.padStart(10)}${`${bench.unit}/s`.padStart(12)}${'÷ peer'.padStart(8)}   each round`,
  );
  for (const name of bench.contenders) {
    const seconds = secondsOf(name);
    // Round by round: what slowed the machine slowed both.
    const ratios = seconds.map((own, round) => (peer[round] ?? Number.NaN) / own);
    const [median, ratio] = [quantile(seconds, 0.5), quantile(ratios, 0.5)];
    const goal = bench.goals?.[name];
    const verdict = goal === undefined ? '' : `   goal ≥ ${goal}: ${ratio >= goal ? 'met' : 'missed'}`;
    say(
      name.padEnd(36) +
        median.toFixed(2).padStart(10) +
        (bench.amount / median).toFixed(0).padStart(12) +
        ratio.toFixed(2).padStart(8) +
        `   ${ratios.map((each) => each.toFixed(2)).join(' ')}${verdict}`,
    );
  }
  for (const [name, most] of Object.entries(bench.memory ?? {})) sayMemory(name, most, taken.get(name) ?? [], say);
}

/** Peak over idle, and the second half's median against the first's: a leak would show there. */
function sayMemory(name: string, most: number, outcomes: readonly Outcome[], say: (line: string) => void): void {
  const over = Math.max(...outcomes.map(({ idle, samples }) => Math.max(...samples) - idle));
  const growth = outcomes.map(({ samples }) => {
    const half = Math.floor(samples.length / 2);
    return quantile(samples.slice(half), 0.5) / quantile(samples.slice(0, half + 1), 0.5);
  });
  say(
    `memory of ${name}: at most ${over.toFixed(0)} MB over idle (goal ≤ ${most}: ${over <= most ? 'met' : 'missed'}); ` +
      `second half ÷ first half ${quantile(growth, 0.5).toFixed(2)}`,
  );
}

function runOnce(module: string, name: string, given: Given): Promise<Outcome> {
  const child = fork(fileURLToPath(new URL('contender.ts', import.meta.url)), [module, name, JSON.stringify(given)], {
    execArgv: ['--import', 'tsx'],
    // The AWS SDK would say each time that it will need a newer Node one day.
    env: { ...process.env, AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED: 'true' },
  });
  return new Promise((resolve, reject) => {
    let outcome: Outcome | undefined;
    child.on('message', (message) => (outcome = outcomeSchema.parse(message)));
    child.once('error', reject);
    child.once('exit', (code) =>
      code === 0 && outcome ? resolve(outcome) : reject(new Error(`${name} of ${module} ended with ${code}`)),
    );
  });
}
