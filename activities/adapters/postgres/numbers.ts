// Release numbers: allotted, fixed in the release store, or below a floor set by a restore.
import { sql } from 'kysely';
import { failure } from '../../failures.ts';
import type { Records } from '../../records.ts';
import type { Release } from '../../../workflows/domain/model.ts';
import type { Database, Work } from './connection.ts';

type NumberRecords = Pick<Records, 'manifested' | 'releaseCommand' | 'unmanifested'>;

/** The newest number of a type that is allotted or below the floor. Each part reads the last entry of an index. */
export async function newestNumber(db: Database | Work, type: string): Promise<number> {
  const { rows } = await sql<{ newest: number }>`select ${newestOf(sql`${type}`)} as newest`.execute(db);
  return rows[0]?.newest ?? 0;
}

/** The same as an SQL expression over a type. */
export const newestOf = (type: ReturnType<typeof sql>) => sql<number>`greatest(
  coalesce((select max(sequence) from authoritative.releases where type = ${type}), 0),
  coalesce((select sequence from authoritative.release_floors where type = ${type}), 0))`;

/** The release-number part of Records. */
export function numberRecords(db: Database): NumberRecords {
  return {
    async manifested(release) {
      await db
        .updateTable('authoritative.releases')
        .set({ manifest: true })
        .where('release', '=', release)
        .where('manifest', '=', false)
        .execute();
    },

    async releaseCommand(release) {
      const found = await db
        .selectFrom('authoritative.releases')
        .select('command_id')
        .where('release', '=', release)
        .executeTakeFirst();
      if (!found) throw failure('NotFound', `there is no release ${release}`);
      return found.command_id;
    },

    async unmanifested(limit) {
      const found = await db
        .selectFrom('authoritative.releases')
        .select(['row', 'announced', 'command_id'])
        .where('announced', '=', true)
        .where('manifest', '=', false)
        .orderBy('sequence')
        .limit(limit)
        .execute();
      return found.map((one) => ({ commandId: one.command_id, release: releaseOf(one) }));
    },
  };
}

/** The release from a row. */
export function releaseOf({ row, announced }: { row: Release; announced: boolean }): Release {
  return { ...row, state: announced ? 'announced' : 'allotted' };
}
