// Every kind of failure that crosses a boundary, by name. Retryable is the default; what is listed here is not retried.

/** Types of non-retryable failures: trying again cannot help, somebody has to change something. */
export const failureTypes = [
  'InvalidInput', // the caller gave something unlawful; the message says what and where
  'InvalidModel', // a submission that is no lawful model; details list all problems
  'NotFound',
  'DigestMismatch', // bytes are not those that were recorded
  'Conflict', // somebody else was first: the message names it
  'Fenced', // a release that was taken back
  'JobFailed', // a job ended by itself with an error; details hold the tail of its log
  'JobTimedOut',
  'GateUnavailable', // a gate could not be run: it has not passed
  'EvidenceMissing', // a report that does not exist or speaks of other bytes
  'NotAuthorized',
  'Corrupt', // stored data that does not parse
] as const;
export type FailureType = (typeof failureTypes)[number];
