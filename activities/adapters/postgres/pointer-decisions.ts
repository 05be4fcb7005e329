// Decisions about an application: people's moves of the live pointer. Deliveries are in deliveries.ts.
import { sql } from 'kysely';
import type { Records } from '../../records.ts';
import { failure } from '../../failures.ts';
import { workflowId as ids } from '../../../workflows/domain/ids.ts';
import type { LivePointer, Release } from '../../../workflows/domain/model.ts';
import { subjectOf } from '../../../workflows/domain/names.ts';
import type { ApplicationStanding } from '../../../workflows/domain/standing.ts';
import { append } from './audit.ts';
import type { Taken } from './commands.ts';
import { decisionOf, failCommand, insertDecision, noteEffect, refuse, settle, takeCommand } from './commands.ts';
import type { Database, Work } from './connection.ts';
import { transact } from './connection.ts';
import type { PointerNow } from './judging.ts';
import { applicationOf, judgeMove, pointerNow } from './judging.ts';
import { isEarlier, moveDeliveries } from './live.ts';
import { unavailableTypes } from './model-types.ts';
import { beforeNewest, isFenced, releaseRow } from './releases.ts';

type PointerDecisionRecords = Pick<Records, 'applicationStanding' | 'decidePointer' | 'completePointer'>;

/** The pointer-decision part of Records. */
export function pointerDecisionRecords(db: Database): PointerDecisionRecords {
  return {
    async applicationStanding(workflowId) {
      const of = applicationOf(workflowId);
      await setFloor(db, of);
      const now = await pointerNow(db, of, false);
      return { ...standingOf(now), wake: await behindOf(db, now.pointer) };
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
        const message = name === 'revert' ? `${args.release ?? ''} is live again` : 'no release is live';
        await settle(trx, found.taken, { status: 'done', message: note || message });
        return standingOf({ ...now, pending: null });
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
  const problem = to === null ? undefined : await revertProblem(trx, now, to);
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
  const about = await releaseRow(trx, to ?? former ?? '');
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
async function behindOf(db: Database, { application, type, generation }: LivePointer): Promise<readonly string[]> {
  const found = await sql<{ row: Release }>`
    select r.row from authoritative.releases r where r.release in (
      select m.release from authoritative.moves m
      where m.application = ${application} and m.type = ${type} and m.generation in (${generation}, ${generation - 1})
      union all
      (select d.release from projection.deliveries d join authoritative.releases n on n.release = d.release
      where d.application = ${application} and n.type = ${type} order by n.sequence desc limit 1))
    order by r.sequence`.execute(db);
  return [...new Set(found.rows.map(({ row }) => ids.modelLifecycle(row)))];
}

async function revertProblem(trx: Work, { app, pointer }: PointerNow, to: string): Promise<string | undefined> {
  // The type may have been removed since the command was recorded.
  if (!app.types.includes(pointer.type)) return `${app.application} no longer consumes type ${pointer.type}`;
  const found = await trx
    .selectFrom('authoritative.releases')
    .select('type')
    .where('release', '=', to)
    .executeTakeFirst();
  if (found?.type !== pointer.type) return `there is no release ${to} of type ${pointer.type}`;
  if ((await unavailableTypes(trx, app.project, [pointer.type])).length > 0)
    return `project ${app.project} may no longer consume type ${pointer.type}: its grant was revoked`;
  if (await isFenced(trx, to)) return `${to} was withdrawn by a manager`;
  return (await isEarlier(trx, pointer, to))
    ? undefined
    : `${to} cannot be reverted to: it was never live in ${pointer.application}, or is live now`;
}

/** A new application starts with the newest release that is not withdrawn. `floor` is the sequence before it, set once. */
async function setFloor(db: Database, { application, type }: { application: string; type: string }): Promise<void> {
  await sql`
    update authoritative.live_pointers set floor = coalesce(${beforeNewest(sql`${type}`)}, 0)
    where application = ${application} and type = ${type} and floor is null`.execute(db);
}

const standingOf = ({ pointer, pending }: PointerNow): ApplicationStanding => ({ pointer, pending, wake: [] });
