// The lifecycle of one version as a table: command, required role, initial states, next state. Rules only, no effects.
import type { CommandBody, LifecycleCommand, RefusalReason } from './command.ts';
import type { Action, Role } from './roles.ts';
import { allowed } from './roles.ts';
import { isName } from './names.ts';

export const versionStates = [
  'provisioning',
  'training',
  'failed',
  'trained',
  'validating',
  'invalid',
  'new',
  'approved',
  'rejected',
  'rolled-back',
  'released',
  'reassigned',
  'retired',
  'withdrawn',
] as const;
export type VersionState = (typeof versionStates)[number];

/** Final states. `rejected` becomes final when the undo window has passed. */
export const finalStates = [
  'invalid',
  'rolled-back',
  'reassigned',
  'retired',
  'withdrawn',
] as const satisfies readonly VersionState[];

export interface Transition {
  readonly action: Action;
  readonly from: readonly VersionState[];
  /** The next state; `null` keeps the current one. */
  readonly to: VersionState | null;
  readonly needs?: readonly ('reason' | 'report' | 'digest' | 'to' | 'tags')[];
}

/** The transition table (design: the lifecycle). Any other pair (state × command) is refused as `wrong-state`. */
export const transitions = {
  retry: { action: 'version.author', from: ['failed'], to: 'provisioning' },
  submit: { action: 'version.author', from: ['trained'], to: 'validating' },
  withdraw: {
    action: 'version.author',
    from: ['provisioning', 'training', 'failed', 'trained', 'validating', 'new'],
    to: 'withdrawn',
  },
  approve: { action: 'version.decide', from: ['new'], to: 'approved', needs: ['digest', 'report'] },
  reject: {
    action: 'version.decide',
    from: ['new', 'approved', 'released'],
    to: 'rejected',
    needs: ['reason', 'digest'],
  },
  rollback: {
    action: 'version.decide',
    from: ['new', 'approved', 'released'],
    to: 'rolled-back',
    needs: ['reason', 'digest'],
  },
  undo: { action: 'version.decide', from: ['approved', 'rejected'], to: 'new', needs: ['digest'] },
  release: { action: 'version.decide', from: ['approved', 'released'], to: 'released', needs: ['digest'] },
  reassign: {
    action: 'version.decide',
    from: ['released'],
    to: 'reassigned',
    needs: ['reason', 'to', 'report', 'digest'],
  },
  retire: { action: 'version.decide', from: ['released'], to: 'retired', needs: ['digest'] },
  tag: { action: 'version.decide', from: ['new', 'approved', 'rejected', 'released'], to: null, needs: ['tags'] },
} as const satisfies Record<LifecycleCommand, Transition>;

/** The facts about a version that the rules need. */
export interface Standing {
  readonly state: VersionState;
  /** Number of applied commands and transitions; a command must name the current one. */
  readonly revision: number;
  readonly author: string;
  readonly digest: string | null;
  /** Distinct managers whose approvals since the state became `new` currently count. */
  readonly approvals: readonly string[];
  /** Number of distinct approvals required. */
  readonly quorum: number;
  /** The command that is being carried out. */
  readonly busy: string | null;
  /** Number of failed deliveries of this version; reassigning requires at least one. */
  readonly failedDeliveries: number;
}

export type Refusal = { readonly refused: RefusalReason; readonly message: string };
const refuse = (refused: RefusalReason, message: string): Refusal => ({ refused, message });

/**
 * Judges one verified command against one standing, by its actor's current roles.
 * @returns a refusal, or the transition to carry out; `completes` is false for an approval if more are required.
 */
export function judge(
  standing: Standing,
  command: CommandBody,
  roles: readonly Role[],
): Refusal | { readonly transition: Transition; readonly completes: boolean } {
  const name = command.name as LifecycleCommand;
  if (!Object.hasOwn(transitions, name))
    return refuse('wrong-state', `there is no command "${command.name.slice(0, 32)}"`);
  const transition: Transition = transitions[name];
  const own = command.actor === standing.author;
  if (!allowed(transition.action, roles, own))
    return refuse('not-authorized', `${command.actor} (${roles.join(', ') || 'no role'}) may not ${name} this version`);
  if (command.revision !== standing.revision)
    return refuse(
      'stale',
      `the version is at revision ${standing.revision}, the command was given at ${command.revision}: look again`,
    );
  if (standing.busy) return refuse('busy', `command ${standing.busy} is being carried out`);
  if (!transition.from.includes(standing.state))
    return refuse(
      'wrong-state',
      `${name} is not possible from ${standing.state}, only from ${transition.from.join(', ')}`,
    );
  const missing = missingArgument(transition, command);
  if (missing) return refuse('invalid', missing);
  const { compute } = command.args;
  if (compute !== undefined && (name !== 'retry' || !isName(compute)))
    return refuse('invalid', 'args.compute names a compute profile, and only retry takes it');
  if (transition.needs?.includes('digest') && command.digest !== standing.digest)
    return refuse(
      'wrong-digest',
      `the version's artifact is ${standing.digest ?? 'not available yet'}, but the command names ${command.digest ?? 'none'}`,
    );
  if (name === 'reassign' && standing.failedDeliveries === 0)
    return refuse('wrong-state', 'reassign requires a failed delivery of this version');
  if (name === 'approve') return judgeApproval(standing, command, transition);
  return { transition, completes: true };
}

function judgeApproval(standing: Standing, command: CommandBody, transition: Transition) {
  if (standing.approvals.includes(command.actor))
    return refuse('wrong-state', `${command.actor} has already approved this version`);
  const voters = [...standing.approvals, command.actor];
  const completes = voters.length >= standing.quorum;
  if (completes && voters.every((voter) => voter === standing.author))
    return refuse('not-authorized', `${command.actor} is the author and may not be the sole approver`);
  return { transition, completes };
}

function missingArgument(transition: Transition, { args, report, digest }: CommandBody): string | undefined {
  for (const need of transition.needs ?? []) {
    if (need === 'reason' && !args.reason?.trim()) return 'a reason is needed';
    if (need === 'to' && !isName(args.to)) return 'args.to must name a scientist';
    if (need === 'tags' && (!args.tags || !args.tags.every(isName))) return 'args.tags must be a list of names';
    if (need === 'report' && !report) return 'the digest of the report that the decision rests on is needed';
    if (need === 'digest' && !digest) return 'the digest of the artifact is needed';
  }
  return undefined;
}
