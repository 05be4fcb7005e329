// HDFS's errors told apart: what was refused or did not answer, what a person can do, and whether waiting helps.
import { z } from 'zod';
import { codeOf, failure, SystemUnavailable } from '../../failures.ts';

/** What HDFS's unavailability is about, in the `code` of a {@link SystemUnavailable}. */
export type HdfsProblem =
  | 'NAMESPACE_QUOTA'
  | 'SPACE_QUOTA'
  | 'SAFE_MODE'
  | 'NO_DATANODE'
  | 'DATANODE_LOST'
  | 'NAMENODE_AWAY'
  | 'NAMENODE_STANDBY'
  | 'NAMENODE_STARTING'
  | 'REFUSED'
  | 'UNKNOWN_ANSWER';

/** An error that is tried again and says which problem it is. */
export function problem(code: HdfsProblem, message: string, cause?: unknown): SystemUnavailable {
  const isFull = code === 'NAMESPACE_QUOTA' || code === 'SPACE_QUOTA';
  return new SystemUnavailable({ system: 'HDFS', reason: reasons[code], message, isFull, code, cause });
}

/** In words for whoever asked. */
const reasons: Readonly<Record<HdfsProblem, string>> = {
  NAMESPACE_QUOTA: 'the quota for the number of files is used up',
  SPACE_QUOTA: 'the quota for disk space is used up',
  SAFE_MODE: 'it is in safe mode, which refuses changes',
  NO_DATANODE: 'no DataNode can take or give the bytes',
  DATANODE_LOST: 'a DataNode does not answer',
  NAMENODE_AWAY: 'no NameNode answers',
  NAMENODE_STANDBY: 'no NameNode is active',
  NAMENODE_STARTING: 'the NameNode is still starting',
  REFUSED: 'it refuses the user of the platform',
  UNKNOWN_ANSWER: 'it gives an answer that the platform does not know',
};

/** What HDFS answered in place of what was asked. */
export interface Refusal extends Error {
  /** Name of its exception (`FileNotFoundException`), `undefined` when the answer was not HDFS's own. */
  readonly exception: string | undefined;
  readonly status: number;
}

const remoteException = z.object({ RemoteException: z.object({ exception: z.string(), message: z.string() }) });

/** The error in an answer that is no success. `body` is its parsed JSON, or its text where it is none. */
export function refusal(status: number, body: unknown): Refusal {
  const { exception, message } = remoteException.safeParse(body).data?.RemoteException ?? {};
  // A DataNode appends its stack.
  const told = message?.split('\n\tat ')[0] ?? `an answer that is not HDFS's own: ${String(body).slice(0, 200)}`;
  return Object.assign(new Error(told), { exception, status });
}

/** Is it HDFS's refusal by one of these exceptions? */
export const isRefusal = (error: unknown, ...exceptions: readonly string[]): error is Refusal =>
  error instanceof Error &&
  'exception' in error &&
  typeof error.exception === 'string' &&
  exceptions.includes(error.exception);

/** Refusals that waiting may mend: by the exception's name, or by the message of a general one. */
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
    remedy: 'HDFS is in safe mode, which refuses changes: see hdfs dfsadmin -safemode get, and start missing DataNodes',
  },
  {
    code: 'NO_DATANODE',
    is: /could only be written to 0 of|Failed to find datanode|No active and not excluded nodes|BlockMissingException|Could not obtain block/,
    remedy: 'no DataNode can take or give the bytes: see hdfs dfsadmin -report, start DataNodes or free disk space',
  },
  {
    code: 'NAMENODE_STANDBY',
    is: /^StandbyException/,
    remedy: 'this NameNode is a standby: name all of them in the store’s address, and see that one is active',
  },
  {
    // Told by a DataNode.
    code: 'NAMENODE_AWAY',
    is: /^(EOF|Connect|ConnectTimeout|SocketTimeout|NoRouteToHost|UnknownHost)Exception|Failed on local exception/,
    remedy: 'the servers of HDFS do not reach each other: see that the NameNode runs',
  },
  {
    code: 'NAMENODE_STARTING',
    is: /^RetriableException|startup mode|not started/,
    remedy: 'the NameNode is still starting: wait for it',
  },
];

/** The same error with a message that says where it happened and what to do. Everything that is not HDFS's comes back as it was. */
export function hdfsError(error: unknown, doing: string): unknown {
  if (!(error instanceof Error)) return error;
  if (error instanceof z.ZodError)
    return problem('UNKNOWN_ANSWER', `${doing}: HDFS's answer is not of the known form: ${error.message}`, error);
  if (!('exception' in error)) {
    const code = codeOf(error);
    return code === 'DATANODE_LOST' || code?.startsWith('NAMENODE_')
      ? problem(code as HdfsProblem, `${doing}: ${error.message}; it is tried again`, error)
      : error;
  }
  const text = `${String(error.exception)}: ${error.message}`;
  const kind = waiting.find(({ is }) => is.test(text));
  if (kind) return problem(kind.code, `${doing}: ${kind.remedy}; it is tried again (${text})`, error);
  if (isRefusal(error, 'AccessControlException'))
    return problem(
      'REFUSED',
      `${doing}: HDFS refuses the platform's user: make it a member of dfs.permissions.superusergroup (${text})`,
      error,
    );
  if (isRefusal(error, 'AclException'))
    return failure('InvalidInput', `${doing}: set dfs.namenode.acls.enabled to true (${text})`, [], error);
  return problem('UNKNOWN_ANSWER', `${doing}: ${text}`, error);
}
