// Checks the names of a job's inputs: no two may use the same path, and none may be inside another.
import type { NamedArtifact } from '../workflows/domain/model.ts';

type Input = Pick<NamedArtifact, 'name'> & { readonly unpack?: boolean };

/** The first path used by two inputs. A `NAME.tar` that is unpacked also takes `NAME`. One pass over all inputs. */
export function sharedName(inputs: readonly Input[]): string | undefined {
  const taken = new Set<string>();
  const folders = new Set<string>();
  for (const { name, unpack } of inputs) {
    const names = unpack ? [name, name.replace(/\.tar$/, '')] : [name];
    const above = names.flatMap(foldersAbove);
    const shared = names.find((one) => taken.has(one) || folders.has(one)) ?? above.find((one) => taken.has(one));
    if (shared !== undefined) return shared;
    for (const one of names) taken.add(one);
    for (const one of above) folders.add(one);
  }
  return undefined;
}

/** For `a/b/c`: `a` and `a/b`. */
const foldersAbove = (path: string): string[] => {
  const parts = path.split('/').slice(0, -1);
  return parts.map((_, i) => parts.slice(0, i + 1).join('/'));
};
