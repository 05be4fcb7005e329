// The embedded platform's processes: two third-party servers, then our worker, application consumer and API.
import { join } from 'node:path';
import { apiUrlOf } from '../../workers/config.ts';
import type { ChildSpec } from './child.ts';
import { preparePostgres, type EmbeddedPostgres } from './postgres.ts';
import type { Settings } from './settings.ts';
import { temporalSpec } from './temporal.ts';
import { findTemporal } from './temporal-binary.ts';

export type Ports = { readonly api: number; readonly ui: number; readonly temporal: number };

export type ServerContext = {
  readonly settings: Settings;
  readonly ports: Ports;
  readonly say: (line: string) => void;
  readonly signal: AbortSignal;
};

export type ProgramContext = {
  readonly settings: Settings;
  readonly ports: Ports;
  readonly temporalAddress: string;
  readonly temporalUiUrl: string;
  readonly databaseUrl: string;
};

/** The processes of a platform. Tests pass small stand-ins. */
export type ProcessTable = {
  readonly temporal: (context: ServerContext) => Promise<ChildSpec>;
  readonly postgres: (context: ServerContext) => Promise<EmbeddedPostgres>;
  /** Started together once the servers answer; stopped one by one in reverse order. One is named `api`. */
  readonly programs: (context: ProgramContext) => readonly ChildSpec[];
};

const root = new URL('../../', import.meta.url);

/** Longer than the worker needs to stop its jobs (workers/main.ts): killed earlier, it would leave them running. */
const WORKER_GRACE_MS = 8_000;

/** The real table. */
export const embeddedProcesses: ProcessTable = {
  temporal: async ({ settings, ports, say, signal }) =>
    temporalSpec({
      binary: await findTemporal({ cache: settings.cache, env: settings.env, onProgress: say, signal }),
      folder: join(settings.home, 'temporal'),
      port: ports.temporal,
      uiPort: ports.ui,
      namespace: settings.temporalNamespace,
    }),
  postgres: ({ settings }) => preparePostgres({ folder: join(settings.home, 'postgres') }),
  programs: (context) => {
    const env = programEnvironment(context);
    return [
      program('worker', 'workers/main.ts', env, WORKER_GRACE_MS),
      program('application', 'workers/application.ts', env, 2_500),
      program('api', 'api/main.ts', env, 2_500),
    ];
  },
};

/** Environment of each of our programs, on top of the user's environment. */
export function programEnvironment(context: ProgramContext): Record<string, string | undefined> {
  const { settings, ports } = context;
  return {
    ...settings.env,
    OCDL_HOME: settings.home,
    OCDL_CACHE: settings.cache,
    OCDL_LOG_LEVEL: settings.logLevel,
    OCDL_API_HOST: settings.apiHost,
    OCDL_API_PORT: String(ports.api),
    OCDL_API_URL: settings.apiUrl ?? apiUrlOf(settings.apiHost, ports.api),
    TEMPORAL_ADDRESS: context.temporalAddress,
    TEMPORAL_NAMESPACE: settings.temporalNamespace,
    TEMPORAL_UI_URL: context.temporalUiUrl,
    DATABASE_URL: context.databaseUrl,
  };
}

function program(
  name: string,
  file: string,
  env: Readonly<Record<string, string | undefined>>,
  graceMs: number,
): ChildSpec {
  return {
    name,
    command: process.execPath,
    // The working folder is the repository's root, from which `tsx` and the file are resolved.
    args: ['--import', 'tsx', file],
    cwd: root,
    env,
    stopSignal: 'SIGTERM',
    graceMs,
  };
}
