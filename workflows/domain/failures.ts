// The types of non-retryable failures that cross a boundary. All other failures are retryable.

/** Types of non-retryable failures: a retry cannot succeed until someone changes something. */
export const failureTypes = [
  'InvalidInput', // the caller sent invalid input; the message says what and where
  'InvalidModel', // a submission that is not a valid model; the details list all problems
  'NotFound',
  'DigestMismatch', // the bytes do not match the recorded digest
  'Conflict', // another request was first; the message names it
  'Fenced', // a withdrawn release
  'JobFailed', // a job exited with an error; the details contain the end of its log
  'JobTimedOut',
  'GateUnavailable', // a gate could not run and therefore has not passed
  'EvidenceMissing', // a report that does not exist or is about other bytes
  'NotAuthorized',
  'Corrupt', // stored data that does not parse
] as const;
/**
 * Type of the retryable failure of a step that waits for `ocdl restore accept`. When its attempts are used up, the step starts
 * again: what waits has not failed.
 */
export const RESTORED = 'Restored';

export type FailureType = (typeof failureTypes)[number];
