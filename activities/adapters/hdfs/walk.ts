// The files below a folder in code-point order of their whole paths, read from the NameNode page by page.
import type { StorePath } from '../../../workflows/domain/names.ts';
import { isSegment, isStorePath } from '../store-rules.ts';
import type { FileStatus, NameNode } from './namenode.ts';

export interface Found {
  readonly path: StorePath;
  readonly status: FileStatus;
}

/** Files behind the path `after`, or all. `root` is the store's folder in HDFS. */
export async function* walk(
  nameNode: NameNode,
  root: string,
  folder: string,
  after: string,
): AsyncGenerator<Found, void, undefined> {
  const first = after.startsWith(`${folder}/`) ? (after.slice(folder.length + 1).split('/')[0] ?? '') : '';
  /**
   * Folders met but not due yet: HDFS orders names (`b`, `b-c`, `b.d`), but a folder's files come as `b/`, behind `b-c`.
   * The last one is due first. Those before the first name that may stand behind it are its beginnings: `b` for `b-c`.
   */
  const due = [...first.matchAll(/[-.]/g)].map(({ index }) => first.slice(0, index)).filter(isSegment);
  const below = (name: string) => walk(nameNode, root, `${folder}/${name}`, after);

  for await (const page of nameNode.list(`${root}/${folder}`, before(first)))
    for (const status of page) {
      const name = status.pathSuffix;
      // People with their own clients may make names that no path of ours can hold.
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

/** A text right before a name: no lawful name lies between them, since `~` is behind all characters of names. */
const before = (name: string): string =>
  name === '' ? '' : `${name.slice(0, -1)}${String.fromCharCode(name.charCodeAt(name.length - 1) - 1)}~`;
