// Does the worker's memory grow under load? `npm run bench:memory -- [MINUTES]`: an hour unless given.
// A platform of its own, a steady load of signals, queries and new runs. Three times a minute the worker and its threads collect all
// garbage; then what they hold and the resident memory are taken. In between, the resident memory rises and falls by some
// 50 MB over minutes, since V8 widens and narrows the room for new objects: slopes of it say little. Pools of the native
// core fill up at first, so the second half of the time counts. Flat: the 95 % confidence interval of the slope holds zero
// or less, or its upper end is below 1 MB an hour.
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client, Connection } from '@temporalio/client';
import { z } from 'zod';
import { startPlatform, type Platform } from '../../deploy/local/platform.ts';
import { readSettings, withoutSystems } from '../../deploy/local/settings.ts';
import { command, live, wake } from '../../workflows/messages.ts';
import { machine } from './database.ts';
import { slopeOf } from './statistics.ts';

const minutes = z.coerce.number().positive().max(600).default(60).parse(process.argv[2]);
/** Gentle: the machine does other things, too. */
const ROUND_MS = 500;
const SIGNALS_A_ROUND = 5;
/** Few, so that each cuts its history (after 500 commands) every few minutes: before the first cut memory must grow. */
const APPLICATIONS = 4;

const threadSchema = z.object({ at: z.number(), rss: z.number(), held: z.number() });
type Sample = { readonly hours: number; readonly rss: number; readonly held: number };

const folder = mkdtempSync(join(tmpdir(), 'ocdl-memory-'));
const figures = join(folder, 'figures');
mkdirSync(figures);
const ports = { OCDL_API_PORT: '18470', OCDL_UI_PORT: '18233', OCDL_TEMPORAL_PORT: '17233' };
const preload = `--require ${join(import.meta.dirname, 'held-memory.cjs')}`;
const settings = readSettings({
  ...{ ...withoutSystems(process.env), ...ports, OCDL_HOME: join(folder, 'home') },
  ...{ NODE_OPTIONS: preload, BENCH_HELD_MEMORY: figures },
});
console.log(machine());
const platform = await startPlatform({ settings, say: (line) => console.log(line) });
const connection = await Connection.connect({ address: platform.temporalAddress });
try {
  const samples = await measure(platform, new Client({ connection }));
  const later = samples.slice(Math.floor(samples.length / 2));
  console.log(`worker under load for ${minutes} min, ${samples.length} samples, second half of them counted`);
  for (const [what, name] of [
    ['held', 'objects and buffers held'],
    ['rss', 'resident memory'],
  ] as const) {
    const { slope, low, high } = slopeOf(later.map((sample) => [sample.hours, sample[what] / 1e6] as const));
    const verdict = low <= 0 ? 'flat' : high < 1 ? 'flat within 1 MB/h' : 'grows';
    const shown = [samples[0], later[0], later.at(-1)]
      .map((sample) => megabytes(sample?.[what] ?? Number.NaN))
      .join(' → ');
    console.log(
      `${name}: ${shown} MB (begin, half, end); ${slope.toFixed(1)} MB/h (95 %: ${low.toFixed(1)} to ${high.toFixed(1)}): ${verdict}`,
    );
  }
} finally {
  await connection.close();
  await platform.stop();
  rmSync(folder, { recursive: true, force: true });
}

async function measure(running: Platform, client: Client): Promise<readonly Sample[]> {
  const pid = running.pidOf('worker');
  const ids = await makeApplications(running, client);
  const began = Date.now();
  const samples: Sample[] = [];
  const count = { signals: 0, queries: 0 };
  for (let round = 0; Date.now() - began < minutes * 60_000; round += 1) {
    const handle = client.workflow.getHandle(ids[round % ids.length] ?? '');
    for (let i = 0; i < SIGNALS_A_ROUND; i += 1) {
      const body = { v: 1, name: 'revert', commandId: `c-${round}-${i}`, actor: 'dev' };
      await handle.signal(command, { body, signature: 'none' });
      count.signals += 1;
    }
    await handle.signal(wake);
    await handle.query(live);
    count.queries += 1;
    const sample = takeSample(began);
    if (sample && sample.hours !== samples.at(-1)?.hours) samples.push(sample);
    await sleep(ROUND_MS);
  }
  if (running.pidOf('worker') !== pid) throw new Error('the worker has died meanwhile: see its log');
  console.log(`load: ${count.signals} signals, ${count.queries} queries, ${ids.length} workflows`);
  return samples;
}

/** What the process and its threads have written last; undefined while nothing is there. */
function takeSample(began: number): Sample | undefined {
  const threads = readdirSync(figures).flatMap((file) => {
    const text = readFileSync(join(figures, file), 'utf8');
    // Empty while it is being written.
    return text === '' ? [] : [{ isMain: file === '0.json', ...threadSchema.parse(JSON.parse(text)) }];
  });
  const main = threads.find(({ isMain }) => isMain);
  if (!main || main.at < began) return undefined;
  const held = threads.reduce((sum, thread) => sum + thread.held, 0);
  return { hours: (main.at - began) / 3_600_000, rss: main.rss, held };
}

async function makeApplications({ apiUrl, adminToken }: Platform, client: Client): Promise<readonly string[]> {
  const ask = async (method: string, path: string, body: unknown, token = adminToken): Promise<unknown> => {
    const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' };
    const response = await fetch(`${apiUrl}${path}`, { method, headers, body: JSON.stringify(body) });
    if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
    return response.status === 204 ? undefined : response.json();
  };
  await ask('POST', '/v1/users', { user: 'dev', admin: false });
  await ask('POST', '/v1/projects', { project: 'p', types: ['kind'] });
  await ask('PUT', '/v1/projects/p/members/dev', { roles: ['developer'] });
  const { token } = z.object({ token: z.string() }).parse(await ask('POST', '/v1/users/dev/tokens', {}));
  for (let i = 0; i < APPLICATIONS; i += 1) {
    const application = { application: `shop-${i}`, types: ['kind'], gates: ['function'] };
    await ask('POST', '/v1/projects/p/applications', application, token);
  }
  for (;;) {
    const ids: string[] = [];
    for await (const { workflowId } of client.workflow.list({ query: "WorkflowType='application'" }))
      ids.push(workflowId);
    if (ids.length >= APPLICATIONS) return ids;
    await sleep(500);
  }
}

function megabytes(bytes: number): string {
  return (bytes / 1e6).toFixed(1);
}
