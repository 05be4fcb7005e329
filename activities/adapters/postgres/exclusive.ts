// Work that only one process does at a time: a session lock, held without a transaction while the work calls other systems.
import type pg from 'pg';
import { SystemUnavailable } from '../../failures.ts';
import type { Records } from '../../records.ts';
import { RECORDS_AWAY } from '../../records.ts';

/** The exclusive-lock part of Records. The connection sends a query every `beatMs`, so that it is not closed for silence. */
export function exclusiveRecords(options: {
  readonly session: () => pg.Client;
  readonly server: string;
  readonly beatMs: number;
}): Pick<Records, 'exclusively'> {
  const { session, server, beatMs } = options;
  return {
    async exclusively(what, work) {
      const client = session();
      const lost = new AbortController();
      const lose = (cause?: unknown): void => lost.abort(lockLost(server, what, cause));
      client.on('error', lose);
      client.on('end', () => lose());
      const key = `ocdl:exclusively:${what}`;
      try {
        await client.connect();
        const { rows } = await client.query<{ got: boolean }>(
          'select pg_try_advisory_lock(hashtextextended($1, 0)) as got',
          [key],
        );
        if (rows[0]?.got !== true) return undefined;
        const beat = setInterval(() => void client.query('select 1').catch(lose), beatMs);
        try {
          return await work(lost.signal);
        } finally {
          clearInterval(beat);
          // Unlock explicitly instead of relying on the end of the connection, so that the next caller finds the lock free.
          await client.query('select pg_advisory_unlock(hashtextextended($1, 0))', [key]).catch(() => undefined);
        }
      } finally {
        await client.end().catch(() => undefined);
      }
    },
  };
}

/** Not a retryable connection error: the work has begun, and stops. */
function lockLost(server: string, what: string, cause: unknown): SystemUnavailable {
  return new SystemUnavailable({
    system: 'PostgreSQL',
    reason: 'the connection was lost',
    message: `${server}: the connection that held the lock "${what}" was lost: the work stops and is retried later`,
    code: RECORDS_AWAY,
    cause,
  });
}
