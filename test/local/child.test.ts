// One supervised child: the notices about a child that is running but not ready.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
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
