// Decisions about versions. One transaction each: judges by the current state, consumes the command, writes the transition and the audit.
import type { Records, VersionKey } from '../../records.ts';
import { failure, isFinal } from '../../failures.ts';
import type { CommandBody } from '../../../workflows/domain/command.ts';
import { barFor, evidenceProblem } from '../../../workflows/domain/approval.ts';
import { partsOf, workflowId as ids } from '../../../workflows/domain/ids.ts';
import { RESTORED } from '../../../workflows/domain/failures.ts';
import type { Transition, VersionState } from '../../../workflows/domain/lifecycle.ts';
import type { Decision, NamedArtifact, Release, Version } from '../../../workflows/domain/model.ts';
import { subjectOf } from '../../../workflows/domain/names.ts';
import type { VersionStanding } from '../../../workflows/domain/standing.ts';
import type { Taken } from './commands.ts';
import { decisionOf, failCommand, insertDecision, noteEffect, refuse, settle, takeCommand } from './commands.ts';
import type { Database, Work } from './connection.ts';
import { transact } from './connection.ts';
import { evidenceOf } from './evidence.ts';
import { judgeVersion } from './judging.ts';
import { allot, fence, releasesOfVersion } from './releases.ts';
import type { Change, VersionNow } from './standings.ts';
import { move, shownStanding, versionNow } from './standings.ts';
import { closeStart, insertStart } from './starts.ts';

type VersionDecisionRecords = Pick<
  Records,
  'versionStanding' | 'decideVersion' | 'completeDecision' | 'failDecision' | 'noteReturned'
>;

/** Where each file of a release is in the release store. */
export type Place = (type: string, file: NamedArtifact) => NamedArtifact;

export const versionKeyOf = (workflowId: string): VersionKey =>
  partsOf(workflowId, 'modelLifecycle', 'project', 'model', 'submission');

/** The version-decision part of Records. */
export function versionDecisionRecords(db: Database): VersionDecisionRecords {
  return {
    async versionStanding(key) {
      return transact(db, async (trx) => shownStanding(await versionNow(trx, key, false)));
    },

    async decideVersion(workflowId, command, { place, doubt }) {
      const key = versionKeyOf(workflowId);
      return transact(db, async (trx) => {
        const now = await versionNow(trx, key, true);
        const taken = await takeCommand(trx, workflowId, command, { project: key.project, subject: subjectOf(key) });
        // A caller that did not get the first answer must still learn whom to wake.
        if (!taken.isOpen) return shownStanding(now, letsGo(taken.body.name) ? await consumersOf(trx, now) : []);
        return decide(trx, now, taken, place, doubt);
      });
    },

    async completeDecision(workflowId, commandId) {
      return transact(db, async (trx) => {
        const now = await versionNow(trx, versionKeyOf(workflowId), true);
        return now.pending?.commandId === commandId ? complete(trx, now, commandId) : shownStanding(now);
      });
    },

    async noteReturned(workflowId, commandId, folder) {
      await transact(db, (trx) => noteEffect(trx, workflowId, commandId, { folder }));
    },

    async failDecision(workflowId, commandId, { reason, message }) {
      return transact(db, async (trx) => {
        const now = await versionNow(trx, versionKeyOf(workflowId), true);
        if (now.pending?.commandId !== commandId) return shownStanding(now);
        // A pause does not undo a decision: its effects are carried out again when the restore is accepted.
        if (reason === RESTORED) return shownStanding(now);
        const found = await mustFind(trx, workflowId, commandId);
        const release = now.pending.release;
        if (release !== null) {
          // Ending a workflow in Temporal does not undo a decision: the release is carried out again.
          if (reason === 'Ended') return shownStanding(now);
          // The release was announced, so the decision succeeded; only its confirmation was lost.
          const rows = await releasesOfVersion(trx, now.version);
          if (rows.some((row) => row.release === release && row.state === 'announced'))
            return complete(trx, now, commandId);
          // A release that was allotted but not announced must not be announced later.
          await fence(trx, [release], commandId);
        }
        await noteEffect(trx, workflowId, commandId, {}, 'failed');
        await failCommand(trx, found.taken, reason, message);
        return shownStanding({ ...now, pending: null });
      });
    },
  };
}

async function decide(
  trx: Work,
  now: VersionNow,
  taken: Taken,
  place: Place,
  doubt: { reason: string; message: string } | undefined,
): Promise<VersionStanding> {
  const { body } = taken;
  const verdict = judgeVersion(now, body, taken.recordedAt);
  if ('refused' in verdict) {
    await refuse(trx, taken, verdict);
    await keepIn(trx, now, body);
    return shownStanding(now);
  }
  const came = async (reason: string, message: string): Promise<VersionStanding> => {
    await failCommand(trx, taken, reason, message);
    await keepIn(trx, now, body);
    return shownStanding(now);
  };
  if (doubt) return came(doubt.reason, doubt.message);
  const problem = await reportProblem(trx, now, body);
  if (problem !== undefined) return came('EvidenceMissing', problem);
  try {
    return await carryOut(trx, now, taken, verdict, place);
  } catch (error) {
    // Thrown before anything was written: a rule of the records that the domain's table does not know.
    if (!(error instanceof Error) || !isFinal(error)) throw error;
    return came(typeOf(error), error.message);
  }
}

