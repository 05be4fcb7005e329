// Writes projections. Activities may run late or twice, so an older row never replaces a newer one.
import { sql } from 'kysely';
import type { Projection } from '../../records.ts';
import type { Delivery, DeliveryState, Evaluation, Scan, Version } from '../../../workflows/domain/model.ts';
import type { Work } from './connection.ts';
import { json } from './connection.ts';

/** Progress of a delivery. `failed` ends it before it was live; a live delivery ends as superseded or reverted. */
const deliveryStanding = {
  received: 0,
  gating: 1,
  deploying: 2,
  failed: 3,
  live: 4,
  superseded: 5,
  reverted: 5,
  'taken-down': 5,
} as const satisfies Record<DeliveryState, number>;
const evaluationStanding = { running: 0, done: 1, failed: 1 } as const satisfies Record<Evaluation['state'], number>;
const scanStanding = { open: 0, labelled: 1 } as const satisfies Record<Scan['state'], number>;

/** Writes each row that is newer than the stored one, in a fixed order to avoid deadlocks. */
export async function writeProjections(trx: Work, projections: readonly Projection[]): Promise<void> {
  const keyed = projections.map((projection) => ({ projection, key: keyOf(projection) }));
  keyed.sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0));
  for (const { projection } of keyed) await write(trx, projection);
}

/**
 * Sets a delivery to its state by the live pointer, regardless of its stored state. Only a pointer move may take a state
 * back.
 */
export async function setDelivery(trx: Work, delivery: Delivery): Promise<void> {
  await trx
    .insertInto('projection.deliveries')
    .values(deliveryColumns(delivery))
    .onConflict((conflict) => conflict.columns(['application', 'release']).doUpdateSet(deliveryColumns(delivery)))
    .execute();
}

function keyOf({ kind, row }: Projection): string {
  switch (kind) {
    case 'version':
      return [kind, row.project, row.model, row.submission].join('/');
    case 'evaluation':
      return [kind, row.project, row.evaluation].join('/');
    case 'delivery':
      return [kind, row.application, row.release].join('/');
    case 'scan':
      return [kind, row.project, row.scan].join('/');
  }
}

async function write(trx: Work, { kind, row }: Projection): Promise<void> {
  switch (kind) {
    case 'version':
      return writeVersion(trx, row);
    case 'evaluation':
      return writeEvaluation(trx, row);
    case 'delivery':
      return writeDelivery(trx, row);
    case 'scan':
      return writeScan(trx, row);
  }
}

async function writeVersion(trx: Work, version: Version): Promise<void> {
  const { project, model, submission, state, author, revision, updatedAt } = version;
  const columns = { project, model, submission, state, author, revision, updated_at: updatedAt, row: json(version) };
  const written = await trx
    .insertInto('projection.versions')
    .values(columns)
    .onConflict((conflict) =>
      conflict
        .columns(['project', 'model', 'submission'])
        .doUpdateSet(columns)
        .where(sql<boolean>`(excluded.revision, excluded.updated_at) >= (versions.revision, versions.updated_at)`),
    )
    .returning(sql<boolean>`xmax = 0`.as('isNew'))
    .executeTakeFirst();
  if (!written?.isNew) return;
  // Evaluations written earlier: their author may see them.
  await trx
    .updateTable('projection.evaluations')
    .set({ author })
    .where('project', '=', project)
    .where('model', '=', model)
    .where('submission', '=', submission)
    .execute();
}

async function writeEvaluation(trx: Work, row: Evaluation): Promise<void> {
  const { project, evaluation, model, submission, state, updatedAt } = row;
  const standing = evaluationStanding[state];
  const author = sql<string | null>`(select author from projection.versions
    where project = ${project} and model = ${model} and submission = ${submission})`;
  const columns = { project, evaluation, model, submission, author, standing, updated_at: updatedAt, row: json(row) };
  await trx
    .insertInto('projection.evaluations')
    .values(columns)
    .onConflict((conflict) =>
      conflict
        .columns(['project', 'evaluation'])
        .doUpdateSet(columns)
        .where(
          sql<boolean>`(excluded.standing, excluded.updated_at) >= (evaluations.standing, evaluations.updated_at)`,
        ),
    )
    .execute();
}

async function writeDelivery(trx: Work, delivery: Delivery): Promise<void> {
  await trx
    .insertInto('projection.deliveries')
    .values(deliveryColumns(delivery))
    .onConflict((conflict) =>
      conflict
        .columns(['application', 'release'])
        .doUpdateSet({
          ...deliveryColumns(delivery),
          // A caller that stops a delivery does not know its gate results so far, so they are kept.
          row: sql<string>`case when excluded.row->'gates' = '[]' then excluded.row || jsonb_build_object('gates', deliveries.row->'gates')
            else excluded.row end`,
        })
        // A revert may have turned a `superseded` row live again. For such a row, a later state must also have a later time.
        .where(
          sql<boolean>`(excluded.standing > deliveries.standing and deliveries.state <> 'live')
            or (excluded.standing >= deliveries.standing and excluded.updated_at >= deliveries.updated_at)`,
        ),
    )
    .execute();
}

async function writeScan(trx: Work, scan: Scan): Promise<void> {
  await trx
    .insertInto('projection.scans')
    .values(scanColumns(scan))
    .onConflict((conflict) =>
      conflict
        .columns(['project', 'scan'])
        .doUpdateSet(scanColumns(scan))
        .where(
          sql<boolean>`(excluded.revision, excluded.standing, excluded.updated_at)
            >= (scans.revision, scans.standing, scans.updated_at)`,
        ),
    )
    .execute();
}

function deliveryColumns(delivery: Delivery) {
  const { application, release, state, updatedAt } = delivery;
  return {
    application,
    release,
    state,
    standing: deliveryStanding[state],
    updated_at: updatedAt,
    row: json(delivery),
  };
}

function scanColumns(scan: Scan) {
  const { project, application, revision, state, updatedAt } = scan;
  return {
    project,
    scan: scan.scan,
    application,
    revision,
    standing: scanStanding[state],
    updated_at: updatedAt,
    row: json(scan),
  };
}
