// ArtifactStore on HDFS over WebHDFS: temporary file, length and digest checks, then one atomic rename on the NameNode.
import { createHash } from 'node:crypto';
import { isName, nameProblem, type Digest, type StorePath } from '../../workflows/domain/names.ts';
import { codeOf, failure } from '../failures.ts';
import type { ArtifactStore, StoredFile } from '../ports.ts';
import { everyDay } from './durable-file.ts';
import { checkUser, type Access } from './hdfs/access.ts';
import { admitPeople, openPassage } from './hdfs/admission.ts';
import { createDataNodes } from './hdfs/datanodes.ts';
import { createDrafts } from './hdfs/drafts.ts';
import { hdfsError, isRefusal } from './hdfs/errors.ts';
import { createHttp } from './hdfs/http.ts';
import { createNameNode, type FileStatus } from './hdfs/namenode.ts';
import { walk } from './hdfs/walk.ts';
import { addresses, checkLimit, checkPath, checkRange, isSegment, PAGE } from './store-rules.ts';

export type { Access } from './hdfs/access.ts';
export type { HdfsProblem } from './hdfs/errors.ts';

export interface HdfsStore extends ArtifactStore {
  /**
   * Gives exactly these people access to an area (`private/<project>/<user>`, `common/<project>`, `staging/<project>`) with
   * all present and future content, so that the NameNode enforces it for their own HDFS clients. Throws `InvalidInput` for
   * invalid HDFS user names and for more than 28 people. Calls for one area must not overlap.
   */
  admit(folder: StorePath, access: Access, signal?: AbortSignal): Promise<void>;
  /** Everyone who has a private area in the project, including former members. */
  people(project: string): Promise<readonly string[]>;
  /** Tests everything that the store needs of HDFS, including the right to change owners; rejects with cause and remedy. */
  check(): Promise<void>;
  close(): Promise<void>;
}

export interface HdfsOptions {
  /** WebHDFS addresses of the NameNodes, comma separated: `http://namenode-1:9870,http://namenode-2:9870`. */
  readonly url: string;
  /** The platform's own user, a member of HDFS's supergroup. Callers cannot choose it, because HDFS believes any name. */
  readonly user: string;
  /** Absolute path of the store's folder in HDFS. */
  readonly root: string;
  readonly name: string;
  readonly onWarn?: (message: string) => void;
  /** Timeout for a silent NameNode or DataNode, in milliseconds. */
  readonly silenceMs?: number;
}

/** The timeout of DataNodes among themselves (dfs.client.socket-timeout). */
const SILENCE_MS = 60_000;
const AREAS = ['private', 'common', 'staging'];

/**
 * Opens (and creates) a store in HDFS; its URIs are `hdfs:<name>/<path>`. Several processes may share one root. Retryable
 * problems (quota, safe mode, an unresponsive server) reject with a `SystemUnavailable` whose `code` is an {@link HdfsProblem}.
 */
