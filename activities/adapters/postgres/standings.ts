// Current state of versions: read and locked in a fixed order, moved one transition at a time, closed at the end.
import { sql } from 'kysely';
import type { AuditEntry, VersionKey } from '../../records.ts';
import { failure } from '../../failures.ts';
import type { Approval, PolicyEdition } from '../../../workflows/domain/approval.ts';
import { barFor, countApprovals } from '../../../workflows/domain/approval.ts';
import type { SignedCommand } from '../../../workflows/domain/command.ts';
import { workflowId } from '../../../workflows/domain/ids.ts';
import type { Standing, VersionState } from '../../../workflows/domain/lifecycle.ts';
import { finalStates } from '../../../workflows/domain/lifecycle.ts';
import type { DeliveryState, Policy, Version } from '../../../workflows/domain/model.ts';
import { subjectOf } from '../../../workflows/domain/names.ts';
import type { Role } from '../../../workflows/domain/roles.ts';
import type { Pending, VersionStanding } from '../../../workflows/domain/standing.ts';
import { append } from './audit.ts';
import { pendingOf, refuseOpen } from './commands.ts';
import type { Database, Work } from './connection.ts';
import { clockNow, json } from './connection.ts';
import { writeProjections } from './projections.ts';
import { closeStart } from './starts.ts';

/** A project's current members and policy. */
export interface ProjectNow {
  readonly policy: Policy;
  readonly editions: readonly PolicyEdition[];
  readonly members: ReadonlyMap<string, readonly Role[]>;
  readonly managers: ReadonlySet<string>;
}

/** Everything needed to judge a decision about a version. */
export interface VersionNow extends ProjectNow {
  readonly workflowId: string;
  /** The time of the read, by the database's clock. All times of a decision are taken from it and compared with it. */
  readonly at: string;
  readonly version: Version;
  readonly attempt: number;
  readonly approvals: readonly Approval[];
  readonly newSince: string | null;
  readonly undoUntil: string | null;
  readonly closed: boolean;
  readonly pending: Pending | null;
  readonly deliveries: readonly { application: string; release: string; state: DeliveryState; detail: string }[];
}

/** Inserts the standing of a new submission. */
export async function insertStanding(trx: Work, version: Version): Promise<void> {
  const { project, model, submission, state, revision } = version;
  await trx
    .insertInto('authoritative.standings')
    .values({
      ...{ project, model, submission, state, revision, attempt: 1, approvals: json([]) },
      ...{ new_since: null, undo_until: null, closed: false, row: json(version) },
    })
    .onConflict((conflict) => conflict.doNothing())
    .execute();
}

/** Reads a project. With `lock`, its members and policy cannot change until the transaction ends. */
export async function projectNow(db: Database, project: string, lock: boolean): Promise<ProjectNow> {
  let query = db.selectFrom('authoritative.projects').select('policy').where('project', '=', project);
  if (lock) query = query.forShare();
  const found = await query.executeTakeFirst();
  if (!found) throw failure('NotFound', `there is no project ${project}`);
  const rows = await db
    .selectFrom('authoritative.members as member')
    .innerJoin('authoritative.users as user', 'user.name', 'member.name')
    .select(['member.name', 'member.roles'])
    .where('member.project', '=', project)
    // Disabled users do not count.
    .where('user.disabled', '=', false)
    .execute();
  const editions = await db
    .selectFrom('authoritative.policies')
    .select(['policy', 'set_by'])
    .where('project', '=', project)
    .orderBy('version', 'desc')
    // Nobody changes a policy more often during one version. Beyond that, the strictest of these applies.
    .limit(100)
    .execute();
  const members = new Map(rows.map(({ name, roles }) => [name, roles]));
  return {
    policy: found.policy,
    editions: editions.map(({ policy, set_by }) => ({ policy, setBy: set_by })),
    members,
    managers: new Set(rows.filter(({ roles }) => roles.includes('manager')).map(({ name }) => name)),
  };
}

/**
 * Reads everything that counts for a version. With `lock`, project, members and version cannot change until the
 * transaction ends. Lock order: project, version, command, release, pointer, audit.
 */
export async function versionNow(db: Database, key: VersionKey, lock: boolean): Promise<VersionNow> {
  const project = await projectNow(db, key.project, lock);
  let query = db
    .selectFrom('authoritative.standings')
    .selectAll()
    .select(clockNow.as('at'))
    .where('project', '=', key.project)
    .where('model', '=', key.model)
    .where('submission', '=', key.submission);
  if (lock) query = query.forUpdate();
  const row = await query.executeTakeFirst();
  if (!row) throw failure('NotFound', `there is no version ${subjectOf(key)}`);
  const id = workflowId.modelLifecycle(key);
  return {
    ...project,
    workflowId: id,
    at: row.at,
    version: row.row,
    attempt: row.attempt,
    approvals: row.approvals,
    newSince: row.new_since,
    undoUntil: row.undo_until,
    closed: row.closed,
    pending: await pendingOf(db, id),
    deliveries: row.state === 'released' ? await newestDeliveries(db, key) : [],
  };
}

