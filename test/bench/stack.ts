// How the adapters of the real systems compare with plain programs, on the stack as plain processes: `npm run bench:stack`.
import { createHash, randomFillSync } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdtemp, open, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { stopOnSignals } from '../../deploy/local/ctrl-c.ts';
import { readStackSettings } from '../../deploy/stack/settings.ts';
import { startStack } from '../../deploy/stack/stack.ts';
import type { Digest } from '../../workflows/domain/names.ts';
import { alluxioRead } from './alluxio-read.ts';
import { startApi } from './api-process.ts';
import { machine } from './database.ts';
import { durableDeliveries, events } from './events.ts';
import { releaseCopy } from './release-copy.ts';
import { runBench, type Given } from './rounds.ts';
import { artifactPath, openHdfs } from './systems.ts';
import { upload } from './upload.ts';

const options = z
  .object({
    /** Bytes of the artifact. */
    BENCH_BYTES: z.coerce.number().int().min(1_000_000).default(1_000_000_000),
    BENCH_EVENTS: z.coerce.number().int().min(10).default(10_000),
    /** Rounds that count, after one that does not. */
    BENCH_ROUNDS: z.coerce.number().int().min(1).default(5),
    /** Which benchmarks, by the names of their files. */
    BENCH_ONLY: z
      .string()
      .default('release-copy,upload,alluxio-read,events')
      .transform((text) => text.split(',')),
  })
  .parse(process.env);

const say = (line: string): void => console.log(line);
const { stop, force } = stopOnSignals(say);
// Below a folder that others may enter: as root, PostgreSQL runs as another user.
const home = await mkdtemp(join(tmpdir(), 'ocdl-bench-stack-'));
try {
  const settings = { ...readStackSettings(), home: join(home, 'stack') };
  const stack = await startStack({ settings, say, verbose: false, stop, force });
  try {
    await benchAll(await variablesIn(stack.started.envFile));
  } finally {
    await stack.stop();
  }
} finally {
  await rm(home, { recursive: true, force: true, maxRetries: 5 });
}

async function benchAll(variables: Readonly<Record<string, string>>): Promise<void> {
  const bytes = options.BENCH_BYTES;
  const file = join(home, 'artifact');
  const given: Given = { variables, file, bytes, sha256: await makeFile(file), events: options.BENCH_EVENTS, name: '' };
  const hdfs = await openHdfs(given);
  await hdfs.write(artifactPath, createReadStream(file), { expect: { sha256: given.sha256 as Digest, bytes } });
  await hdfs.close();
  say(`\n${machine()}, ${options.BENCH_ROUNDS} rounds`);
  for (const each of [releaseCopy, upload, alluxioRead, events, durableDeliveries]) {
    const bench = each(given);
    if (!options.BENCH_ONLY.includes(bench.module)) continue;
    stop.throwIfAborted();
    if (each !== upload) await runBench(bench, given, options.BENCH_ROUNDS, say);
    else await withApi(given, (withAddress) => runBench(bench, withAddress, options.BENCH_ROUNDS, say));
  }
}

/** Runs the platform's API as a process over the stack, with `sam`, a scientist of the project `bench`. */
async function withApi(given: Given, work: (given: Given) => Promise<void>): Promise<void> {
  const api = await startApi(join(home, 'api'), given.variables);
  try {
    await api.ask('POST', '/v1/projects', { project: 'bench', types: ['kind'] });
    const token = await api.addPerson('sam', 'bench', 'scientist');
    await work({ ...given, variables: { ...given.variables, BENCH_API: api.url, BENCH_TOKEN: token } });
  } finally {
    await api.stop();
  }
}

/** Makes a file that no layer can make smaller, and returns its digest. */
async function makeFile(path: string): Promise<string> {
  const hash = createHash('sha256');
  const handle = await open(path, 'wx', 0o600);
  const block = Buffer.alloc(1_000_000);
  for (let left = options.BENCH_BYTES; left > 0; left -= block.byteLength) {
    const part = randomFillSync(block).subarray(0, left);
    hash.update(part);
    await handle.writeFile(part);
  }
  await handle.close();
  return hash.digest('hex');
}

/** The file that `npm run stack` writes for people: NAME=value a line. */
async function variablesIn(envFile: string): Promise<Record<string, string>> {
  const lines = (await readFile(envFile, 'utf8')).split('\n').filter(Boolean);
  return Object.fromEntries(lines.map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]));
}
