// Names of a job's inputs beside each other: two must not be one path, nor one lie inside the other.
import type { NamedArtifact } from '../workflows/domain/model.ts';

type Input = Pick<NamedArtifact, 'name'> & { readonly unpack?: boolean };

/** The first path that two inputs would share; `NAME.tar` that is laid out takes `NAME`, too. One pass, however many there are. */
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

/** `a/b/c` lies in `a` and `a/b`. */
const foldersAbove = (path: string): string[] => {
  const parts = path.split('/').slice(0, -1);
  return parts.map((_, i) => parts.slice(0, i + 1).join('/'));
};
