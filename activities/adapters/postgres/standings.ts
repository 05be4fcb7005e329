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
import { pendingColumn, refuseOpen } from './commands.ts';
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

/** A project's current members and policy, as columns of a statement whose row of it is named `project`. */
export const projectColumns = sql`
  project.policy,
  (select coalesce(jsonb_agg(jsonb_build_object('name', member.name, 'roles', member.roles)), '[]')
    from authoritative.members member join authoritative.users person on person.name = member.name
    -- Disabled users do not count.
    where member.project = project.project and not person.disabled) as members,
  (select coalesce(jsonb_agg(jsonb_build_object('policy', one.policy, 'setBy', one.set_by) order by one.version desc), '[]')
    -- Nobody changes a policy more often during one version. Beyond that, the strictest of these applies.
    from (select * from authoritative.policies where policies.project = project.project order by version desc limit 100) one
  ) as editions`;

export interface ProjectColumns {
  readonly policy: Policy;
  readonly members: readonly { readonly name: string; readonly roles: readonly Role[] }[];
  readonly editions: readonly PolicyEdition[];
}

export const projectOf = ({ policy, members, editions }: ProjectColumns): ProjectNow => ({
  policy,
  editions,
  members: new Map(members.map(({ name, roles }) => [name, roles])),
  managers: new Set(members.filter(({ roles }) => roles.includes('manager')).map(({ name }) => name)),
});

/** Locks a project: its members and policy cannot change until the transaction ends. */
export async function lockProject(trx: Database, project: string): Promise<void> {
  await trx
    .selectFrom('authoritative.projects')
    .select('project')
    .where('project', '=', project)
    .forShare()
    .executeTakeFirst();
}

interface VersionColumns extends ProjectColumns {
  readonly at: string;
  readonly row: Version | null;
  readonly attempt: number;
  readonly approvals: readonly Approval[];
  readonly new_since: string | null;
  readonly undo_until: string | null;
  readonly closed: boolean;
  readonly pending: Pending | null;
  readonly deliveries: VersionNow['deliveries'];
}

/**
 * Reads everything that counts for a version, in one statement, so that all of it is from one moment. With `lock`, project,
 * members and version cannot change until the transaction ends. The locks are taken first, because a statement sees only what
 * was committed before it began. Lock order: project, version, command, release, pointer, audit.
 */
export async function versionNow(db: Database, key: VersionKey, lock: boolean): Promise<VersionNow> {
  const { project, model, submission } = key;
  if (lock) {
    await lockProject(db, project);
    await db
      .selectFrom('authoritative.standings')
      .select('revision')
      .where('project', '=', project)
      .where('model', '=', model)
      .where('submission', '=', submission)
      .forUpdate()
      .executeTakeFirst();
  }
  const id = workflowId.modelLifecycle(key);
  const { rows } = await sql<VersionColumns>`
    select ${projectColumns}, ${clockNow} as at,
      s.row, s.attempt, s.approvals, s.new_since, s.undo_until, s.closed, ${pendingColumn(id)},
      -- The version's newest delivery to each application.
      case when s.state = 'released' then (
        select coalesce(jsonb_agg(to_jsonb(newest) - 'sequence' order by newest.application), '[]') from (
          select distinct on (d.application) d.application, d.release, d.state, d.row->>'detail' as detail, r.sequence
          from projection.deliveries d join authoritative.releases r on r.release = d.release
          where r.project = s.project and r.model = s.model and r.submission = s.submission
          order by d.application, r.sequence desc) newest) else '[]' end as deliveries
    from authoritative.projects project
    left join authoritative.standings s
      on s.project = project.project and s.model = ${model} and s.submission = ${submission}
    where project.project = ${project}`.execute(db);
  const found = rows[0];
  if (!found) throw failure('NotFound', `there is no project ${project}`);
  if (!found.row) throw failure('NotFound', `there is no version ${subjectOf(key)}`);
  return {
    ...projectOf(found),
    workflowId: id,
    at: found.at,
    version: found.row,
    attempt: found.attempt,
    approvals: found.approvals,
    newSince: found.new_since,
    undoUntil: found.undo_until,
    closed: found.closed,
    pending: found.pending,
    deliveries: found.deliveries,
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
