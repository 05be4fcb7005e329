// Who may what below a folder, as HDFS's owners, modes and named-user ACL entries; pure.
import { failure } from '../../failures.ts';

/** People by their names, which are also their names in HDFS. A writer reads too. */
export interface Access {
  /** Owns the folder and what lies there, and may read and write; without one the platform owns it. */
  readonly owner?: string;
  readonly readers: readonly string[];
  readonly writers: readonly string[];
}

/** Names that mean the same to HDFS, to the systems its clients run on, and in an ACL. */
const USER = /^[a-z_][a-z0-9_-]*$/;
/** HDFS takes 32 entries in an ACL; four are the owner, the group, the others and the mask. */
const MOST_PEOPLE = 28;

/** The text as a user of HDFS. Throws `InvalidInput`: another name would be refused, or be somebody else. */
export function checkUser(name: string): string {
  if (!USER.test(name))
    throw failure(
      'InvalidInput',
      `"${name.slice(0, 60)}" is no user of HDFS: lower-case letters, digits, "_" and "-", beginning with a letter or "_"`,
    );
  return name;
}

/** Folders on the way to an area: everyone may pass, nobody may look; what is made in them belongs to the platform alone. */
export const PASSAGE = 'user::rwx,group::--x,other::--x,default:user::rwx,default:group::---,default:other::---';

/** Each person's rights, `r-x` or `rwx`, by name. Throws `InvalidInput` for names that are none, or too many. */
export function rightsOf({ owner, readers, writers }: Access): ReadonlyMap<string, 'r-x' | 'rwx'> {
  const rights = new Map<string, 'r-x' | 'rwx'>();
  for (const name of readers) rights.set(checkUser(name), 'r-x');
  for (const name of [...writers, ...(owner === undefined ? [] : [owner])]) rights.set(checkUser(name), 'rwx');
  if (rights.size > MOST_PEOPLE)
    throw failure(
      'InvalidInput',
      `${rights.size} people are more than the ${MOST_PEOPLE} that HDFS can name on one folder: leave some out, they still have access by the API`,
    );
  return rights;
}

/** The same people, who may only read. */
export const readOnly = (rights: ReadonlyMap<string, string>): ReadonlyMap<string, 'r-x'> =>
  new Map([...rights.keys()].map((name) => [name, 'r-x']));

/** The whole ACL of a folder: exactly these people, and what is made in it inherits the same. */
export function folderAcl(rights: ReadonlyMap<string, string>): string {
  const entries = aclOf(rights, 'rwx');
  return [...entries, ...entries.map((entry) => `default:${entry}`)].join(',');
}

/** The whole ACL of a file in a folder of these rights; nothing stored is a program. */
export function fileAcl(rights: ReadonlyMap<string, string>): string {
  return aclOf(new Map([...rights].map(([name, right]) => [name, right.replace('x', '-')])), 'rw-').join(',');
}

/** The rights that a folder gives to what is made in it: inverse of {@link folderAcl} on the entries that HDFS tells. */
export function inheritedRights(entries: readonly string[]): ReadonlyMap<string, string> {
  const named = entries.map((entry) => /^default:user:([^:]+):(.{3})$/.exec(entry));
  return new Map(named.flatMap((match) => (match ? [[match[1] ?? '', match[2] ?? '']] : [])));
}

/** The mask is said outright, as wide as the widest right: HDFS would cut the people's rights down to another one. */
function aclOf(rights: ReadonlyMap<string, string>, all: string): string[] {
  const named = [...rights].sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, right]) => `user:${name}:${right}`);
  return [`user::${all}`, ...named, 'group::---', ...(named.length > 0 ? [`mask::${all}`] : []), 'other::---'];
}
