// One contender in a process of its own, so that its memory is its own: does its work once and tells time and memory.
import { z } from 'zod';
import { givenSchema, type Contender, type Outcome } from './rounds.ts';

/** Often enough to see a peak that lasts as long as a part of an upload. */
const SAMPLE_MS = 20;
const MEGABYTE = 1_000_000;

const [module, name, given] = z.tuple([z.string(), z.string(), z.string()]).parse(process.argv.slice(2));
const { contenders } = (await import(`./${module}.ts`)) as { contenders: Readonly<Record<string, Contender>> };
const contender = contenders[name];
if (!contender) throw new Error(`${module} has no contender ${name}`);
const work = await contender(givenSchema.parse(JSON.parse(given)));
const rss = (): number => process.memoryUsage.rss() / MEGABYTE;
const idle = rss();
const samples = [idle];
const sampling = setInterval(() => samples.push(rss()), SAMPLE_MS);
const begun = performance.now();
const tidy = await work();
const seconds = (performance.now() - begun) / 1000;
clearInterval(sampling);
await tidy();
// What libraries keep open must not keep the benchmark waiting.
process.send?.({ seconds, idle, samples } satisfies Outcome, () => process.exit(0));
