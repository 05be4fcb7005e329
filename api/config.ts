// The API's environment as typed configuration: every variable with its meaning, all mistakes told at once.
import { resolve } from 'node:path';
import { z } from 'zod';
import { defaultLimits, loopbackHosts } from './deps.ts';

const LOOPBACK = ['127.0.0.1', '::1', 'localhost'];

const schema = z.object({
  OCDL_HOME: z.string().min(1).default('.ocdl').describe('Folder of all state of the embedded platform.'),
  OCDL_API_HOST: z.string().min(1).default('127.0.0.1').describe('Address to listen at.'),
  OCDL_API_PORT: z
    .string()
    .regex(/^\d{1,5}$/, 'must be a port number')
    .default('8470')
    .transform(Number)
    .pipe(z.int().max(65_535, 'must be a port from 0 to 65535'))
    .describe('Port to listen at; 0 takes a free one.'),
  OCDL_API_HOSTS: z
    .string()
    .regex(/^[A-Za-z0-9.[\]:,-]+$/, 'must be host names, separated by commas, without ports')
    .optional()
    .describe('Host names that requests may be addressed to, instead of the loopback ones; needed behind a proxy.'),
  OCDL_FILE_LIMIT_BYTES: z
    .string()
    .regex(/^[1-9]\d{0,14}$/, 'must be a number of bytes')
    .transform(Number)
    .default(defaultLimits.fileBytes)
    .describe('Largest file that may be uploaded.'),
  OCDL_LOG_LEVEL: z
    .enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal'])
    .default('info')
    .describe('Least level that is logged.'),
  TEMPORAL_ADDRESS: z
    .string()
    .regex(/^[^\s/]+:\d+$/, 'must be HOST:PORT')
    .default('127.0.0.1:7233')
    .describe('Temporal frontend, HOST:PORT.'),
  TEMPORAL_NAMESPACE: z.string().min(1).default('default').describe('Temporal namespace.'),
  DATABASE_URL: z
    .string({ error: 'must be given: postgresql://user:password@host/database' })
    .regex(/^postgres(ql)?:\/\//, 'must begin with postgresql://')
    .describe('PostgreSQL of the records.'),
});

export type ApiConfig = ReturnType<typeof apiConfig>;

/** Parses the environment; an empty variable counts as not given. Throws one error that names every mistaken variable; values, some of them secret, are not repeated. */
export function apiConfig(environment: Readonly<Record<string, string | undefined>> = process.env) {
  const given = Object.fromEntries(Object.entries(environment).filter(([, value]) => value !== ''));
  const parsed = schema.safeParse(given);
  if (!parsed.success) {
    const lines = parsed.error.issues.map(({ path, message }) => `  ${path.join('.')}: ${message}`);
    throw new Error(`the configuration is wrong:\n${lines.join('\n')}`);
  }
  const e = parsed.data;
  const isLoopback = LOOPBACK.includes(e.OCDL_API_HOST);
  const named = e.OCDL_API_HOSTS?.toLowerCase().split(',').filter(Boolean);
  return {
    home: resolve(e.OCDL_HOME),
    host: e.OCDL_API_HOST,
    port: e.OCDL_API_PORT,
    isLoopback,
    limits: {
      ...defaultLimits,
      fileBytes: e.OCDL_FILE_LIMIT_BYTES,
      hosts: named ?? (isLoopback ? loopbackHosts : ('any' as const)),
    },
    logLevel: e.OCDL_LOG_LEVEL,
    temporal: { address: e.TEMPORAL_ADDRESS, namespace: e.TEMPORAL_NAMESPACE },
    databaseUrl: e.DATABASE_URL,
  } as const;
}
