// A platform as an operator runs it: `ocdl start` of one checkout on one home, ended by SIGTERM.
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { sendSignal } from '../../deploy/local/process-identity.ts';
import { readRunRecords } from '../../deploy/local/run-records.ts';

/** A first start makes its database; the machine may be busy. */
const READY_WITHIN_MS = 300_000;
/** The platform itself kills what is left after 20 s. */
const END_WITHIN_MS = 60_000;

export interface Running {
  readonly apiUrl: string;
  /** Shown at a home's first start only. */
  readonly adminToken: string | undefined;
  /** Freezes the worker: what is asked of the platform from now on is taken, and nothing is done about it. */
  stopWorker(): void;
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
  return {
    apiUrl: /^ {2}API +(\S+)$/m.exec(state.text)?.[1] ?? '',
    adminToken: /^ {2}Administrator +(\S+)$/m.exec(state.text)?.[1],
    stopWorker() {
      const worker = readRunRecords(join(home, 'run')).find(({ name }) => name === 'worker');
      if (worker === undefined || !sendSignal(worker.child.pid, 'SIGSTOP'))
        throw new Error(`no worker runs on ${home}: its log is in ${home}/logs`);
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
