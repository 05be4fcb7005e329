// Decisions about versions. One transaction each: judges by the current state, consumes the command, writes the transition and the audit.
import type { Records, VersionKey } from '../../records.ts';
import { failure, isFinal } from '../../failures.ts';
import type { CommandBody } from '../../../workflows/domain/command.ts';
import { barFor, evidenceProblem } from '../../../workflows/domain/approval.ts';
import { partsOf, workflowId as ids } from '../../../workflows/domain/ids.ts';
import { RESTORED } from '../../../workflows/domain/failures.ts';
import type { Transition, VersionState } from '../../../workflows/domain/lifecycle.ts';
import { subjectOf } from '../../../workflows/domain/names.ts';
import type { VersionStanding } from '../../../workflows/domain/standing.ts';
import type { Taken } from './commands.ts';
import { decisionOf, failCommand, insertDecision, noteEffect, refuse, settle, takeCommand } from './commands.ts';
import type { Database, Work } from './connection.ts';
import { transact } from './connection.ts';
import { evidenceOf } from './evidence.ts';
import { judgeVersion } from './judging.ts';
import { fence, releasesOfVersion } from './releases.ts';
import type { VersionNow } from './standings.ts';
import { move, shownStanding, versionNow } from './standings.ts';
import { insertStart } from './starts.ts';
import { changeOf } from './version-changes.ts';
import type { Place } from './version-releases.ts';
import { allotFor, consumersOf, keepIn, withdrawReleases, withdrawsReleases } from './version-releases.ts';

type VersionDecisionRecords = Pick<
  Records,
  'versionStanding' | 'decideVersion' | 'completeDecision' | 'failDecision' | 'noteReturned'
>;

export const versionKeyOf = (workflowId: string): VersionKey =>
  partsOf(workflowId, 'modelLifecycle', 'project', 'model', 'submission');

/** The version-decision part of Records. */
export function versionDecisionRecords(db: Database): VersionDecisionRecords {
  return {
    async versionStanding(key) {
      return shownStanding(await versionNow(db, key, false));
    },

    async decideVersion(workflowId, command, { place, doubt }) {
      const key = versionKeyOf(workflowId);
      return transact(db, async (trx) => {
        const now = await versionNow(trx, key, true);
        const taken = await takeCommand(trx, workflowId, command, { project: key.project, subject: subjectOf(key) });
        // A caller that did not get the first answer must still learn whom to wake.
        if (!taken.isOpen)
          return shownStanding(now, withdrawsReleases(taken.body.name) ? await consumersOf(trx, now) : []);
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
        // A pause does not undo a decision: its effects are repeated when the restore is accepted.
        if (reason === RESTORED) return shownStanding(now);
        const found = await mustFind(trx, workflowId, commandId);
        const release = now.pending.release;
        if (release !== null) {
          // Ending a workflow in Temporal does not undo a decision: the release is repeated.
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
  const withdrawn = withdrawsReleases(body.name) ? await withdrawReleases(trx, now, body) : { releases: [], wake: [] };
  const next = completes ? (transition.to ?? version.state) : version.state;
  if (withdrawsReleases(body.name) && (withdrawn.releases.length > 0 || returns(body.name))) {
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
/** Commands that return the files to a scientist. */
const returns = (name: string): boolean => name === 'rollback' || name === 'reassign';

const mayReceive = ({ members, version }: VersionNow, user: string): boolean => {
  const roles = members.get(user);
  return roles !== undefined && (roles.includes('scientist') || user === version.author);
};

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

async function mustFind(trx: Work, workflowId: string, commandId: string) {
  const found = await decisionOf(trx, workflowId, commandId);
  if (!found) throw failure('NotFound', `there is no decision ${commandId} of ${workflowId}`);
  return found;
}

const typeOf = (error: Error): string => ('type' in error && typeof error.type === 'string' ? error.type : 'Conflict');
