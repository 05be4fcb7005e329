// Checks a database without changing it: is it reachable, which user are we, may the platform create its schemas, which files are faulty?
import { sql } from 'kysely';
import type { ArtifactUri, Digest } from '../../../workflows/domain/names.ts';
import { failure } from '../../failures.ts';
import type { Paused } from '../../installation.ts';
import type { ByteFault, Records } from '../../records.ts';
import { openDatabase, type Database } from './connection.ts';
import { pausedIn, recordsKnow } from './installation.ts';
import { createOutlast } from './losses.ts';

/** A check takes milliseconds. A server that has not answered by then hangs. */
const STATEMENT_MS = 10_000;

interface Asked {
  readonly url: string;
  readonly ca?: string | undefined;
}

/** The server's version. Rejects with the problem and how to fix it. */
export function checkPostgres(options: Asked): Promise<string> {
  return look(options, async (db, server) => {
    const { rows } = await sql<{ version: string; user: string; database: string; may: boolean }>`
      select current_setting('server_version') as version, current_user as user, current_database() as database,
             has_database_privilege(current_database(), 'CREATE') as may`.execute(db);
    const [found] = rows;
    if (!found?.may)
      throw failure(
        'NotAuthorized',
        `${server}: the user may not make the platform's schemas: grant create on database "${found?.database}" to "${found?.user}"`,
      );
    return found.version;
  });
}

/** Stored files found wrong or missing when they were served, newest faults first; at most `limit`. */
export function listByteFaults(options: Asked, limit: number): Promise<readonly ByteFault[]> {
  return look(options, async (db) => {
    const { rows: tables } = await sql<{ there: boolean }>`
      select to_regclass('authoritative.byte_faults') is not null as there`.execute(db);
    // No platform of this version has opened the database yet.
    if (!tables[0]?.there) return [];
    const rows = await db
      .selectFrom('authoritative.byte_faults')
      .selectAll()
      .orderBy('last_at', 'desc')
      .limit(limit)
      .execute();
    return rows.map(({ uri, expected, found, last_at }) => ({
      ...{ uri: uri as ArtifactUri, expected: expected as Digest, found, at: last_at },
    }));
  });
}

/** A workflow that was restarted and has not stayed up since for as long as the pause after its restart. */
export interface Restarted {
  readonly workflowId: string;
  readonly restarts: number;
  /** When the sweep restarts it again, if it does not run then. */
  readonly next: string;
}

/** Open workflows that the sweep had to restart, the most often restarted first; at most `limit`. */
export function listRestarted(options: Asked, limit: number): Promise<readonly Restarted[]> {
  return look(options, async (db) => {
    const { rows: tables } = await sql<{ there: boolean }>`
      select count(*) = 1 as there from information_schema.columns
      where table_schema = 'authoritative' and table_name = 'starts' and column_name = 'restart_at'`.execute(db);
    // No platform of this version has opened the database yet.
    if (!tables[0]?.there) return [];
    const rows = await db
      .selectFrom('authoritative.starts')
      .select(['workflow_id', 'restarts', 'restart_at'])
      .where('closed_at', 'is', null)
      .where('restarts', '>', 0)
      .where('restart_at', 'is not', null)
      .orderBy('restarts', 'desc')
      .orderBy('ordinal')
      .limit(limit)
      .execute();
    return rows.map(({ workflow_id, restarts, restart_at }) => ({
      ...{ workflowId: workflow_id, restarts, next: restart_at ?? '' },
    }));
  });
}

/** What the records know about the installation. The database may have no tables yet. */
export function checkInstallation<T>(
  options: Asked,
  work: (records: Pick<Records, 'known' | 'auditHash'>, paused: Paused | undefined) => Promise<T>,
): Promise<T> {
  return look(options, async (db) => {
    const { installation } = await recordsKnow(db);
    const paused = installation === undefined ? undefined : await pausedIn(db);
    const auditHash: Records['auditHash'] = async (seq) =>
      installation === undefined
        ? undefined
        : ((await db.selectFrom('authoritative.audit').select('hash').where('seq', '=', seq).executeTakeFirst())
            ?.hash ?? undefined);
    return work({ known: () => recordsKnow(db), auditHash }, paused);
  });
}

async function look<T>(options: Asked, work: (db: Database, server: string) => Promise<T>): Promise<T> {
  const onWarn = (): void => undefined;
  const { db, server } = openDatabase({ ...options, poolSize: 1, statementMs: STATEMENT_MS, onWarn });
  try {
    // No retries: a person waits for the answer.
    return await createOutlast({ server, patienceMs: 0, onWarn })(() => work(db, server));
  } finally {
    await db.destroy();
  }
}