/** A failed release command may have been allotted a number before decisions were recorded. Fences that release. */
async function keepIn(trx: Work, now: VersionNow, { name, commandId }: CommandBody): Promise<void> {
  if (name !== 'release') return;
  const found = await trx
    .selectFrom('authoritative.releases')
    .select('release')
    .where('project', '=', now.version.project)
    .where('model', '=', now.version.model)
    .where('submission', '=', now.version.submission)
    .where('command_id', '=', commandId)
    .executeTakeFirst();
  if (!found) return;
  await fence(trx, [found.release], commandId);
  await closeStart(trx, ids.release(found), 'its command was refused');
}

async function carryOut(
  trx: Work,
  now: VersionNow,
  taken: Taken,
  { transition, completes }: { transition: Transition; completes: boolean },
  place: Place,
): Promise<VersionStanding> {
  const { body } = taken;
  const { version, policy, at } = now;
  const noted = { revision: version.revision, policyVersion: policy.version, at };
  if (body.name === 'release') {
    const allotted = await allotFor(trx, now, taken, place);
    await insertDecision(trx, taken, { ...noted, pending: true, detail: { release: allotted.release } });
    await settle(trx, taken, { status: 'accepted' });
    const { project, model, submission } = version;
    const input = { project, model, submission, release: allotted.release };
    const start = {
      workflowId: ids.release(allotted),
      type: 'release',
      input,
      askedBy: body.actor,
      roles: [],
    } as const;
    await insertStart(trx, { ...start, project, parent: now.workflowId });
    return shownStanding({
      ...now,
      pending: { commandId: body.commandId, name: body.name, release: allotted.release },
    });
  }
  // Fence nothing if the receiver cannot get the files.
  const to = body.args.to ?? version.author;
  if (returns(body.name) && !mayReceive(now, to))
    throw failure('InvalidInput', `${to} is not a scientist of project ${version.project}`);
  const withdrawn = letsGo(body.name) ? await letGo(trx, now, body) : { releases: [], wake: [] };
  const next = completes ? (transition.to ?? version.state) : version.state;
  if (letsGo(body.name) && (withdrawn.releases.length > 0 || returns(body.name))) {
    const detail = returns(body.name) ? { to } : {};
    await insertDecision(trx, taken, { ...noted, pending: true, detail });
    await settle(trx, taken, { status: 'accepted' });
    return shownStanding(
      { ...now, pending: { commandId: body.commandId, name: body.name, release: null } },
      withdrawn.wake,
    );
  }
  await insertDecision(trx, taken, { ...noted, pending: false });
  const { change, message } = changeOf(now, body, next, at);
  const moved = await move(trx, now, next, change, taken.command);
  await settle(trx, taken, { status: 'done', message });
  return shownStanding(moved, withdrawn.wake);
}

/** The effects are complete: applies the new state. */
async function complete(trx: Work, now: VersionNow, commandId: string): Promise<VersionStanding> {
  const { taken, detail, at } = await mustFind(trx, now.workflowId, commandId);
  const { body } = taken;
  if (body.name === 'release') {
    const row = (await releasesOfVersion(trx, now.version)).find(({ release }) => release === detail.release);
    if (row?.state !== 'announced')
      throw failure('Conflict', `release ${detail.release ?? ''} is not announced: its decision cannot be complete`);
  }
  if (returns(body.name) && detail.folder === undefined)
    throw failure('Conflict', `the files of ${subjectOf(now.version)} were not returned yet`);
  const to: VersionState = endStates[body.name] ?? now.version.state;
  const { change, message } = changeOf(now, body, to, at, detail);
  await noteEffect(trx, now.workflowId, commandId, {}, 'complete');
  const moved = await move(trx, { ...now, pending: null }, to, change, taken.command);
  await settle(trx, taken, { status: 'done', message });
  return shownStanding(moved);
}

/** The resulting states of decisions with effects. */
const endStates: Readonly<Record<string, VersionState | undefined>> = {
  release: 'released',
  reject: 'rejected',
  rollback: 'rolled-back',
  reassign: 'reassigned',
  retire: 'retired',
};
/** Commands after which no application may take the version's releases. */
const letsGo = (name: string): boolean => ['reject', 'rollback', 'reassign', 'retire'].includes(name);
/** Commands that return the files to a scientist. */
const returns = (name: string): boolean => name === 'rollback' || name === 'reassign';

const mayReceive = ({ members, version }: VersionNow, user: string): boolean => {
  const roles = members.get(user);
  return roles !== undefined && (roles.includes('scientist') || user === version.author);
};

