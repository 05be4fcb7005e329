// Access rights of a folder as HDFS owners, modes and named-user ACL entries; pure functions.
import { failure } from '../../failures.ts';

/** People by name, which is also their HDFS user name. Writers can also read. */
export interface Access {
  /** Owns the folder and its content with read and write access; if absent, the platform is the owner. */
  readonly owner?: string;
  readonly readers: readonly string[];
  readonly writers: readonly string[];
}

/** Names that are valid and unambiguous in HDFS, on the clients' systems and in an ACL. */
const USER = /^[a-z_][a-z0-9_-]*$/;
/** HDFS allows 32 entries in an ACL; four are for owner, group, others and mask. */
const MOST_PEOPLE = 28;

/** The text as an HDFS user. Throws `InvalidInput` for other names, which HDFS would refuse or confuse with another user. */
export function checkUser(name: string): string {
  if (!USER.test(name))
    throw failure(
      'InvalidInput',
      `"${name.slice(0, 60)}" is not a valid HDFS user: use lower-case letters, digits, "_" and "-", starting with a letter or "_"`,
    );
  return name;
}

/** Mode of the folders above an area: everyone may traverse, nobody may list; only the platform can access what is created in them. */
export const PASSAGE = 'user::rwx,group::--x,other::--x,default:user::rwx,default:group::---,default:other::---';

/** Each person's rights, `r-x` or `rwx`, by name. Throws `InvalidInput` for invalid names or too many people. */
export function rightsOf({ owner, readers, writers }: Access): ReadonlyMap<string, 'r-x' | 'rwx'> {
  const rights = new Map<string, 'r-x' | 'rwx'>();
  for (const name of readers) rights.set(checkUser(name), 'r-x');
  for (const name of [...writers, ...(owner === undefined ? [] : [owner])]) rights.set(checkUser(name), 'rwx');
  if (rights.size > MOST_PEOPLE)
    throw failure(
      'InvalidInput',
      `${rights.size} people need access, but an HDFS folder can name at most ${MOST_PEOPLE}: remove some of them; they keep their access through the API`,
    );
  return rights;
}

/** The same people with read access only. */
export const readOnly = (rights: ReadonlyMap<string, string>): ReadonlyMap<string, 'r-x'> =>
  new Map([...rights.keys()].map((name) => [name, 'r-x']));

/** The complete ACL of a folder: exactly these people; new content inherits it. */
export function folderAcl(rights: ReadonlyMap<string, string>): string {
  const entries = aclOf(rights, 'rwx');
  return [...entries, ...entries.map((entry) => `default:${entry}`)].join(',');
}

/** The complete ACL of a file in a folder with these rights; stored files are never executable. */
export function fileAcl(rights: ReadonlyMap<string, string>): string {
  return aclOf(new Map([...rights].map(([name, right]) => [name, right.replace('x', '-')])), 'rw-').join(',');
}

/** The rights that a folder gives to new content: the inverse of {@link folderAcl} on the entries that HDFS returns. */
export function inheritedRights(entries: readonly string[]): ReadonlyMap<string, string> {
  const named = entries.map((entry) => /^default:user:([^:]+):(.{3})$/.exec(entry));
  return new Map(named.flatMap((match) => (match ? [[match[1] ?? '', match[2] ?? '']] : [])));
}

/** The mask is explicit and as wide as the widest right, because HDFS's default mask would reduce people's rights. */
function aclOf(rights: ReadonlyMap<string, string>, all: string): string[] {
  const named = [...rights].sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, right]) => `user:${name}:${right}`);
  return [`user::${all}`, ...named, 'group::---', ...(named.length > 0 ? [`mask::${all}`] : []), 'other::---'];
}
