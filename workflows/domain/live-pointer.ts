// The rules of an application's live pointer: who may revert or clear it.
import type { CommandBody } from './command.ts';
import type { Refusal } from './lifecycle.ts';
import type { LivePointer } from './model.ts';
import type { Role } from './roles.ts';
import { allowed } from './roles.ts';

/** The facts about an application that the rules need. */
export interface PointerStanding {
  readonly pointer: LivePointer;
  readonly owner: string;
  /** The command that is being carried out. */
  readonly busy: string | null;
}

/** The target of a command: an earlier release, or none. */
export type PointerMove = { readonly to: string | null };

/** Judges one verified command by its actor's current roles. */
export function judgePointer(
  { pointer, owner, busy }: PointerStanding,
  body: CommandBody,
  roles: readonly Role[],
): Refusal | PointerMove {
  const { name, actor, args, revision } = body;
  const refuse = (refused: Refusal['refused'], message: string): Refusal => ({ refused, message });
  if (name !== 'revert' && name !== 'take-down')
    return refuse('wrong-state', `an application takes the commands revert and take-down, not ${name}`);
  if (!allowed('application.revert', roles, actor === owner))
    return refuse('not-authorized', `${actor} may not ${name} in ${pointer.application}: its owner and managers may`);
  if (revision !== pointer.generation)
    return refuse('stale', `${pointer.application} is at generation ${pointer.generation}: look again`);
  if (busy) return refuse('busy', `command ${busy} is being carried out`);
  if (!args.reason?.trim()) return refuse('invalid', 'a reason is needed');
  if (name === 'take-down')
    return pointer.release === null
      ? refuse('wrong-state', `nothing of type ${pointer.type} is live in ${pointer.application}`)
      : { to: null };
  if (!args.release) return refuse('invalid', 'args.release must name an earlier release');
  return { to: args.release };
}
