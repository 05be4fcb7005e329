// Supervises one child process: starts it, says when it is ready, starts it again when it dies, ends it when asked.
import { spawn, type ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { openLogFile } from './log-file.ts';
import { endProcess, identify, identifySelf, sendSignal, type ProcessRecord } from './process-identity.ts';
import { messageOf } from '../../activities/failures.ts';
import { printable, terminalLineOf } from './readable-lines.ts';
import { removeRunRecord, writeRunRecord } from './run-records.ts';

export type ChildSpec = {
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly cwd?: string | URL;
  readonly stopSignal: 'SIGTERM' | 'SIGINT';
  /** How long it may take to end by itself before it is killed. */
  readonly graceMs: number;
  /** Runs before each start. */
  readonly before?: () => Promise<void>;
  /** Asked again and again until true. Without it the child has an IPC channel and sends `{ type: 'ready' }`. */
  readonly isReady?: (pid: number) => Promise<boolean>;
  /** Which of its lines a person should see, where the general rule (warnings and errors of JSON logs) does not fit. */
  readonly terminalLine?: (line: string) => string | undefined;
};

const readySchema = z.looseObject({
  type: z.literal('ready'),
  url: z.string().optional(),
  adminToken: z.string().optional(),
});
export type ReadyMessage = z.infer<typeof readySchema>;

export type SupervisedChild = {
  readonly name: string;
  /** Settles when the child first becomes ready, or when it has been given up. */
  readonly ready: Promise<ReadyMessage>;
  readonly pid: () => number | undefined;
  readonly stop: () => Promise<void>;
  /** Kills it, and its group, at once. */
  readonly kill: () => void;
};

export type SuperviseOptions = {
  readonly home: { readonly run: string; readonly logs: string };
  readonly verbose: boolean;
  readonly say: (line: string) => void;
  /** How often it is said that a child is still not ready; each minute unless given. */
  readonly unreadyMs?: number;
  /** Called once when the child dies again and again; the message carries the end of its log. */
  readonly onGivenUp: (error: Error) => void;
};

/** Five deaths in a minute: it cannot run, and starting it for ever would only hide that. */
const mostDeaths = 5;
const deathsWithinMs = 60_000;
const firstBackoffMs = 200;
const longestBackoffMs = 3_000;
const pollMs = 50;
/** Servers are ready within seconds, on a busy machine within half a minute; then a person should know what is waited for. */
const unreadyMs = 60_000;
/** How much of a log a message carries: the last error and what led to it. */
const lastLines = 8;

/** Starts a child and keeps it running until `stop`. */
export function superviseChild(spec: ChildSpec, options: SuperviseOptions): SupervisedChild {
  const { home, say } = options;
  const supervisor = identifySelf();
  const log = openLogFile(home.logs, spec.name);
  const ready = deferred<ReadyMessage>();
  // Who waits for it hears of a failure; where nobody does (any more), it must not end the supervisor.
  ready.promise.catch(() => undefined);
  const ended = new AbortController();
  const state: {
    current: { process: ChildProcess; record: ProcessRecord | undefined; isUp: boolean } | undefined;
    deaths: number[];
    wasReady: boolean;
  } = { current: undefined, deaths: [], wasReady: false };

  const hear = (line: string, isUp: boolean): void => {
    log.write(line);
    const shown =
      !options.verbose && spec.terminalLine !== undefined
        ? // Before a server is up it complains of being asked too early.
          isUp
          ? spec.terminalLine(line)
          : undefined
        : terminalLineOf(line, options.verbose);
    if (shown !== undefined && shown !== '') say(`${spec.name}: ${printable(shown)}`);
  };

  const becomeReady = (message: ReadyMessage): void => {
    const { current } = state;
    if (current === undefined || current.isUp) return;
    current.isUp = true;
    if (state.wasReady) say(`${spec.name} runs again (process ${current.process.pid}).`);
    state.wasReady = true;
    ready.resolve(message);
  };

  const runOnce = async (): Promise<string> => {
    await spec.before?.();
    if (ended.signal.aborted) return 'not started';
    const stdio = ['ignore' as const, 'pipe' as const, 'pipe' as const];
    const child = spawn(spec.command, [...spec.args], {
      env: { ...spec.env },
      cwd: spec.cwd,
      // A group of its own: Ctrl-C on the terminal reaches the supervisor alone, which then ends all in order.
      detached: true,
      stdio: spec.isReady === undefined ? [...stdio, 'ipc'] : stdio,
    });
    const record = child.pid === undefined ? undefined : identify(child.pid);
    const current = { process: child, record, isUp: false };
    state.current = current;
    if (record !== undefined) {
      writeRunRecord(home.run, { name: spec.name, child: record, supervisor, stopSignal: spec.stopSignal });
    }
    for (const stream of [child.stdout, child.stderr]) {
      if (stream === null) continue;
      createInterface({ input: stream }).on('line', (line) => hear(line, current.isUp));
    }
    child.on('message', (message) => {
      const parsed = readySchema.safeParse(message);
      if (parsed.success) becomeReady(parsed.data);
    });
    const exit = new Promise<string>((resolve) => {
      child.once('error', (error) => resolve(`could not be started: ${error.message}`));
      child.once('exit', (code, signal) => resolve(signal === null ? `exit ${code}` : `ended by ${signal}`));
    });
    const gone = new AbortController();
    const polling = pollUntilReady(gone.signal, child.pid);
    const how = await exit;
    gone.abort();
    await polling;
    state.current = undefined;
    if (record !== undefined) {
      // What it started in its own group does not outlive it.
      sendSignal(record.pid, 'SIGKILL', true);
      removeRunRecord(home.run, spec.name, record);
    }
    return how;
  };

  const pollUntilReady = async (gone: AbortSignal, pid: number | undefined): Promise<void> => {
    const { isReady } = spec;
    if (isReady === undefined || pid === undefined) return;
    let said = Date.now();
    while (!gone.aborted) {
      const answer = await isReady(pid).catch(messageOf);
      if (answer === true) {
        if (!gone.aborted) becomeReady({ type: 'ready' });
        return;
      }
      if (Date.now() - said >= (options.unreadyMs ?? unreadyMs)) {
        said = Date.now();
        const why = answer === false ? 'it runs and does not answer' : answer;
        say(`${spec.name} is still not ready: ${printable(why)} (log: ${log.path})`);
      }
      await sleep(pollMs);
    }
  };

  const keepRunning = async (): Promise<void> => {
    while (!ended.signal.aborted) {
      const how = await runOnce().catch((error: unknown) => `could not be started: ${messageOf(error)}`);
      if (ended.signal.aborted) return;
      const now = Date.now();
      state.deaths = [...state.deaths.filter((at) => now - at < deathsWithinMs), now];
      if (state.deaths.length >= mostDeaths) {
        const error = new Error(
          [
            `${spec.name} died ${mostDeaths} times within a minute (last: ${how}). The end of ${log.path}:`,
            ...log
              .tail()
              .slice(-lastLines)
              .map((line) => `  ${terminalLineOf(line, true) ?? ''}`),
          ].join('\n'),
        );
        ended.abort();
        ready.reject(error);
        options.onGivenUp(error);
        return;
      }
      const backoffMs = Math.min(firstBackoffMs * 2 ** (state.deaths.length - 1), longestBackoffMs);
      say(`${spec.name} died (${how}); starting it again (${state.deaths.length} of ${mostDeaths}).`);
      await sleep(backoffMs, undefined, { signal: ended.signal }).catch(() => undefined);
    }
  };

  const running = keepRunning();
  return {
    name: spec.name,
    ready: ready.promise,
    pid: () => state.current?.process.pid,
    stop: async () => {
      ended.abort();
      ready.reject(new Error(`${spec.name} was stopped before it was ready.`));
      const record = state.current?.record;
      if (record !== undefined) await endProcess(record, spec.stopSignal, spec.graceMs);
      await running;
      log.close();
    },
    kill: () => {
      ended.abort();
      const pid = state.current?.process.pid;
      if (pid !== undefined && !sendSignal(pid, 'SIGKILL', true)) sendSignal(pid, 'SIGKILL');
    },
  };
}

type Deferred<T> = {
  readonly promise: Promise<T>;
  readonly resolve: (value: T) => void;
  readonly reject: (error: Error) => void;
};

/** Promise.withResolvers, which Node 20 does not have yet. */
function deferred<T>(): Deferred<T> {
  const settle: { resolve: (value: T) => void; reject: (error: Error) => void } = {
    resolve: () => undefined,
    reject: () => undefined,
  };
  const promise = new Promise<T>((resolve, reject) => {
    settle.resolve = resolve;
    settle.reject = reject;
  });
  return { promise, ...settle };
}
