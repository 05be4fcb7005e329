// The pool, transactions and locks under every group of records; how a connection is made, and when it is given up.
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
  /** PEM of the only authority whose certificates are taken; without it those that Node.js trusts. */
  readonly ca?: string | undefined;
  readonly poolSize: number;
  /** The longest that one statement may take, waiting for locks included. */
  readonly statementMs: number;
  readonly onWarn: (message: string) => void;
}

const BIGINT = 20;
const TIMESTAMPTZ = 1184;
/** A server that does not answer is an error that is retried, not a wait without end. */
const CONNECT_MS = 10_000;
/** By then the server has ended a statement that takes too long and said so; if nothing came, it is gone or stands still. */
const ANSWER_MARGIN_MS = 5_000;

export interface OpenDatabase {
  readonly db: Database;
  /** Names it in messages, without secrets. */
  readonly server: string;
  /** Makes a connection beside the pool, for what belongs to one session; not connected yet. */
  readonly session: () => pg.Client;
}

/** Opens a pool that replaces lost connections by itself; nothing is connected yet. */
export function openDatabase(options: DatabaseOptions): OpenDatabase {
  const { ca, poolSize, statementMs, onWarn } = options;
  const { url, server, encrypted } = parseUrl(options.url, ca !== undefined);
  if (!encrypted && !isNear(url))
    onWarn(`${server}: connections are not encrypted: say sslmode=verify-full in its URL`);
  const settings = {
    connectionString: url.href,
    // Given also when it is off: left out, the environment's PGSSLMODE would decide.
    ssl: encrypted ? { rejectUnauthorized: true, ...(ca !== undefined && { ca }) } : false,
    stream: () => silentNoLongerThan(statementMs + ANSWER_MARGIN_MS),
    keepAlive: true,
    connectionTimeoutMillis: CONNECT_MS,
    statement_timeout: statementMs,
    // A process that stopped in the middle must not hold its locks for ever; shorter than a statement may take, so that
    // a call which is made anew outlives the locks that its lost first attempt left.
    idle_in_transaction_session_timeout: Math.ceil(statementMs / 2),
    types: { getTypeParser: parserOf },
  };
  const pool = new pg.Pool({
    ...settings,
    max: poolSize,
    // As long as a statement: an idle connection is closed before its silence looks like a server that is gone.
    idleTimeoutMillis: statementMs,
  });
  // A connection that the server ends is reported here, idle or in use, besides to whoever waits on it; unheard it would end the process.
  pool.on('error', (error) => onWarn(`${server}: an idle connection was lost (${error.message}); it is replaced`));
  pool.on('connect', (client) => client.on('error', () => undefined));
  const db = new Kysely<Tables>({ dialect: new PostgresDialect({ pool }) });
  return { db, server, session: () => new pg.Client(settings) };
}

/**
 * The URL without what says how to encrypt, and that as one decision: verified TLS or, where the URL says so or says nothing
 * and no authority is given, none. Never TLS that is not verified: it would look safe and keep nobody out.
 */
function parseUrl(text: string, hasCa: boolean): { url: URL; server: string; encrypted: boolean } {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  // The text is never shown: it may hold the password.
  if (!url || !/^postgres(ql)?:$/.test(url.protocol))
    throw failure('InvalidInput', 'the URL of the database must be like postgresql://USER:PASSWORD@HOST:PORT/DATABASE');
  const server = `PostgreSQL at ${url.hostname || 'localhost'}:${url.port || '5432'}${url.pathname}`;
  const mode = url.searchParams.get('sslmode') ?? (hasCa ? 'verify-full' : 'disable');
  url.searchParams.delete('sslmode');
  const other = [...url.searchParams.keys()].find((name) => /ssl|libpq/i.test(name));
  if (other !== undefined)
    throw failure(
      'InvalidInput',
      `${server}: "${other}" is not taken in the URL: give sslmode there, and the CA by itself`,
    );
  if (!['disable', 'require', 'verify-ca', 'verify-full'].includes(mode))
    throw failure(
      'InvalidInput',
      `${server}: this sslmode is not taken, it may go without encryption or verification: say verify-full, or disable`,
    );
  if (mode === 'disable' && hasCa)
    throw failure('InvalidInput', `${server}: sslmode=disable and a CA contradict each other: keep one`);
  return { url, server, encrypted: mode !== 'disable' };
}

/** On this machine nobody listens in. */
const isNear = ({ hostname }: URL): boolean => /^(|localhost|127\.[\d.]+|\[::1\]|%2f.*)$/i.test(hostname);

/** A server that stands still ends nothing by its own timeouts: the connection is given up from this side. */
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

/** One transaction. Locks are always taken in this order: a key's, named ones (sorted), rows. */
export async function transact<T>(db: Database, work: (trx: Work) => Promise<T>): Promise<T> {
  // Read committed: each statement sees what was committed before a lock was granted.
  return db.transaction().setIsolationLevel('read committed').execute(work);
}

/** The database's clock, one for all processes, in milliseconds: times that are compared come from it. */
export const clockNow = sql<string>`date_trunc('milliseconds', clock_timestamp())`;

/** Holds a named lock until the transaction ends. */
export async function lock(trx: Work, name: string): Promise<void> {
  await sql`select pg_advisory_xact_lock(hashtextextended(${`ocdl:${name}`}, 0))`.execute(trx);
}

/** Takes a named lock until the transaction ends, unless somebody else holds it. */
export async function tryLock(trx: Work, name: string): Promise<boolean> {
  const { rows } = await sql<{
    taken: boolean;
  }>`select pg_try_advisory_xact_lock(hashtextextended(${`ocdl:${name}`}, 0)) as taken`.execute(trx);
  return rows[0]?.taken === true;
}

/** JSON text without half surrogate pairs, which neither RFC 8785 nor UTF-8 has: they become U+FFFD. */
export function wellFormedJson(value: unknown): string {
  return withoutEscapes(value, /^\\ud[89a-f]/);
}

/** JSON text for a jsonb column, which cannot hold U+0000 either. */
export function json(value: unknown): string {
  return withoutEscapes(value, /^\\u(0000|d[89a-f])/);
}

/** `JSON.stringify` writes exactly the unlawful halves as escapes. Escaped backslashes are matched too, so that what follows one is left alone. */
function withoutEscapes(value: unknown, unlawful: RegExp): string {
  return JSON.stringify(value).replace(/\\(?:u[0-9a-f]{4}|.)/g, (escape) =>
    unlawful.test(escape) ? '\\ufffd' : escape,
  );
}
