// Typed operations of the NameNode: simple ones through npm `webhdfs`, the rest (rename options, ACLs, pages) directly.
import webhdfs, { type WebHdfsClient, type WebHdfsRequest } from 'webhdfs';
import { z } from 'zod';
import { isRefusal, problem, refusal } from './errors.ts';
import { ConnectionError, type Answer, type Http } from './http.ts';

const fileStatus = z.object({
  pathSuffix: z.string(),
  type: z.enum(['FILE', 'DIRECTORY', 'SYMLINK']),
  length: z.number().int(),
  /** Milliseconds since 1970, by the NameNode's clock. */
  modificationTime: z.number(),
  owner: z.string(),
  blockSize: z.number(),
});
export type FileStatus = z.infer<typeof fileStatus>;

const statusAnswer = z.object({ FileStatus: fileStatus });
const aclAnswer = z.object({ AclStatus: z.object({ entries: z.array(z.string()) }) });
const locationAnswer = z.object({ Location: z.url() });
const listingAnswer = z.object({
  DirectoryListing: z.object({
    partialListing: z.object({ FileStatuses: z.object({ FileStatus: z.array(fileStatus) }) }),
    remainingEntries: z.number(),
  }),
});

/** Paths are absolute HDFS paths with any names. All operations reject with the errors of `errors.ts`. */
export interface NameNode {
  readonly stat: (path: string, signal?: AbortSignal) => Promise<FileStatus | undefined>;
  /** Creates a folder and its missing parents; an existing one is fine. */
  readonly makeFolder: (path: string, signal?: AbortSignal) => Promise<void>;
  readonly setOwner: (path: string, owner: string, signal?: AbortSignal) => Promise<void>;
  /** Removes a file; a missing one is fine. */
  readonly remove: (path: string, signal?: AbortSignal) => Promise<void>;
  /** Renames atomically; `NONE` refuses an existing target. */
  readonly rename: (from: string, to: string, option: 'NONE' | 'OVERWRITE', signal?: AbortSignal) => Promise<void>;
  /** Entries of the ACL, without owner, mask and others; `undefined` if the file does not exist. */
  readonly acl: (path: string, signal?: AbortSignal) => Promise<readonly string[] | undefined>;
  readonly setAcl: (path: string, entries: string, signal?: AbortSignal) => Promise<void>;
  /** Sets the mode of a folder, as octal digits; with an ACL, the group bits become its mask. */
  readonly setMode: (path: string, mode: string, signal?: AbortSignal) => Promise<void>;
  /** The entries of a folder after a name, ordered by name, one page (1,000 by default) at a time; empty if the folder is missing. */
  readonly list: (folder: string, after?: string, signal?: AbortSignal) => AsyncGenerator<readonly FileStatus[]>;
  /** The DataNode address for writing a new file, which only its owner can read and write. */
  readonly whereToWrite: (path: string, signal?: AbortSignal) => Promise<URL>;
  readonly whereToRead: (
    path: string,
    part: { readonly offset?: number; readonly length?: number },
    signal?: AbortSignal,
  ) => Promise<URL>;
  /** HDFS's checksum of a file, over its blocks: equal for the same bytes in the same blocks. */
  readonly whereToChecksum: (path: string, signal?: AbortSignal) => Promise<URL>;
}

interface Node {
  readonly url: URL;
  readonly client: WebHdfsClient;
}

/** The default port; `webhdfs` would use 80 even for https. */
const DEFAULT_PORTS = { http: 80, https: 443 };

/** The encoded path: clients create names such as `%2e%2e` and `a?b`, which must not be interpreted. */
const escaped = (path: string): string => path.split('/').map(encodeURIComponent).join('/');

