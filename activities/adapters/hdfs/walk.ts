// Lists the files below a folder in code-point order of their full paths, page by page.
import type { StorePath } from '../../../workflows/domain/names.ts';
import { isSegment, isStorePath } from '../store-rules.ts';
import type { FileStatus, NameNode } from './namenode.ts';

export interface Found {
  readonly path: StorePath;
  readonly status: FileStatus;
}

/** The files after the path `after`, or all. `root` is the store's folder in HDFS. */
export async function* walk(
  nameNode: NameNode,
  root: string,
  folder: string,
  after: string,
): AsyncGenerator<Found, void, undefined> {
  const first = after.startsWith(`${folder}/`) ? (after.slice(folder.length + 1).split('/')[0] ?? '') : '';
  /**
   * Folders that were found but are not due yet. HDFS orders by name (`b`, `b-c`, `b.d`), but a folder's files sort as `b/`,
   * after `b-c`. The last one is due first. A waiting folder's name is always a prefix of the current name: `b` for `b-c`.
   */
  const due = [...first.matchAll(/[-.]/g)].map(({ index }) => first.slice(0, index)).filter(isSegment);
  const below = (name: string) => walk(nameNode, root, `${folder}/${name}`, after);

  for await (const page of nameNode.list(`${root}/${folder}`, before(first)))
    for (const status of page) {
      const name = status.pathSuffix;
      // Other clients may create names that are not valid store paths.
      if (!isSegment(name)) continue;
      for (let last = due.at(-1); last !== undefined && `${last}/` < name; last = due.at(-1)) {
        due.pop();
        yield* below(last);
      }
      const path = `${folder}/${name}`;
      if (status.type === 'FILE') {
        if (path > after && isStorePath(path)) yield { path, status };
      } else if (status.type === 'DIRECTORY' && (`${path}/` > after || after.startsWith(`${path}/`))) due.push(name);
    }
  for (let last = due.pop(); last !== undefined; last = due.pop()) yield* below(last);
}

/** A text directly before a name: no valid name sorts between them, because `~` sorts after all valid characters. */
const before = (name: string): string =>
  name === '' ? '' : `${name.slice(0, -1)}${String.fromCharCode(name.charCodeAt(name.length - 1) - 1)}~`;
