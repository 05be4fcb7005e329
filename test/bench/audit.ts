// How many entries the audit takes from fifty writers, beside one: `npm run bench:audit`.
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { createPostgresRecords } from '../../activities/adapters/postgres/records.ts';
import type { AuditEntry, Records } from '../../activities/records.ts';
import { keepLinked } from '../../workers/chainer.ts';
import { machine, startDatabase } from './database.ts';
import { quantile } from './statistics.ts';

const options = z
  .object({
    /** Seconds that each contender writes in a round. */
    BENCH_SECONDS: z.coerce.number().min(0.2).max(30).default(3),
    /** Rounds that count, after one that does not. */
    BENCH_ROUNDS: z.coerce.number().int().min(1).max(50).default(5),
    /** Connections; the platform's processes have ten each. */
    BENCH_POOL: z.coerce.number().int().min(1).max(80).default(10),
  })
  .parse(process.env);
const GOAL = 3;
const WRITERS = [1, 10, 50] as const;
/** Longest that rows may stay unlinked once the writers rest. */
const LINKED_WITHIN_MS = 30_000;

const say = (line: string): void => console.log(line);

interface Measured {
  readonly perSecond: number;
  readonly latencies: readonly number[];
}

const database = await startDatabase(say);
try {
  const records = await createPostgresRecords({ url: database.url, poolSize: options.BENCH_POOL });
  // As in the platform's processes: linking goes on beside the writers and takes of the same machine.
  const chainer = keepLinked({ records, onWarn: say });
  try {
    await measureAll(records);
  } finally {
    await chainer.stop();
    await records.close();
  }
} finally {
  await database.stop();
}

async function measureAll(records: Records): Promise<void> {
  say(`${machine()}; ${options.BENCH_POOL} connections, ${options.BENCH_ROUNDS} rounds of ${options.BENCH_SECONDS} s`);
  const taken = new Map<number, Measured[]>(WRITERS.map((writers) => [writers, []]));
  for (let round = 0; round <= options.BENCH_ROUNDS; round += 1)
    // Each goes first as often as last: what drifts, drifts for all.
    for (const writers of round % 2 === 0 ? WRITERS : [...WRITERS].reverse()) {
      const measured = await write(records, writers);
      if (round > 0) taken.get(writers)?.push(measured);
      await linked(records);
    }
  const rates = (writers: number): number[] => (taken.get(writers) ?? []).map(({ perSecond }) => perSecond);
  say(
    `${'writers'.padEnd(10)}${'entries/s'.padStart(12)}${'p50 ms'.padStart(10)}${'p95 ms'.padStart(10)}${'÷ one'.padStart(8)}   each round`,
  );
  for (const writers of WRITERS) {
    const latencies = (taken.get(writers) ?? []).flatMap((one) => one.latencies);
    // Round by round: what slowed the machine slowed both.
    const ratios = rates(writers).map((rate, round) => rate / (rates(1)[round] ?? Number.NaN));
    const ratio = quantile(ratios, 0.5);
    const verdict = writers === 50 ? `   goal ≥ ${GOAL}: ${ratio >= GOAL ? 'met' : 'missed'}` : '';
    say(
      String(writers).padEnd(10) +
        quantile(rates(writers), 0.5).toFixed(0).padStart(12) +
        quantile(latencies, 0.5).toFixed(1).padStart(10) +
        quantile(latencies, 0.95).toFixed(1).padStart(10) +
        ratio.toFixed(2).padStart(8) +
        `   ${ratios.map((each) => each.toFixed(2)).join(' ')}${verdict}`,
    );
  }
  const { rows, broken } = await records.verifyAudit();
  say(`${rows} rows in the chain, ${broken === null ? 'whole' : `broken at ${broken}`}`);
}

/** Each writer writes one entry after the other, each entry a transaction. */
async function write(records: Records, writers: number): Promise<Measured> {
  const latencies: number[] = [];
  const begun = performance.now();
  const end = begun + options.BENCH_SECONDS * 1_000;
  await Promise.all(
    Array.from({ length: writers }, async () => {
      for (let at = performance.now(); at < end; at = performance.now()) {
        await records.record([entry()], []);
        latencies.push(performance.now() - at);
      }
    }),
  );
  return { perSecond: (latencies.length * 1_000) / (performance.now() - begun), latencies };
}

/** Waits until the chain has caught up, so that rounds do not slow each other. */
async function linked(records: Records): Promise<void> {
  for (const end = Date.now() + LINKED_WITHIN_MS; Date.now() < end; await sleep(100))
    if ((await records.verifyAudit()).unlinked === 0) return;
  throw new Error('the rows were not linked');
}

/** Of the size that a decision's has. */
function entry(): AuditEntry {
  return {
    key: randomUUID(),
    project: 'bench',
    kind: 'version.approve',
    actor: 'mia',
    subject: `bench/forest/rf-${Math.floor(Math.random() * 1_000)}`,
    digest: 'a'.repeat(64),
    report: 'b'.repeat(64),
    reason: 'better than what is live on the rows of this year',
    detail: { commandId: randomUUID(), command: { name: 'approve', args: {}, signature: 'c'.repeat(88) } },
    at: new Date().toISOString(),
  };
}
