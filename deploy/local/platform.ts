// Starts, watches and stops the embedded platform: one supervisor, each child a separate process.
import { apiUrlOf } from '../../workers/config.ts';
import type { ReadyMessage } from './child.ts';
import { readPlatformState, removePlatformState, writePlatformState } from './platform-state.ts';
import { choosePort } from './ports.ts';
import { embeddedProcesses, type Ports, type ProcessTable } from './processes.ts';
import type { Settings } from './settings.ts';
import { superviseHome, type Supervision } from './supervisor.ts';

export type PlatformOptions = {
  readonly settings: Settings;
  /** One line for the person at the terminal. */
  readonly say: (line: string) => void;
  readonly verbose?: boolean;
  readonly processes?: ProcessTable;
  /** Aborting it shuts the platform down in order, even during the start. */
  readonly stop?: AbortSignal;
  /** Aborting it kills every child immediately. */
  readonly force?: AbortSignal;
};

export type Platform = {
  readonly apiUrl: string;
  readonly uiUrl: string;
  readonly temporalAddress: string;
  readonly databaseUrl: string;
  /** The first administrator's token, only at the first start of a home; it is never shown again. */
  readonly adminToken?: string;
  readonly pidOf: (name: string) => number | undefined;
  readonly stop: () => Promise<void>;
  /** Settles when the platform has stopped, with an error if a child could not be kept running. */
  readonly ended: Promise<{ readonly error?: Error }>;
};

/** Limit for the whole shutdown; remaining processes are then killed. */
const stopWithinMs = 20_000;

/** Starts the platform on its home; resolves when the API answers. If it throws, no process is left running. */
export async function startPlatform(options: PlatformOptions): Promise<Platform> {
  const { settings } = options;
  const { started, pidOf, stop, ended } = await superviseHome(
    {
      ...options,
      home: settings.home,
      what: 'platform',
      heldMessage: (pid) => heldMessage(settings.home, pid),
      // Our own programs use both until they end.
      endLast: [['temporal'], ['postgres']],
      stopWithinMs,
      afterEnd: () => removePlatformState(settings.home),
    },
    async (supervision) => {
      const children = await startChildren(options, supervision);
      writePlatformState(settings.home, { pid: process.pid, ...children.addresses });
      return children;
    },
  );
  return {
    ...started.addresses,
    databaseUrl: started.databaseUrl,
    ...(started.ready.adminToken === undefined ? {} : { adminToken: started.ready.adminToken }),
    pidOf,
    stop,
    ended,
  };
}

type Started = {
  readonly addresses: { readonly apiUrl: string; readonly uiUrl: string; readonly temporalAddress: string };
  readonly databaseUrl: string;
  readonly ready: ReadyMessage;
};

async function startChildren(options: PlatformOptions, { supervise, prepared, signal }: Supervision): Promise<Started> {
  const { settings, processes = embeddedProcesses } = options;
  const began = Date.now();
  const step = (line: string): void => options.say(`${line} (${((Date.now() - began) / 1000).toFixed(1)} s)`);
  const ports = await choosePorts(settings, options.say);
  const context = { settings, ports, say: options.say, signal };

  // Start both servers in parallel.
  const [temporalAddress, databaseUrl] = await Promise.all([
    (async () => {
      if (settings.temporalAddress !== undefined) return settings.temporalAddress;
      await supervise(await prepared(processes.temporal(context))).ready;
      step(`Temporal is running: 127.0.0.1:${ports.temporal}, Web UI http://127.0.0.1:${ports.ui}`);
      return `127.0.0.1:${ports.temporal}`;
    })(),
    (async () => {
      if (settings.databaseUrl !== undefined) return settings.databaseUrl;
      const { spec, url } = await prepared(processes.postgres(context));
      await supervise(spec).ready;
      step('PostgreSQL is running');
      return url;
    })(),
  ]);
  const temporalUiUrl =
    settings.temporalUiUrl ?? (settings.temporalAddress === undefined ? `http://127.0.0.1:${ports.ui}` : '');
  const programs = processes.programs({ settings, ports, temporalAddress, temporalUiUrl, databaseUrl });
  const messages = await Promise.all(
    programs.map(async (spec) => {
      const message = await supervise(spec).ready;
      step(`${spec.name} is running`);
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
  // With an external Temporal no embedded server listens.
  if (settings.temporalAddress !== undefined) return { api, ui: 0, temporal: 0 };
  const ui = await choose('Temporal Web UI', 'OCDL_UI_PORT', settings.uiPort, 8233, '127.0.0.1');
  const temporal = await choose('Temporal server', 'OCDL_TEMPORAL_PORT', settings.temporalPort, 7233, '127.0.0.1');
  return { api, ui, temporal };
}

function heldMessage(home: string, pid: number): string {
  const state = readPlatformState(home);
  const where =
    state?.pid === pid ? `: API ${state.apiUrl}, Temporal Web UI ${state.uiUrl}` : ' (it is still starting)';
  return `A platform is already running on ${home} as process ${pid}${where}. Stop it first, or set OCDL_HOME to another folder.`;
}
