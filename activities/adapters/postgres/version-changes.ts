// What a decision changes in its version, and the text shown to the person who made it.
import type { CommandBody } from '../../../workflows/domain/command.ts';
import type { VersionState } from '../../../workflows/domain/lifecycle.ts';
import type { Decision } from '../../../workflows/domain/model.ts';
import type { Change, VersionNow } from './standings.ts';
import { shownStanding } from './standings.ts';

/** What a command changes in the version, and the text shown to the person who gave it. */
export function changeOf(
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
    case 'retry': {
      const { compute } = args;
      const retried = { ...decision, ...(compute !== undefined && { compute }) };
      const set = { decisions: [...version.decisions, retried], detail: '' };
      return { change: { set, attempt: attempt + 1 }, message: plain.message };
    }
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