/** What a command changes in the version, and the text shown to the person who gave it. */
function changeOf(
  now: VersionNow,
  body: CommandBody,
  to: VersionState,
  at: string,
  detail: { release?: string; folder?: string } = {},
): { change: Change; message: string } {
  const { version, policy, attempt } = now;
  const { commandId, name, actor, args, report } = body;
  const reason = args.reason ?? '';
  const decision: Decision = { commandId, name, actor, reason, report, policyVersion: policy.version, at };
  const decisions = [...version.decisions, decision];
  const plain = { change: { set: { decisions, detail: reason } }, message: `${name}: ${to}` };
  switch (name) {
    case 'retry':
      return { change: { set: { decisions, detail: '' }, attempt: attempt + 1 }, message: plain.message };
    case 'submit':
      return { change: { set: { decisions, detail: '' } }, message: plain.message };
    case 'undo':
      return { change: { set: { decisions, detail: '' }, approvals: [] }, message: plain.message };
    case 'tag': {
      const { undoUntil } = now;
      const tags = [...new Set(args.tags ?? [])].sort();
      return { change: { set: { decisions, tags }, undoUntil }, message: plain.message };
    }
    case 'approve': {
      const given = { actor, policyVersion: policy.version, commandId, at };
      const approvals = [...now.approvals.filter((one) => one.actor !== actor), given];
      const { counting, quorum } = shownStanding({ ...now, approvals });
      const message = `approval ${counting.length} of ${quorum}`;
      return { change: { set: { decisions, detail: '' }, approvals }, message };
    }
    case 'reject': {
      const undoUntil = new Date(Date.parse(at) + policy.undoWithinSeconds * 1000).toISOString();
      return { change: { ...plain.change, undoUntil }, message: plain.message };
    }
    case 'release': {
      const message = `released as ${detail.release ?? ''}`;
      return { change: { set: { decisions, detail: message } }, message };
    }
    case 'rollback':
      return { ...plain, message: `returned to ${version.author} in ${detail.folder ?? ''}` };
    case 'reassign': {
      const to = args.to ?? '';
      const set = { decisions, detail: `reassigned to ${to}: ${reason}` };
      return { change: { set }, message: `in ${detail.folder ?? ''} of ${to}` };
    }
    default:
      return plain;
  }
}

/** Why the named report does not support the command. The report must belong to this version. */
async function reportProblem(trx: Work, now: VersionNow, body: CommandBody): Promise<string | undefined> {
  const { version, managers, editions, newSince } = now;
  if (body.report === null) return undefined;
  const found = await evidenceOf(trx, version, body.report);
  if (found.length === 0)
    return `no evaluation of ${version.model}/${version.submission} in staging has a report with digest ${body.report}: evaluate the version after its submission`;
  if (body.name !== 'approve') return undefined;
  const { thresholds } = barFor(version.author, editions);
  const { author, digest } = version;
  const problems = found.map((one) =>
    evidenceProblem(one, { author, digest, newSince: newSince ?? version.updatedAt }, { managers, thresholds }),
  );
  return problems.includes(undefined) ? undefined : problems[0];
}

async function allotFor(trx: Work, now: VersionNow, { body }: Taken, place: Place): Promise<Release> {
  const { version } = now;
  const { project, model, submission, type, digest, files, decisions } = version;
  if (!digest || version.version === null)
    throw failure('Corrupt', `version ${model}/${submission} has no digest or number`);
  return allot(trx, body.commandId, {
    ...{ type, project, model, submission, version: version.version, digest },
    files: files.map((file) => place(type, file)),
    report: decisions.findLast(({ name }) => name === 'approve')?.report ?? null,
    // A completed approval stays valid despite later changes.
    approvedBy: approversOf(version),
    releasedBy: body.actor,
    releasedAt: now.at,
  });
}

/** The people whose approvals the state `approved` is based on: those since the last undo. */
function approversOf({ decisions }: Version): readonly string[] {
  const since = decisions.findLastIndex(({ name }) => name === 'undo');
  return [...new Set(decisions.slice(since + 1).flatMap(({ name, actor }) => (name === 'approve' ? [actor] : [])))];
}

/** Fences every release of the version. Refuses if one is live somewhere. */
async function letGo(
  trx: Work,
  now: VersionNow,
  body: CommandBody,
): Promise<{ releases: readonly string[]; wake: readonly string[] }> {
  const rows = await releasesOfVersion(trx, now.version);
  if (rows.length === 0) return { releases: [], wake: [] };
  const names = rows.map(({ release }) => release);
  const { live } = await fence(trx, [...names].sort(), body.commandId);
  if (live.length > 0)
    throw failure('Conflict', `live in ${live.join(', ')}: revert or take down there first, then ${body.name}`);
  return { releases: names, wake: await consumersOf(trx, now) };
}

/** The workflows of all applications that consume the version's type. */
async function consumersOf(trx: Work, { version: { type } }: VersionNow): Promise<readonly string[]> {
  const applications = await trx
    .selectFrom('authoritative.live_pointers')
    .select('application')
    .where('type', '=', type)
    .orderBy('application')
    .execute();
  return applications.map(({ application }) => ids.application({ application, type }));
}

async function mustFind(trx: Work, workflowId: string, commandId: string) {
  const found = await decisionOf(trx, workflowId, commandId);
  if (!found) throw failure('NotFound', `there is no decision ${commandId} of ${workflowId}`);
  return found;
}

const typeOf = (error: Error): string => ('type' in error && typeof error.type === 'string' ? error.type : 'Conflict');
