// Translates errors between the platform and an S3 endpoint into messages with cause and remedy.
import { codeOf, failure, messageOf, SystemUnavailable } from '../../failures.ts';

/** A request, for messages. */
export interface Asked {
  /** The S3 operation, `PutObject`. */
  readonly operation: string;
  /** Its object, `s3://bucket/key`. */
  readonly address: string;
  /** Its endpoint. */
  readonly endpoint: string;
}

/** Responses that the store itself handles; they are not faults of the endpoint. */
const answers = new Set([
  'NotFound',
  'NoSuchKey',
  'NoSuchUpload',
  'PreconditionFailed',
  'ConditionalRequestConflict',
  'InvalidRange',
]);

/** Servers that store files in folders cannot hold both `a` and `a/b`; the error names are those of versitygw and MinIO. */
const folderConflicts = new Set([
  'ObjectParentIsFile',
  'ExistingObjectIsDirectory',
  'XMinioParentIsObject',
  'XMinioObjectExistsAsDirectory',
]);

const endpoint = 'check the endpoint of the S3 configuration and that its server runs';
const access =
  'give its key the rights to list the bucket, to read, write and delete objects there, and to abort uploads ' +
  '(s3:AbortMultipartUpload, s3:ListMultipartUploadParts, s3:ListBucketMultipartUploads)';
const credentials = 'the S3 credentials are rejected: check the access key and its secret';
const region = 'the bucket is in another region: set that region in the S3 configuration';
const certificate =
  'the certificate of the endpoint is not trusted: add its authority to the trusted ones (NODE_EXTRA_CA_CERTS)';
const expired = 'the S3 credentials have expired: renew them';
const full = 'there is no space left: free space or raise the quota';
const busy = 'the server is overloaded or fails temporarily';
const silent = 'the server does not answer: check the server and the network in between';

/** By error name, system error code or HTTP status, in this order. */
const remedies: Readonly<Record<string, string>> = {
  InvalidAccessKeyId: credentials,
  SignatureDoesNotMatch: credentials,
  CredentialsProviderError: 'no S3 credentials were found: configure them, or give this machine a role',
  ExpiredToken: expired,
  InvalidToken: expired,
  AccessDenied: `access is denied: ${access}`,
  AllAccessDisabled: `access is denied: ${access}`,
  KMSAccessDenied: 'the encryption key may not be used: allow the S3 key to use the KMS key',
  RequestTimeTooSkewed: 'the clocks of this machine and of the server are too far apart: synchronise both with NTP',
  RequestExpired: 'the clocks of this machine and of the server are too far apart: synchronise both with NTP',
  NoSuchBucket: 'no such bucket: create it, or correct the bucket of the S3 configuration',
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
  ECONNREFUSED: `the connection was refused: ${endpoint}`,
  ECONNRESET: 'the connection was lost: check the server and the network in between',
  EPIPE: 'the connection was lost: check the server and the network in between',
  ENOTFOUND: `the host name is unknown: ${endpoint}`,
  EAI_AGAIN: 'the host name cannot be resolved at present: check the DNS server',
  EHOSTUNREACH: `the host cannot be reached: ${endpoint}`,
  ENETUNREACH: `the host cannot be reached: ${endpoint}`,
  EPROTO: `TLS with the endpoint failed: check whether it uses http or https; ${endpoint}`,
  DEPTH_ZERO_SELF_SIGNED_CERT: certificate,
  SELF_SIGNED_CERT_IN_CHAIN: certificate,
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: certificate,
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: certificate,
  CERT_HAS_EXPIRED: 'the certificate of the endpoint has expired: renew it',
  ERR_TLS_CERT_ALTNAME_INVALID: `the certificate is for another host: ${endpoint}`,
  // The response to a HEAD has no body with details.
  '301': region,
  '403': `${credentials}, or ${access}`,
  '429': busy,
  '500': busy,
  '502': busy,
  '503': busy,
  '504': busy,
  '507': full,
};

/** The name of an S3 response (`NoSuchKey`, …) or of the error. */
export const nameOf = (error: unknown): string => (error instanceof Error ? error.name : '');

/**
 * Adds request and remedy to the error. Only permanent conditions are non-retryable; wrong credentials, a missing bucket or
 * a full disk are `SystemUnavailable`, because an operator can fix them between retries.
 */
export function s3Error(error: unknown, asked: Asked): unknown {
  const name = nameOf(error);
  if (answers.has(name)) return error;
  const what = `S3 ${asked.operation} of ${asked.address} at ${asked.endpoint}`;
  if (folderConflicts.has(name))
    return failure(
      'Conflict',
      `${what}: the key is an existing folder, or one of its parent folders is a file: choose another path`,
    );
  if (name === 'KeyTooLongError')
    return failure('InvalidInput', `${what}: the path is longer than S3 allows: choose a shorter one`);
  const status = statusOf(error);
  // The SDK wraps unknown errors of Node and keeps only their text.
  const code = codeOf(error) ?? /\bE[A-Z]{4,}\b/.exec(messageOf(error))?.[0] ?? '';
  const remedy = remedies[name] ?? remedies[code] ?? remedies[String(status)];
  const isOfTheSystem = status !== undefined || /^E[A-Z]/.test(code);
  if (remedy === undefined && !isOfTheSystem) return error;
  const answered = `answered ${status ?? 'nothing'} ${saying(error)}`;
  const message =
    remedy === undefined ? `${what}: ${answered}` : `${what}: ${remedy} (${saying(error)}); will be retried`;
  // A remedy may name settings of the platform; only its first part, the cause, is for API callers.
  const reason = remedy?.split(': ')[0] ?? 'it returned an unknown error';
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

/** The error's own name and message, for a search. */
function saying(error: unknown): string {
  const code = codeOf(error) ?? nameOf(error);
  const message = messageOf(error).trim();
  return message.includes(code) ? message : `${code}: ${message}`;
}
