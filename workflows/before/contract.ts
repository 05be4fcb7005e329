// Inputs and queries of workflows from before Records decided.
import { defineQuery } from '@temporalio/workflow';
import type { CommandBody, Outcome, PublicKeys } from '../domain/command.ts';
import type { Refusal, Standing, Transition } from '../domain/lifecycle.ts';
import { judge } from '../domain/lifecycle.ts';
import type { Policy } from '../domain/model.ts';
import type { ApplicationInput, FeedbackInput, LifecycleInput } from '../messages.ts';

export const outcomeBefore = defineQuery<Outcome | null, [string]>('outcome');

/** Keys and policy in the input no longer grant anything. */
export type LifecycleInputBefore = LifecycleInput & {
  readonly policy: Policy & { readonly operatorCommands: boolean };
  readonly keys: PublicKeys;
};
export type ApplicationInputBefore = ApplicationInput & { readonly owner: string; readonly keys: PublicKeys };
export type FeedbackInputBefore = FeedbackInput & { readonly keys: PublicKeys };

/** The earlier verdict: roles came with the command, and an operator needed none. */
export function judgeBefore(
  standing: Standing,
  body: CommandBody,
  operator: boolean,
): Refusal | { readonly transition: Transition; readonly completes: boolean } {
  return judge(standing, body, operator ? ['scientist', 'manager'] : body.roles);
}
