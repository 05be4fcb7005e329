// Types of data acquisition (paper 4.2): sources, imports and data sheets; and the validation of sources.
import type { NamedArtifact } from './model.ts';
import type { Digest } from './names.ts';
import { dataSetsFolder, nameProblem } from './names.ts';

/** The source of an import's data. It never contains secrets. */
export type Source =
  /** A repository's tree at a branch, tag or commit. */
  | { readonly kind: 'github'; readonly repository: string; readonly ref: string }
  /** The assets of the release with this tag. */
  | { readonly kind: 'github-release'; readonly repository: string; readonly tag: string }
  /** `group:artifact:version[:classifier][@extension]` */
  | { readonly kind: 'maven'; readonly coordinate: string }
  | { readonly kind: 'https'; readonly url: string }
  /** A file or a folder of a registered private node. */
  | { readonly kind: 'sftp'; readonly node: string; readonly path: string };

/** An external host that a project's managers allow as a source. An `sftp` node is private; an `https` node adds its host to the platform's list. */
export type Node =
  | {
      readonly kind: 'sftp';
      readonly project: string;
      readonly node: string;
      readonly host: string;
      readonly port: number;
      readonly user: string;
      /** Pinned SHA-256 of the host's public key, in OpenSSH's format (`SHA256:…`). */
      readonly hostKey: string;
      /** Name of the private key's file in the project's folder of secrets. */
      readonly secret: string;
    }
  | { readonly kind: 'https'; readonly project: string; readonly node: string; readonly host: string };

/** A digest published by the source for a file. */
export interface Expected {
  readonly algorithm: 'sha512' | 'sha256' | 'sha1' | 'md5';
  /** Hexadecimal, lower case. */
  readonly digest: string;
}

/** One file or folder offered by a source. `address` has a source-specific format. */
export interface RemoteFile {
  readonly name: string;
  readonly address: string;
  readonly bytes: number | null;
  readonly expected: Expected | null;
  readonly isFolder: boolean;
}

/** A resolved source, fixed for the whole import: a branch may move meanwhile, a commit does not. */
export interface Resolution {
  readonly revision: string | null;
  /** SPDX identifier, if the source states one. */
  readonly licence: string | null;
  readonly files: readonly RemoteFile[];
  readonly notes: readonly string[];
}

/** Skipped entries: links and devices, and names that a store cannot keep. */
export interface LeftOut {
  readonly count: number;
  /** The first skipped entries. */
  readonly examples: readonly { readonly path: string; readonly why: string }[];
}

/** A stored file of an import, with its origin. */
export interface ImportedFile extends NamedArtifact {
  /** Whether the file is a tar created by the platform, which jobs get as a folder. */
  readonly unpack: boolean;
  readonly origin: {
    readonly address: string;
    readonly bytes: number;
    /** SHA-256 of the fetched bytes; `null` for a folder, which consists of many files. */
    readonly sha256: Digest | null;
    /** The source's identifier of this state of the file: an ETag, a date. */
    readonly validator: string | null;
    /** The published digest that the file was checked against; `null` if there was none. */
    readonly checked: Expected | null;
  };
  /** Files in the tar. */
  readonly entries: number | null;
  readonly leftOut: LeftOut;
}

/** `resolving` → `fetching` → one of the other states. */
export const importStates = ['resolving', 'fetching', 'done', 'failed', 'cancelled'] as const;
export type ImportState = (typeof importStates)[number];

/** One import as shown to people. */
export interface Import {
  readonly project: string;
  readonly import: string;
  readonly dataset: string;
  readonly source: Source;
  readonly unpack: boolean;
  readonly actor: string;
  readonly state: ImportState;
  /** Progress or reason of a failure, for people. */
  readonly detail: string;
  /** Bytes fetched so far. */
  readonly bytes: number;
  readonly files: readonly ImportedFile[];
  /** The data sheet, once the import is done. */
  readonly sheet: NamedArtifact | null;
  /** The resolved source, which does not change later. */
  readonly resolution?: Resolution;
  /** The data sheet as Markdown; older imports have one without a digest. */
  readonly sheetText?: NamedArtifact;
  readonly updatedAt: string;
}

/** The row of an import that has just been started. */
export const newImport = (
  {
    project,
    import: id,
    dataset,
    source,
    unpack,
    actor,
  }: Pick<Import, 'project' | 'import' | 'dataset' | 'source' | 'unpack' | 'actor'>,
  state: ImportState,
  updatedAt: string,
): Import => ({
  ...{ project, import: id, dataset, source, unpack, actor, state, updatedAt },
  ...{ detail: '', bytes: 0, files: [], sheet: null },
});

/** A data sheet, stored beside the data set as JSON and as Markdown. */
export interface DataSheet {
  readonly v: 1;
  readonly project: string;
  readonly dataset: string;
  readonly import: string;
  readonly source: Source;
  readonly revision: string | null;
  readonly licence: string | null;
  readonly importedBy: string;
  readonly importedAt: string;
  readonly bytes: number;
  readonly files: readonly Omit<ImportedFile, 'uri'>[];
  readonly notes: readonly string[];
}

