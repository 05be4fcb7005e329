// Decisions about an application: the next delivery, its gate results, and people's moves of the live pointer.
import { isDeepStrictEqual } from 'node:util';
import { sql } from 'kysely';
import type { AuditEntry, DeliveryKey, Records } from '../../records.ts';
import { failure } from '../../failures.ts';
import { partsOf, workflowId as ids } from '../../../workflows/domain/ids.ts';
import type { Delivery, GateResult, LivePointer, Release } from '../../../workflows/domain/model.ts';
import { subjectOf } from '../../../workflows/domain/names.ts';
import type { ApplicationStanding } from '../../../workflows/domain/standing.ts';
import { append } from './audit.ts';
import type { Taken } from './commands.ts';
import { decisionOf, failCommand, insertDecision, noteEffect, refuse, settle, takeCommand } from './commands.ts';
import type { Database, Work } from './connection.ts';
import { transact } from './connection.ts';
import { mustNotBePaused } from './installation.ts';
import type { PointerNow } from './judging.ts';
import { judgeMove, pointerNow } from './judging.ts';
import { isEarlier, moveDeliveries } from './live.ts';
import { setDelivery, writeProjections } from './projections.ts';
import { isFenced } from './releases.ts';
import { closeStart, insertStart } from './starts.ts';

type PointerDecisionRecords = Pick<
  Records,
  | 'applicationStanding'
  | 'decidePointer'
  | 'completePointer'
  | 'openDelivery'
  | 'missingGates'
  | 'beginGates'
  | 'recordGate'
  | 'concludeDelivery'
>;

const applicationOf = (workflowId: string) => partsOf(workflowId, 'application', 'application', 'type');

/** The pointer-decision part of Records. */
export function pointerDecisionRecords(db: Database): PointerDecisionRecords {
  return {
    async applicationStanding(workflowId) {
      const of = applicationOf(workflowId);
      return transact(db, async (trx) => {
        const now = await pointerNow(trx, of, {});
        await setFloor(trx, of);
        return { ...standingOf(now), wake: await behindOf(trx, now.pointer) };
      });
    },

    async decidePointer(workflowId, command, doubt) {
      const of = applicationOf(workflowId);
      const to = command.body.args.release;
      return transact(db, async (trx) => {
        const now = await pointerNow(trx, of, { release: to });
        const subject = `${of.application}/${of.type}`;
        const taken = await takeCommand(trx, workflowId, command, { project: now.app.project, subject });
        if (taken.isOpen) return decide(trx, now, taken, doubt);
        // A caller that did not get the first answer must still learn whom to wake.
        return { ...standingOf(now), wake: await touchedBy(trx, of, `${workflowId}/${taken.body.commandId}`) };
      });
    },

    async completePointer(workflowId, commandId, note) {
      return transact(db, async (trx) => {
        const now = await pointerNow(trx, applicationOf(workflowId), {});
        if (now.pending?.commandId !== commandId) return standingOf(now);
        const found = await decisionOf(trx, workflowId, commandId);
        if (!found) throw failure('NotFound', `there is no decision ${commandId} of ${workflowId}`);
        await noteEffect(trx, workflowId, commandId, {}, 'complete');
        const { name, args } = found.command.body;
        const message = name === 'revert' ? `${args.release ?? ''} is live again` : `nothing is live any more`;
        await settle(trx, found.taken, { status: 'done', message: note || message });
        return standingOf({ ...now, pending: null });
      });
    },

    async openDelivery(workflowId) {
      const of = applicationOf(workflowId);
      return transact(db, async (trx) => {
        await mustNotBePaused(trx);
        const { app } = await pointerNow(trx, of, {});
        // Types that the application no longer consumes are not delivered.
        const release = app.types.includes(of.type) ? await nextRelease(trx, of) : undefined;
        if (!release) return { release: null };
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
        return { release };
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
            : (ended ?? (missing.length > 0 ? `gates that were not run: ${missing.join(', ')}` : undefined));
        const row = await deliveryRow(trx, of, why === undefined ? 'deploying' : 'failed', why ?? '');
        await writeProjections(trx, [{ kind: 'delivery', row }]);
        const release = await releaseOf(trx, of.release);
        const id = ids.delivery(of);
        // A passed delivery is finished when it is live. Until then a new run finds the existing results.
        if (row.state === 'failed') await closeStart(trx, id, row.state);
        await append(trx, [auditOf(row, release, id, await countOf(trx, of))]);
        return row;
      });
    },
  };
}

