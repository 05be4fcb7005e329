// The start part of Records: what may run, the keys that sign commands, and what must be restarted.
import type { Selectable } from 'kysely';
import type { Records, StartRow, StepName } from '../../records.ts';
import type { WorkflowName } from '../../../workflows/domain/ids.ts';
import { append } from './audit.ts';
import { refuseOpen } from './commands.ts';
import type { Database } from './connection.ts';
import { clockNow, json, transact } from './connection.ts';
import { cursorOf, limitOf, cutPage } from './page.ts';
import { writeProjections } from './projections.ts';
import type { Tables } from './schema.ts';
import { insertStanding } from './standings.ts';
import { closeStart, endedMessage, insertStart } from './starts.ts';

type StartRecords = Pick<
  Records,
  | 'recordStart'
  | 'start'
  | 'admit'
  | 'closeStart'
  | 'openStarts'
  | 'restarted'
  | 'registerKeys'
  | 'keys'
  | 'recordStep'
  | 'step'
  | 'clock'
>;

/** Workflows that people start. Parents start and resume the others. */
const roots: readonly WorkflowName[] = ['modelLifecycle', 'evaluation', 'application', 'feedback', 'dataImport'];

/** The start part of Records. */
export function startRecords(db: Database): StartRecords {
  return {
    async recordStart(start, audit, projections) {
      await transact(db, async (trx) => {
        if ((await insertStart(trx, start)) === 'there') return;
        for (const projection of projections)
          if (projection.kind === 'version') await insertStanding(trx, projection.row);
        await writeProjections(trx, projections);
        await append(trx, [audit]);
      });
    },

    async start(workflowId) {
      const found = await db
        .selectFrom('authoritative.starts')
        .selectAll()
        .where('workflow_id', '=', workflowId)
        .executeTakeFirst();
      return found && rowOf(found);
    },

    async admit({ workflowId, type, digest, runId }) {
      const row = await db
        .selectFrom('authoritative.starts')
        .select(['type', 'input_digest', 'earlier', 'run_id', 'closed_at'])
        .where('workflow_id', '=', workflowId)
        .executeTakeFirst();
      if (row?.type !== type) return 'unknown';
      const isSame = row.input_digest === digest;
      if (!isSame && !row.earlier) return 'other-input';
      if (row.closed_at !== null) return row.run_id === runId ? 'admitted' : 'closed';
      if (row.run_id !== runId || (isSame && row.earlier))
        await db
          .updateTable('authoritative.starts')
          .set({ run_id: runId, earlier: row.earlier && !isSame })
          .where('workflow_id', '=', workflowId)
          .execute();
      return 'admitted';
    },

    async closeStart(workflowId, detail) {
      await transact(db, async (trx) => {
        await closeStart(trx, workflowId, detail);
        await refuseOpen(trx, workflowId, endedMessage(workflowId));
      });
    },

    async openStarts(page) {
      const [after, limit] = [cursorOf(page), limitOf(page.limit)];
      let query = db
        .selectFrom('authoritative.starts')
        .selectAll()
        .where('closed_at', 'is', null)
        .where('parent', 'is', null)
        .where('type', 'in', roots)
        .orderBy('ordinal')
        .limit(limit + 1);
      if (after !== undefined) query = query.where('ordinal', '>', after);
      return cutPage(await query.execute(), limit, ({ ordinal }) => ordinal, rowOf);
    },

    async restarted(workflowId, restartAt) {
      await db
        .updateTable('authoritative.starts')
        .set((eb) => ({ restarts: restartAt === null ? 0 : eb('restarts', '+', 1), restart_at: restartAt }))
        .where('workflow_id', '=', workflowId)
        // A repeated call counts once.
        .where('restart_at', 'is distinct from', restartAt)
        .execute();
    },

    async recordStep(workflowId, step, value) {
      await db
        .insertInto('authoritative.steps')
        .values({ workflow_id: workflowId, step, value: json(value) })
        .onConflict((conflict) => conflict.columns(['workflow_id', 'step']).doUpdateSet({ value: json(value) }))
        .execute();
    },

    async step<T extends object>(workflowId: string, step: StepName) {
      const found = await db
        .selectFrom('authoritative.steps')
        .select('value')
        .where('workflow_id', '=', workflowId)
        .where('step', '=', step)
        .executeTakeFirst();
      return found?.value as T | undefined;
    },

    async clock() {
      const { at } = await db.selectNoFrom(clockNow.as('at')).executeTakeFirstOrThrow();
      return at;
    },

    async registerKeys(keys) {
      for (const [key_id, public_key] of Object.entries(keys))
        await db
          .insertInto('authoritative.signing_keys')
          .values({ key_id, public_key })
          // A retired key that is present again.
          .onConflict((conflict) => conflict.column('key_id').doUpdateSet({ retired_at: null }))
          .execute();
    },

    async keys() {
      const found = await db
        .selectFrom('authoritative.signing_keys')
        .select(['key_id', 'public_key'])
        .where('retired_at', 'is', null)
        .execute();
      return Object.fromEntries(found.map(({ key_id, public_key }) => [key_id, public_key]));
    },
  };
}

function rowOf(found: Selectable<Tables['authoritative.starts']>): StartRow {
  return {
    workflowId: found.workflow_id,
    type: found.type,
    input: JSON.parse(found.input) as object,
    askedBy: found.asked_by,
    roles: found.roles,
    project: found.project,
    parent: found.parent,
    recordedAt: found.recorded_at,
    earlier: found.earlier,
    broughtOver: found.brought_over,
    runId: found.run_id,
    restarts: found.restarts,
    restartAt: found.restart_at,
    closedAt: found.closed_at,
    detail: found.detail,
  };
}
