// Records on PostgreSQL: opens the pool, brings the schema up to date, puts the groups together.
import type { Records } from '../../records.ts';
import { applicationRecords } from './applications.ts';
import { auditRecords } from './audit.ts';
import { openDatabase } from './connection.ts';
import { findingRecords } from './findings.ts';
import { liveRecords } from './live.ts';
import { migrate } from './migrations.ts';
import { peopleRecords } from './people.ts';
import { projectRecords } from './projects.ts';
import { releaseRecords } from './releases.ts';
import { versionRecords } from './versions.ts';

/** Enough for a worker's activities at once; PostgreSQL's own default is 100 connections for all processes together. */
const POOL_SIZE = 10;

/**
 * Connects to a database and migrates it; several processes may do so at once.
 * @throws when the database cannot be reached or is of a later version; nothing stays open then.
 */
export async function createPostgresRecords(options: { url: string; poolSize?: number }): Promise<Records> {
  const db = openDatabase(options.url, options.poolSize ?? POOL_SIZE);
  try {
    await migrate(db);
  } catch (error) {
    await db.destroy();
    throw error;
  }
  return {
    ...peopleRecords(db),
    ...projectRecords(db),
    ...auditRecords(db),
    ...versionRecords(db),
    ...releaseRecords(db),
    ...applicationRecords(db),
    ...liveRecords(db),
    ...findingRecords(db),
    async close() {
      await db.destroy();
    },
  };
}
