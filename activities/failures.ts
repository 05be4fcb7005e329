// Failures as activities and adapters throw them: retryable or not is decided here, once, by type.
import { ApplicationFailure } from '@temporalio/common';
import { failureTypes, type FailureType } from '../workflows/domain/failures.ts';

/**
 * A failure that trying again cannot mend. The message says what, which one, and what to do.
 * Everything else that is thrown (a refused connection, a timeout) is retried.
 */
export function failure(
  type: FailureType,
  message: string,
  details: readonly unknown[] = [],
  cause?: Error,
): ApplicationFailure {
  return ApplicationFailure.create({
    type,
    message,
    nonRetryable: true,
    details: [...details],
    ...(cause && { cause }),
  });
}

/** Is it one of ours, of this type? Also when it was wrapped on its way. */
export function isFailure(error: unknown, type: FailureType): boolean {
  for (let e: unknown = error; e instanceof Error; e = e.cause)
    if (e instanceof ApplicationFailure && e.type === type) return true;
  return false;
}

/** Is it one that trying again cannot mend? */
export const isFinal = (error: unknown): boolean => failureTypes.some((type) => isFailure(error, type));

/** The system's code of an error (`ENOENT`, …), if it has one. */
export function codeOf(error: unknown): string | undefined {
  return typeof error === 'object' && error !== null && 'code' in error && typeof error.code === 'string'
    ? error.code
    : undefined;
}