async function decide(
  trx: Work,
  now: PointerNow,
  taken: Taken,
  doubt: { reason: string; message: string } | undefined,
): Promise<ApplicationStanding> {
  const { body } = taken;
  const verdict = judgeMove(now, body);
  if ('refused' in verdict) {
    await refuse(trx, taken, verdict);
    return standingOf(now);
  }
  if (doubt) {
    await failCommand(trx, taken, doubt.reason, doubt.message);
    return standingOf(now);
  }
  const { application, type, generation, release: former } = now.pointer;
  const { to } = verdict;
  const problem = to === null ? undefined : await revertProblem(trx, now.pointer, to);
  if (problem !== undefined) {
    await failCommand(trx, taken, 'Conflict', problem);
    return standingOf(now);
  }
  const { moved_at } = await trx
    .insertInto('authoritative.moves')
    .values({
      ...{ key: `${taken.workflowId}/${body.commandId}`, application, type, release: to, generation: generation + 1 },
      refused: null,
      moved_at: sql<string>`greatest(date_trunc('milliseconds', clock_timestamp()), ${now.pointer.movedAt}::timestamptz)`,
    })
    .returning('moved_at')
    .executeTakeFirstOrThrow();
  await trx
    .updateTable('authoritative.live_pointers')
    .set({ generation: generation + 1, release: to, moved_at })
    .where('application', '=', application)
    .where('type', '=', type)
    .execute();
  const at = new Date().toISOString();
  await moveDeliveries(trx, { application, type, release: to, revert: true }, former, at);
  const { policy } = now;
  const detail = to === null ? {} : { release: to };
  await insertDecision(trx, taken, { revision: generation, policyVersion: policy.version, at, pending: true, detail });
  await settle(trx, taken, { status: 'accepted' });
  const about = await releaseOf(trx, to ?? former ?? '');
  await append(trx, [
    {
      key: `${taken.workflowId}/${body.commandId}`,
      project: now.app.project,
      kind: `application.${body.name}`,
      actor: body.actor,
      subject: taken.subject,
      digest: about.digest,
      report: about.report,
      reason: body.args.reason ?? '',
      detail: { release: to, former, version: subjectOf(about), generation, command: taken.command },
      at,
    },
  ]);
  const pointer = { application, type, generation: generation + 1, release: to, movedAt: moved_at };
  return {
    ...standingOf({ ...now, pointer, pending: { commandId: body.commandId, name: body.name, release: to } }),
    wake: await touchedBy(trx, now.pointer, `${taken.workflowId}/${body.commandId}`),
  };
}

/** The lifecycles of the versions that a move made live and that were live before it. */
async function touchedBy(
  trx: Work,
  { application, type }: Pick<LivePointer, 'application' | 'type'>,
  key: string,
): Promise<readonly string[]> {
  const found = await sql<{ row: Release }>`
    select r.row from authoritative.moves m
    join authoritative.moves n on n.application = m.application and n.type = m.type
      and n.generation in (m.generation, m.generation - 1)
    join authoritative.releases r on r.release = n.release
    where m.key = ${key} and m.application = ${application} and m.type = ${type}
    order by n.generation desc`.execute(trx);
  return [...new Set(found.rows.map(({ row }) => ids.modelLifecycle(row)))];
}

/**
 * The lifecycles that may have missed the application's last changes: of the live version, of the previous one, and of
 * the newest delivery.
 */
