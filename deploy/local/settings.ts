// Reads the environment of the embedded platform into typed settings; the one place of deploy/local/ that does.
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { z } from 'zod';

const port = z.coerce
  .number({ error: 'must be a port number' })
  .int('must be a port number')
  .min(1, 'must be a port from 1 to 65535')
  .max(65_535, 'must be a port from 1 to 65535')
  .optional();
const text = z.string().min(1).optional();

const environmentSchema = z.object({
  OCDL_HOME: text,
  OCDL_CACHE: text,
  OCDL_API_HOST: z.string().min(1).default('127.0.0.1'),
  OCDL_API_PORT: port,
  OCDL_UI_PORT: port,
  OCDL_TEMPORAL_PORT: port,
  OCDL_LOG_LEVEL: z.enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal']).default('info'),
  TEMPORAL_ADDRESS: text,
  TEMPORAL_NAMESPACE: z.string().min(1).default('default'),
  TEMPORAL_UI_URL: z.url('must be a URL').optional(),
  DATABASE_URL: z.url('must be a URL such as postgresql://user:password@host/database').optional(),
});

export type Environment = Readonly<Record<string, string | undefined>>;
export type Settings = ReturnType<typeof readSettings>;

/** Reads settings from environment variables; an empty variable counts as not given. Throws naming each wrong one. */
export function readSettings(env: Environment = process.env) {
  const given = Object.fromEntries(Object.entries(env).filter(([, value]) => value !== ''));
  const parsed = environmentSchema.safeParse(given);
  if (!parsed.success) {
    const faults = parsed.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`);
    throw new Error(`The environment is not right. ${faults.join('; ')}.`);
  }
  const values = parsed.data;
  return {
    home: resolve(values.OCDL_HOME ?? '.ocdl'),
    cache: resolve(values.OCDL_CACHE ?? join(homedir(), '.cache', 'ocdl')),
    apiHost: values.OCDL_API_HOST,
    apiPort: values.OCDL_API_PORT,
    uiPort: values.OCDL_UI_PORT,
    temporalPort: values.OCDL_TEMPORAL_PORT,
    logLevel: values.OCDL_LOG_LEVEL,
    temporalAddress: values.TEMPORAL_ADDRESS,
    temporalNamespace: values.TEMPORAL_NAMESPACE,
    temporalUiUrl: values.TEMPORAL_UI_URL,
    databaseUrl: values.DATABASE_URL,
    /** The whole environment: our own programs inherit it, with what the platform decides on top. */
    env,
  } as const;
}

/** What a server that is not ours gets to see: none of the person's PG* or TEMPORAL_* variables, which it would obey. */
export function serverEnvironment(env: Environment = process.env): Record<string, string> {
  return {
    PATH: env.PATH ?? '/usr/local/bin:/usr/bin:/bin',
    HOME: env.HOME ?? homedir(),
    // Where the user's number has no name (containers), the Temporal server asks for this one.
    USER: env.USER ?? 'ocdl',
    TZ: 'UTC',
    LC_ALL: 'C',
    // The Temporal server otherwise asks its makers' site for newer versions.
    TEMPORAL_VERSION_CHECK_DISABLED: '1',
  };
}
