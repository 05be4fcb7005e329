// ArtifactStore on a local disk: temporary file, checks, fsync, then one atomic link or rename.
import { createHash, randomUUID } from 'node:crypto';
import { constants, type Stats } from 'node:fs';
import { link, lstat, mkdir, open, realpath, rename, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Artifact } from '../../workflows/domain/model.ts';
import { nameProblem, type Digest, type StorePath } from '../../workflows/domain/names.ts';
import { failure, isFailure, type SystemName } from '../failures.ts';
import type { ArtifactStore, StoredFile, WriteOptions } from '../ports.ts';
import { diskError, FILE_MODE, FOLDER_MODE, removeLeftovers, syncFolder, unless, writeAll } from './durable-file.ts';
import { createTree, MISSING } from './local-disk/tree.ts';
import { addresses, checkDigest, checkLimit, checkRange, contended, PAGE, takeChunks } from './store-rules.ts';

/** Read size: large enough for speed, small compared to the memory of a process. */
const READ_CHUNK = 256 * 1024;
/** How many times to retry when creations and removals of the same path collide. */
const LINK_ATTEMPTS = 10;
/** Names of the platform's stores in messages. */
const systemOf: Readonly<Record<string, SystemName>> = { areas: 'areas', releases: 'release store' };

/**
 * Opens (and creates) a store in the folder `root`; its URIs are `local:<name>/<path>`. Several processes may share one root.
 * Symbolic links below the root are never followed.
 */