async function behindOf(trx: Work, { application, type, generation }: LivePointer): Promise<readonly string[]> {
  const found = await sql<{ row: Release }>`
    select r.row from authoritative.releases r where r.release in (
      select m.release from authoritative.moves m
      where m.application = ${application} and m.type = ${type} and m.generation in (${generation}, ${generation - 1})
      union all
      (select d.release from projection.deliveries d join authoritative.releases n on n.release = d.release
      where d.application = ${application} and n.type = ${type} order by n.sequence desc limit 1))
    order by r.sequence`.execute(trx);
  return [...new Set(found.rows.map(({ row }) => ids.modelLifecycle(row)))];
}

async function revertProblem(trx: Work, pointer: LivePointer, to: string): Promise<string | undefined> {
  const found = await trx
    .selectFrom('authoritative.releases')
    .select('type')
    .where('release', '=', to)
    .executeTakeFirst();
  if (found?.type !== pointer.type) return `there is no release ${to} of type ${pointer.type}`;
  if (await isFenced(trx, to)) return `${to} was taken back by a manager`;
  return (await isEarlier(trx, pointer, to))
    ? undefined
    : `${to} cannot be reverted to: it was never live in ${pointer.application}, or is live now`;
}

/**
 * The oldest release that the application has not handled: announced, not withdrawn, above its floor and above the live
 * release's sequence. Older sequences than the live one are not delivered.
 */
async function nextRelease(trx: Work, { application, type }: { application: string; type: string }) {
  const found = await sql<{ row: Release }>`
    select r.row from authoritative.releases r
    join authoritative.live_pointers p on p.application = ${application} and p.type = r.type
    left join authoritative.releases l on l.release = p.release
    left join projection.deliveries d on d.application = p.application and d.release = r.release
    where r.type = ${type} and r.announced
      and r.sequence > greatest(coalesce(p.floor, 0), coalesce(l.sequence, 0))
      and (d.release is null or d.state in ('received', 'gating', 'deploying'))
      and not exists (select from authoritative.fences f where f.release = r.release)
    order by r.sequence limit 1`.execute(trx);
  const row = found.rows[0]?.row;
  return row && ({ ...row, state: 'announced' } as const);
}

/** A new application starts with the newest release that is not withdrawn. `floor` is the sequence before it, set once. */
async function setFloor(trx: Work, { application, type }: { application: string; type: string }): Promise<void> {
  await sql`
    update authoritative.live_pointers set floor = coalesce((
      select max(r.sequence) - 1 from authoritative.releases r
      where r.type = ${type} and r.announced
        and not exists (select from authoritative.fences f where f.release = r.release)), 0)
    where application = ${application} and type = ${type} and floor is null`.execute(trx);
}

/** The currently configured gates, with the newest result of each. */
async function resultsOf(trx: Work, { application, release }: Pick<DeliveryKey, 'application' | 'release'>) {
  const app = await trx
    .selectFrom('authoritative.applications')
    .select('row')
    .where('application', '=', application)
    .executeTakeFirst();
  if (!app) throw failure('NotFound', `there is no application ${application}`);
  const found = await sql<GateResult>`
    select distinct on (gate) gate, passed, detail, seconds from authoritative.gate_results
    where application = ${application} and release = ${release} order by gate, ordinal desc`.execute(trx);
  const configured = app.row.gates;
  const latest = configured.flatMap((gate) => found.rows.filter((one) => one.gate === gate));
  return { configured, latest };
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

async function releaseOf(trx: Work, release: string): Promise<Release> {
  const found = await trx
    .selectFrom('authoritative.releases')
    .select('row')
    .where('release', '=', release)
    .executeTakeFirst();
  if (!found) throw failure('NotFound', `there is no release ${release}`);
  return found.row;
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

const standingOf = ({ pointer, pending }: PointerNow): ApplicationStanding => ({ pointer, pending, wake: [] });