export async function createHdfsStore(options: HdfsOptions): Promise<HdfsStore> {
  const urls = checkOptions(options);
  const { name, root, user, silenceMs = SILENCE_MS, onWarn = () => undefined } = options;
  const http = createHttp(silenceMs);
  const nameNode = createNameNode({ urls, user, http, silenceMs, onWarn });
  const dataNodes = createDataNodes(nameNode, http);
  const drafts = createDrafts({ nameNode, dataNodes, root, find, digestOf, onWarn });
  const { uriOf, pathOf } = addresses(`hdfs:${name}/`, `the store "${name}"`);

  const fileOf = (path: StorePath): string => `${root}/${checkPath(path)}`;
  const noFile = (path: StorePath) => failure('NotFound', `no file ${path} in the store "${name}"`);
  const storedFile = (path: StorePath, { length, modificationTime }: FileStatus): StoredFile => ({
    uri: uriOf(path),
    path,
    bytes: length,
    modifiedAt: new Date(modificationTime).toISOString(),
  });

  async function find(path: StorePath, signal?: AbortSignal): Promise<FileStatus | undefined> {
    const status = await nameNode.stat(fileOf(path), signal);
    return status?.type === 'FILE' ? status : undefined;
  }

  async function* bytesOf(path: StorePath, part: { offset?: number; length?: number }, signal?: AbortSignal) {
    try {
      for await (const chunk of dataNodes.download(fileOf(path), part, signal)) {
        signal?.throwIfAborted();
        yield chunk;
      }
    } catch (error) {
      throw isRefusal(error, 'FileNotFoundException') ? noFile(path) : error;
    }
    signal?.throwIfAborted();
  }

  /** The same for a reader, whose errors arrive outside of `withContext`. */
  async function* bytesWithContext(...asked: Parameters<typeof bytesOf>): ReturnType<typeof bytesOf> {
    try {
      yield* bytesOf(...asked);
    } catch (error) {
      throw hdfsError(error, `reading ${asked[0]} in HDFS`);
    }
  }

  async function digestOf(path: StorePath, signal?: AbortSignal): Promise<Digest> {
    const hash = createHash('sha256');
    if (!(await find(path, signal))) throw noFile(path);
    for await (const chunk of bytesOf(path, {}, signal)) hash.update(chunk);
    return hash.digest('hex') as Digest;
  }

  const store: HdfsStore = {
    uri: uriOf,
    path: pathOf,
    write: (path, source, given = {}) =>
      withContext(`writing ${path} in HDFS`, async () => ({
        uri: uriOf(path),
        ...(await drafts.write(path, source, given)),
      })),
    read: (uri, { range, signal } = {}) =>
      withContext(`reading ${uri}`, async () => {
        const path = pathOf(uri);
        const { start, end } = checkRange(path, range);
        signal?.throwIfAborted();
        const status = await find(path, signal);
        if (!status) throw noFile(path);
        // A whole file is requested without a range: if it is replaced right now, all of its new bytes arrive.
        if (start === 0 && end === Infinity) return bytesWithContext(path, {}, signal);
        const length = Math.min(end, status.length) - start;
        return length > 0 ? bytesWithContext(path, { offset: start, length }, signal) : nothing();
      }),
    stat: (uri) =>
      withContext(`looking at ${uri}`, async () => {
        const path = pathOf(uri);
        const found = await find(path);
        return found && storedFile(path, found);
      }),
    digest: (uri, signal) => withContext(`reading ${uri}`, () => digestOf(pathOf(uri), signal)),
    list: (folder, { after = '' as StorePath, limit = PAGE } = {}) =>
      withContext(`listing ${folder} in HDFS`, async () => {
        checkLimit(folder, limit);
        const files: StoredFile[] = [];
        for await (const { path, status } of walk(nameNode, root, checkPath(folder), after)) {
          const last = files.at(-1);
          if (files.length === limit && last) return { files, next: last.path };
          files.push(storedFile(path, status));
        }
        return { files };
      }),
    remove: (uri) =>
      withContext(`removing ${uri}`, async () => {
        const path = pathOf(uri);
        if (await find(path)) await nameNode.remove(fileOf(path));
      }),
    admit: (folder, access, signal) =>
      withContext(`granting access to ${folder} in HDFS`, () =>
        admitPeople(nameNode, { root, user, signal }, folder, access),
      ),
    people: (project) =>
      withContext(`listing the private areas of ${project} in HDFS`, async () => {
        const people: string[] = [];
        for await (const page of nameNode.list(fileOf(`private/${project}` as StorePath)))
          for (const { type, pathSuffix } of page)
            if (type === 'DIRECTORY' && isName(pathSuffix)) people.push(pathSuffix);
        return people;
      }),
    check: () => permitted(() => withContext(`checking the store ${root} in HDFS`, () => drafts.probe())),
    async close() {
      endSweeping();
      http.close();
    },
  };

  const prepare = async (): Promise<void> => {
    const owner = (await nameNode.stat(root))?.owner ?? user;
    if (owner !== user)
      throw failure(
        'InvalidInput',
        `${root} in HDFS belongs to ${owner}, who would lose access to it: configure a folder that does not exist yet or that ${user} owns`,
      );
    for (const folder of [root, ...AREAS.map((area) => `${root}/${area}`)]) await openPassage(nameNode, folder);
    await drafts.prepare();
  };
  await permitted(() => withContext(`opening the store ${root} in HDFS`, prepare));
  const endSweeping = everyDay(() =>
    drafts
      .sweep()
      .catch((error: unknown) =>
        onWarn(`HDFS: old temporary files could not be removed; will be retried in a day: ${String(error)}`),
      ),
  );
  return store;
}

/** Validates the options before the first request and returns the addresses. */
function checkOptions({ url, user, root, name }: HdfsOptions): readonly URL[] {
  const problem = nameProblem(name);
  if (problem) throw failure('InvalidInput', `store name: ${problem}`);
  checkUser(user);
  if (!/^\/./.test(root) || !root.slice(1).split('/').every(isSegment))
    throw failure('InvalidInput', `"${root}" is not a valid HDFS folder for a store (for example "/ocdl")`);
  return url.split(',').map((text) => {
    const parsed = URL.canParse(text.trim()) ? new URL(text.trim()) : undefined;
    if (!parsed || !['http:', 'https:'].includes(parsed.protocol) || parsed.pathname !== '/' || parsed.search !== '')
      throw failure('InvalidInput', `"${text}" is not a valid NameNode address (for example "http://namenode:9870")`);
    return parsed;
  });
}

async function withContext<T>(doing: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw hdfsError(error, doing);
  }
}

/** At startup and in checks, missing rights of the platform's user are non-retryable: `NotAuthorized`. */
async function permitted(work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (codeOf(error) !== 'REFUSED' || !(error instanceof Error)) throw error;
    throw failure('NotAuthorized', error.message, [], error);
  }
}

async function* nothing(): AsyncGenerator<Uint8Array> {
  // A range beyond the end of the file is empty.
}
