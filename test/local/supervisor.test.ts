// The supervisor as a separate process: Ctrl-C, kill -9 and restarts, with no orphaned process.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import pg from 'pg';
import { readPlatformState } from '../../deploy/local/platform-state.ts';
import { identify } from '../../deploy/local/process-identity.ts';
import { readRunRecords } from '../../deploy/local/run-records.ts';
import { eventually, newHome, runSupervisor, type Supervisor, type TestHome } from './homes.ts';
import { journalOf, notesOf } from './stand-ins/processes.ts';

let home: TestHome;
const supervisors: Supervisor[] = [];

beforeEach(async () => {
  home = await newHome();
});

afterEach(async () => {
  for (const supervisor of supervisors.splice(0)) await supervisor.kill();
  await home.remove();
});

async function started(args: readonly string[] = []): Promise<Supervisor> {
  const supervisor = runSupervisor(home, args);
  supervisors.push(supervisor);
  const hasEnded: { how?: number | NodeJS.Signals | null } = {};
  void supervisor.exit.then((how) => (hasEnded.how = how));
  await eventually('the platform is ready', () => {
    if (hasEnded.how !== undefined) throw new Error(`ended (${hasEnded.how}): ${supervisor.output()}`);
    return supervisor.output().includes('The platform is ready');
  });
  return supervisor;
}

function childPids(): readonly number[] {
  return readRunRecords(join(home.home, 'run')).map((record) => record.child.pid);
}

function living(pids: readonly number[]): readonly number[] {
  return pids.filter((pid) => identify(pid) !== undefined);
}

test.each(['SIGINT', 'SIGTERM', 'SIGHUP'] as const)(
  '%s stops all processes within seconds, with exit code 0',
  async (signal) => {
    const supervisor = await started();
    const pids = childPids();
    expect(living(pids)).toHaveLength(5);
    supervisor.process.kill(signal);
    expect(await supervisor.exit).toBe(0);
    expect(living(pids)).toEqual([]);
    expect(supervisor.output()).toContain('The platform has stopped.');
  },
);

test('Ctrl-C on the terminal, which reaches the whole group, still stops all processes in order', async () => {
  const supervisor = await started();
  process.kill(-(supervisor.process.pid ?? Number.NaN), 'SIGINT');
  expect(await supervisor.exit).toBe(0);
  const ends = notesOf(home.home).filter((note) => note.what.startsWith('got-'));
  expect(ends.map((note) => note.name)).toEqual(['api', 'application', 'worker', 'temporal', 'postgres']);
});

test('the administrator’s token is shown once', async () => {
  const supervisor = await started();
  await eventually('the token is shown', () => supervisor.output().includes('a-first-token'));
  expect(supervisor.output().split('a-first-token')).toHaveLength(2);
});

test('a Ctrl-C delivered twice counts once; a later one kills all processes', async () => {
  const supervisor = await started();
  const pids = childPids();
  writeFileSync(`${journalOf(home.home)}.api.ignores`, '');
  supervisor.process.kill('SIGINT');
  supervisor.process.kill('SIGINT');
  await eventually('it stops', () => supervisor.output().includes('Stopping.'));
  expect(supervisor.output()).not.toContain('Killing all processes.');
  await new Promise((resolve) => setTimeout(resolve, 1_100));
  expect(living(pids)).toHaveLength(5);
  supervisor.process.kill('SIGINT');
  expect(await supervisor.exit).toBe(130);
  expect(living(pids)).toEqual([]);
});

test('a second start on the same home exits 1 and names the owner', async () => {
  const first = await started();
  const second = runSupervisor(home);
  supervisors.push(second);
  expect(await second.exit).toBe(1);
  expect(second.output()).toContain(`process ${first.process.pid}: API http://127.0.0.1:${home.env.OCDL_API_PORT}`);
  expect(living(childPids())).toHaveLength(5);
});

test('kill -9 of the supervisor: the watchdog stops its children, and the next start takes over', async () => {
  const first = await started();
  const pids = childPids();
  first.process.kill('SIGKILL');
  await first.exit;
  await eventually('the children have ended', () => living(pids).length === 0);
  const second = await started();
  expect(second.output()).not.toContain('Stopped orphaned processes');
  expect(readPlatformState(home.home)?.pid).toBe(second.process.pid);
});

test('kill -9 and an immediate start: orphaned processes are stopped first, and the ports are free again', async () => {
  const first = await started();
  const pids = childPids();
  first.process.kill('SIGKILL');
  await first.exit;
  await started();
  expect(living(pids)).toEqual([]);
  expect(living(childPids())).toHaveLength(5);
  // A late watchdog of the first must not touch the second's children.
  await new Promise((resolve) => setTimeout(resolve, 1_000));
  expect(living(childPids())).toHaveLength(5);
  expect(notesOf(home.home).filter((note) => note.what === 'started')).toHaveLength(10);
});

test('the real servers: PostgreSQL’s data survives kill -9 of everything', async () => {
  const first = await started(['--real-servers']);
  const firstUrl = databaseUrl();
  await query(firstUrl, 'create table kept (word text)');
  await query(firstUrl, "insert into kept values ('here')");
  await expect(query(firstUrl.replace(/:[^:@]+@/, ':wrong@'), 'select 1')).rejects.toThrow(/password/);
  const pids = childPids();
  first.process.kill('SIGKILL');
  for (const pid of pids) process.kill(pid, 'SIGKILL');
  await first.exit;
  const second = await started(['--real-servers']);
  expect(await query(databaseUrl(), 'select word from kept')).toEqual([{ word: 'here' }]);
  const serving = childPids();
  second.process.kill('SIGINT');
  expect(await second.exit).toBe(0);
  expect(living(serving)).toEqual([]);
});

/** The worker's environment at its last start; each start adds a line. */
function databaseUrl(): string {
  const lines = readFileSync(`${journalOf(home.home)}.worker.env`, 'utf8')
    .trim()
    .split('\n');
  const parsed = JSON.parse(lines.at(-1) ?? '{}') as Readonly<Record<string, string>>;
  if (parsed.DATABASE_URL === undefined) throw new Error('the worker was given no DATABASE_URL');
  return parsed.DATABASE_URL;
}

async function query(url: string, text: string): Promise<readonly unknown[]> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query(text)).rows as readonly unknown[];
  } finally {
    await client.end();
  }
}
