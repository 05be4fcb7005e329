// The real worker, paused for ten seconds during its work and flooded with signals meanwhile: it continues.
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client, Connection } from '@temporalio/client';
import { z } from 'zod';
import { startPlatform, type Platform } from '../../deploy/local/platform.ts';
import { findTemporal } from '../../deploy/local/temporal-binary.ts';
import { command, live } from '../../workflows/messages.ts';
import { programs } from '../servers.ts';
import { eventually, newHome, type TestHome } from './homes.ts';

/** Value of temporal.api.enums.v1.WorkflowTaskFailedCause. */
const UNHANDLED_COMMAND = 17;

let home: TestHome;
let platform: Platform | undefined;

beforeAll(async () => {
  await findTemporal(programs);
  home = await newHome({ OCDL_CACHE: programs.cache });
}, 600_000);

afterAll(async () => {
  await platform?.stop();
  await home.remove();
}, 60_000);

test('survives a pause of 10 s with 6,000 signals, and a second pause while it processes them', async () => {
  const { temporalAddress, pidOf } = (platform = await startPlatform({
    settings: home.settings,
    say: (line) => home.lines.push(line),
  }));
  await makeApplication(platform);
  const connection = await Connection.connect({ address: temporalAddress });
  try {
    const client = new Client({ connection });
    const worker = pidOf('worker') ?? Number.NaN;
    const id = await runningApplication(client);
    const handle = client.workflow.getHandle(id);
    await handle.query(live);

    await paused(worker, async () => {
      const until = Date.now() + 10_000;
      await flood(6_000, (body) => handle.signal(command, body));
      await sleep(Math.max(0, until - Date.now()));
    });
    // Thousands of signals are processed in one run of workflow code, during which the second pause happens.
    const before = cpuSeconds(worker);
    await eventually('the signals to be worked off', () => cpuSeconds(worker) - before > 1, 120_000);
    await paused(worker, () => sleep(10_000));

    const answered: { yes?: boolean } = {};
    await eventually(
      'the workflow to answer',
      async () => (answered.yes = await handle.query(live).then(Boolean, () => false)),
      180_000,
    );
    expect(pidOf('worker')).toBe(worker);
    expect(home.lines.filter((line) => line.includes('died'))).toEqual([]);
    const failures: string[] = [];
    for await (const { workflowId, runId } of client.workflow.list()) {
      const { events } = await client.workflow.getHandle(workflowId, runId).fetchHistory();
      for (const { workflowTaskFailedEventAttributes: failed } of events ?? [])
        // If a signal arrives during a task, the server reschedules the task: that is not a failure of the worker.
        if (failed && Number(failed.cause) !== UNHANDLED_COMMAND)
          failures.push(`${workflowId}: ${failed.failure?.message ?? failed.cause}`);
    }
    expect(failures).toEqual([]);
  } finally {
    await connection.close();
  }
}, 600_000);

/** Creates a project and an application, whose workflow runs as long as the application exists. */
async function makeApplication({ apiUrl, adminToken }: Platform): Promise<void> {
  const post = async (path: string, body: unknown, token = adminToken): Promise<unknown> => {
    const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' };
    const response = await fetch(`${apiUrl}${path}`, { method: 'POST', headers, body: JSON.stringify(body) });
    const text = await response.text();
    if (!response.ok) throw new Error(`${path}: ${response.status} ${text}`);
    return JSON.parse(text);
  };
  await post('/v1/users', { user: 'dev', admin: false });
  await post('/v1/projects', { project: 'p', types: ['kind'] });
  const member = await fetch(`${apiUrl}/v1/projects/p/members/dev`, {
    method: 'PUT',
    headers: { authorization: `Bearer ${adminToken}`, 'content-type': 'application/json' },
    body: JSON.stringify({ roles: ['developer'] }),
  });
  if (!member.ok) throw new Error(`members: ${member.status} ${await member.text()}`);
  const { token } = z.object({ token: z.string() }).parse(await post('/v1/users/dev/tokens', {}));
  const application = { application: 'shop', types: ['kind'], gates: ['function'] };
  await post('/v1/projects/p/applications', application, token);
}

async function runningApplication(client: Client): Promise<string> {
  const found: { id?: string } = {};
  await eventually('the application to run', async () => {
    for await (const { workflowId } of client.workflow.list({ query: "WorkflowType='application'" }))
      found.id = workflowId;
    return found.id !== undefined;
  });
  return found.id ?? '';
}

async function paused(pid: number, meanwhile: () => Promise<void>): Promise<void> {
  process.kill(pid, 'SIGSTOP');
  try {
    await meanwhile();
  } finally {
    process.kill(pid, 'SIGCONT');
  }
}

/** Sends payloads that look like signed commands, in batches. */
async function flood(count: number, send: (body: unknown) => Promise<void>): Promise<void> {
  const left = { count };
  const one = async (): Promise<void> => {
    while (left.count > 0) {
      left.count -= 1;
      await send({ body: { v: 1, name: 'revert', commandId: `c-${left.count}`, actor: 'dev' }, signature: 'none' });
    }
  };
  await Promise.all(Array.from({ length: 50 }, one));
}

/** CPU time of a process so far; the kernel counts in hundredths of a second. */
function cpuSeconds(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / 100;
}
