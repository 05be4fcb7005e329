// What goes wrong between the platform and an S3 endpoint, told so that a person knows what to do.
import { codeOf, failure, SystemUnavailable } from '../../failures.ts';

/** A request as a message names it. */
export interface Asked {
  /** The S3 operation, `PutObject`. */
  readonly operation: string;
  /** What it was about, `s3://bucket/key`. */
  readonly address: string;
  /** Where it went. */
  readonly endpoint: string;
}

/** Answers that the store itself understands; they are no faults of the endpoint. */
const answers = new Set([
  'NotFound',
  'NoSuchKey',
  'NoSuchUpload',
  'PreconditionFailed',
  'ConditionalRequestConflict',
  'InvalidRange',
]);

/** Servers that keep files in folders cannot hold `a` beside `a/b`; the names are those of versitygw and MinIO. */
const folderConflicts = new Set([
  'ObjectParentIsFile',
  'ExistingObjectIsDirectory',
  'XMinioParentIsObject',
  'XMinioObjectExistsAsDirectory',
]);

const endpoint = 'check the endpoint of the S3 configuration and that its server runs';
const access =
  'give its key the rights to list the bucket, to read, write and delete objects there, and to clear up uploads ' +
  '(s3:AbortMultipartUpload, s3:ListMultipartUploadParts, s3:ListBucketMultipartUploads)';
const credentials = 'the S3 credentials are refused: check the access key and its secret';
const region = 'the bucket lies in another region: set the region of the S3 configuration to it';
const certificate = 'the certificate of the endpoint is not trusted: have its authority trusted (NODE_EXTRA_CA_CERTS)';
const expired = 'the S3 credentials have expired: renew them';
const full = 'there is no space left: free some or raise the quota';
const busy = 'the server is overloaded or fails at present';
const silent = 'the server does not answer: check that it runs and that nothing on the way holds it up';

/** By the error's name, the system's code, or the HTTP status, in this order. */
const remedies: Readonly<Record<string, string>> = {
  InvalidAccessKeyId: credentials,
  SignatureDoesNotMatch: credentials,
  CredentialsProviderError: 'no S3 credentials are found: set them, or give this machine a role',
  ExpiredToken: expired,
  InvalidToken: expired,
  AccessDenied: `access is denied: ${access}`,
  AllAccessDisabled: `access is denied: ${access}`,
  KMSAccessDenied: 'the encryption key may not be used: allow the S3 key to use the KMS key',
  RequestTimeTooSkewed: 'the clocks of this machine and of the server are too far apart: set both by NTP',
  RequestExpired: 'the clocks of this machine and of the server are too far apart: set both by NTP',
  NoSuchBucket: 'there is no such bucket: create it, or correct the bucket of the S3 configuration',
  PermanentRedirect: region,
  AuthorizationHeaderMalformed: region,
  IncorrectEndpoint: region,
  QuotaExceeded: full,
  XMinioStorageFull: full,
  XMinioAdminBucketQuotaExceeded: full,
  InsufficientStorage: full,
  SlowDown: busy,
  TimeoutError: silent,
  ETIMEDOUT: silent,
  ECONNREFUSED: `nothing listens there: ${endpoint}`,
  ECONNRESET: 'the connection broke off: the server was stopped, or something on the way cut it',
  EPIPE: 'the connection broke off: the server was stopped, or something on the way cut it',
  ENOTFOUND: `the name of the host is not known: ${endpoint}`,
  EAI_AGAIN: 'the name of the host cannot be looked up at present: check the name server',
  EHOSTUNREACH: `the host cannot be reached: ${endpoint}`,
  ENETUNREACH: `the host cannot be reached: ${endpoint}`,
  EPROTO: `it does not speak TLS: ${endpoint} (http or https)`,
  DEPTH_ZERO_SELF_SIGNED_CERT: certificate,
  SELF_SIGNED_CERT_IN_CHAIN: certificate,
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: certificate,
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: certificate,
  CERT_HAS_EXPIRED: 'the certificate of the endpoint has expired: renew it',
  ERR_TLS_CERT_ALTNAME_INVALID: `the certificate is for another host: ${endpoint}`,
  // A HEAD has no body that could say more.
  '301': region,
  '403': `${credentials}, or ${access}`,
  '429': busy,
  '500': busy,
  '502': busy,
  '503': busy,
  '504': busy,
  '507': full,
};

/** The name of S3's answer (`NoSuchKey`, …) or of the error. */
export const nameOf = (error: unknown): string => (error instanceof Error ? error.name : '');

/**
 * The error with a message that says which request it was and what to do. Only what no waiting can fix is a failure; wrong
 * credentials, a missing bucket, a full disk are `SystemUnavailable`: an operator fixes them while it is tried again.
 */
export function s3Error(error: unknown, asked: Asked): unknown {
  const name = nameOf(error);
  if (answers.has(name)) return error;
  const what = `S3 ${asked.operation} of ${asked.address} at ${asked.endpoint}`;
  if (folderConflicts.has(name))
    return failure('Conflict', `${what}: a file lies where a folder should be, or a folder where the file should be`);
  if (name === 'KeyTooLongError') return failure('InvalidInput', `${what}: the path is too long for S3`);
  const status = statusOf(error);
  // The SDK wraps errors of Node that it does not know for such, and keeps their text alone.
  const code = codeOf(error) ?? /\bE[A-Z]{4,}\b/.exec(textOf(error))?.[0] ?? '';
  const remedy = remedies[name] ?? remedies[code] ?? remedies[String(status)];
  const isOfTheSystem = status !== undefined || /^E[A-Z]/.test(code);
  if (remedy === undefined && !isOfTheSystem) return error;
  const answered = `answered ${status ?? 'nothing'} ${saying(error)}`;
  const message =
    remedy === undefined ? `${what}: ${answered}` : `${what}: ${remedy} (${saying(error)}); it is tried again`;
  // A remedy names settings of the platform; its first words say what is wrong.
  const reason = remedy?.split(': ')[0] ?? `it gives an answer that the platform does not know`;
  return new SystemUnavailable({ system: 'S3', reason, message, isFull: remedy === full, code: name, cause: error });
}

function statusOf(error: unknown): number | undefined {
  if (typeof error !== 'object' || error === null || !('$metadata' in error)) return undefined;
  const metadata = error.$metadata;
  return typeof metadata === 'object' &&
    metadata !== null &&
    'httpStatusCode' in metadata &&
    typeof metadata.httpStatusCode === 'number'
    ? metadata.httpStatusCode
    : undefined;
}

/** What the other side called it: enough to search for. */
function saying(error: unknown): string {
  const code = codeOf(error) ?? nameOf(error);
  const message = textOf(error).trim();
  return message.includes(code) ? message : `${code}: ${message}`;
}

/** Errors of Node itself may come from another realm, where `instanceof` does not know them. */
function textOf(error: unknown): string {
  return typeof error === 'object' && error !== null && 'message' in error && typeof error.message === 'string'
    ? error.message
    : String(error);
}
