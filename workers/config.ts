// The environment as typed configuration, for workers and the API: every variable with its meaning, all mistakes told at once.
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { z } from 'zod';

const schema = z.object({
  OCDL_HOME: z.string().min(1).default('.ocdl').describe('Folder of all state of the embedded platform.'),
  OCDL_CACHE: z
    .string()
    .min(1)
    .default(join(homedir(), '.cache', 'ocdl'))
    .describe('Folder of what can be made again: Python environments, the Temporal build.'),
  OCDL_PYTHON: z
    .string()
    .min(1)
    .optional()
    .describe('Python interpreter that environments are made with; the first fitting one on PATH unless given.'),
  OCDL_API_URL: z
    .url({ protocol: /^https?$/ })
    .default('http://127.0.0.1:8470')
    .describe('Address of the API, as the wrappers of jobs reach it.'),
  OCDL_LOG_LEVEL: z
    .enum(['trace', 'debug', 'info', 'warn', 'error'])
    .default('info')
    .describe('Least level that is logged.'),
  TEMPORAL_ADDRESS: z
    .string()
    .regex(/^[^\s/]+:\d+$/, 'must be HOST:PORT')
    .default('127.0.0.1:7233')
    .describe('Temporal frontend, HOST:PORT.'),
  TEMPORAL_NAMESPACE: z.string().min(1).default('default').describe('Temporal namespace.'),
  DATABASE_URL: z
    .string()
    .regex(/^postgres(ql)?:\/\//, 'must begin with postgres://')
    .describe('PostgreSQL of the records.'),
});

export interface WorkerConfig {
  readonly home: string;
  readonly cache: string;
  readonly python: string | undefined;
  readonly apiUrl: string;
  readonly logLevel: 'trace' | 'debug' | 'info' | 'warn' | 'error';
  readonly temporal: { readonly address: string; readonly namespace: string };
  readonly databaseUrl: string;
}

/** Parses the environment. Throws one error that names every mistaken variable; values are not repeated, since some are secret. */
export function workerConfig(environment: Readonly<Record<string, string | undefined>> = process.env): WorkerConfig {
  const parsed = schema.safeParse(environment);
  if (!parsed.success) {
    const lines = parsed.error.issues.map(({ path, message }) => `  ${path.join('.')}: ${message}`);
    throw new Error(`the configuration is wrong:\n${lines.join('\n')}`);
  }
  const e = parsed.data;
  return {
    home: resolve(e.OCDL_HOME),
    cache: resolve(e.OCDL_CACHE),
    python: e.OCDL_PYTHON,
    apiUrl: e.OCDL_API_URL,
    logLevel: e.OCDL_LOG_LEVEL,
    temporal: { address: e.TEMPORAL_ADDRESS, namespace: e.TEMPORAL_NAMESPACE },
    databaseUrl: e.DATABASE_URL,
  };
}
