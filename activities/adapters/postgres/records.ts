// Records on PostgreSQL: opens the pool, brings the schema up to date, puts the groups together.
import type { Records } from '../../records.ts';
import { applicationRecords } from './applications.ts';
import { auditRecords } from './audit.ts';
import { commandRecords } from './command-records.ts';
import { byteRecords } from './bytes.ts';
import { openDatabase } from './connection.ts';
import { decisionAuditRecords } from './decision-audit.ts';
import { evidenceRecords } from './evidence.ts';
import { exclusiveRecords } from './exclusive.ts';
import { dataSetRecords } from './data-sets.ts';
import { findingRecords } from './findings.ts';
import { importRecords } from './imports.ts';
import { installationRecords } from './installation.ts';
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

/** Enough for a worker's activities at once; PostgreSQL's own default is 100 connections for all processes together. */
const POOL_SIZE = 10;
/** A page of a thousand rows on a slow disk takes seconds; what takes longer waits for something that does not come. */
const STATEMENT_MS = 30_000;
/** A server that is started again is back by then, and a person who waits for the API has not left yet. */
const PATIENCE_MS = 15_000;

export interface PostgresOptions {
  /** `sslmode` is `verify-full` (`require` and `verify-ca` mean it too) or `disable`; without it TLS is spoken if `ca` is given. */
  readonly url: string;
  /** PEM of the authority that signed the server's certificate; no other is taken then. */
  readonly ca?: string | undefined;
  readonly poolSize?: number | undefined;
  readonly statementMs?: number | undefined;
  /** How long a call outlasts a server that is away, in milliseconds. */
  readonly patienceMs?: number | undefined;
  readonly onWarn?: ((message: string) => void) | undefined;
}

/**
 * Connects to a database and migrates it; several processes may do so at once. A connection that is lost in a call, also
 * while it commits, is replaced and the call made anew as a whole: every write counts once.
 * @throws when the database cannot be reached, refuses us or is of a later version; nothing stays open then.
 */
export async function createPostgresRecords(options: PostgresOptions): Promise<Records> {
  const { url, ca, poolSize = POOL_SIZE, statementMs = STATEMENT_MS, patienceMs = PATIENCE_MS } = options;
  const { onWarn = () => undefined } = options;
  const { db, server, session } = openDatabase({ url, ca, poolSize, statementMs, onWarn });
  const outlast = createOutlast({ server, patienceMs, onWarn });
  try {
    await outlast(() => migrate(db));
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
    ...decisionAuditRecords(db),
    ...versionFactRecords(db),
    ...evidenceRecords(db),
    ...pointerDecisionRecords(db),
    ...labelDecisionRecords(db),
    ...byteRecords(db),
    ...exclusiveRecords({ session, server, beatMs: statementMs / 3 }),
    async close() {
      await db.destroy();
    },
  });
}

/** The same Records, each call through `outlast`. */
function eachCall(outlast: Outlast, records: Records): Records {
  return new Proxy(records, {
    get(target, name) {
      const method: unknown = Reflect.get(target, name);
      if (typeof method !== 'function') return method;
      return (...args: unknown[]) => outlast(async (): Promise<unknown> => Reflect.apply(method, target, args));
    },
  });
}
