// A separate PostgreSQL server that tests stop, kill and pause.
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { preparePostgres } from '../../deploy/local/postgres.ts';

export interface OwnPostgres {
  readonly url: string;
  /** Ends it, `SIGINT` cleanly and `SIGKILL` as a crash, and starts it again. */
  restart(signal: 'SIGINT' | 'SIGKILL'): Promise<void>;
  /** Pauses all of its processes, as on a machine that hangs. */
  pause(): Promise<void>;
  resume(): Promise<void>;
  end(): Promise<void>;
}

const START_PATIENCE_MS = 60_000;

/** Starts a server with its data in the folder. */
export async function ownPostgres(folder: string, settings: readonly string[] = []): Promise<OwnPostgres> {
  const { spec, url } = await preparePostgres({ folder, settings });
  const state: { server?: ChildProcess } = {};

  async function start(): Promise<void> {
    for (const until = Date.now() + START_PATIENCE_MS; ;) {
      await spec.before?.();
      const server = spawn(spec.command, [...spec.args], { env: { ...spec.env }, stdio: 'ignore' });
      state.server = server;
      while (server.exitCode === null && server.signalCode === null && Date.now() < until) {
        if (server.pid !== undefined && (await spec.isReady?.(server.pid))) return;
        await sleep(20);
      }
      // After a crash it refuses to start as long as one of the former server's processes is left.
      if (Date.now() > until) throw new Error(`PostgreSQL in ${folder} did not start`);
      await sleep(100);
    }
  }

  async function end(signal: NodeJS.Signals): Promise<void> {
    const { server } = state;
    if (!server || server.exitCode !== null || server.signalCode !== null) return;
    const ended = once(server, 'exit');
    server.kill(signal);
    await ended;
  }

  /** The server first, then those it started: so that it starts no new ones. */
  async function signalAll(signal: NodeJS.Signals): Promise<void> {
    const { pid } = state.server ?? {};
    if (pid === undefined) return;
    process.kill(pid, signal);
    const { stdout } = await promisify(execFile)('ps', ['-A', '-o', 'pid=,ppid=']);
    for (const line of stdout.split('\n')) {
      const [child, parent] = line.trim().split(/\s+/).map(Number);
      if (child !== undefined && parent === pid) process.kill(child, signal);
    }
  }

  await start();
  return {
    url,
    async restart(signal) {
      await end(signal);
      await start();
    },
    pause: () => signalAll('SIGSTOP'),
    resume: () => signalAll('SIGCONT'),
    async end() {
      await signalAll('SIGCONT');
      await end('SIGINT');
    },
  };
}
