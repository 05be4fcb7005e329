// The lock of a home: exactly one owner, after crashes and with concurrent processes.
import { spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ownerOf, takeHome } from '../../deploy/local/home-lock.ts';
import { identify, isAlive } from '../../deploy/local/process-identity.ts';

let home: string;

beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'ocdl-lock-'));
});

afterEach(() => rmSync(home, { recursive: true, force: true }));

test('has one owner, is released, and can be locked again', () => {
  const first = takeHome(home);
  if (!first.acquired) throw new Error('not acquired');
  expect(takeHome(home)).toMatchObject({ acquired: false, holder: { pid: process.pid } });
  expect(ownerOf(home)?.pid).toBe(process.pid);
  first.release();
  expect(ownerOf(home)).toBeUndefined();
  expect(takeHome(home).acquired).toBe(true);
  expect(readdirSync(home)).toHaveLength(1);
});

test('a lock whose pid now belongs to another process is stale', () => {
  writeFileSync(join(home, 'platform.lock.7'), JSON.stringify({ pid: process.pid, startedAs: 'another boot/1' }));
  expect(takeHome(home).acquired).toBe(true);
  expect(readdirSync(home)).toEqual(['platform.lock.8']);
});

test('a lock that is not readable is stale', () => {
  writeFileSync(join(home, 'platform.lock.1'), '{"pid":');
  expect(takeHome(home).acquired).toBe(true);
});

test('of twelve processes that take over a stale lock concurrently, one gets it', async () => {
  const script = join(home, 'taker.mjs');
  const module = new URL('../../deploy/local/home-lock.ts', import.meta.url).href;
  // Each process reports that it is running, locks the home on request, reports the result, and runs until it is stopped.
  writeFileSync(
    script,
    `const { takeHome } = await import(${JSON.stringify(module)});
     process.stdin.once('data', () => console.log(takeHome(${JSON.stringify(join(home, 'contested'))}).acquired));
     console.log('ready');
     setInterval(() => undefined, 60_000);`,
  );
  const dead = { pid: 2 ** 22 - 1, startedAs: 'long ago' };
  const contested = takeHome(join(home, 'contested'));
  if (contested.acquired) contested.release();
  writeFileSync(join(home, 'contested', 'platform.lock.5'), JSON.stringify(dead));
  const takers = Array.from({ length: 12 }, () =>
    spawn(process.execPath, ['--import', 'tsx', script], {
      cwd: new URL('../../', import.meta.url),
      stdio: ['pipe', 'pipe', 'inherit'],
    }),
  );
  const says = (taker: (typeof takers)[number]) =>
    new Promise<string>((resolve) => taker.stdout.once('data', (data: Buffer) => resolve(String(data).trim())));
  try {
    expect(await Promise.all(takers.map(says))).toEqual(takers.map(() => 'ready'));
    const answers = takers.map(says);
    for (const taker of takers) taker.stdin.write('go\n');
    expect((await Promise.all(answers)).sort()).toEqual([...Array<string>(11).fill('false'), 'true']);
  } finally {
    for (const taker of takers) taker.kill('SIGKILL');
  }
});

test('a process is identified by its start time too, and a dead one is not alive', async () => {
  const child = spawn(process.execPath, ['-e', 'setInterval(() => undefined, 1000)']);
  const record = identify(child.pid ?? -1);
  if (record === undefined) throw new Error('the child was not found');
  expect(isAlive(record)).toBe(true);
  expect(isAlive({ ...record, startedAs: `${record.startedAs}0` })).toBe(false);
  const gone = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGKILL');
  await gone;
  expect(isAlive(record)).toBe(false);
});
