// Evaluations as evidence: the result of running a model over a data set, written by the activity that ran it.
import type { AuditEntry, Records, VersionKey } from '../../records.ts';
import type { Evidence } from '../../../workflows/domain/approval.ts';
import { workflowId } from '../../../workflows/domain/ids.ts';
import type { Evaluation } from '../../../workflows/domain/model.ts';
import { append } from './audit.ts';
import type { Database } from './connection.ts';
import { json, transact } from './connection.ts';
import { writeProjections } from './projections.ts';
import { closeStart } from './starts.ts';

/** The evidence part of Records. */
export function evidenceRecords(db: Database): Pick<Records, 'endEvaluation'> {
  return {
    async endEvaluation(row, { inStaging }) {
      const { project, evaluation, model, submission, digest, report, dataset, actor, metrics } = row;
      const id = workflowId.evaluation(row);
      return transact(db, async (trx) => {
        const known = await trx
          .selectFrom('projection.evaluations')
          .select('row')
          .where('project', '=', project)
          .where('evaluation', '=', evaluation)
          .forUpdate()
          .executeTakeFirst();
        // The first end wins.
        if (known && known.row.state !== 'running') return known.row;
        const start = await trx
          .selectFrom('authoritative.starts')
          .select(['recorded_at', 'roles'])
          .where('workflow_id', '=', id)
          .executeTakeFirst();
        if (row.state === 'done' && inStaging && submission !== null && digest !== null && report !== null && start)
          await trx
            .insertInto('authoritative.evidence')
            .values({
              ...{ project, evaluation, model, submission, digest, report: report.sha256, dataset, actor },
              ...{ as_manager: start.roles.includes('manager'), begun_at: start.recorded_at, metrics: json(metrics) },
            })
            .onConflict((conflict) => conflict.doNothing())
            .execute();
        await writeProjections(trx, [{ kind: 'evaluation', row }]);
        await closeStart(trx, id, row.state);
        await append(trx, [entryOf(row, id)]);
        return row;
      });
    },
  };
}

/** The evaluations of a version whose report has this digest. */
export async function evidenceOf(
  db: Database,
  { project, model, submission }: VersionKey,
  report: string,
): Promise<readonly Evidence[]> {
  const found = await db
    .selectFrom('authoritative.evidence as e')
    .leftJoin('authoritative.data_sets as d', (join) =>
      join.onRef('d.project', '=', 'e.project').onRef('d.dataset', '=', 'e.dataset'),
    )
    .selectAll('e')
    .select('d.row as set')
    .where('e.project', '=', project)
    .where('e.model', '=', model)
    .where('e.submission', '=', submission)
    .where('e.report', '=', report)
    .execute();
  return found.map(({ evaluation, digest, dataset, actor, as_manager, begun_at, metrics, set }) => ({
    ...{ evaluation, digest, report, dataset, actor, askedAsManager: as_manager, begunAt: begun_at, metrics },
    testSetBy: set?.kind === 'test' ? set.registeredBy : null,
  }));
}

function entryOf(row: Evaluation, id: string): AuditEntry {
  const { project, evaluation, model, submission, dataset, passed, metrics, detail } = row;
  return {
    key: `${id}/ended`,
    project,
    kind: `evaluation.${row.state}`,
    actor: row.actor,
    subject: `${project}/${model}/${submission ?? 'private'}`,
    digest: row.digest,
    report: row.report?.sha256 ?? null,
    // Managers read the audit, but the figures and inputs of a private test are only for its actor.
    reason: submission === null ? '' : detail,
    detail: submission === null ? { evaluation } : { evaluation, dataset, passed, metrics },
    at: row.updatedAt,
  };
}
