// Failures thrown by activities and adapters. Whether a failure is retryable is decided here, once, by its type.
import { ApplicationFailure } from '@temporalio/common';
import { failureTypes, type FailureType } from '../workflows/domain/failures.ts';

/**
 * A non-retryable failure. The message says what, which one, and what to do. All other errors (a refused connection, a
 * timeout) are retried.
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

/** Whether the error, or one that it wraps, is a failure of this type. */
export function isFailure(error: unknown, type: FailureType): boolean {
  for (let e: unknown = error; e instanceof Error; e = e.cause)
    if (e instanceof ApplicationFailure && e.type === type) return true;
  return false;
}

/** Whether the error is non-retryable. */
export const isFinal = (error: unknown): boolean => failureTypes.some((type) => isFailure(error, type));

/** The systems that a failure can name, by their common names. */
export type SystemName =
  | 'HDFS'
  | 'Alluxio'
  | 'S3'
  | 'Kafka'
  | 'PostgreSQL'
  | 'Temporal'
  | 'Git'
  | 'Kubernetes'
  | 'release store'
  | 'areas'
  | 'event log'
  | 'disk';

/**
 * A system that does not answer, refuses the platform, or has no room left. Retryable: an operator can fix it meanwhile.
 * `message` is for logs and may contain addresses; `reason` is for the caller and contains none.
 */
export class SystemUnavailable extends Error {
  readonly system: SystemName;
  readonly reason: string;
  /** No space or quota is left: a retry helps only after someone has freed space. */
  readonly isFull: boolean;
  /** The adapter's own code for the problem. */
  readonly code?: string;
  constructor(given: {
    readonly system: SystemName;
    readonly reason: string;
    readonly message: string;
    readonly isFull?: boolean;
    readonly code?: string | undefined;
    readonly cause?: unknown;
  }) {
    super(given.message, { cause: given.cause });
    this.name = 'SystemUnavailable';
    this.system = given.system;
    this.reason = given.reason;
    this.isFull = given.isFull ?? false;
    if (given.code !== undefined) this.code = given.code;
  }
}

/** The message of anything thrown. Does not use `instanceof`, which fails for errors of another realm. */
export const messageOf = (error: unknown): string =>
  typeof error === 'object' && error !== null && 'message' in error ? String(error.message) : String(error);

/** The system's code of an error (`ENOENT`, …), if it has one. */
export function codeOf(error: unknown): string | undefined {
  return typeof error === 'object' && error !== null && 'code' in error && typeof error.code === 'string'
    ? error.code
    : undefined;
}
