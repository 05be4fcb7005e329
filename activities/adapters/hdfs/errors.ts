// Classifies HDFS's errors: cause, remedy, and whether a retry can help.
import { z } from 'zod';
import { codeOf, failure, SystemUnavailable } from '../../failures.ts';

/** The kind of an HDFS problem, in the `code` of a {@link SystemUnavailable}. */
export type HdfsProblem =
  | 'NAMESPACE_QUOTA'
  | 'SPACE_QUOTA'
  | 'SAFE_MODE'
  | 'NO_DATANODE'
  | 'DATANODE_LOST'
  | 'NAMENODE_UNAVAILABLE'
  | 'NAMENODE_STANDBY'
  | 'NAMENODE_STARTING'
  | 'REFUSED'
  | 'UNKNOWN_ANSWER';

/** A retryable error with the kind of the problem. */
export function problem(code: HdfsProblem, message: string, cause?: unknown): SystemUnavailable {
  const isFull = code === 'NAMESPACE_QUOTA' || code === 'SPACE_QUOTA';
  return new SystemUnavailable({ system: 'HDFS', reason: reasons[code], message, isFull, code, cause });
}

/** Reasons for API callers. */
const reasons: Readonly<Record<HdfsProblem, string>> = {
  NAMESPACE_QUOTA: 'the quota for the number of files is used up',
  SPACE_QUOTA: 'the quota for disk space is used up',
  SAFE_MODE: 'it is in safe mode, which refuses changes',
  NO_DATANODE: 'no DataNode can store or serve the bytes',
  DATANODE_LOST: 'a DataNode does not answer',
  NAMENODE_UNAVAILABLE: 'no NameNode answers',
  NAMENODE_STANDBY: 'no NameNode is active',
  NAMENODE_STARTING: 'the NameNode is still starting',
  REFUSED: 'it denies the user of the platform access',
  UNKNOWN_ANSWER: 'it returned an unknown error',
};

/** An error response of HDFS. */
export interface Refusal extends Error {
  /** Name of its exception (`FileNotFoundException`); `undefined` if the response did not come from HDFS. */
  readonly exception: string | undefined;
  readonly status: number;
}

const remoteException = z.object({ RemoteException: z.object({ exception: z.string(), message: z.string() }) });

/** The error in an unsuccessful response. `body` is its parsed JSON, or its text. */
export function refusal(status: number, body: unknown): Refusal {
  const { exception, message } = remoteException.safeParse(body).data?.RemoteException ?? {};
  // A DataNode appends a stack trace.
  const text = message?.split('\n\tat ')[0] ?? `a response that is not from HDFS: ${String(body).slice(0, 200)}`;
  return Object.assign(new Error(text), { exception, status });
}

/** Whether the error is an HDFS refusal with one of these exceptions. */
export const isRefusal = (error: unknown, ...exceptions: readonly string[]): error is Refusal =>
  error instanceof Error &&
  'exception' in error &&
  typeof error.exception === 'string' &&
  exceptions.includes(error.exception);

/** Retryable refusals, matched by exception name or by the message of a general exception. */
const waiting: readonly { readonly code: HdfsProblem; readonly is: RegExp; readonly remedy: string }[] = [
  {
    code: 'NAMESPACE_QUOTA',
    is: /^NSQuotaExceededException/,
    remedy: 'the quota for the number of files is used up: raise it (hdfs dfsadmin -setQuota) or remove files',
  },
  {
    code: 'SPACE_QUOTA',
    is: /^(DSQuotaExceeded|QuotaByStorageTypeExceeded)Exception/,
    remedy: 'the quota for disk space is used up: raise it (hdfs dfsadmin -setSpaceQuota) or remove files',
  },
  {
    code: 'SAFE_MODE',
    is: /^SafeModeException|name node is in safe mode/i,
    remedy:
      'HDFS is in safe mode, which refuses changes: check hdfs dfsadmin -safemode get, and start missing DataNodes',
  },
  {
    code: 'NO_DATANODE',
    is: /could only be written to 0 of|Failed to find datanode|No active and not excluded nodes|BlockMissingException|Could not obtain block/,
    remedy:
      'no DataNode can store or serve the bytes: check hdfs dfsadmin -report, then start DataNodes or free disk space',
  },
  {
    code: 'NAMENODE_STANDBY',
    is: /^StandbyException/,
    remedy: 'this NameNode is a standby: list all NameNodes in the store’s address, and make sure that one is active',
  },
  {
    // Reported by a DataNode.
    code: 'NAMENODE_UNAVAILABLE',
    is: /^(EOF|Connect|ConnectTimeout|SocketTimeout|NoRouteToHost|UnknownHost)Exception|Failed on local exception/,
    remedy: 'the servers of HDFS cannot reach each other: check that the NameNode runs',
  },
  {
    code: 'NAMENODE_STARTING',
    is: /^RetriableException|startup mode|not started/,
    remedy: 'the NameNode is still starting',
  },
];

/** Adds location and remedy to an HDFS error; returns other errors unchanged. */
export function hdfsError(error: unknown, doing: string): unknown {
  if (!(error instanceof Error)) return error;
  if (error instanceof z.ZodError)
    return problem('UNKNOWN_ANSWER', `${doing}: the response of HDFS has an unknown format: ${error.message}`, error);
  if (!('exception' in error)) {
    const code = codeOf(error);
    return code === 'DATANODE_LOST' || code?.startsWith('NAMENODE_')
      ? problem(code as HdfsProblem, `${doing}: ${error.message}; will be retried`, error)
      : error;
  }
  const text = `${String(error.exception)}: ${error.message}`;
  const kind = waiting.find(({ is }) => is.test(text));
  if (kind) return problem(kind.code, `${doing}: ${kind.remedy}; will be retried (${text})`, error);
  if (isRefusal(error, 'AccessControlException'))
    return problem(
      'REFUSED',
      `${doing}: HDFS denies the platform's user access: make it a member of dfs.permissions.superusergroup (${text})`,
      error,
    );
  if (isRefusal(error, 'AclException'))
    return failure('InvalidInput', `${doing}: set dfs.namenode.acls.enabled to true (${text})`, [], error);
  return problem('UNKNOWN_ANSWER', `${doing}: ${text}`, error);
}
