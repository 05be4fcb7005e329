// Failures as shown to people: the type and message of the cause inside Temporal's wrappers.
import {
  ActivityFailure,
  ApplicationFailure,
  CancelledFailure,
  ChildWorkflowFailure,
  TerminatedFailure,
  TimeoutFailure,
} from '@temporalio/workflow';
import { RESTORED } from './domain/failures.ts';

export interface Explanation {
  readonly type: string;
  readonly message: string;
}

/** Unwraps the failure of an activity or child. Anything without a named type is `Unavailable`: a system did not answer in time. */
export function explain(error: unknown): Explanation {
  let cause = error;
  while ((cause instanceof ActivityFailure || cause instanceof ChildWorkflowFailure) && cause.cause)
    cause = cause.cause;
  const waited = cause instanceof TimeoutFailure ? cause.cause : cause;
  if (waited instanceof ApplicationFailure && waited.type === RESTORED)
    return { type: RESTORED, message: waited.message };
  if (cause instanceof TimeoutFailure) {
    const last = cause.cause instanceof Error ? `: ${cause.cause.message}` : '';
    return { type: 'Unavailable', message: `deadline exceeded without success${last}` };
  }
  if (cause instanceof TerminatedFailure || cause instanceof CancelledFailure)
    return { type: 'Ended', message: 'ended by an operator' };
  if (cause instanceof ApplicationFailure)
    return { type: cause.nonRetryable ? (cause.type ?? 'Unavailable') : 'Unavailable', message: cause.message };
  return { type: 'Unavailable', message: cause instanceof Error ? cause.message : String(cause) };
}
