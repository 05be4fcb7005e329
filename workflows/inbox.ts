// Receives command signals: treats their payload as hostile and passes on only commands that the platform has signed.
import { setHandler, workflowInfo } from '@temporalio/workflow';
import type { CommandBody, RefusalReason, SignedCommand } from './domain/command.ts';
import { parseSignedCommand } from './domain/command.ts';
import type { PublicKeys, RefusedCommand } from './messages.ts';
import { command } from './messages.ts';
import { isSigned } from './signature.ts';

/** Signals kept until the keys are loaded: far more than people send within that second. */
const EARLY = 500;
/** Refusals kept in detail between two writes to the audit. */
const REFUSED = 100;
/** A signature takes about 4 ms to verify and a workflow task may run 5 s. */
const VERIFICATIONS_PER_TASK = 200;
/** Commands by unknown keys that are kept until the keys are read again: after a restore people send a few at once. */
const UNKNOWN = 20;
/** Signals before the workflow continues as new: replaying them must take much less than one task's time limit. */
const CONTINUE_AFTER = 500;

export interface Inbox {
  /** Signed commands for this workflow that wait to be decided, in order of arrival. */
  readonly waiting: SignedCommand[];
  /** Starts the verification of signatures, beginning with the signals received so far. */
  open(keys: PublicKeys): void;
  /** Takes the commands again whose key is known meanwhile. `current`: the answer of recordRefusals, empty from an earlier program. */
  learn(current: { readonly keys: PublicKeys } | null | undefined): void;
  /** Whether there are refusals that are not in the audit yet. */
  hasRefused(): boolean;
  takeRefused(): { refused: readonly RefusedCommand[]; dropped: number; batch: number } | undefined;
  /** Whether so many signals have arrived that the workflow should continue as new when it is idle. */
  isFull(): boolean;
}

/**
 * Registers the `command` signal. Must be called before the workflow's first await. Records decide a command and store its
 * outcome: a lost signal is sent again, and a duplicate is decided only once.
 * @param carried commands that an earlier run did not process
 */
export function openInbox(carried: readonly unknown[] = []): Inbox {
  const waiting: SignedCommand[] = [];
  const state = {
    keys: null as PublicKeys | null,
    early: [...carried] as unknown[],
    refused: [] as RefusedCommand[],
    dropped: 0,
    received: 0,
    batch: 0,
    seen: new Set<string>(),
    /** Commands by keys that the platform did not have when this workflow began. */
    unknown: [] as SignedCommand[],
  };
  const task = { historyLength: -1, verified: 0 };
  const own = workflowInfo().workflowId;

  const refuse = (reason: RefusalReason, message: string, body?: CommandBody): void => {
    if (state.refused.length >= REFUSED) state.dropped += 1;
    else
      state.refused.push({
        ...{ reason, message, signed: false, at: new Date().toISOString() },
        ...{ name: body?.name ?? '', actor: body?.actor ?? '', commandId: body?.commandId ?? '' },
      });
  };
  const mayVerify = (): boolean => {
    const { historyLength } = workflowInfo();
    if (task.historyLength !== historyLength) Object.assign(task, { historyLength, verified: 0 });
    return (task.verified += 1) <= VERIFICATIONS_PER_TASK;
  };
  const take = (raw: unknown, keys: PublicKeys): void => {
    const parsed = parseSignedCommand(raw);
    if ('problem' in parsed) return refuse('malformed', `not a command: ${parsed.problem}`);
    const { body } = parsed.command;
    // If the command was not decided, its row is still open, and it is sent again to the next run.
    if (state.seen.has(body.commandId)) return;
    if (!mayVerify()) return refuse('overloaded', 'too many commands at once', body);
    if (!isSigned(parsed.command, keys)) {
      if (!Object.hasOwn(keys, body.keyId) && state.unknown.length < UNKNOWN) state.unknown.push(parsed.command);
      return refuse('unsigned', 'no valid signature of a known key: commands go through the API', body);
    }
    if (body.workflowId !== own) return refuse('wrong-workflow', `the command is for ${body.workflowId}`, body);
    state.seen.add(body.commandId);
    waiting.push(parsed.command);
  };
  const check = (raw: unknown): void => {
    try {
      if (state.keys) take(raw, state.keys);
      else if (state.early.length < EARLY) state.early.push(raw);
      else refuse('overloaded', 'too many commands at once');
    } catch {
      // A signal handler that throws fails the workflow task again and again.
      refuse('malformed', 'not a command: it cannot be read');
    }
  };
  const receive = (raw: unknown): void => {
    state.received += 1;
    check(raw);
  };
  setHandler(command, receive, { description: 'A signed command of a person; the API sends it.' });

  return {
    waiting,
    open(keys) {
      state.keys = keys;
      for (const raw of state.early.splice(0)) {
        state.received -= 1;
        receive(raw);
      }
    },
    learn(current) {
      if (!current) return;
      state.keys = { ...state.keys, ...current.keys };
      for (const given of state.unknown.splice(0)) if (Object.hasOwn(current.keys, given.body.keyId)) check(given);
    },
    hasRefused: () => state.refused.length > 0 || state.dropped > 0,
    takeRefused() {
      if (state.refused.length === 0 && state.dropped === 0) return undefined;
      const taken = { refused: state.refused.splice(0), dropped: state.dropped, batch: state.batch };
      Object.assign(state, { dropped: 0, batch: state.batch + 1 });
      return taken;
    },
    isFull: () => state.received >= CONTINUE_AFTER || workflowInfo().continueAsNewSuggested,
  };
}
