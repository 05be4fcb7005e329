// Pool, transactions and locks for all groups of records; connection settings and timeouts.
import { Socket } from 'node:net';
import { Kysely, PostgresDialect, sql } from 'kysely';
import type { Transaction } from 'kysely';
import pg from 'pg';
import { failure } from '../../failures.ts';
import type { Tables } from './schema.ts';

export type Database = Kysely<Tables>;
export type Work = Transaction<Tables>;

export interface DatabaseOptions {
  readonly url: string;
  /** PEM of the only accepted certificate authority. Default: those that Node.js trusts. */
  readonly ca?: string | undefined;
  readonly poolSize: number;
  /** Time limit of a statement in milliseconds, including waits for locks. */
  readonly statementMs: number;
  readonly onWarn: (message: string) => void;
}

const BIGINT = 20;
const TIMESTAMPTZ = 1184;
/** An unresponsive server must cause a retryable error, not an endless wait. */
const CONNECT_MS = 10_000;
/** By then the server has cancelled a slow statement and reported it. Without an answer it is gone or hangs. */
const ANSWER_MARGIN_MS = 5_000;

export interface OpenDatabase {
  readonly db: Database;
  /** The server's name in messages, without secrets. */
  readonly server: string;
  /** Creates a connection outside the pool, for session state. It is not connected yet. */
  readonly session: () => pg.Client;
}

/** Opens a pool that replaces lost connections. Nothing is connected yet. */
export function openDatabase(options: DatabaseOptions): OpenDatabase {
  const { ca, poolSize, statementMs, onWarn } = options;
  const { url, server, encrypted } = parseUrl(options.url, ca !== undefined);
  if (!encrypted && !isNear(url))
    onWarn(`${server}: connections are not encrypted: set sslmode=verify-full in its URL`);
  const settings = {
    connectionString: url.href,
    // Set even if TLS is off: otherwise the environment's PGSSLMODE would decide.
    ssl: encrypted ? { rejectUnauthorized: true, ...(ca !== undefined && { ca }) } : false,
    stream: () => silentNoLongerThan(statementMs + ANSWER_MARGIN_MS),
    keepAlive: true,
    connectionTimeoutMillis: CONNECT_MS,
    statement_timeout: statementMs,
    // A process that stopped mid-transaction must not hold its locks forever. Shorter than the statement limit, so that a
    // retried call outlasts the locks of its lost first attempt.
    idle_in_transaction_session_timeout: Math.ceil(statementMs / 2),
    types: { getTypeParser: parserOf },
  };
  const pool = new pg.Pool({
    ...settings,
    max: poolSize,
    // As long as a statement: an idle connection is closed before its silence looks like a dead server.
    idleTimeoutMillis: statementMs,
  });
  // A connection ended by the server emits an error here, idle or in use, in addition to rejecting its query. Unhandled,
  // it would end the process.
  pool.on('error', (error) => onWarn(`${server}: an idle connection was lost (${error.message}); it is replaced`));
  pool.on('connect', (client) => client.on('error', () => undefined));
  const db = new Kysely<Tables>({ dialect: new PostgresDialect({ pool }) });
  return { db, server, session: () => new pg.Client(settings) };
}

/**
 * Splits the URL into one without TLS settings and one decision about TLS: verified TLS, or none if the URL says so, or
 * says nothing and no authority is given. Never unverified TLS: it looks safe but protects nothing.
 */
function parseUrl(text: string, hasCa: boolean): { url: URL; server: string; encrypted: boolean } {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  // Never show the text: it may contain the password.
  if (!url || !/^postgres(ql)?:$/.test(url.protocol))
    throw failure('InvalidInput', 'the URL of the database must be like postgresql://USER:PASSWORD@HOST:PORT/DATABASE');
  const server = `PostgreSQL at ${url.hostname || 'localhost'}:${url.port || '5432'}${url.pathname}`;
  const mode = url.searchParams.get('sslmode') ?? (hasCa ? 'verify-full' : 'disable');
  url.searchParams.delete('sslmode');
  const other = [...url.searchParams.keys()].find((name) => /ssl|libpq/i.test(name));
  if (other !== undefined)
    throw failure(
      'InvalidInput',
      `${server}: the URL parameter "${other}" is not supported: use sslmode, and set the CA separately`,
    );
  if (!['disable', 'require', 'verify-ca', 'verify-full'].includes(mode))
    throw failure(
      'InvalidInput',
      `${server}: this sslmode is not supported because it may skip encryption or verification: use verify-full or disable`,
    );
  if (mode === 'disable' && hasCa)
    throw failure('InvalidInput', `${server}: sslmode=disable and a CA contradict each other: remove one of them`);
  return { url, server, encrypted: mode !== 'disable' };
}

/** Local connections need no TLS. */
const isNear = ({ hostname }: URL): boolean => /^(|localhost|127\.[\d.]+|\[::1\]|%2f.*)$/i.test(hostname);

/** A hanging server does not enforce its own timeouts, so the client closes the connection. */
function silentNoLongerThan(ms: number): Socket {
  const socket = new Socket();
  socket.setTimeout(ms, () =>
    socket.destroy(Object.assign(new Error(`no answer for ${ms / 1000} s`), { code: 'ETIMEDOUT' })),
  );
  return socket;
}

/** Counters stay far below 2^53; times are ISO 8601 everywhere. */
function parserOf(oid: number, format?: 'text' | 'binary'): (text: string) => unknown {
  if (oid === BIGINT) return Number;
  const standard = pg.types.getTypeParser(oid, format) as (text: string) => unknown;
  if (oid !== TIMESTAMPTZ) return standard;
  return (text) => {
    const time = standard(text);
    return time instanceof Date ? time.toISOString() : time;
  };
}

/** One transaction. Lock order: idempotency key, named locks (sorted), rows. */
export async function transact<T>(db: Database, work: (trx: Work) => Promise<T>): Promise<T> {
  // Read committed: each statement sees what was committed before its lock was granted.
  return db.transaction().setIsolationLevel('read committed').execute(work);
}

/** The database's clock in milliseconds, shared by all processes. Use it for times that are compared. */
export const clockNow = sql<string>`date_trunc('milliseconds', clock_timestamp())`;

/** Holds a named lock until the transaction ends. */
export async function lock(trx: Work, name: string): Promise<void> {
  await sql`select pg_advisory_xact_lock(hashtextextended(${`ocdl:${name}`}, 0))`.execute(trx);
}

/** Takes a named lock until the transaction ends, unless another session holds it. */
export async function tryLock(trx: Work, name: string): Promise<boolean> {
  const { rows } = await sql<{
    taken: boolean;
  }>`select pg_try_advisory_xact_lock(hashtextextended(${`ocdl:${name}`}, 0)) as taken`.execute(trx);
  return rows[0]?.taken === true;
}

/** JSON text in which lone surrogates are replaced by U+FFFD: RFC 8785 and UTF-8 do not allow them. */
export function wellFormedJson(value: unknown): string {
  return withoutEscapes(value, /^\\ud[89a-f]/);
}

/** JSON text for a jsonb column, which cannot hold U+0000 either. */
export function json(value: unknown): string {
  return withoutEscapes(value, /^\\u(0000|d[89a-f])/);
}

/**
 * `JSON.stringify` escapes exactly the lone surrogates. Escaped backslashes are matched too, so that the text after them
 * is not misread.
 */
function withoutEscapes(value: unknown, invalid: RegExp): string {
  return JSON.stringify(value).replace(/\\(?:u[0-9a-f]{4}|.)/g, (escape) =>
    invalid.test(escape) ? '\\ufffd' : escape,
  );
}
