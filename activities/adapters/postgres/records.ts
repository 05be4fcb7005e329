// Records on PostgreSQL: opens the pool, migrates the schema, and combines the groups.
import { sql } from 'kysely';
import type { Records } from '../../records.ts';
import { applicationRecords } from './applications.ts';
import { auditRecords } from './audit.ts';
import { commandRecords } from './command-records.ts';
import { byteRecords } from './bytes.ts';
import { openDatabase } from './connection.ts';
import { computeRecords } from './compute-profiles.ts';
import { decisionAuditRecords } from './decision-audit.ts';
import { deliveryRecords } from './deliveries.ts';
import { evidenceRecords } from './evidence.ts';
import { exclusiveRecords } from './exclusive.ts';
import { dataSetRecords } from './data-sets.ts';
import { findingRecords } from './findings.ts';
import { importRecords } from './imports.ts';
import { installationRecords } from './installation.ts';
import { jobRecords } from './jobs.ts';
import { labelDecisionRecords } from './label-decisions.ts';
import { liveRecords } from './live.ts';
import { createOutlast, type Outlast } from './losses.ts';
import { migrate } from './migrations.ts';
import { peopleRecords } from './people.ts';
import { pointerDecisionRecords } from './pointer-decisions.ts';
import { projectRecords } from './projects.ts';
import { releaseRecords } from './releases.ts';
import { startRecords } from './start-records.ts';
import { versionDecisionRecords } from './version-decisions.ts';
import { versionFactRecords } from './version-facts.ts';
import { typeRecords } from './model-types.ts';
import { versionRecords } from './versions.ts';

/** Enough for a worker's concurrent activities. PostgreSQL's default is 100 connections for all processes together. */
const POOL_SIZE = 10;
/** A page of a thousand rows on a slow disk takes seconds. A longer statement waits for something that does not come. */
const STATEMENT_MS = 30_000;
/** A migration reads and indexes whole tables. */
const MIGRATION_MS = 3_600_000;
/** Long enough for a server restart, short enough for a person who waits for the API. */
const PATIENCE_MS = 15_000;

export interface PostgresOptions {
  /** `sslmode` is `verify-full` (also `require` and `verify-ca`) or `disable`. Default: TLS if `ca` is given. */
  readonly url: string;
  /** PEM of the authority that signed the server's certificate. No other authority is accepted. */
  readonly ca?: string | undefined;
  readonly poolSize?: number | undefined;
  readonly statementMs?: number | undefined;
  /** How long a call keeps retrying while the server is unavailable, in milliseconds. */
  readonly patienceMs?: number | undefined;
  readonly onWarn?: ((message: string) => void) | undefined;
}

/**
 * Connects to a database and migrates it; several processes may do so concurrently. If a connection is lost during a
 * call, even during its commit, it is replaced and the whole call is repeated: every write counts once.
 * @throws if the database is unreachable, refuses us or has a later version; nothing stays open in that case.
 */
export async function createPostgresRecords(options: PostgresOptions): Promise<Records> {
  const { url, ca, poolSize = POOL_SIZE, statementMs = STATEMENT_MS, patienceMs = PATIENCE_MS } = options;
  const { onWarn = () => undefined } = options;
  const { db, server, session } = openDatabase({ url, ca, poolSize, statementMs, onWarn });
  const outlast = createOutlast({ server, patienceMs, onWarn });
  const migrating = openDatabase({ url, ca, poolSize: 1, statementMs: MIGRATION_MS, onWarn: () => undefined });
  try {
    await outlast(() => migrate(migrating.db)).finally(() => migrating.db.destroy());
    // The pool has a connection from here on: the first call does not wait for one.
    await outlast(() => sql`select 1`.execute(db));
  } catch (error) {
    await db.destroy();
    throw error;
  }
  return eachCall(outlast, {
    ...peopleRecords(db),
    ...projectRecords(db),
    ...typeRecords(db),
    ...dataSetRecords(db),
    ...auditRecords(db),
    ...versionRecords(db),
    ...releaseRecords(db),
    ...applicationRecords(db),
    ...liveRecords(db),
    ...findingRecords(db),
    ...importRecords(db),
    ...installationRecords(db),
    ...startRecords(db),
    ...commandRecords(db),
    ...versionDecisionRecords(db),
    ...deliveryRecords(db),
    ...decisionAuditRecords(db),
    ...versionFactRecords(db),
    ...evidenceRecords(db),
    ...pointerDecisionRecords(db),
    ...labelDecisionRecords(db),
    ...byteRecords(db),
    ...jobRecords(db),
    ...computeRecords(db),
    ...exclusiveRecords({ session, server, beatMs: statementMs / 3 }),
    async close() {
      await db.destroy();
    },
  });
}

/** The same Records, with each call wrapped in `outlast`. */
function eachCall(outlast: Outlast, records: Records): Records {
  return new Proxy(records, {
    get(target, name) {
      const method: unknown = Reflect.get(target, name);
      if (typeof method !== 'function') return method;
      return (...args: unknown[]) => outlast(async (): Promise<unknown> => Reflect.apply(method, target, args));
    },
  });
}
