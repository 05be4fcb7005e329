// Does the worker's memory grow under load? `node --import tsx test/bench/worker-memory.ts [MINUTES]`: an hour unless given.
// A platform of its own, a steady load of signals, queries and new workflows; prints the slope of RSS and heap with its
// 95 % confidence interval. Flat: the interval of the second half of the time holds zero, or its upper end is below 1 MB an hour.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client, Connection } from '@temporalio/client';
import { z } from 'zod';
import { startPlatform, type Platform } from '../../deploy/local/platform.ts';
import { readSettings, withoutSystems } from '../../deploy/local/settings.ts';
import { command, live, wake } from '../../workflows/messages.ts';
import { slopeOf } from './statistics.ts';

const minutes = z.coerce.number().positive().max(600).default(60).parse(process.argv[2]);
/** Gentle: the machine does other things, too. */
const ROUND_MS = 500;
const SIGNALS_A_ROUND = 5;
const SAMPLE_MS = 2_000;
/** Few, so that each cuts its history (after 500 commands) every few minutes: before the first cut memory must grow. */
const APPLICATIONS = 4;

type Sample = { readonly hours: number; readonly rss: number; readonly anonymous: number };

const folder = mkdtempSync(join(tmpdir(), 'ocdl-memory-'));
const ports = { OCDL_API_PORT: '18470', OCDL_UI_PORT: '18233', OCDL_TEMPORAL_PORT: '17233' };
const settings = readSettings({ ...withoutSystems(process.env), OCDL_HOME: join(folder, 'home'), ...ports });
const platform = await startPlatform({ settings, say: (line) => console.log(line) });
const connection = await Connection.connect({ address: platform.temporalAddress });
try {
  const samples = await measure(platform, new Client({ connection }));
  const later = samples.slice(Math.floor(samples.length / 2));
  const worker = `worker under load for ${minutes} min, ${samples.length} samples, second half of them counted`;
  console.log(`${worker}: RSS ${megabytes(later[0]?.rss ?? 0)} MB → ${megabytes(later.at(-1)?.rss ?? 0)} MB`);
  for (const what of ['rss', 'anonymous'] as const) {
    const { slope, low, high } = slopeOf(later.map((sample) => [sample.hours, sample[what] / 1e6] as const));
    const name = what === 'rss' ? 'RSS' : 'heap and other own memory';
    const verdict = low <= 0 ? 'flat' : high < 1 ? 'flat within 1 MB/h' : 'grows';
    console.log(`${name}: ${slope.toFixed(1)} MB/h (95 %: ${low.toFixed(1)} to ${high.toFixed(1)}): ${verdict}`);
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
  for (let round = 0, sampled = 0; Date.now() - began < minutes * 60_000; round += 1) {
    const handle = client.workflow.getHandle(ids[round % ids.length] ?? '');
    for (let i = 0; i < SIGNALS_A_ROUND; i += 1) {
      const body = { v: 1, name: 'revert', commandId: `c-${round}-${i}`, actor: 'dev' };
      await handle.signal(command, { body, signature: 'none' });
      count.signals += 1;
    }
    await handle.signal(wake);
    await handle.query(live);
    count.queries += 1;
    if (Date.now() - sampled >= SAMPLE_MS && pid !== undefined) {
      sampled = Date.now();
      samples.push({ hours: (sampled - began) / 3_600_000, ...memoryOf(pid) });
    }
    await sleep(ROUND_MS);
  }
  if (running.pidOf('worker') !== pid) throw new Error('the worker has died meanwhile: see its log');
  console.log(`load: ${count.signals} signals, ${count.queries} queries, ${ids.length} workflows`);
  return samples;
}

/** What the kernel counts: all resident memory, and of it what is the process's own and no file's. */
function memoryOf(pid: number): { readonly rss: number; readonly anonymous: number } {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const of = (field: string): number => Number(new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm').exec(status)?.[1]) * 1_024;
  return { rss: of('VmRSS'), anonymous: of('RssAnon') };
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
