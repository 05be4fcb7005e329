// The supervisor of the embedded platform, with stand-ins for its children.
import { spawn, type ChildProcess } from 'node:child_process';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { startPlatform, type Platform } from '../../deploy/local/platform.ts';
import { embeddedProcesses, type ProcessTable } from '../../deploy/local/processes.ts';
import { identify } from '../../deploy/local/process-identity.ts';
import { endLeftovers, readRunRecords, writeRunRecord } from '../../deploy/local/run-records.ts';
import { eventually, newHome, type TestHome } from './homes.ts';
import { journalOf, notesOf, standIns } from './stand-ins/processes.ts';

const names = ['temporal', 'postgres', 'worker', 'application', 'api'];
let home: TestHome;
let platform: Platform | undefined;

beforeEach(async () => {
  home = await newHome();
});

afterEach(async () => {
  await platform?.stop();
  platform = undefined;
  await home.remove();
});

async function start(table = standIns()): Promise<Platform> {
  const { settings, lines } = home;
  platform = await startPlatform({ settings, processes: table, say: (line) => lines.push(line) });
  return platform;
}

function livingPids(): readonly number[] {
  const pids = new Set(notesOf(home.home).map((note) => note.pid));
  return [...pids].filter((pid) => identify(pid) !== undefined);
}

test('starts all processes, servers first, and passes their addresses to the programs', async () => {
  const running = await start();
  const order = notesOf(home.home).map((note) => note.name);
  expect([...order].sort()).toEqual([...names].sort());
  expect(order.slice(0, 2).sort()).toEqual(['postgres', 'temporal']);
  expect(running.apiUrl).toBe(`http://127.0.0.1:${home.env.OCDL_API_PORT}`);
  expect(running.adminToken).toBe('a-first-token');
  const variables = JSON.parse(readFileSync(`${journalOf(home.home)}.worker.env`, 'utf8')) as Record<string, string>;
  expect(variables).toMatchObject({
    OCDL_HOME: home.home,
    OCDL_API_URL: running.apiUrl,
    OCDL_API_HOST: '127.0.0.1',
    OCDL_API_PORT: home.env.OCDL_API_PORT,
    TEMPORAL_ADDRESS: `127.0.0.1:${home.env.OCDL_TEMPORAL_PORT}`,
    TEMPORAL_NAMESPACE: 'default',
    TEMPORAL_UI_URL: `http://127.0.0.1:${home.env.OCDL_UI_PORT}`,
    DATABASE_URL: running.databaseUrl,
    OCDL_LOG_LEVEL: 'info',
  });
});

test('keeps its folders and state private to this user, and shows only warnings and errors', async () => {
  const running = await start();
  for (const folder of ['', 'run', 'logs']) expect(statSync(join(home.home, folder)).mode & 0o777).toBe(0o700);
  const statePath = join(home.home, 'platform.json');
  expect(statSync(statePath).mode & 0o777).toBe(0o600);
  expect(JSON.parse(readFileSync(statePath, 'utf8'))).toMatchObject({ pid: process.pid, apiUrl: running.apiUrl });
  await eventually('the warning', () => home.lines.includes('api: WARN api warns'));
  expect(home.lines.join('\n')).not.toContain('api chats');
  await eventually('the log', () => readFileSync(join(home.home, 'logs', 'api.log'), 'utf8').includes('api chats'));
});

test('stops in order, each process by its own signal, and leaves no process and no state', async () => {
  await (await start()).stop();
  const ends = notesOf(home.home).filter((note) => note.what.startsWith('got-'));
  expect(ends.map((note) => `${note.name} ${note.what}`)).toEqual([
    'api got-SIGTERM',
    'application got-SIGTERM',
    'worker got-SIGTERM',
    'temporal got-SIGTERM',
    'postgres got-SIGINT',
  ]);
  expect(livingPids()).toEqual([]);
  expect(readRunRecords(join(home.home, 'run'))).toEqual([]);
  expect(() => statSync(join(home.home, 'platform.json'))).toThrow(/ENOENT/);
});

test('a child that does not stop is killed after its grace period', async () => {
  const running = await start(standIns({ graceMs: 200 }));
  writeFileSync(`${journalOf(home.home)}.api.ignores`, '');
  await running.stop();
  expect(livingPids()).toEqual([]);
});

test('a second platform on the same home is refused with the process and address of the first', async () => {
  const first = await start();
  const refusal = startPlatform({ settings: home.settings, processes: standIns(), say: () => undefined });
  await expect(refusal).rejects.toThrow(new RegExp(`process ${process.pid}: API ${first.apiUrl}`));
  expect(notesOf(home.home)).toHaveLength(names.length);
});

test('a stopped platform releases its home for another one in the same process', async () => {
  await (await start()).stop();
  await start();
  expect(livingPids()).toHaveLength(names.length);
});

test('a requested port that is in use is reported with its variable, and no process is left running', async () => {
  const blocker = createServer();
  await new Promise<void>((resolve) => blocker.listen(Number(home.env.OCDL_UI_PORT), '127.0.0.1', resolve));
  try {
    await expect(start()).rejects.toThrow(new RegExp(`Port ${home.env.OCDL_UI_PORT} .*OCDL_UI_PORT`));
    expect(livingPids()).toEqual([]);
  } finally {
    blocker.close();
  }
  await start();
});

test('a default port that is in use is replaced by the next free one, with a notice', async () => {
  await home.remove();
  home = await newHome({ OCDL_API_PORT: '' });
  const blocker = createServer();
  // If another program already listens there, the port is in use as well.
  await new Promise<void>((resolve) => {
    blocker.once('error', () => resolve());
    blocker.listen(8470, '127.0.0.1', resolve);
  });
  try {
    const running = await start();
    const port = Number(new URL(running.apiUrl).port);
    expect(port).toBeGreaterThan(8470);
    expect(home.lines).toContain(`Port 8470 is in use; the API listens on ${port} (OCDL_API_PORT).`);
  } finally {
    blocker.close();
  }
});

