// Supervises one child process: starts it, reports when it is ready, restarts it when it dies, stops it on request.
import { spawn, type ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { openLogFile } from './log-file.ts';
import { sendSignal } from '../../activities/adapters/process-start.ts';
import { endProcess, identify, identifySelf, type ProcessRecord } from './process-identity.ts';
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
  /** Time to exit after the stop signal before the child is killed. */
  readonly graceMs: number;
  /** Runs before each start. */
  readonly before?: () => Promise<void>;
  /** Polled until it returns true. Without it the child has an IPC channel and sends `{ type: 'ready' }`. */
  readonly isReady?: (pid: number) => Promise<boolean>;
  /** Selects the lines shown on the terminal, if the default rule (warnings and errors of JSON logs) does not fit. */
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
  /** Resolves when the child first becomes ready; rejects if the supervisor gives up. */
  readonly ready: Promise<ReadyMessage>;
  readonly pid: () => number | undefined;
  readonly stop: () => Promise<void>;
  /** Kills the child and its process group immediately. */
  readonly kill: () => void;
};

export type SuperviseOptions = {
  readonly home: { readonly run: string; readonly logs: string };
  readonly verbose: boolean;
  readonly say: (line: string) => void;
  /** Interval of the notice that a child is still not ready; one minute by default. */
  readonly unreadyMs?: number;
  /** Called once when the child keeps dying; the message contains the end of its log. */
  readonly onGivenUp: (error: Error) => void;
};

/** After five deaths in a minute the child is considered unable to run; endless restarts would hide that. */
const mostDeaths = 5;
const deathsWithinMs = 60_000;
const firstBackoffMs = 200;
const longestBackoffMs = 3_000;
const pollMs = 50;
/** Servers are ready within seconds, on a busy machine within half a minute; after that a person should see what delays the start. */
const unreadyMs = 60_000;
/** Log lines in a message: the last error and its context. */
const lastLines = 8;

/** Starts a child and keeps it running until `stop`. */
export function superviseChild(spec: ChildSpec, options: SuperviseOptions): SupervisedChild {
  const { home, say } = options;
  const supervisor = identifySelf();
  const log = openLogFile(home.logs, spec.name);
  const ready = deferred<ReadyMessage>();
  // Waiting callers see the rejection; without one it must not end the supervisor.
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
        ? // Before a server is up, it logs errors about early requests.
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
    if (state.wasReady) say(`${spec.name} is running again (process ${current.process.pid}).`);
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
      // A separate process group: Ctrl-C on the terminal reaches only the supervisor, which stops the children in order.
      detached: true,
      stdio: spec.isReady === undefined ? [...stdio, 'ipc'] : stdio,
    });
    const record = child.pid === undefined ? undefined : identify(child.pid);
    const current = { process: child, record, isUp: false };
    state.current = current;
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
    try {
      const { name, stopSignal } = spec;
      if (record !== undefined) writeRunRecord(home.run, { name, child: record, supervisor, stopSignal });
    } catch (error) {
      // Unrecorded, it would outlive a killed supervisor; and beside the next one, it would hold its port.
      if (child.pid !== undefined) sendSignal(-child.pid, 'SIGKILL');
      await exit;
      state.current = undefined;
      throw error;
    }
    const gone = new AbortController();
    const polling = pollUntilReady(gone.signal, child.pid);
    const how = await exit;
    gone.abort();
    await polling;
    state.current = undefined;
    if (record !== undefined) {
      // Processes that the child started in its group must not outlive it.
      sendSignal(-record.pid, 'SIGKILL');
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
        const why = answer === false ? 'it is running but does not answer' : answer;
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
      say(`${spec.name} died (${how}); restarting it (${state.deaths.length} of ${mostDeaths}).`);
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
      if (pid !== undefined && !sendSignal(-pid, 'SIGKILL')) sendSignal(pid, 'SIGKILL');
    },
  };
}

type Deferred<T> = {
  readonly promise: Promise<T>;
  readonly resolve: (value: T) => void;
  readonly reject: (error: Error) => void;
};

/** Promise.withResolvers, which Node 20 lacks. */
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
