// How the adapters of the real systems compare with plain programs, on the stack as plain processes: `npm run bench:stack`.
import { fork, type ChildProcess } from 'node:child_process';
import { createHash, randomFillSync } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdtemp, open, readFile, rm } from 'node:fs/promises';
import { cpus, loadavg, tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { anyFreePort } from '../../deploy/local/ports.ts';
import { stopOnSignals } from '../../deploy/local/ctrl-c.ts';
import { readStackSettings } from '../../deploy/stack/settings.ts';
import { startStack } from '../../deploy/stack/stack.ts';
import type { Digest } from '../../workflows/domain/names.ts';
import { alluxioRead } from './alluxio-read.ts';
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
  const processors = cpus();
  const [load = 0] = loadavg();
  say(
    `\n${processors.length} × ${processors[0]?.model ?? 'unknown'}, ${(totalmem() / 2 ** 30).toFixed(0)} GiB, ` +
      `Node ${process.version}, load ${load.toFixed(1)}, ${options.BENCH_ROUNDS} rounds`,
  );
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
  const api = fork(fileURLToPath(new URL('../../api/main.ts', import.meta.url)), {
    execArgv: ['--import', 'tsx'],
    env: {
      ...{ PATH: process.env.PATH, HOME: process.env.HOME, AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED: 'true' },
      ...given.variables,
      OCDL_HOME: join(home, 'api'),
      OCDL_API_PORT: String(await anyFreePort('127.0.0.1')),
    },
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  });
  try {
    const { url, adminToken } = await readiness(api);
    const ask = async (method: string, path: string, body: object): Promise<unknown> => {
      const headers = { authorization: `Bearer ${adminToken}`, 'content-type': 'application/json' };
      const response = await fetch(`${url}${path}`, { method, headers, body: JSON.stringify(body) });
      if (!response.ok) throw new Error(`${method} ${path} answered ${response.status}: ${await response.text()}`);
      return response.status === 204 ? undefined : await response.json();
    };
    await ask('POST', '/v1/projects', { project: 'bench', types: ['kind'] });
    await ask('POST', '/v1/users', { user: 'sam' });
    await ask('PUT', '/v1/projects/bench/members/sam', { roles: ['scientist'] });
    const { token } = z.object({ token: z.string() }).parse(await ask('POST', '/v1/users/sam/tokens', {}));
    await work({ ...given, variables: { ...given.variables, BENCH_API: url, BENCH_TOKEN: token } });
  } finally {
    api.kill('SIGTERM');
    if (api.exitCode === null) await new Promise((resolve) => api.once('exit', resolve));
  }
}

function readiness(api: ChildProcess): Promise<{ url: string; adminToken: string }> {
  const schema = z.object({ type: z.literal('ready'), url: z.string(), adminToken: z.string() });
  return new Promise((resolve, reject) => {
    api.once('message', (message) => resolve(schema.parse(message)));
    api.once('error', reject);
    api.once('exit', (code) => reject(new Error(`the API ended with ${code}`)));
  });
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
