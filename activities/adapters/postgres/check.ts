// Looks at a database without changing it: is it there, who are we, may the platform make its schemas?
import { sql } from 'kysely';
import { failure } from '../../failures.ts';
import { openDatabase } from './connection.ts';
import { createOutlast } from './losses.ts';

/** A look takes milliseconds; what has not answered by then stands still. */
const STATEMENT_MS = 10_000;

/** The server's version. Rejects with what is wrong and how to mend it. */
export async function checkPostgres(options: {
  readonly url: string;
  readonly ca?: string | undefined;
}): Promise<string> {
  const onWarn = (): void => undefined;
  const { db, server } = openDatabase({ ...options, poolSize: 1, statementMs: STATEMENT_MS, onWarn });
  try {
    // No patience: a person waits for the answer.
    return await createOutlast({ server, patienceMs: 0, onWarn })(async () => {
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
  } finally {
    await db.destroy();
  }
}
