// Starts, watches and ends the embedded platform: one supervisor, its children each a process of its own.
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { superviseChild, type ChildSpec, type ReadyMessage, type SupervisedChild } from './child.ts';
import { takeHome, type HomeLock } from './home-lock.ts';
import { readPlatformState, removePlatformState, writePlatformState } from './platform-state.ts';
import { choosePort } from './ports.ts';
import { apiUrlOf, embeddedProcesses, type Ports, type ProcessTable } from './processes.ts';
import { endLeftovers } from './run-records.ts';
import { checkSandbox } from './sandbox.ts';
import type { Settings } from './settings.ts';
import { startWatchdog, type Watchdog } from './start-watchdog.ts';

export type PlatformOptions = {
  readonly settings: Settings;
  /** One line for the person at the terminal. */
  readonly say: (line: string) => void;
  readonly verbose?: boolean;
  readonly processes?: ProcessTable;
  /** Aborting it ends the platform in order, also while it starts. */
  readonly stop?: AbortSignal;
  /** Aborting it kills every child at once. */
  readonly force?: AbortSignal;
};

export type Platform = {
  readonly apiUrl: string;
  readonly uiUrl: string;
  readonly temporalAddress: string;
  readonly databaseUrl: string;
  /** The first administrator's token: only at a home's first start, and never shown again. */
  readonly adminToken?: string;
  readonly pidOf: (name: string) => number | undefined;
  readonly stop: () => Promise<void>;
  /** Settles when the platform has ended: with an error when a child could not be kept running. */
  readonly ended: Promise<{ readonly error?: Error }>;
};

/** The whole stop takes at most this long; what is left then is killed. */
const stopWithinMs = 14_000;

/** Starts the platform on its home; resolves when the API answers. Throws when it cannot, with nothing left running. */
export async function startPlatform(options: PlatformOptions): Promise<Platform> {
  const { settings, say } = options;
  const home = { root: settings.home, run: join(settings.home, 'run'), logs: join(settings.home, 'logs') };
  for (const folder of Object.values(home)) mkdirSync(folder, { recursive: true, mode: 0o700 });
  const lock = takeHome(settings.home);
  if (!lock.acquired) throw new Error(heldMessage(settings.home, lock));

  const failed = { error: undefined as Error | undefined };
  const ending = new AbortController();
  const children: SupervisedChild[] = [];
  const preparations: Promise<unknown>[] = [];
  const watchdog: { current?: Watchdog } = {};
  const ended = settled<{ readonly error?: Error }>();

  // Made once, so that a second caller waits for the same end.
  const end: { once?: Promise<void> } = {};
  const stop = (): Promise<void> => {
    end.once ??= endAll();
    return end.once;
  };
  const endAll = async (): Promise<void> => {
    ending.abort();
    const tooLate = setTimeout(() => children.forEach((child) => child.kill()), stopWithinMs);
    const programs = children.filter((child) => child.name !== 'temporal' && child.name !== 'postgres').reverse();
    for (const child of programs) await child.stop();
    for (const name of ['temporal', 'postgres']) await children.find((child) => child.name === name)?.stop();
    clearTimeout(tooLate);
    // A preparation still under way (a build, a new data folder) ends before the home is given free.
    await Promise.allSettled(preparations);
    await watchdog.current?.end();
    removePlatformState(settings.home);
    lock.release();
    ended.settle(failed.error === undefined ? {} : { error: failed.error });
  };
  const supervise = (spec: ChildSpec): SupervisedChild => {
    ending.signal.throwIfAborted();
    const child = superviseChild(spec, {
      home,
      say,
      verbose: options.verbose ?? false,
      onGivenUp: (error) => {
        failed.error ??= error;
        void stop();
      },
    });
    children.push(child);
    return child;
  };
  onAbort(options.stop, () => void stop());
  onAbort(options.force, () => {
    void stop();
    children.forEach((child) => child.kill());
  });

  try {
    watchdog.current = startWatchdog(home.run);
    const leftovers = await endLeftovers(home.run);
    if (leftovers.length > 0) say(`Ended what a killed platform had left running: ${leftovers.join(', ')}.`);
    const sandbox = await checkSandbox();
    if (!sandbox.works) {
      say(`Local jobs run without a sandbox, with network and with this user's files in sight: ${sandbox.why}.`);
    }
    const started = await startChildren(options, supervise, preparations, ending.signal);
    writePlatformState(settings.home, { pid: process.pid, startedAt: new Date().toISOString(), ...started.addresses });
    return {
      ...started.addresses,
      databaseUrl: started.databaseUrl,
      ...(started.ready.adminToken === undefined ? {} : { adminToken: started.ready.adminToken }),
      pidOf: (name) => children.find((child) => child.name === name)?.pid(),
      stop,
      ended: ended.promise,
    };
  } catch (error) {
    failed.error ??= error instanceof Error ? error : new Error(String(error));
    await stop();
    throw failed.error;
  }
}

