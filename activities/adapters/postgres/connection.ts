// The pool, transactions and locks under every group of records; what PostgreSQL refuses becomes a failure by type here.
import { Kysely, PostgresDialect, sql } from 'kysely';
import type { Transaction } from 'kysely';
import pg from 'pg';
import { failure } from '../../failures.ts';
import type { Tables } from './schema.ts';

export type Database = Kysely<Tables>;
export type Work = Transaction<Tables>;

const BIGINT = 20;
const TIMESTAMPTZ = 1184;
/** Deadlocks and serialization failures are nobody's fault: the same again succeeds. More often than this is a defect. */
const ATTEMPTS = 5;

/** Opens a pool that replaces lost connections by itself; nothing is connected yet. */
export function openDatabase(url: string, poolSize: number): Database {
  const pool = new pg.Pool({
    connectionString: url,
    max: poolSize,
    keepAlive: true,
    // A server that does not answer is an error that the caller retries, not a wait without end.
    connectionTimeoutMillis: 10_000,
    // A process that stopped in the middle must not hold its locks for ever.
    idle_in_transaction_session_timeout: 60_000,
    types: { getTypeParser: parserOf },
  });
  // A connection that the server ends is reported here, idle or in use, besides to whoever waits on it; unheard it would end the process.
  pool.on('error', () => undefined);
  pool.on('connect', (client) => client.on('error', () => undefined));
  return new Kysely<Tables>({ dialect: new PostgresDialect({ pool }) });
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

/** One transaction. Locks are always taken in this order: a key's, named ones (sorted), rows, last the audit's. */
export async function transact<T>(db: Database, work: (trx: Work) => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++)
    try {
      // Read committed: each statement sees what was committed before a lock was granted.
      return await db.transaction().setIsolationLevel('read committed').execute(work);
    } catch (error) {
      const code = codeOf(error);
      if ((code === '40P01' || code === '40001') && attempt < ATTEMPTS) continue;
      throw asFailure(error, code);
    }
}

/** Holds a named lock until the transaction ends. */
export async function lock(trx: Work, name: string): Promise<void> {
  await sql`select pg_advisory_xact_lock(hashtextextended(${`ocdl:${name}`}, 0))`.execute(trx);
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

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : '';
}

/** What trying again cannot mend, by class of SQLSTATE. Lost connections (08, 57P) stay ordinary errors and are retried. */
function asFailure(error: unknown, code: string): unknown {
  if (!(error instanceof pg.DatabaseError)) return error;
  const message = error.detail ?? error.message;
  if (code === '23505') return failure('Conflict', `it is there already: ${message}`, [], error);
  if (code === '23503') return failure('NotFound', `it names something that is not there: ${message}`, [], error);
  if (code.startsWith('22') || code === '23514' || code === '23502')
    return failure('InvalidInput', `the database cannot hold this: ${message}`, [], error);
  return error;
}
