// Deliveries of releases into applications: the next one, its gate results, and its end.
import { isDeepStrictEqual } from 'node:util';
import { sql } from 'kysely';
import type { AuditEntry, DeliveryKey, Records } from '../../records.ts';
import { failure } from '../../failures.ts';
import { workflowId as ids } from '../../../workflows/domain/ids.ts';
import type { Delivery, GateResult, Release } from '../../../workflows/domain/model.ts';
import { subjectOf } from '../../../workflows/domain/names.ts';
import { append } from './audit.ts';
import type { Database, Work } from './connection.ts';
import { transact } from './connection.ts';
import { mustNotBePaused } from './installation.ts';
import { applicationOf, pointerNow } from './judging.ts';
import { setDelivery, writeProjections } from './projections.ts';
import { releaseRow } from './releases.ts';
import { closeStart, insertStart } from './starts.ts';

type DeliveryRecords = Pick<
  Records,
  'openDelivery' | 'missingGates' | 'beginGates' | 'recordGate' | 'concludeDelivery'
>;

/** The delivery part of Records. */
export function deliveryRecords(db: Database): DeliveryRecords {
  return {
    async openDelivery(workflowId) {
      const of = applicationOf(workflowId);
      return transact(db, async (trx) => {
        await mustNotBePaused(trx);
        const { app, pointer } = await pointerNow(trx, of, {});
        // Types that the application no longer consumes are not delivered.
        const release = app.types.includes(of.type) ? await nextRelease(trx, of) : undefined;
        const { generation } = pointer;
        if (!release) return { release: null, generation };
        const { application, type } = of;
        const input = { application, type, release: release.release };
        await insertStart(
          trx,
          {
            ...{ workflowId: ids.delivery(input), type: 'delivery', input, askedBy: application, roles: [] },
            ...{ project: app.project, parent: workflowId },
          },
          true,
        );
        const { project, model, submission } = release;
        const row = await deliveryRow(trx, input, 'received', '');
        await setDelivery(trx, row);
        const about = { project, model, submission, digest: release.digest };
        await append(trx, [auditOf(row, about, ids.delivery(input), await countOf(trx, input))]);
        return { release, generation };
      });
    },

    async missingGates(of) {
      return transact(db, async (trx) => {
        const results = await resultsOf(trx, of);
        return results.configured.filter((gate) => !results.latest.some((one) => one.gate === gate && one.passed));
      });
    },

    async beginGates(of) {
      await transact(db, async (trx) => {
        await writeProjections(trx, [{ kind: 'delivery', row: await deliveryRow(trx, of, 'gating', '') }]);
      });
    },

    async recordGate(of, { gate, passed, detail, seconds }, run) {
      return transact(db, async (trx) => {
        const result = { gate, passed, detail, seconds };
        const { rows } = await sql<GateResult>`
          select gate, passed, detail, seconds from authoritative.gate_results
          where application = ${of.application} and release = ${of.release} and gate = ${gate}
            and (${run ?? null}::text is null or run = ${run ?? null})
          order by ordinal desc limit 1`.execute(trx);
        const known = rows.find((row) => run !== undefined || isDeepStrictEqual({ ...row }, result));
        // An existing result was written, but its answer was lost.
        if (!known)
          await trx
            .insertInto('authoritative.gate_results')
            .values({ application: of.application, release: of.release, ...result, run: run ?? null })
            .execute();
        await writeProjections(trx, [{ kind: 'delivery', row: await deliveryRow(trx, of, 'gating', '') }]);
        return known ?? result;
      });
    },

    async concludeDelivery(of, ended) {
      return transact(db, async (trx) => {
        const { configured, latest } = await resultsOf(trx, of);
        const failed = latest.find(({ passed }) => !passed);
        const missing = configured.filter((gate) => !latest.some((one) => one.gate === gate));
        const why =
          failed !== undefined
            ? `gate ${failed.gate}: ${failed.detail}`
            : (ended ?? (missing.length > 0 ? `gates that did not run: ${missing.join(', ')}` : undefined));
        const row = await deliveryRow(trx, of, why === undefined ? 'deploying' : 'failed', why ?? '');
        await writeProjections(trx, [{ kind: 'delivery', row }]);
        const release = await releaseRow(trx, of.release);
        const id = ids.delivery(of);
        // A passed delivery is finished when it is live. Until then a new run finds the existing results.
        if (row.state === 'failed') await closeStart(trx, id, row.state);
        await append(trx, [auditOf(row, release, id, await countOf(trx, of))]);
        return row;
      });
    },
  };
}

/**
 * The oldest release that the application has not handled: announced, not withdrawn, and above its floor, which is at least
 * the highest number that was ever live there. After a revert or a take-down no older release goes live by itself.
 */
async function nextRelease(trx: Work, { application, type }: { application: string; type: string }) {
  const found = await sql<{ row: Release }>`
    select r.row from authoritative.releases r
    join authoritative.live_pointers p on p.application = ${application} and p.type = r.type
    left join projection.deliveries d on d.application = p.application and d.release = r.release
    where r.type = ${type} and r.announced
      and r.sequence > coalesce(p.floor, 0)
      and (d.release is null or d.state in ('received', 'gating', 'deploying'))
      and not exists (select from authoritative.fences f where f.release = r.release)
    order by r.sequence limit 1`.execute(trx);
  const row = found.rows[0]?.row;
  return row && ({ ...row, state: 'announced' } as const);
}

/** The currently configured gates, with the newest result of each. */
async function resultsOf(trx: Work, { application, release }: Pick<DeliveryKey, 'application' | 'release'>) {
  const found = await sql<{ configured: readonly string[]; results: readonly GateResult[] }>`
    select a.row->'gates' as configured, (
      select coalesce(jsonb_agg(to_jsonb(newest)), '[]') from (
        select distinct on (gate) gate, passed, detail, seconds from authoritative.gate_results
        where application = ${application} and release = ${release} order by gate, ordinal desc) newest) as results
    from authoritative.applications a where a.application = ${application}`.execute(trx);
  const row = found.rows[0];
  if (!row) throw failure('NotFound', `there is no application ${application}`);
  const { configured, results } = row;
  return { configured, latest: configured.flatMap((gate) => results.filter((one) => one.gate === gate)) };
}

async function countOf(
  trx: Work,
  { application, release }: Pick<DeliveryKey, 'application' | 'release'>,
): Promise<number> {
  const { count } = await trx
    .selectFrom('authoritative.gate_results')
    .select((eb) => eb.fn.countAll<number>().as('count'))
    .where('application', '=', application)
    .where('release', '=', release)
    .executeTakeFirstOrThrow();
  return Number(count);
}

async function deliveryRow(trx: Work, of: DeliveryKey, state: Delivery['state'], detail: string): Promise<Delivery> {
  const { latest } = await resultsOf(trx, of);
  const { application, type, release } = of;
  return { application, type, release, state, gates: latest, detail, updatedAt: new Date().toISOString() };
}

function auditOf(
  row: Delivery,
  about: Pick<Release, 'project' | 'model' | 'submission' | 'digest'>,
  by: string,
  results: number,
): AuditEntry {
  return {
    // Another attempt has more results, so its entries have different keys.
    key: `${by}/${row.state}/${results}`,
    project: about.project,
    kind: `delivery.${row.state}`,
    actor: row.application,
    subject: subjectOf(about),
    digest: about.digest,
    report: null,
    reason: row.detail,
    detail: { release: row.release, gates: row.gates },
    at: row.updatedAt,
  };
}
