// The files below a store's root, reached through real folders only: no symbolic link leads out of it.
import { constants, type Stats } from 'node:fs';
import { lstat, mkdir, open, readdir, realpath, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import type { StorePath } from '../../../workflows/domain/names.ts';
import { codeOf, failure } from '../../failures.ts';
import { FOLDER_MODE, syncFolder, unless } from '../durable-file.ts';
import { checkPath, isSegment, isStorePath } from '../store-rules.ts';

/** Error codes for a missing file. */
export const MISSING = ['ENOENT', 'ENOTDIR'];

export interface Tree {
  /** The absolute path of a store path, after validation. */
  readonly fileOf: (path: StorePath) => string;
  /** The regular file at a path, if it exists. */
  readonly find: (path: StorePath) => Promise<Stats | undefined>;
  /** The same file, opened for reading. */
  readonly open: (path: StorePath) => Promise<FileHandle | undefined>;
  /** Creates the parent folders of a path and returns the last one; throws `Conflict` if one of them is not a folder. */
  readonly makeFolders: (path: StorePath) => Promise<string>;
  /** The files below a folder in code-point order, after a given path. */
  readonly walk: (folder: StorePath, after: string) => AsyncGenerator<StorePath>;
}

/** Opens the tree below `root`, which must be a real path. */
export function createTree(root: string): Tree {
  const fileOf = (path: StorePath): string => join(root, checkPath(path));

  async function find(path: StorePath): Promise<Stats | undefined> {
    const file = fileOf(path);
    const found = await unless(MISSING, lstat(file));
    if (!found?.isFile()) return undefined;
    const real = await unless(MISSING, realpath(file));
    return real === file ? found : undefined;
  }

  async function openReal(path: StorePath): Promise<FileHandle | undefined> {
    if (!(await find(path))) return undefined;
    // O_NONBLOCK: if the file became a pipe meanwhile, open must not wait for a writer.
    const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
    const handle = await unless([...MISSING, 'ELOOP'], open(fileOf(path), flags));
    if (!handle) return undefined;
    if ((await handle.stat()).isFile() && (await find(path))) return handle;
    await handle.close();
    return undefined;
  }

  async function makeFolders(path: StorePath): Promise<string> {
    let folder = root;
    for (const segment of path.split('/').slice(0, -1)) {
      const parent = folder;
      folder = join(parent, segment);
      const made = await mkdir(folder, { mode: FOLDER_MODE }).then(
        () => true,
        (error: unknown) => {
          if (codeOf(error) === 'EEXIST') return false;
          throw error;
        },
      );
      if (made) await syncFolder(parent);
      else if (!(await lstat(folder)).isDirectory())
        throw failure(
          'Conflict',
          `${path} needs the folder ${folder}, but it exists and is not a folder: choose another path`,
        );
    }
    return folder;
  }

  async function* walk(folder: string, after: string): AsyncGenerator<StorePath> {
    const entries = await unless(MISSING, readdir(join(root, folder), { withFileTypes: true }));
    const valid = (entries ?? []).filter((entry) => isSegment(entry.name) && (entry.isFile() || entry.isDirectory()));
    // Folders are compared with a trailing "/", so that full paths are in order.
    const names = valid.map((entry) => (entry.isDirectory() ? `${entry.name}/` : entry.name));
    for (const name of names.sort((a, b) => (a < b ? -1 : 1))) {
      const path = `${folder}/${name}`;
      if (!name.endsWith('/')) {
        if (path > after && isStorePath(path)) yield path;
      } else if (path > after || after.startsWith(path)) yield* walk(path.slice(0, -1), after);
    }
  }

  return { fileOf, find, open: openReal, makeFolders, walk };
}
