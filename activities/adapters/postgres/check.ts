// Looks at a database without changing it: is it there, who are we, may the platform make its schemas?
import { sql } from 'kysely';
import { failure } from '../../failures.ts';
import type { Paused } from '../../installation.ts';
import type { Records } from '../../records.ts';
import { openDatabase, type Database } from './connection.ts';
import { pausedIn, recordsKnow } from './installation.ts';
import { createOutlast } from './losses.ts';

/** A look takes milliseconds; what has not answered by then stands still. */
const STATEMENT_MS = 10_000;

type Look = { readonly url: string; readonly ca?: string | undefined };

/** The server's version. Rejects with what is wrong and how to mend it. */
export async function checkPostgres(options: Look): Promise<string> {
  return withDatabase(options, async (db, server) => {
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

/** What the records know of the installation, read from a database that may have no tables yet. */
export async function checkInstallation<T>(
  options: Look,
  work: (records: Pick<Records, 'known' | 'auditHash'>, paused: Paused | undefined) => Promise<T>,
): Promise<T> {
  return withDatabase(options, async (db) => {
    const { installation } = await recordsKnow(db);
    const paused = installation === undefined ? undefined : await pausedIn(db);
    const auditHash: Records['auditHash'] = async (seq) =>
      installation === undefined
        ? undefined
        : (await db.selectFrom('authoritative.audit').select('hash').where('seq', '=', seq).executeTakeFirst())?.hash;
    return work({ known: () => recordsKnow(db), auditHash }, paused);
  });
}

async function withDatabase<T>(options: Look, work: (db: Database, server: string) => Promise<T>): Promise<T> {
  const onWarn = (): void => undefined;
  const { db, server } = openDatabase({ ...options, poolSize: 1, statementMs: STATEMENT_MS, onWarn });
  try {
    // No patience: a person waits for the answer.
    return await createOutlast({ server, patienceMs: 0, onWarn })(() => work(db, server));
  } finally {
    await db.destroy();
  }
}
