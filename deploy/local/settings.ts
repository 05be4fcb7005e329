// Reads the environment of the embedded platform into typed settings; the one place of deploy/local/ that does.
import { homedir } from 'node:os';
import { readVariables, type Environment } from '../../workers/config.ts';
import { pathOf, systemVariables, type VariableName, type Variables } from '../../workers/variables.ts';

export type { Environment };
export type Settings = ReturnType<typeof readSettings>;

/** Reads settings from environment variables; a mistake for any of our programs is told now. Throws naming each wrong one. */
export function readSettings(env: Environment = process.env) {
  const { values, isGiven } = readVariables(env);
  const ifGiven = <Name extends VariableName>(name: Name): Variables[Name] | undefined =>
    isGiven(name) ? values[name] : undefined;
  const portOf = (name: 'OCDL_API_PORT' | 'OCDL_UI_PORT' | 'OCDL_TEMPORAL_PORT'): number | undefined => {
    // Others must know the port before anybody listens there.
    if (values[name] === 0) throw new Error(`the configuration is wrong:\n  ${name}: must be a port from 1 to 65535`);
    return ifGiven(name);
  };
  return {
    home: values.OCDL_HOME,
    cache: values.OCDL_CACHE,
    apiHost: values.OCDL_API_HOST,
    apiPort: portOf('OCDL_API_PORT'),
    apiUrl: ifGiven('OCDL_API_URL'),
    uiPort: portOf('OCDL_UI_PORT'),
    temporalPort: portOf('OCDL_TEMPORAL_PORT'),
    logLevel: values.OCDL_LOG_LEVEL,
    python: values.OCDL_PYTHON,
    environments: {
      index: values.OCDL_PIP_INDEX_URL,
      indexHosts: values.OCDL_PIP_INDEX_HOSTS ?? [],
      limitBytes: values.OCDL_ENVIRONMENT_LIMIT_BYTES,
    },
    temporalAddress: ifGiven('TEMPORAL_ADDRESS'),
    temporalNamespace: values.TEMPORAL_NAMESPACE,
    temporalUiUrl: values.TEMPORAL_UI_URL,
    databaseUrl: values.DATABASE_URL,
    /** The whole environment: our own programs inherit it, with what the platform decides on top. */
    env: forPrograms(env),
  } as const;
}

/** The environment without what names a system of somebody's own: everything is embedded. */
export function withoutSystems(env: Environment): Environment {
  return Object.fromEntries(
    Object.entries(env).filter(
      ([name]) => ![name, name.replace(/_FILE$/, '')].some((one) => systemVariables.includes(one)),
    ),
  );
}

/** What our own programs inherit: they run in another folder, so paths are absolute, and DATABASE_URL is given to them as such. */
function forPrograms(env: Environment): Environment {
  return Object.fromEntries(
    Object.entries(env).flatMap(([name, value]) =>
      name === 'DATABASE_URL_FILE' ? [] : [[name, value && isPath(name) ? pathOf(value) : value]],
    ),
  );
}

const isPath = (name: string): boolean => /^(OCDL|TEMPORAL|DATABASE)_.*_FILE$/.test(name);

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