/** The version as input of the domain's table. */
export function standingFor(now: VersionNow): Standing {
  const { version, approvals, policy, managers, editions, pending, deliveries } = now;
  return {
    state: version.state,
    revision: version.revision,
    author: version.author,
    digest: version.digest,
    approvals: countApprovals(approvals, { managers, policyVersion: policy.version }).counting,
    quorum: barFor(version.author, editions).quorum,
    busy: pending?.commandId ?? null,
    failedDeliveries: deliveries.filter(({ state }) => state === 'failed').length,
  };
}

/** The standing as workflows and the API see it. */
export function shownStanding(now: VersionNow, wake: readonly string[] = []): VersionStanding {
  const { version, attempt, approvals, policy, managers, editions, pending, undoUntil, closed } = now;
  return {
    ...{ version, attempt, approvals, pending, undoUntil, closed, wake },
    ...countApprovals(approvals, { managers, policyVersion: policy.version }),
    quorum: barFor(version.author, editions).quorum,
  };
}

/** A version's newest delivery to each application. */
async function newestDeliveries(db: Database, { project, model, submission }: VersionKey) {
  const found = await sql<{ application: string; release: string; state: DeliveryState; detail: string }>`
    select distinct on (d.application) d.application, d.release, d.state, d.row->>'detail' as detail
    from projection.deliveries d join authoritative.releases r on r.release = d.release
    where r.project = ${project} and r.model = ${model} and r.submission = ${submission}
    order by d.application, r.sequence desc`.execute(db);
  return found.rows;
}

/** What a transition changes besides the state. */
export interface Change {
  readonly set?: Partial<Version>;
  readonly attempt?: number;
  readonly approvals?: readonly Approval[];
  readonly undoUntil?: string | null;
}

/**
 * Moves a locked version: updates the standing, its projection, the transition's record entry and the audit and, at the
 * end of a lifecycle, closes it. Returns the new standing.
 */
export async function move(
  trx: Work,
  now: VersionNow,
  to: VersionState,
  { set, attempt = now.attempt, approvals = now.approvals, undoUntil = null }: Change,
  by: SignedCommand | null,
): Promise<VersionNow> {
  const { version: before, at } = now;
  const version: Version = { ...before, ...set, state: to, revision: before.revision + 1, updatedAt: at };
  const key = { project: version.project, model: version.model, submission: version.submission };
  const newSince = now.newSince ?? (to === 'new' ? at : null);
  await trx
    .updateTable('authoritative.standings')
    .set({
      ...{ state: to, revision: version.revision, attempt, approvals: json(approvals), row: json(version) },
      ...{ new_since: newSince, undo_until: undoUntil },
    })
    .where('project', '=', key.project)
    .where('model', '=', key.model)
    .where('submission', '=', key.submission)
    // Compare-and-set: a write that bypasses the lock by mistake fails here.
    .where('revision', '=', before.revision)
    .execute();
  await writeProjections(trx, [{ kind: 'version', row: version }]);
  await trx
    .insertInto('authoritative.transitions')
    .values({ ...key, revision: version.revision, entry: JSON.stringify({ version, from: before.state, command: by }) })
    .execute();
  const moved = { ...now, version, attempt, approvals, newSince, undoUntil };
  const closed = (finalStates as readonly VersionState[]).includes(to);
  if (closed) await close(trx, moved);
  await append(trx, [entryOf(now, version, by, at)]);
  return { ...moved, closed };
}

/** Ends a lifecycle: the bytes may be submitted again, and every command has an answer. */
export async function close(trx: Work, now: VersionNow): Promise<void> {
  const { project, model, submission, state } = now.version;
  await trx
    .updateTable('authoritative.standings')
    .set({ closed: true })
    .where('project', '=', project)
    .where('model', '=', model)
    .where('submission', '=', submission)
    .execute();
  await trx
    .updateTable('authoritative.digest_claims')
    .set({ freed: true })
    .where('project', '=', project)
    .where('model', '=', model)
    .where('submission', '=', submission)
    .execute();
  await closeStart(trx, now.workflowId, state);
  const children = await trx
    .selectFrom('authoritative.starts')
    .select('workflow_id')
    .where('parent', '=', now.workflowId)
    .where('closed_at', 'is', null)
    .execute();
  for (const { workflow_id } of children) await closeStart(trx, workflow_id, state);
  // After closing the start: a command being recorded locks the start, so it is either seen here or sees that the start is closed.
  await refuseOpen(trx, now.workflowId, closedMessage(now.version));
}

export const closedMessage = ({ submission, state }: Version): string =>
  `${submission} is closed (${state}) and takes no more commands`;

function entryOf(now: VersionNow, version: Version, command: SignedCommand | null, at: string): AuditEntry {
  const { state: from } = now.version;
  return {
    // Each revision occurs once, whichever run writes it.
    key: `${now.workflowId}/${version.revision}`,
    project: version.project,
    kind: command ? `version.${command.body.name}` : 'version.state',
    actor: command?.body.actor ?? 'platform',
    subject: subjectOf(version),
    digest: version.digest,
    report: command?.body.report ?? null,
    reason: command?.body.args.reason ?? version.detail,
    detail: {
      ...{ from, to: version.state, revision: version.revision, version: version.version, command },
      ...(command && { policyVersion: now.policy.version }),
    },
    at,
  };
}
