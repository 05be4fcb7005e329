// Classifies PostgreSQL errors that pass on their own (lost connection, restart, deadlock), and retries calls until they do.
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { codeOf, failure, SystemUnavailable } from '../../failures.ts';
import { RECORDS_AWAY } from '../../records.ts';

/** Runs work, and retries it while the error is transient. */
export type Outlast = <T>(work: () => Promise<T>) => Promise<T>;

/** A lost connection is replaced immediately; a restarting server needs some hundred milliseconds to some seconds. */
const FIRST_PAUSE_MS = 20;
const LONGEST_PAUSE_MS = 1_000;

/**
 * Work that runs through it must be idempotent: if the connection is lost during COMMIT, it is unknown whether the
 * transaction took effect. Every method of Records is idempotent (see there), and each retry repeats the whole call.
 * `server` is the name in messages. `patienceMs` counts from the first error of a call.
 */
export function createOutlast(options: {
  readonly server: string;
  readonly patienceMs: number;
  readonly onWarn: (message: string) => void;
}): Outlast {
  const { server, patienceMs, onWarn } = options;
  return async (work) => {
    let since: number | undefined;
    for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(2 * pause, LONGEST_PAUSE_MS))
      try {
        return await work();
      } catch (error) {
        if (!passes(error)) throw explained(error, server);
        // Warn only about the first error; the last one is thrown.
        if (since === undefined) onWarn(`${describeError(error, server)}; retrying the call`);
        since ??= performance.now();
        if (performance.now() - since > patienceMs) throw explained(error, server);
        // Jitter: callers that lost their connections together must not return together.
        await sleep(pause * (0.5 + Math.random()));
      }
  };
}

/** SQLSTATEs: connections (08, 57P), deadlock, serialization failure, no connection left, session ended as idle. */
const PASSING_STATE = /^(08...|57P0[1235]|40P01|40001|53300|25P0[34])$/;
/** System errors of an unavailable network or server. */
const PASSING_CODE =
  /^(ECONNRESET|ECONNREFUSED|ECONNABORTED|EPIPE|ETIMEDOUT|EHOSTUNREACH|EHOSTDOWN|ENETUNREACH|ENETDOWN|ENOTFOUND|EAI_AGAIN)$/;
/** `pg` errors without a code. */
const PASSING_MESSAGE =
  /^(Connection terminated|timeout exceeded when trying to connect|Client has encountered a connection error|Client was closed and is not queryable|Client network socket disconnected before secure TLS)/;

function passes(error: unknown): boolean {
  const code = codeOf(error) ?? '';
  if (error instanceof pg.DatabaseError) return PASSING_STATE.test(code);
  return PASSING_CODE.test(code) || PASSING_MESSAGE.test(saidBy(error));
}

const full = 'its disk is full: free some space on it';

/** What a person can do, by code or message; the first match applies. Retryable: someone may fix it meanwhile. */
const remedies: readonly (readonly [RegExp, string])[] = [
  [/^53100/, full],
  [/^53200/, 'it is out of memory: see its log'],
  [/^42501/, 'the database user lacks permissions: grant those that the platform needs'],
  [/^25006/, 'it is read-only, like a standby: use the primary in the URL of the database'],
  [/^(58|F0|XX)/, 'it reports an internal error: see its log'],
  [/^28/, 'it refuses the user or the password: check both in the URL of the database'],
  [/^3D000/, 'there is no such database: create it, or check the name in the URL'],
  [/^53300/, 'it has no free connections: raise its max_connections, or lower the pool size of the platform'],
  [/^57014/, 'a statement exceeded its time limit: see what it waits for in pg_stat_activity'],
  [
    /^ERR_TLS_CERT_ALTNAME_INVALID/,
    'its certificate is for another host: use the host name of the certificate in the URL',
  ],
  [/^CERT_HAS_EXPIRED/, 'its certificate has expired: renew it'],
  [
    /^(CERT_|UNABLE_TO_|SELF_SIGNED_|DEPTH_ZERO_)/,
    'its certificate is not signed by a trusted CA: set the CA of the database',
  ],
  [/does not support SSL/, 'it does not support TLS: enable ssl there, or set sslmode=disable in the URL'],
  [PASSING_CODE, 'it cannot be reached'],
  [PASSING_MESSAGE, 'the connection was lost, or it does not answer'],
  [/^57P/, 'it is stopping or starting'],
];

function remedyFor(error: unknown): string | undefined {
  return remedies.find(([pattern]) => pattern.test(codeOf(error) ?? '') || pattern.test(saidBy(error)))?.[1];
}

function describeError(error: unknown, server: string): string {
  const [code, said, remedy] = [codeOf(error), saidBy(error), remedyFor(error)];
  // A host name with several addresses gives an error without a message.
  const details = [said, code !== undefined && !said.includes(code) ? code : ''].filter(Boolean).join(', ');
  return remedy === undefined ? `${server}: ${details}` : `${server}: ${remedy} (${details})`;
}

/**
 * Maps non-retryable errors to failures by SQLSTATE class. Maps transient errors, and errors that a person can fix, to
 * `SystemUnavailable`, with the remedy if one is known. All others are unchanged.
 */
function explained(error: unknown, server: string): unknown {
  if (error instanceof pg.DatabaseError) {
    const code = error.code ?? '';
    const message = error.detail ?? error.message;
    if (code === '23505') return failure('Conflict', `it already exists: ${message}`, [], error);
    if (code === '23503')
      return failure('NotFound', `it refers to something that does not exist: ${message}`, [], error);
    if (code.startsWith('22') || code === '23514' || code === '23502')
      return failure('InvalidInput', `the database cannot store this: ${message}`, [], error);
  }
  const [isAway, remedy] = [passes(error), remedyFor(error)];
  if (!isAway && remedy === undefined) return error;
  return new SystemUnavailable({
    system: 'PostgreSQL',
    // The text after the colon is for the operator only.
    reason: remedy?.split(': ')[0] ?? 'it does not answer',
    message: describeError(error, server),
    isFull: remedy === full,
    ...(isAway && { code: RECORDS_AWAY }),
    cause: error,
  });
}

const saidBy = (error: unknown): string =>
  typeof error === 'object' && error !== null && 'message' in error ? String(error.message) : String(error);