export async function createLocalDisk(options: {
  readonly root: string;
  readonly name: string;
}): Promise<ArtifactStore> {
  const problem = nameProblem(options.name);
  if (problem) throw failure('InvalidInput', `store name: ${problem}`);
  const { uriOf, pathOf } = addresses(`local:${options.name}/`, `the store "${options.name}"`);
  const system = systemOf[options.name] ?? 'disk';
  const { root, temporary } = await prepare(options.root, system);
  const { fileOf, find, open: openFile, makeFolders, walk } = createTree(root);

  async function withContext<T>(doing: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw diskError(error, `${doing} below ${root}`, system);
    }
  }

  async function* bytesOf(path: StorePath, start: number, end: number, signal?: AbortSignal): AsyncGenerator<Buffer> {
    const doing = `reading ${path}`;
    const handle = await withContext(doing, () => openFile(path));
    if (!handle) throw failure('NotFound', `no file ${path} in the store "${options.name}"`);
    try {
      for (let at = start; at < end;) {
        signal?.throwIfAborted();
        const buffer = Buffer.allocUnsafe(Math.min(READ_CHUNK, end - at));
        const { bytesRead } = await withContext(doing, () => handle.read(buffer, 0, buffer.byteLength, at));
        if (bytesRead === 0) return;
        at += bytesRead;
        yield buffer.subarray(0, bytesRead);
      }
      signal?.throwIfAborted();
    } finally {
      await handle.close();
    }
  }

  async function digestOf(path: StorePath, signal?: AbortSignal): Promise<Digest> {
    const hash = createHash('sha256');
    for await (const chunk of bytesOf(path, 0, Infinity, signal)) hash.update(chunk);
    return hash.digest('hex') as Digest;
  }

  /** Creates the path, or finds the same bytes there. `link` fails on an existing name, so one of two racing writers wins. */
  async function createOnly(from: string, path: StorePath, sha256: Digest, signal?: AbortSignal): Promise<void> {
    const file = fileOf(path);
    for (let attempt = 1; attempt <= LINK_ATTEMPTS; attempt += 1) {
      const taken =
        (await unless(
          ['EEXIST'],
          link(from, file).then(() => 'made'),
        )) === undefined;
      if (!taken) return;
      if (await find(path)) {
        // The file was removed between the two checks: try again to create it.
        const stored = await digestOf(path, signal).catch((error: unknown) => {
          if (isFailure(error, 'NotFound')) return undefined;
          throw error;
        });
        if (stored === sha256) return;
        if (stored !== undefined)
          throw failure(
            'Conflict',
            `${path} already exists with different bytes (stored sha256:${stored}, given sha256:${sha256})`,
          );
      } else if (await unless(MISSING, lstat(file)))
        throw failure('Conflict', `${path} already exists and is not a regular file: remove it or choose another path`);
    }
    throw contended(path);
  }

  async function commit(from: string, path: StorePath, sha256: Digest, options: WriteOptions): Promise<void> {
    const folder = await makeFolders(path);
    if (options.ifExists === 'replace') {
      if ((await unless(MISSING, lstat(fileOf(path))))?.isDirectory())
        throw failure('Conflict', `${path} is a folder: choose another path`);
      await rename(from, fileOf(path));
    } else await createOnly(from, path, sha256, options.signal);
    await syncFolder(folder);
  }

  async function write(
    path: StorePath,
    source: AsyncIterable<Uint8Array>,
    options: WriteOptions = {},
  ): Promise<Artifact> {
    const uri = uriOf(path);
    options.signal?.throwIfAborted();
    const hash = createHash('sha256');
    const draft = join(temporary, randomUUID());
    let bytes = 0;
    try {
      const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
      const handle = await open(draft, flags, FILE_MODE);
      try {
        for await (const chunk of takeChunks(path, source, options)) {
          await writeAll(handle, chunk, bytes);
          hash.update(chunk);
          bytes += chunk.byteLength;
        }
        await handle.sync();
      } finally {
        await handle.close();
      }
      const sha256 = hash.digest('hex') as Digest;
      checkDigest(path, options.expect?.sha256, sha256);
      options.signal?.throwIfAborted();
      await commit(draft, path, sha256, options);
      return { uri, sha256, bytes };
    } finally {
      // Already gone after a rename; after a link it is a second name of the stored file.
      await unlink(draft).catch(() => undefined);
    }
  }

  const stored = (path: StorePath, found: Stats): StoredFile => ({
    uri: uriOf(path),
    path,
    bytes: found.size,
    modifiedAt: found.mtime.toISOString(),
  });

  return {
    uri: uriOf,
    path: pathOf,
    write: (path, source, given) => withContext(`writing ${path}`, () => write(path, source, given)),
    async read(uri, { range, signal } = {}) {
      const path = pathOf(uri);
      const { start, end } = checkRange(path, range);
      signal?.throwIfAborted();
      if (!(await withContext(`reading ${path}`, () => find(path))))
        throw failure('NotFound', `no file ${path} in the store "${options.name}"`);
      return bytesOf(path, start, end, signal);
    },
    async stat(uri) {
      const path = pathOf(uri);
      const found = await withContext(`checking ${path}`, () => find(path));
      return found && stored(path, found);
    },
    digest: async (uri, signal) => digestOf(pathOf(uri), signal),
    list: (folder, { after = '' as StorePath, limit = PAGE } = {}) =>
      withContext(`listing ${folder}`, async () => {
        checkLimit(folder, limit);
        const files: StoredFile[] = [];
        const whole = await unless(MISSING, realpath(fileOf(folder)));
        if (whole !== fileOf(folder)) return { files };
        for await (const path of walk(folder, after)) {
          const last = files.at(-1);
          if (files.length === limit && last) return { files, next: last.path };
          const found = await find(path);
          if (found) files.push(stored(path, found));
        }
        return { files };
      }),
    async remove(uri) {
      const path = pathOf(uri);
      await withContext(`removing ${path}`, async () => {
        if (!(await find(path))) return;
        await unless(MISSING, unlink(fileOf(path)));
        await syncFolder(dirname(fileOf(path)));
      });
    },
  };
}

/** Creates the root and its folder of temporary files, and removes old files of dead writers. */
async function prepare(given: string, system: SystemName): Promise<{ root: string; temporary: string }> {
  try {
    await mkdir(given, { recursive: true, mode: FOLDER_MODE });
    const root = await realpath(given);
    const temporary = join(root, '.tmp');
    await mkdir(temporary, { recursive: true, mode: FOLDER_MODE });
    if (!(await lstat(temporary)).isDirectory())
      throw failure('InvalidInput', `${temporary} must be a folder but is a symbolic link: remove it`);
    await removeLeftovers(temporary);
    return { root, temporary };
  } catch (error) {
    throw diskError(error, `opening the store in ${given}`, system);
  }
}
