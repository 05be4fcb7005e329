// One supervised child: the notices about a child that is running but not ready, and a child that cannot be recorded.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { sendSignal, startOf } from '../../activities/adapters/process-start.ts';
import { superviseChild, type ChildSpec } from '../../deploy/local/child.ts';
import { eventually } from './homes.ts';

test.each([
  ['fails', () => Promise.reject(new Error('State has another type')), 'State has another type'],
  ['says no', () => Promise.resolve(false), 'it is running but does not answer'],
])('a readiness check that %s for long is reported repeatedly, with its reason', async (_, isReady, reason) => {
  const folder = mkdtempSync(join(tmpdir(), 'ocdl-child-'));
  const lines: string[] = [];
  const spec: ChildSpec = {
    name: 'slow',
    command: process.execPath,
    args: ['-e', 'setInterval(() => undefined, 1000)'],
    env: {},
    stopSignal: 'SIGTERM',
    graceMs: 1_000,
    isReady,
  };
  const home = { run: join(folder, 'run'), logs: join(folder, 'logs') };
  const say = (line: string): void => void lines.push(line);
  const child = superviseChild(spec, { home, verbose: false, say, onGivenUp: () => undefined, unreadyMs: 100 });
  try {
    await eventually('two lines', () => lines.length >= 2);
    for (const line of lines) expect(line).toContain(`slow is still not ready: ${reason}`);
  } finally {
    await child.stop();
    rmSync(folder, { recursive: true, force: true });
  }
});

test('a child whose process cannot be recorded is ended before the next start', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'ocdl-child-'));
  const home = { run: join(folder, 'run'), logs: join(folder, 'logs') };
  // A file in the place of the folder of records.
  writeFileSync(home.run, '');
  const pids: number[] = [];
  const lines: string[] = [];
  const given: { up?: Error } = {};
  const child = superviseChild(
    {
      ...{ name: 'unrecorded', command: process.execPath, args: ['-e', 'setInterval(() => undefined, 1000)'], env: {} },
      ...{ stopSignal: 'SIGTERM', graceMs: 1_000 },
    },
    { home, verbose: false, say: (line) => void lines.push(line), onGivenUp: (error) => void (given.up = error) },
  );
  const watching = setInterval(() => {
    const pid = child.pid();
    if (pid !== undefined && pid !== pids.at(-1)) pids.push(pid);
  }, 1);
  try {
    await eventually('the supervisor gives up', () => given.up !== undefined);
    expect(given.up?.message).toMatch(/unrecorded died 5 times within a minute \(last: could not be started: E[A-Z]+/);
    expect(lines[0]).toMatch(/^unrecorded died \(could not be started: E[A-Z]+/);
    expect(pids.length).toBeGreaterThan(0);
    expect(pids.filter((pid) => startOf(pid) !== undefined)).toEqual([]);
  } finally {
    clearInterval(watching);
    for (const pid of pids) sendSignal(-pid, 'SIGKILL');
    await child.stop();
    rmSync(folder, { recursive: true, force: true });
  }
});
