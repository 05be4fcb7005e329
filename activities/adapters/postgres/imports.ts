// Data acquisition: the current state of imports, and the hosts that a project may import from.
import { sql } from 'kysely';
import type { Records } from '../../records.ts';
import { workflowId } from '../../../workflows/domain/ids.ts';
import type { ImportState } from '../../../workflows/domain/import.ts';
import { append, writeOnce } from './audit.ts';
import type { Database } from './connection.ts';
import { json, transact } from './connection.ts';
import { cursorOf, limitOf, cutPage } from './page.ts';
import { closeStart } from './starts.ts';

const standing = {
  resolving: 0,
  fetching: 1,
  done: 2,
  failed: 2,
  cancelled: 2,
} as const satisfies Record<ImportState, number>;

type ImportRecords = Pick<Records, 'recordImport' | 'import' | 'imports' | 'setNode' | 'removeNode' | 'nodes'>;

/** The import part of Records. */
export function importRecords(db: Database): ImportRecords {
  return {
    async recordImport(row, audit) {
      const { project, import: id, state, updatedAt } = row;
      const columns = { project, import: id, standing: standing[state], updated_at: updatedAt, row: json(row) };
      await transact(db, async (trx) => {
        await trx
          .insertInto('projection.imports')
          .values(columns)
          .onConflict((conflict) =>
            conflict
              .columns(['project', 'import'])
              // A resolution is fixed once: the late first row of a repeated request must not drop it. It ends with the import.
              .doUpdateSet({
                ...columns,
                row: sql<string>`case when excluded.standing < ${standing.done} and imports.row ->> 'resolution' is not null
                  then jsonb_build_object('resolution', imports.row -> 'resolution') || excluded.row
                  else excluded.row end`,
              })
              .where(
                sql<boolean>`(excluded.standing, excluded.updated_at) >= (imports.standing, imports.updated_at)
                  and imports.standing < ${standing.done}`,
              ),
          )
          .execute();
        // Imports that have ended are not resumed.
        if (standing[state] === standing.done) await closeStart(trx, workflowId.dataImport(row), state);
        if (audit) await append(trx, [audit]);
      });
    },

    async import(project, id) {
      const found = await db
        .selectFrom('projection.imports')
        .select('row')
        .where('project', '=', project)
        .where('import', '=', id)
        .executeTakeFirst();
      return found?.row;
    },

    async imports({ project, ...page }) {
      const [after, limit] = [cursorOf(page), limitOf(page.limit)];
      let query = db
        .selectFrom('projection.imports')
        .select(['ordinal', 'row'])
        .where('project', '=', project)
        .orderBy('ordinal')
        .limit(limit + 1);
      if (after !== undefined) query = query.where('ordinal', '>', after);
      return cutPage(
        await query.execute(),
        limit,
        ({ ordinal }) => ordinal,
        ({ row }) => row,
      );
    },

    async setNode(node, audit) {
      await writeOnce(db, audit, async (trx) => {
        const columns = { project: node.project, node: node.node, row: json(node) };
        await trx
          .insertInto('authoritative.nodes')
          .values(columns)
          .onConflict((conflict) => conflict.columns(['project', 'node']).doUpdateSet({ row: columns.row }))
          .execute();
      });
    },

    async removeNode(project, node, audit) {
      await writeOnce(db, audit, async (trx) => {
        await trx.deleteFrom('authoritative.nodes').where('project', '=', project).where('node', '=', node).execute();
      });
    },

    async nodes(project) {
      const found = await db
        .selectFrom('authoritative.nodes')
        .select('row')
        .where('project', '=', project)
        .orderBy(sql`node collate "C"`)
        .execute();
      return found.map(({ row }) => row);
    },
  };
}
