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

/** The systems that a failure can name, as people call them. */
export type SystemName =
  | 'HDFS'
  | 'Alluxio'
  | 'S3'
  | 'Kafka'
  | 'PostgreSQL'
  | 'Temporal'
  | 'Git'
  | 'release store'
  | 'areas'
  | 'event log'
  | 'disk';

/**
 * A system that does not answer, refuses the platform, or has no room left. Retryable: an operator can fix it meanwhile.
 * `message` is for logs and may name addresses; `reason` is for whoever asked and names none.
 */
export class SystemUnavailable extends Error {
  readonly system: SystemName;
  readonly reason: string;
  /** No space or quota is left: a retry helps only after somebody has made room. */
  readonly isFull: boolean;
  /** The adapter's own word for the problem. */
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

/** What an error says, whatever was thrown; one of another realm is no instance of ours. */
export const messageOf = (error: unknown): string =>
  typeof error === 'object' && error !== null && 'message' in error ? String(error.message) : String(error);

/** The system's code of an error (`ENOENT`, …), if it has one. */
export function codeOf(error: unknown): string | undefined {
  return typeof error === 'object' && error !== null && 'code' in error && typeof error.code === 'string'
    ? error.code
    : undefined;
}
