// Reads the environment of the embedded platform into typed settings; the only place in deploy/local/ that does.
import { homedir } from 'node:os';
import { readVariables, type Environment } from '../../workers/config.ts';
import { pathOf } from '../../workers/variable-formats.ts';
import { systemVariables, type VariableName, type Variables } from '../../workers/variables.ts';

export type { Environment };
export type Settings = ReturnType<typeof readSettings>;

/** Reads settings from the environment variables of all our programs. Throws one error that names each invalid variable. */
export function readSettings(env: Environment = process.env) {
  const { values, isGiven } = readVariables(env);
  const ifGiven = <Name extends VariableName>(name: Name): Variables[Name] | undefined =>
    isGiven(name) ? values[name] : undefined;
  const portOf = (name: 'OCDL_API_PORT' | 'OCDL_UI_PORT' | 'OCDL_TEMPORAL_PORT'): number | undefined => {
    // Other programs must know the port before anything listens there, so it cannot be 0.
    if (values[name] === 0) throw new Error(`invalid configuration:\n  ${name}: must be a port from 1 to 65535`);
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
      totalBytes: values.OCDL_ENVIRONMENTS_TOTAL_BYTES,
    },
    temporalAddress: ifGiven('TEMPORAL_ADDRESS'),
    temporalNamespace: values.TEMPORAL_NAMESPACE,
    temporalUiUrl: values.TEMPORAL_UI_URL,
    databaseUrl: values.DATABASE_URL,
    /** The whole environment: our own programs inherit it; the platform adds its variables. */
    env: forPrograms(env),
  } as const;
}

/** The environment without the variables of external systems, so that every system is embedded. */
export function withoutSystems(env: Environment): Environment {
  return Object.fromEntries(
    Object.entries(env).filter(
      ([name]) => ![name, name.replace(/_FILE$/, '')].some((one) => systemVariables.includes(one)),
    ),
  );
}

/** The environment of our own programs. They run in another folder, so paths are absolute; DATABASE_URL is passed by value. */
function forPrograms(env: Environment): Environment {
  return Object.fromEntries(
    Object.entries(env).flatMap(([name, value]) =>
      name === 'DATABASE_URL_FILE' ? [] : [[name, value && isPath(name) ? pathOf(value) : value]],
    ),
  );
}

const isPath = (name: string): boolean => /^(OCDL|TEMPORAL|DATABASE)_.*_FILE$/.test(name);

/** The environment of third-party servers, without the user's PG* and TEMPORAL_* variables, which would configure them. */
export function serverEnvironment(env: Environment = process.env): Record<string, string> {
  return {
    PATH: env.PATH ?? '/usr/local/bin:/usr/bin:/bin',
    HOME: env.HOME ?? homedir(),
    // If the user id has no name (containers), the Temporal server requires this variable.
    USER: env.USER ?? 'ocdl',
    TZ: 'UTC',
    LC_ALL: 'C',
    // Otherwise the Temporal server queries its vendor's site for newer versions.
    TEMPORAL_VERSION_CHECK_DISABLED: '1',
  };
}
