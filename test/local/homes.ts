// Homes for tests of the embedded platform: each a new folder with its own ports; no process outlives its test.
import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { anyFreePort } from '../../deploy/local/ports.ts';
import { endProcess, identify } from '../../deploy/local/process-identity.ts';
import { endLeftovers } from '../../deploy/local/run-records.ts';
import { readSettings, type Settings } from '../../deploy/local/settings.ts';

const root = new URL('../../', import.meta.url);

export type TestHome = {
  readonly home: string;
  readonly env: Readonly<Record<string, string>>;
  readonly settings: Settings;
  readonly lines: string[];
  readonly remove: () => Promise<void>;
};

/** Creates a home below a folder that only this user may enter. */
export async function newHome(extra: Readonly<Record<string, string>> = {}): Promise<TestHome> {
  const home = join(mkdtempSync(join(tmpdir(), 'ocdl-home-')), 'home');
  const port = async (): Promise<string> => String(await anyFreePort('127.0.0.1'));
  const env = {
    OCDL_HOME: home,
    OCDL_API_PORT: await port(),
    OCDL_UI_PORT: await port(),
    OCDL_TEMPORAL_PORT: await port(),
    ...extra,
  };
  return {
    home,
    env,
    settings: readSettings({ PATH: process.env.PATH, ...env }),
    lines: [],
    remove: async () => {
      await endLeftovers(join(home, 'run'));
      rmSync(join(home, '..'), { recursive: true, force: true, maxRetries: 5 });
    },
  };
}

export type Supervisor = {
  readonly process: ChildProcess;
  readonly output: () => string;
  readonly exit: Promise<number | NodeJS.Signals | null>;
  readonly kill: () => Promise<void>;
};

/** Runs the stand-in supervisor on a home. */
export function runSupervisor(home: TestHome, args: readonly string[] = []): Supervisor {
  const said = { text: '' };
  const env = { PATH: process.env.PATH, HOME: process.env.HOME, OCDL_CACHE: process.env.OCDL_CACHE, ...home.env };
  const child = spawn(process.execPath, ['--import', 'tsx', 'test/local/stand-ins/supervisor.ts', ...args], {
    cwd: root,
    env,
    // A separate process group, as in a shell: a test can send Ctrl-C to the whole group.
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (data: Buffer) => (said.text += data.toString()));
  const exit = new Promise<number | NodeJS.Signals | null>((resolve) => {
    child.once('exit', (code, signal) => resolve(signal ?? code));
  });
  return {
    process: child,
    output: () => said.text,
    exit,
    kill: async () => {
      const record = child.pid === undefined ? undefined : identify(child.pid);
      if (record !== undefined) await endProcess(record, 'SIGKILL', 1_000);
    },
  };
}

/** Waits until a condition holds; the message says what did not happen. */
export async function eventually(
  what: string,
  holds: () => boolean | Promise<boolean>,
  withinMs = 90_000,
): Promise<void> {
  const until = Date.now() + withinMs;
  while (!(await holds())) {
    if (Date.now() > until) throw new Error(`Not within ${withinMs} ms: ${what}`);
    await sleep(25);
  }
}