test.each(names)('a killed %s is restarted, with a notice', async (name) => {
  const running = await start();
  const killed = running.pidOf(name);
  if (killed === undefined) throw new Error(`no ${name}`);
  process.kill(killed, 'SIGKILL');
  await eventually(`${name} again`, () => home.lines.some((line) => line.startsWith(`${name} is running again`)));
  expect(home.lines.join('\n')).toContain(`${name} died (ended by SIGKILL); restarting it`);
  expect(running.pidOf(name)).not.toBe(killed);
  expect(livingPids()).toHaveLength(names.length);
});

test('a child that dies five times ends the platform with the end of its log', async () => {
  const running = await start();
  writeFileSync(`${journalOf(home.home)}.worker.dies`, '');
  process.kill(running.pidOf('worker') ?? -1, 'SIGKILL');
  const { error } = await running.ended;
  expect(error?.message).toMatch(/worker died 5 times within a minute \(last: exit 3\)[^]*cannot open my ledger/);
  expect(livingPids()).toEqual([]);
});

test('a child that cannot start makes the start fail, with no process left running', async () => {
  const table = standIns();
  const broken = start({
    ...table,
    programs: (context) => table.programs(context).map((spec) => ({ ...spec, command: '/nowhere/node' })),
  });
  await expect(broken).rejects.toThrow(/could not be started: spawn \/nowhere\/node ENOENT/);
  expect(livingPids()).toEqual([]);
});

test.each(['worker', 'api'])(
  'a program that fails permanently ends the start and its reason is shown: %s',
  async (name) => {
    await home.remove();
    home = await newHome({ OCDL_HDFS_URL: 'http://nn.example:9870/webhdfs/v1' });
    const one: ProcessTable['programs'] = (context) =>
      embeddedProcesses.programs(context).filter((program) => program.name === name);
    const reason = /FATAL cannot run: "http:\/\/nn\.example:9870\/webhdfs\/v1" is not a valid NameNode address/;
    await expect(start({ ...standIns(), programs: one })).rejects.toThrow(reason);
    expect(home.lines.filter((line) => line.startsWith(`${name}: `))).toContainEqual(expect.stringMatching(reason));
    expect(livingPids()).toEqual([]);
  },
);

test('a configured address of the API is passed to jobs', async () => {
  await home.remove();
  home = await newHome({ OCDL_API_URL: 'http://api.example:8470' });
  await start();
  const variables = JSON.parse(readFileSync(`${journalOf(home.home)}.worker.env`, 'utf8')) as Record<string, string>;
  expect(variables['OCDL_API_URL']).toBe('http://api.example:8470');
});

test('a stop during the start stops the processes that had started', async () => {
  const stop = new AbortController();
  const table = standIns();
  const starting = startPlatform({
    settings: home.settings,
    processes: { ...table, programs: (context) => (stop.abort(), table.programs(context)) },
    say: () => undefined,
    stop: stop.signal,
  });
  await expect(starting).rejects.toThrow();
  expect(livingPids()).toEqual([]);
});

test('orphaned processes of a killed platform and watchdog are stopped before the start', async () => {
  const left = spawn(process.execPath, ['-e', 'setInterval(() => undefined, 1000)'], { detached: true });
  const stranger = spawn(process.execPath, ['-e', 'setInterval(() => undefined, 1000)'], { detached: true });
  const supervisor = { pid: 2 ** 22 - 1, startedAs: 'long ago' };
  const recordOf = (child: ChildProcess) => {
    const record = identify(child.pid ?? -1);
    if (record === undefined) throw new Error('the left-over process did not start');
    return record;
  };
  try {
    const run = join(home.home, 'run');
    writeRunRecord(run, { name: 'worker', child: recordOf(left), supervisor, stopSignal: 'SIGTERM' });
    // The pid of a process that ended long ago and now belongs to another one: the start time differs.
    const reused = { ...recordOf(stranger), startedAs: 'another boot/1' };
    writeRunRecord(run, { name: 'api', child: reused, supervisor, stopSignal: 'SIGTERM' });
    await start();
    expect(home.lines).toContain('Stopped orphaned processes of a killed platform: worker.');
    expect(identify(left.pid ?? -1)).toBeUndefined();
    expect(identify(stranger.pid ?? -1)).toBeDefined();
  } finally {
    for (const child of [left, stranger]) child.kill('SIGKILL');
  }
});

test('a late watchdog stops only processes that its own supervisor started', async () => {
  const running = await start();
  const dead = { pid: 2 ** 22 - 1, startedAs: 'long ago' };
  const run = join(home.home, 'run');
  expect(await endLeftovers(run, dead)).toEqual([]);
  expect(livingPids()).toHaveLength(names.length);
  const worker = running.pidOf('worker');
  expect((await endLeftovers(run, identify(process.pid))).length).toBe(names.length);
  expect(worker === undefined ? worker : identify(worker)).toBeUndefined();
});

test('external servers are used instead of embedded ones', async () => {
  await home.remove();
  home = await newHome({ TEMPORAL_ADDRESS: 'temporal.example:7233', DATABASE_URL: 'postgresql://u:p@db.example/x' });
  const running = await start();
  expect(running).toMatchObject({ temporalAddress: 'temporal.example:7233', uiUrl: '' });
  expect(
    notesOf(home.home)
      .map((note) => note.name)
      .sort(),
  ).toEqual(['api', 'application', 'worker']);
});