/** The folder of an import's files in the common area. Data set names have no dot, so it cannot collide with a registered data set. */
export const importFolder = ({ dataset, import: id }: { dataset: string; import: string }): string =>
  `${dataSetsFolder}/${dataset}.${id}`;

/** Describes a source in one line for people. */
export function describeSource(source: Source): string {
  switch (source.kind) {
    case 'github':
      return `github ${source.repository} at ${source.ref}`;
    case 'github-release':
      return `github ${source.repository}, release ${source.tag}`;
    case 'maven':
      return `maven ${source.coordinate}`;
    case 'https':
      return source.url;
    case 'sftp':
      return `node ${source.node}: ${source.path}`;
  }
}

/** `owner/name` by GitHub's rules. */
const REPOSITORY = /^[A-Za-z0-9](?:-?[A-Za-z0-9]){0,38}\/(?!\.{1,2}$)[A-Za-z0-9._-]{1,100}$/;
/** Branches, tags and commits without characters that git or URLs interpret. */
const REF = /^(?!.*(?:\.\.|\/\/|\/\.|\.lock$|\.lock\/|[./]$))[A-Za-z0-9_@][A-Za-z0-9._+@/-]{0,199}$/;
const PART = /^(?!.*\.\.)[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/;
/** Lower case, no user, no fragment, visible ASCII only, so that every program reads an address in the same way. */
const URL_TEXT = /^https:\/\/[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?(?::[1-9][0-9]{0,4})?(?:[/?][\x21\x22\x24-\x7e]*)?$/;
const URL_LIMIT = 2_000;
const REMOTE_PATH_LIMIT = 1_024;

/** Why `text` is not a valid value of this field of a source; `undefined` if it is valid. */
export const fieldProblems = {
  repository: (text: unknown) => matches(text, REPOSITORY, 'a repository is written owner/name'),
  ref: (text: unknown) => matches(text, REF, 'a ref is a branch, tag or commit'),
  tag: (text: unknown) => matches(text, REF, 'a tag is the name of a release’s tag'),
  coordinate: (text: unknown) =>
    typeof text === 'string' && parseCoordinate(text)
      ? undefined
      : 'a coordinate is group:artifact:version[:classifier][@extension], with a fixed version (no SNAPSHOT, LATEST, RELEASE)',
  url: (text: unknown) =>
    typeof text === 'string' && text.length > URL_LIMIT
      ? `a URL has at most ${URL_LIMIT} characters`
      : matches(text, URL_TEXT, 'a URL begins with https:// and has a host in lower case, no user name, no fragment'),
  node: nameProblem,
  path: (text: unknown) =>
    typeof text === 'string' && isRemotePath(text)
      ? undefined
      : `a path on a node has 1 to ${REMOTE_PATH_LIMIT} characters, no control characters and no ".."`,
} as const satisfies Record<string, (text: unknown) => string | undefined>;

const fields = {
  github: ['repository', 'ref'],
  'github-release': ['repository', 'tag'],
  maven: ['coordinate'],
  https: ['url'],
  sftp: ['node', 'path'],
} as const satisfies Record<Source['kind'], readonly (keyof typeof fieldProblems)[]>;

/** Why `given` is not a valid source; `undefined` if it is valid. Never throws for any input. */
export function sourceProblem(given: unknown): string | undefined {
  if (typeof given !== 'object' || given === null) return 'a source is an object';
  const source: Readonly<Record<string, unknown>> = { ...given };
  const kind = source['kind'];
  if (typeof kind !== 'string' || !Object.hasOwn(fields, kind))
    return `the kind of a source is one of ${Object.keys(fields).join(', ')}`;
  const wanted: readonly (keyof typeof fieldProblems)[] = fields[kind as Source['kind']];
  for (const field of wanted) {
    const problem = fieldProblems[field](source[field]);
    if (problem) return `${field}: ${problem}`;
  }
  const extra = Object.keys(source).find((key) => key !== 'kind' && !wanted.some((field) => field === key));
  return extra === undefined ? undefined : `a ${kind} source has no ${extra.slice(0, 60)}`;
}

export interface Coordinate {
  readonly group: string;
  readonly artifact: string;
  readonly version: string;
  readonly classifier: string | null;
  readonly extension: string;
}

/** Parses a Maven coordinate; `undefined` if it is invalid or its version is not fixed. */
export function parseCoordinate(text: string): Coordinate | undefined {
  const [whole = '', extension = 'jar', ...more] = text.split('@');
  const [group = '', artifact = '', version = '', classifier, ...rest] = whole.split(':');
  const parts = [group, artifact, version, extension, ...(classifier === undefined ? [] : [classifier])];
  if (more.length > 0 || rest.length > 0 || !parts.every((part) => PART.test(part))) return undefined;
  if (/-SNAPSHOT$|^(LATEST|RELEASE)$/i.test(version)) return undefined;
  return { group, artifact, version, classifier: classifier ?? null, extension };
}

function isRemotePath(text: string): boolean {
  return text.length > 0 && text.length <= REMOTE_PATH_LIMIT && !/[\u0000-\u001f\u007f]|(^|\/)\.\.(\/|$)/.test(text);
}

function matches(text: unknown, pattern: RegExp, message: string): string | undefined {
  return typeof text === 'string' && pattern.test(text) ? undefined : message;
}
