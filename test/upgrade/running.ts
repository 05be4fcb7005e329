// A platform as an operator runs it: `ocdl start` of one checkout on one home, ended by SIGTERM.
import { spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { sendSignal } from '../../activities/adapters/process-start.ts';
import { readRunRecords } from '../../deploy/local/run-records.ts';

/** A first start makes its database; the machine may be busy. */
const READY_WITHIN_MS = 300_000;
/** The platform itself kills what is left after 20 s. */
const END_WITHIN_MS = 60_000;

/** A release is published, announced and received before its gate starts. */
const SERVICE_WITHIN_MS = 120_000;
/** A service of a small model is there for a second. */
const LOOK_EVERY_MS = 20;

export interface Running {
  readonly apiUrl: string;
  /** Shown at a home's first start only. */
  readonly adminToken: string | undefined;
  /** Pauses the worker: requests are accepted from now on, but not carried out. */
  stopWorker(): void;
  /** Freezes the next model service that a gate starts, as soon as it is there: the gate waits for its answers. */
  readonly holdService: () => Promise<void>;
  /** What it printed. */
  said(): string;
  /** SIGTERM, and the wait for its end. Throws when it does not end by itself with status 0. */
  stop(): Promise<void>;
  /** Kills what is left of it; for a run that failed. */
  kill(): Promise<void>;
}

/** Starts the platform of a checkout and waits until it is ready. */
export async function startPlatform(given: {
  readonly checkout: string;
  readonly home: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly signal: AbortSignal;
}): Promise<Running> {
  const { checkout, home, env, signal } = given;
  const child = spawn(process.execPath, ['api/cli/ocdl.js', 'start'], {
    cwd: checkout,
    env,
    // A group of its own: Ctrl-C on this script reaches the platform through `kill` alone.
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const state = { text: '', ended: undefined as number | NodeJS.Signals | undefined };
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (data: Buffer) => (state.text += data.toString()));
  const exit = new Promise<number | NodeJS.Signals>((resolve) =>
    child.once('exit', (code, by) => resolve((state.ended = by ?? code ?? -1))),
  );
  const kill = async (): Promise<void> => {
    if (state.ended !== undefined) return;
    child.kill('SIGTERM');
    await Promise.race([exit, sleep(END_WITHIN_MS)]);
    // Its watchdog ends the children of a supervisor that was killed.
    child.kill('SIGKILL');
    await exit;
  };
  try {
    const until = Date.now() + READY_WITHIN_MS;
    while (!state.text.includes('The platform is ready')) {
      if (state.ended !== undefined)
        throw new Error(`the platform ended (${state.ended}) at its start:\n${state.text}`);
      if (Date.now() > until) throw new Error(`the platform was not ready in time:\n${state.text}`);
      await sleep(100, undefined, { signal });
    }
  } catch (error) {
    await kill();
    throw error;
  }
  const worker = (): number => {
    const found = readRunRecords(join(home, 'run')).find(({ name }) => name === 'worker');
    if (found === undefined) throw new Error(`no worker runs on ${home}: its log is in ${home}/logs`);
    return found.child.pid;
  };
  return {
    apiUrl: /^ {2}API +(\S+)$/m.exec(state.text)?.[1] ?? '',
    adminToken: /^ {2}Administrator +(\S+)$/m.exec(state.text)?.[1],
    stopWorker: () => void sendSignal(worker(), 'SIGSTOP'),
    async holdService() {
      const until = Date.now() + SERVICE_WITHIN_MS;
      for (;;) {
        const service = processes().find((pid) => isService(pid) && isBelow(pid, worker()));
        if (service !== undefined && sendSignal(service, 'SIGSTOP')) return;
        if (Date.now() > until) throw new Error('no gate has started a model service');
        await sleep(LOOK_EVERY_MS, undefined, { signal });
      }
    },
    said: () => state.text,
    async stop() {
      child.kill('SIGTERM');
      await Promise.race([exit, sleep(END_WITHIN_MS)]);
      if (state.ended !== 0)
        throw new Error(`the platform did not end as it should (${state.ended ?? 'it still runs'}):\n${state.text}`);
    },
    kill,
  };
}

const processes = (): readonly number[] =>
  readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry))
    .map(Number);

function isBelow(pid: number, ancestor: number): boolean {
  for (let at: number | undefined = pid; at !== undefined && at > 1; at = parentOf(at))
    if (at === ancestor) return true;
  return false;
}

/** A process may end while it is looked at. */
function parentOf(pid: number): number | undefined {
  const stat = read(`/proc/${pid}/stat`);
  return stat === undefined ? undefined : Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
}

/** Node itself, not the sandbox around it. */
function isService(pid: number): boolean {
  const [program = '', ...args] = read(`/proc/${pid}/cmdline`)?.split('\0') ?? [];
  return basename(program) === 'node' && args.some((arg) => arg.endsWith('inference/main.ts'));
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}
