// The embedded PostgreSQL alone: data after kill -9, ports, leftovers of a killed server, access.
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { superviseChild, type SupervisedChild } from '../../deploy/local/child.ts';
import { preparePostgres, runningPostgres } from '../../deploy/local/postgres.ts';
import { identify } from '../../deploy/local/process-identity.ts';
import { eventually } from './homes.ts';

let parent: string;
let folder: string;
const lines: string[] = [];
const servers: SupervisedChild[] = [];

beforeAll(() => {
  // mkdtemp creates it with mode 0700: only this user may enter, as with a home folder.
  parent = mkdtempSync(join(tmpdir(), 'ocdl-postgres-'));
  folder = join(parent, 'postgres');
});

afterEach(async () => {
  for (const server of servers.splice(0)) await server.stop();
  lines.length = 0;
});

afterAll(() => rmSync(parent, { recursive: true, force: true }));

async function start(): Promise<{ readonly url: string; readonly server: SupervisedChild }> {
  const { spec, url } = await preparePostgres({ folder });
  const server = superviseChild(spec, {
    home: { run: join(parent, 'run'), logs: join(parent, 'logs') },
    verbose: false,
    say: (line) => lines.push(line),
    onGivenUp: (error) => lines.push(error.message),
  });
  servers.push(server);
  await server.ready;
  return { url, server };
}

async function query(url: string, text: string): Promise<readonly unknown[]> {
  const client = new pg.Client({ connectionString: url });
  // Some tests kill the server under the pool.
  client.on('error', () => undefined);
  await client.connect();
  try {
    return (await client.query(text)).rows as readonly unknown[];
  } finally {
    await client.end();
  }
}

test('keeps its password private and its data after kill -9, with fsync on', async () => {
  const { url, server } = await start();
  expect(runningPostgres(folder)).toBe(url);
  expect(statSync(join(folder, 'password')).mode & 0o777).toBe(0o600);
  expect(statSync(folder).mode & 0o777).toBe(0o700);
  expect(await query(url, 'show fsync')).toEqual([{ fsync: 'on' }]);
  await query(url, 'create table kept (word text)');
  await query(url, "insert into kept values ('Größe')");
  process.kill(server.pid() ?? -1, 'SIGKILL');
  await eventually('it runs again', () => lines.some((line) => line.startsWith('postgres is running again')));
  expect(await query(url, 'select word from kept')).toEqual([{ word: 'Größe' }]);
});

test('requires the password, and listens only on the loopback', async () => {
  const { url } = await start();
  await expect(query(url.replace(/:[^:@]+@/, ':wrong@'), 'select 1')).rejects.toThrow(/password/);
  expect(await query(url, 'show listen_addresses')).toEqual([{ listen_addresses: '127.0.0.1' }]);
  expect(await query(url, 'select distinct auth_method from pg_hba_file_rules')).toEqual([
    { auth_method: 'scram-sha-256' },
  ]);
});

test('keeps its port, and uses another one if it is in use', async () => {
  const kept = readFileSync(join(folder, 'port'), 'utf8');
  expect(new URL((await preparePostgres({ folder })).url).port).toBe(kept);
  const blocker = createServer();
  await new Promise<void>((resolve) => blocker.listen(Number(kept), '127.0.0.1', resolve));
  try {
    const { url } = await start();
    expect(new URL(url).port).not.toBe(kept);
    expect(await query(url, 'select 1 as one')).toEqual([{ one: 1 }]);
  } finally {
    blocker.close();
  }
});

test('starts although a record names the process of another program', async () => {
  // Running, same user, not PostgreSQL, and not an ancestor of the server (which PostgreSQL would ignore).
  const stranger = spawn(process.execPath, ['-e', 'setInterval(() => undefined, 1000)']);
  try {
    writeFileSync(join(folder, 'data', 'postmaster.pid'), `${stranger.pid}\n${join(folder, 'data')}\n`);
    const { url } = await start();
    expect(lines).toEqual([]);
    expect(await query(url, 'select 1 as one')).toEqual([{ one: 1 }]);
    expect(identify(stranger.pid ?? -1)).toBeDefined();
  } finally {
    stranger.kill('SIGKILL');
  }
});

test('starts despite a zombie: a killed server that was never reaped', async () => {
  // The shell replaces itself with a program that never reaps the shell's child.
  const parent = spawn('sh', ['-c', 'sleep 0.3 & echo $!; exec sleep 60'], { stdio: ['ignore', 'pipe', 'ignore'] });
  try {
    const said: { pid?: number } = {};
    parent.stdout.on('data', (data: Buffer) => (said.pid ??= Number(data.toString())));
    const stateOf = (pid: number): string =>
      readFileSync(`/proc/${pid}/stat`, 'utf8')
        .replace(/^.*\) /, '')
        .slice(0, 1);
    await eventually('a zombie', () => said.pid !== undefined && stateOf(said.pid) === 'Z');
    writeFileSync(join(folder, 'data', 'postmaster.pid'), `${said.pid}\n${join(folder, 'data')}\n`);
    const { url } = await start();
    expect(lines).toEqual([]);
    expect(await query(url, 'select 1 as one')).toEqual([{ one: 1 }]);
  } finally {
    parent.kill('SIGKILL');
  }
});

test('does not stop a program that merely names its folder, and starts', async () => {
  const editor = spawn(process.execPath, ['-e', 'setInterval(() => undefined, 1000)', '--', join(folder, 'data')]);
  try {
    writeFileSync(join(folder, 'data', 'postmaster.pid'), `${editor.pid}\n${join(folder, 'data')}\n`);
    const { url } = await start();
    expect(lines).toEqual([]);
    expect(await query(url, 'select 1 as one')).toEqual([{ one: 1 }]);
    expect(identify(editor.pid ?? -1)).toBeDefined();
  } finally {
    editor.kill('SIGKILL');
  }
});

test('stops a server that still runs on its data, and starts', async () => {
  const { spec } = await preparePostgres({ folder });
  const orphan = spawn(spec.command, [...spec.args], { env: { ...spec.env }, stdio: 'ignore', detached: true });
  await eventually('it to run', async () => (await spec.isReady?.(orphan.pid ?? -1)) === true);
  const before = orphan.pid ?? -1;
  const { url, server } = await start();
  expect(server.pid()).not.toBe(before);
  expect(identify(before)).toBeUndefined();
  expect(await query(url, 'select 1 as one')).toEqual([{ one: 1 }]);
});

test('stops cleanly with an open session', async () => {
  const { url, server } = await start();
  const client = new pg.Client({ connectionString: url });
  client.on('error', () => undefined);
  await client.connect();
  const pid = server.pid() ?? -1;
  await server.stop();
  expect(identify(pid)).toBeUndefined();
  expect(readFileSync(join(parent, 'logs', 'postgres.log'), 'utf8')).toContain('database system is shut down');
  await client.end().catch(() => undefined);
});

test('data without its password is an error that names the file', async () => {
  const password = readFileSync(join(folder, 'password'), 'utf8');
  rmSync(join(folder, 'password'));
  await expect(preparePostgres({ folder })).rejects.toThrow(/password is missing/);
  writeFileSync(join(folder, 'password'), password, { mode: 0o600 });
});
