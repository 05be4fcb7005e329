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
  if (cause instanceof TimeoutFailure) {
    // The failure of the last attempt. The SDK leaves it in the encoded failure.
    const last = cause.failure?.cause;
    if (last?.applicationFailureInfo?.type === RESTORED) return { type: RESTORED, message: last.message ?? '' };
    return {
      type: 'Unavailable',
      message: `deadline exceeded without success${last?.message ? `: ${last.message}` : ''}`,
    };
  }
  if (cause instanceof TerminatedFailure || cause instanceof CancelledFailure)
    return { type: 'Ended', message: 'ended by an operator' };
  if (cause instanceof ApplicationFailure)
    return {
      type: cause.nonRetryable || cause.type === RESTORED ? (cause.type ?? 'Unavailable') : 'Unavailable',
      message: cause.message,
    };
  return { type: 'Unavailable', message: cause instanceof Error ? cause.message : String(cause) };
}
