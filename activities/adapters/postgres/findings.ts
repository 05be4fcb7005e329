// Scans: findings of an application's model, for the engineer to judge.
import { sql } from 'kysely';
import type { Records, ScanSummary } from '../../records.ts';
import type { Database } from './connection.ts';
import { cursorOf, limitOf, cutPage } from './page.ts';

/** The scan part of Records. Lists are newest first. */
export function findingRecords(db: Database): Pick<Records, 'scan' | 'scans'> {
  return {
    async scan(project, scan) {
      const found = await db
        .selectFrom('projection.scans')
        .select('row')
        .where('project', '=', project)
        .where('scan', '=', scan)
        .executeTakeFirst();
      return found?.row;
    },

    async scans({ project, application, ...page }) {
      const [after, limit] = [cursorOf(page), limitOf(page.limit)];
      let query = db
        .selectFrom('projection.scans')
        .select('ordinal')
        .select(
          sql<ScanSummary>`row - 'findings' || jsonb_build_object(
            'findingCount', jsonb_array_length(row->'findings'),
            'labelCount', jsonb_array_length(jsonb_path_query_array(row, '$.findings[*].label ? (@ != null)'))
          )`.as('row'),
        )
        .where('project', '=', project)
        .orderBy('ordinal', 'desc')
        .limit(limit + 1);
      if (application !== undefined) query = query.where('application', '=', application);
      if (after !== undefined) query = query.where('ordinal', '<', after);
      return cutPage(
        await query.execute(),
        limit,
        ({ ordinal }) => ordinal,
        ({ row }) => row,
      );
    },
  };
}
