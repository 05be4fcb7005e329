// The inbox of workflows from before Records decided: it judges each command on arrival and keeps its outcome.
import { setHandler, workflowInfo } from '@temporalio/workflow';
import type { CommandBody, Outcome, RefusalReason, SignedCommand } from '../domain/command.ts';
import { parseSignedCommand } from '../domain/command.ts';
import type { Refusal } from '../domain/lifecycle.ts';
import type { PublicKeys, RefusedCommand } from '../messages.ts';
import { command } from '../messages.ts';
import { outcomeBefore } from './contract.ts';
import { canonicalCommand, isSigned } from '../signature.ts';
import type { GoingOver } from './going-over.ts';

/** State of an inbox kept over continue-as-new. */
export interface InboxState {
  /** Oldest first. `mark` distinguishes bodies: the same id with another body is refused. The bodies of 500 commands would be too large to carry over. */
  readonly kept: { id: string; mark: string; outcome: Outcome; provisional: boolean }[];
  /** Refusals that are not in the audit yet, and the number of refusals dropped beyond the limit. */
  readonly refused: RefusedCommand[];
  dropped: number;
  received: number;
  /** Numbers the audit entries of refusals. */
  flushed: number;
}

export interface Accepted<T> {
  /** The command as received, for the record. */
  readonly command: SignedCommand;
  /** The effective body: the actor of an unsigned command is `operator`. */
  readonly body: CommandBody;
  readonly signed: boolean;
  readonly verdict: T;
}

/** The actor of unsigned commands, if the project's policy accepts them. */
const OPERATOR = 'operator';
/** Outcomes kept for the query; the audit keeps all. */
const KEPT = 500;
/** Refusals kept in detail between two writes to the audit. */
const REFUSED = 100;
/** A signature takes about 4 ms to verify and a workflow task may run 5 s. */
const VERIFICATIONS_PER_TASK = 200;
/** Commands before the workflow continues as new: replaying them must take much less than one task's time limit. */
const CONTINUE_AFTER = 500;

export interface Inbox<T> {
  readonly state: InboxState;
  /** Accepted commands that wait to be carried out, in order. */
  readonly accepted: Accepted<T>[];
  settle(commandId: string, outcome: Outcome): void;
  /** Removes and returns the refusals that are not in the audit yet. */
  takeRefused(): { refused: readonly RefusedCommand[]; dropped: number; batch: number } | undefined;
  /** Whether so many commands have arrived that the workflow should continue as new when it is idle. */
  isFull(): boolean;
}

/**
 * Registers the `command` signal and the `outcome` query. Must be called before the workflow's first await.
 * @param judge the rule: a pure, synchronous function; a result other than a refusal is returned in `accepted`
 */
export function openInbox<T extends object>(options: {
  keys: PublicKeys;
  operatorCommands: boolean;
  judge: (body: CommandBody, operator: boolean) => Refusal | T;
  carried?: InboxState | undefined;
  over: GoingOver;
}): Inbox<T> {
  const state: InboxState = options.carried ?? { kept: [], refused: [], dropped: 0, received: 0, flushed: 0 };
  const accepted: Accepted<T>[] = [];
  const task = { historyLength: -1, verified: 0 };
  const own = workflowInfo().workflowId;

  const find = (id: string) => state.kept.find((entry) => entry.id === id);
  const keep = (id: string, mark: string, result: Outcome, provisional = false): void => {
    const known = find(id);
    if (known) {
      Object.assign(known, { mark, outcome: result, provisional });
      return;
    }
    state.kept.push({ id, mark, outcome: result, provisional });
    // Never drops a command that is still being carried out.
    const oldest = state.kept.findIndex((entry) => entry.outcome.status !== 'accepted');
    if (state.kept.length > KEPT && oldest >= 0) state.kept.splice(oldest, 1);
  };
  const refuse = (reason: RefusalReason, message: string, body?: CommandBody, signed = false): void => {
    if (state.refused.length >= REFUSED) state.dropped += 1;
    else
      state.refused.push({
        reason,
        message,
        name: body?.name ?? '',
        actor: body?.actor ?? '',
        commandId: body?.commandId ?? '',
        signed,
        at: new Date().toISOString(),
      });
  };
  const mayVerify = (): boolean => {
    const { historyLength } = workflowInfo();
    if (task.historyLength !== historyLength) Object.assign(task, { historyLength, verified: 0 });
    return (task.verified += 1) <= VERIFICATIONS_PER_TASK;
  };

  const receive = (raw: unknown): void => {
    state.received += 1;
    try {
      take(raw);
      options.over.look();
    } catch {
      // A signal handler that throws fails the workflow task again and again.
      refuse('malformed', 'not a command: it cannot be read');
    }
  };
  const take = (raw: unknown): void => {
    const parsed = parseSignedCommand(raw);
    if ('problem' in parsed) return refuse('malformed', `not a command: ${parsed.problem}`);
    const claimed = parsed.command.body;
    const known = find(claimed.commandId);
    if (!mayVerify()) {
      // Not verified, so a later command of this id may still take its place.
      const message = 'too many commands at once: send it again';
      if (!known) keep(claimed.commandId, '', { status: 'refused', reason: 'overloaded', message }, true);
      return refuse('overloaded', message, claimed);
    }
    const signed = isSigned(parsed.command, options.keys);
    if (!signed && !options.operatorCommands)
      return refuse('unsigned', 'no valid signature of a known key: commands go through the API', claimed);
    // The actor of an unsigned command is unverified: it must not vote or appear as the approver of a release.
    const body = signed ? claimed : { ...claimed, actor: OPERATOR };
    // The API sets a new time on each sending, which must not make a repeated command a different one.
    const mark = checksum(canonicalCommand({ ...claimed, issuedAt: '' }));
    if (known && !known.provisional) {
      // A repeated command keeps its outcome.
      if (known.mark !== mark)
        refuse('repeated', `command ${body.commandId} was already sent with another body`, body, signed);
      return;
    }
    const verdict =
      body.workflowId === own
        ? options.judge(body, !signed)
        : ({ refused: 'wrong-workflow', message: `the command is for ${body.workflowId}` } as const);
    if ('refused' in verdict) {
      keep(body.commandId, mark, { status: 'refused', reason: verdict.refused, message: verdict.message });
      return refuse(verdict.refused, verdict.message, body, signed);
    }
    keep(body.commandId, mark, { status: 'accepted' });
    accepted.push({ command: parsed.command, body, signed, verdict });
  };

  setHandler(command, receive, { description: 'A signed command of a person; the API sends it.' });
  setHandler(outcomeBefore, (id) => find(id)?.outcome ?? null, { description: 'The outcome of a command, by its id.' });

  return {
    state,
    accepted,
    settle(commandId, result) {
      const known = find(commandId);
      if (known) known.outcome = result;
    },
    takeRefused() {
      if (state.refused.length === 0 && state.dropped === 0) return undefined;
      const taken = { refused: state.refused.splice(0), dropped: state.dropped, batch: state.flushed };
      Object.assign(state, { dropped: 0, flushed: state.flushed + 1 });
      return taken;
    },
    isFull: () => state.received >= CONTINUE_AFTER || workflowInfo().continueAsNewSuggested,
  };
}

/** FNV-1a, 32 bits: enough to detect accidental reuse of an id. A collision gains nothing, since the first command stands. */
function checksum(text: string): string {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i += 1) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return (hash >>> 0).toString(16);
}
