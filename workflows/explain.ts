// Failures as people read them: the type and message of what really went wrong, below Temporal's wrappings.
import {
  ActivityFailure,
  ApplicationFailure,
  CancelledFailure,
  ChildWorkflowFailure,
  TerminatedFailure,
  TimeoutFailure,
} from '@temporalio/workflow';

export interface Explanation {
  readonly type: string;
  readonly message: string;
}

/** Takes a failure of an activity or child apart. What is no named failure is `Unavailable`: some system did not answer in time. */
export function explain(error: unknown): Explanation {
  let cause = error;
  while ((cause instanceof ActivityFailure || cause instanceof ChildWorkflowFailure) && cause.cause)
    cause = cause.cause;
  if (cause instanceof TimeoutFailure) {
    const last = cause.cause instanceof Error ? `: ${cause.cause.message}` : '';
    return { type: 'Unavailable', message: `no success in time${last}` };
  }
  if (cause instanceof TerminatedFailure || cause instanceof CancelledFailure)
    return { type: 'Ended', message: 'ended by an operator' };
  if (cause instanceof ApplicationFailure)
    return { type: cause.nonRetryable ? (cause.type ?? 'Unavailable') : 'Unavailable', message: cause.message };
  return { type: 'Unavailable', message: cause instanceof Error ? cause.message : String(cause) };
}