type Started = {
  readonly addresses: { readonly apiUrl: string; readonly uiUrl: string; readonly temporalAddress: string };
  readonly databaseUrl: string;
  readonly ready: ReadyMessage;
};

async function startChildren(
  options: PlatformOptions,
  supervise: (spec: ChildSpec) => SupervisedChild,
  preparations: Promise<unknown>[],
  signal: AbortSignal,
): Promise<Started> {
  const { settings, processes = embeddedProcesses } = options;
  const began = Date.now();
  const step = (line: string): void => options.say(`${line} (${((Date.now() - began) / 1000).toFixed(1)} s)`);
  const ports = await choosePorts(settings, options.say);
  const context = { settings, ports, say: options.say, signal };
  const prepared = <T>(preparation: Promise<T>): Promise<T> => {
    preparations.push(preparation);
    return preparation;
  };

  // Both servers at once: together they take as long as the slower one.
  const [temporalAddress, databaseUrl] = await Promise.all([
    (async () => {
      if (settings.temporalAddress !== undefined) return settings.temporalAddress;
      await supervise(await prepared(processes.temporal(context))).ready;
      step(`Temporal runs: 127.0.0.1:${ports.temporal}, Web UI http://127.0.0.1:${ports.ui}`);
      return `127.0.0.1:${ports.temporal}`;
    })(),
    (async () => {
      if (settings.databaseUrl !== undefined) return settings.databaseUrl;
      const { spec, url } = await prepared(processes.postgres(context));
      await supervise(spec).ready;
      step('PostgreSQL runs');
      return url;
    })(),
  ]);
  const temporalUiUrl =
    settings.temporalUiUrl ?? (settings.temporalAddress === undefined ? `http://127.0.0.1:${ports.ui}` : '');
  const programs = processes.programs({ settings, ports, temporalAddress, temporalUiUrl, databaseUrl });
  const messages = await Promise.all(
    programs.map(async (spec) => {
      const message = await supervise(spec).ready;
      step(`${spec.name} runs`);
      return { name: spec.name, message };
    }),
  );
  const ready = messages.find(({ name }) => name === 'api')?.message ?? { type: 'ready' };
  const apiUrl = ready.url ?? apiUrlOf(settings.apiHost, ports.api);
  return { addresses: { apiUrl, uiUrl: temporalUiUrl, temporalAddress }, databaseUrl, ready };
}

async function choosePorts(settings: Settings, say: (line: string) => void): Promise<Ports> {
  const taken = new Set<number>();
  const choose = async (
    what: string,
    variable: string,
    explicit: number | undefined,
    preferred: number,
    host: string,
  ) => {
    const choice = await choosePort({ what, variable, explicit, preferred }, host, taken);
    if (choice.note !== undefined) say(choice.note);
    taken.add(choice.port);
    return choice.port;
  };
  const api = await choose('API', 'OCDL_API_PORT', settings.apiPort, 8470, settings.apiHost);
  // Somebody else's Temporal: none of ours listens.
  if (settings.temporalAddress !== undefined) return { api, ui: 0, temporal: 0 };
  const ui = await choose('Temporal Web UI', 'OCDL_UI_PORT', settings.uiPort, 8233, '127.0.0.1');
  const temporal = await choose('Temporal server', 'OCDL_TEMPORAL_PORT', settings.temporalPort, 7233, '127.0.0.1');
  return { api, ui, temporal };
}

function heldMessage(home: string, lock: Extract<HomeLock, { acquired: false }>): string {
  const state = readPlatformState(home);
  const where =
    state?.pid === lock.holder.pid
      ? `: API ${state.apiUrl}, Temporal Web UI ${state.uiUrl}`
      : ' (it is still starting)';
  return `A platform already runs on ${home} as process ${lock.holder.pid}${where}. End it first, or give another folder in OCDL_HOME.`;
}

function onAbort(signal: AbortSignal | undefined, act: () => void): void {
  if (signal?.aborted === true) act();
  else signal?.addEventListener('abort', act, { once: true });
}

function settled<T>(): { readonly promise: Promise<T>; readonly settle: (value: T) => void } {
  const state: { settle: (value: T) => void } = { settle: () => undefined };
  const promise = new Promise<T>((resolve) => {
    state.settle = resolve;
  });
  return { promise, settle: (value) => state.settle(value) };
}