/** One NameNode, or the active one of several: tried in turn, starting with the last that answered. */
export function createNameNode(options: {
  readonly urls: readonly URL[];
  readonly user: string;
  readonly http: Http;
  readonly silenceMs: number;
  readonly onWarn: (message: string) => void;
}): NameNode {
  const { http, user, silenceMs } = options;
  const nodes = options.urls.map((url): Node => {
    const protocol = url.protocol === 'https:' ? 'https' : 'http';
    const client = webhdfs.createClient(
      { protocol, host: url.hostname, port: Number(url.port) || DEFAULT_PORTS[protocol], path: '/webhdfs/v1', user },
      // Never use a proxy for HDFS, whatever the environment says.
      { agent: http.agentOf(url), timeout: silenceMs, followRedirect: false, proxy: null },
    );
    return { url, client };
  });
  const active = { index: 0 };

  async function onActive(ask: (node: Node) => Promise<Answer>): Promise<unknown> {
    const failures: Error[] = [];
    for (const turn of nodes.keys()) {
      const index = (active.index + turn) % nodes.length;
      const node = nodes[index];
      if (!node) break;
      try {
        const { status, body } = await ask(node);
        if (status < 200 || status > 299) throw refusal(status, body);
        if (index !== active.index) options.onWarn(`HDFS: switched to the NameNode ${node.url.origin}`);
        active.index = index;
        return body;
      } catch (error) {
        if (error instanceof ConnectionError) failures.push(error);
        else if (isRefusal(error, 'StandbyException') && nodes.length > 1) failures.push(error);
        else throw error;
      }
    }
    const reasons = failures.map(({ message }) => message).join('; ');
    throw problem(
      'NAMENODE_UNAVAILABLE',
      `no NameNode answers: start it, or correct the store’s address (${reasons})`,
      failures[0],
    );
  }

  const simple = (
    path: string,
    call: (client: WebHdfsClient, path: string, done: () => void) => WebHdfsRequest,
    signal?: AbortSignal,
  ) => onActive(({ url, client }) => answerOf(url, (done) => call(client, escaped(path), done), signal));

  const other = (
    method: 'GET' | 'PUT',
    op: string,
    path: string,
    parameters: Readonly<Record<string, string>>,
    signal?: AbortSignal,
  ) =>
    onActive(({ url }) => {
      const target = new URL(`/webhdfs/v1${escaped(path)}`, url);
      target.search = new URLSearchParams({ op, 'user.name': user, ...parameters }).toString();
      return http.ask(method, target, signal);
    });

  const location = async (...asked: Parameters<typeof other>): Promise<URL> =>
    new URL(locationAnswer.parse(await other(...asked)).Location);

  return {
    async stat(path, signal) {
      const answer = await missingAsUndefined(simple(path, (client, at, done) => client.stat(at, done), signal));
      return answer === undefined ? undefined : statusAnswer.parse(answer).FileStatus;
    },
    async makeFolder(path, signal) {
      // The group bits become the mask of inherited ACLs; narrower bits would reduce people's rights.
      await simple(path, (client, at, done) => client.mkdir(at, '770', done), signal);
    },
    async setOwner(path, owner, signal) {
      await simple(path, (client, at, done) => client.chown(at, owner, '', done), signal);
    },
    async remove(path, signal) {
      await simple(path, (client, at, done) => client.unlink(at, false, done), signal);
    },
    async rename(from, to, option, signal) {
      await other('PUT', 'RENAME', from, { destination: to, renameoptions: option }, signal);
    },
    async acl(path, signal) {
      const answer = await missingAsUndefined(other('GET', 'GETACLSTATUS', path, {}, signal));
      return answer === undefined ? undefined : aclAnswer.parse(answer).AclStatus.entries;
    },
    async setAcl(path, aclspec, signal) {
      await other('PUT', 'SETACL', path, { aclspec }, signal);
    },
    async setMode(path, permission, signal) {
      await other('PUT', 'SETPERMISSION', path, { permission }, signal);
    },
    async *list(folder, after = '', signal) {
      for (let last = after; ;) {
        // Hadoop 3.5 accepts only the second spelling, earlier versions both.
        const parameters: Record<string, string> = last === '' ? {} : { startAfter: last, startafter: last };
        const answer = await missingAsUndefined(other('GET', 'LISTSTATUS_BATCH', folder, parameters, signal));
        if (answer === undefined) return;
        const { partialListing, remainingEntries } = listingAnswer.parse(answer).DirectoryListing;
        const page = partialListing.FileStatuses.FileStatus;
        const end = page.at(-1)?.pathSuffix;
        // The listing of a file contains the file itself, with an empty name.
        if (end === undefined || end === '') return;
        if (last !== '' && page.some(({ pathSuffix }) => pathSuffix === last))
          throw problem(
            'UNKNOWN_ANSWER',
            `HDFS restarts the listing of ${folder} at the first entry when asked for the entries after "${last}"`,
          );
        yield page;
        if (remainingEntries === 0) return;
        last = end;
      }
    },
    whereToWrite: (path, signal) =>
      location('PUT', 'CREATE', path, { noredirect: 'true', overwrite: 'false', permission: '600' }, signal),
    whereToRead: (path, { offset, length }, signal) =>
      location(
        'GET',
        'OPEN',
        path,
        {
          noredirect: 'true',
          ...(offset !== undefined && { offset: String(offset) }),
          ...(length !== undefined && { length: String(length) }),
        },
        signal,
      ),
    whereToChecksum: (path, signal) => location('GET', 'GETFILECHECKSUM', path, { noredirect: 'true' }, signal),
  };
}

/** The response to a call of `webhdfs`, which itself exposes only the message of a refusal, not its name or status. */
function answerOf(url: URL, call: (done: () => void) => WebHdfsRequest, signal?: AbortSignal): Promise<Answer> {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const request = call(() => undefined);
    const onAbort = (): void => {
      request.abort();
      reject(signal?.reason as Error);
    };
    const settle = (act: () => void): void => {
      signal?.removeEventListener('abort', onAbort);
      act();
    };
    signal?.addEventListener('abort', onAbort, { once: true });
    request.on('error', (error) =>
      settle(() => reject(new ConnectionError(`${url.origin}: ${error.message}`, { cause: error }))),
    );
    request.on('complete', ({ statusCode }, body) => settle(() => resolve({ status: statusCode, body })));
  });
}

async function missingAsUndefined(asked: Promise<unknown>): Promise<unknown> {
  try {
    return await asked;
  } catch (error) {
    if (isRefusal(error, 'FileNotFoundException')) return undefined;
    throw error;
  }
}
