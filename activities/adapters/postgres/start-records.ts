// The start part of Records: what may run, the keys that sign commands, and what must be restarted.
import { randomUUID } from 'node:crypto';
import type { Selectable } from 'kysely';
import { sql } from 'kysely';
import type { AuditEntry, Records, StartRow, StepName } from '../../records.ts';
import type { WorkflowName } from '../../../workflows/domain/ids.ts';
import { append } from './audit.ts';
import { refuseOpen } from './commands.ts';
import type { Database, Work } from './connection.ts';
import { clockNow, json, transact } from './connection.ts';
import { mustNotBePaused, pausedAfter } from './installation.ts';
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
  | 'closeQuiet'
  | 'openStarts'
  | 'reopenUnfiled'
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
      for (;;) {
        const row = await db
          .selectFrom('authoritative.starts')
          .select(['type', 'input_digest', 'earlier', 'run_id', 'closed_at'])
          .where('workflow_id', '=', workflowId)
          .executeTakeFirst();
        if (row?.type !== type) return 'unknown';
        const isSame = row.input_digest === digest;
        if (!isSame && !row.earlier) return 'other-input';
        if (row.closed_at !== null) return row.run_id === runId ? 'admitted' : 'closed';
        if (row.run_id === runId && !(isSame && row.earlier)) return 'admitted';
        const { numUpdatedRows } = await db
          .updateTable('authoritative.starts')
          .set({ run_id: runId, earlier: row.earlier && !isSame })
          .where('workflow_id', '=', workflowId)
          // Compare-and-set: a start that was closed meanwhile belongs to the run that closed it.
          .where('closed_at', 'is', null)
          .executeTakeFirst();
        if (numUpdatedRows > 0n) return 'admitted';
      }
    },

    async closeStart(workflowId, detail) {
      await transact(db, (trx) => end(trx, workflowId, detail));
    },

    async closeQuiet(workflowId, { since, forMs }) {
      return transact(db, async (trx) => {
        await mustNotBePaused(trx);
        const pausedMs = await pausedAfter(trx, since);
        const until = Date.parse(since) + forMs + pausedMs;
        const { at } = await trx.selectNoFrom(clockNow.as('at')).executeTakeFirstOrThrow();
        // Without a pause, the workflow's own clock has decided.
        if (pausedMs > 0 && until > Date.parse(at)) return { until: new Date(until).toISOString() };
        await end(trx, workflowId, 'quiet');
        return { until: null };
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

    async reopenUnfiled(quietMs) {
      // As the ids of lifecycles are made (workflows/domain/ids.ts).
      const unfiled = sql<string>`(
        select distinct 'model/' || project || '/' || model || '/' || submission
        from authoritative.transitions where not filed)`;
      await db
        .updateTable('authoritative.starts')
        .set({ closed_at: null })
        .where('workflow_id', 'in', unfiled)
        .where('closed_at', '<', sql<string>`clock_timestamp() - ${quietMs} * interval '1 millisecond'`)
        .execute();
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

    async registerKeys(keys, revive = true) {
      const ids = Object.keys(keys);
      return transact(db, async (trx) => {
        for (const [key_id, public_key] of Object.entries(keys))
          await trx
            .insertInto('authoritative.signing_keys')
            .values({ key_id, public_key })
            .onConflict((conflict) => conflict.doNothing())
            .execute();
        const maySign = async (): Promise<readonly string[]> => {
          const open = trx.selectFrom('authoritative.signing_keys').select('key_id').where('retired_at', 'is', null);
          const found = new Set((await open.where('key_id', 'in', ids).execute()).map(({ key_id }) => key_id));
          return ids.filter((id) => found.has(id));
        };
        if (!revive || (await maySign()).length > 0) return maySign();
        const known = trx.updateTable('authoritative.signing_keys').set({ retired_at: null });
        await known.where('key_id', 'in', ids).execute();
        await append(trx, [acceptedAgain(ids)]);
        return maySign();
      });
    },

    async keys() {
      const found = await db.selectFrom('authoritative.signing_keys').select(['key_id', 'public_key']).execute();
      return Object.fromEntries(found.map(({ key_id, public_key }) => [key_id, public_key]));
    },
  };
}

/** Closes a start and answers the commands that are left. */
async function end(trx: Work, workflowId: string, detail: string): Promise<void> {
  await closeStart(trx, workflowId, detail);
  await refuseOpen(trx, workflowId, endedMessage(workflowId));
}

/** A home whose keys were retired signs again. */
const acceptedAgain = (keys: readonly string[]): AuditEntry => ({
  ...{ key: `signing-keys.accepted-again/${randomUUID()}`, project: null, kind: 'signing-keys.accepted-again' },
  ...{ actor: 'platform', subject: 'installation', digest: null, report: null, detail: { keys } },
  reason: 'a home started with retired keys and no others',
  at: new Date().toISOString(),
});

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
