// Builds the tree of a commit with changed files, in a separate index: no work tree, no shared state.
import { randomUUID } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { failure } from '../../failures.ts';
import type { Git } from './run-git.ts';

/** A path with its blob id, or `null` to delete it. */
export type Change = readonly [path: string, blob: string | null];

/** Creates the tree of `base` with the changes; `changed` tells whether it differs from the tree of `base`. */
export async function changeTree(
  git: Git,
  given: {
    readonly gitDir: string;
    readonly base: string;
    readonly blobs: readonly Change[];
    /** Folder for temporary index files. */
    readonly drafts: string;
    readonly signal?: AbortSignal | undefined;
  },
): Promise<{ readonly tree: string; readonly changed: boolean }> {
  const { gitDir, base, blobs, drafts, signal } = given;
  refuseNested(blobs);
  const index = join(drafts, `${randomUUID()}.index`);
  const env = { GIT_INDEX_FILE: index };
  try {
    await git.tell({ gitDir, args: ['read-tree', base], env, signal });
    // Deletions first, because a deleted file may be replaced by a folder of the same name.
    const ordered = [...blobs].sort(([, a], [, b]) => Number(a !== null) - Number(b !== null));
    const input = ordered
      .map(([path, blob]) => (blob === null ? `0 ${'0'.repeat(40)}\t${path}\n` : `100644 ${blob}\t${path}\n`))
      .join('');
    await git.tell({ gitDir, args: ['update-index', '--index-info'], env, input, signal });
    const tree = await git.tell({ gitDir, args: ['write-tree'], env, signal });
    const diff = ['diff-tree', '-r', '-z', '--no-renames', '--name-only', `${base}^{tree}`, tree];
    const changed = (await git.tell({ gitDir, args: diff, signal })).split('\0').filter(Boolean);
    // Git silently replaces a file with a folder of its name, and the reverse: unnamed files must not disappear.
    const named = new Set(blobs.map(([path]) => path));
    const lost = changed.find((path) => !named.has(path));
    if (lost !== undefined)
      throw failure(
        'InvalidInput',
        `the change would remove ${lost}, because a file cannot have the name of a folder: delete it in the same commit`,
      );
    return { tree, changed: changed.length > 0 };
  } finally {
    await rm(index, { force: true });
    await rm(`${index}.lock`, { force: true });
  }
}

function refuseNested(blobs: readonly Change[]): void {
  const files = new Set(blobs.filter(([, blob]) => blob !== null).map(([path]) => path));
  for (const path of files)
    for (let slash = path.indexOf('/'); slash >= 0; slash = path.indexOf('/', slash + 1))
      if (files.has(path.slice(0, slash)))
        throw failure('InvalidInput', `${path.slice(0, slash)} cannot be both a file and the folder of ${path}`);
}
