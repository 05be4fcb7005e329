// The nouns of data acquisition (paper 4.2): where data may come from, an import on its way, its data sheet; and what is a lawful source.
import type { NamedArtifact } from './model.ts';
import type { Digest } from './names.ts';
import { dataSetsFolder, nameProblem } from './names.ts';

/** Where an import's data comes from. Secrets are never part of it. */
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

/** A host outside that a project's managers let data come from. An `sftp` node is private; an `https` node adds its host to the platform's list. */
export type Node =
  | {
      readonly kind: 'sftp';
      readonly project: string;
      readonly node: string;
      readonly host: string;
      readonly port: number;
      readonly user: string;
      /** Pinned: SHA-256 of the host's public key, as OpenSSH prints it (`SHA256:…`). */
      readonly hostKey: string;
      /** Name of the private key's file in the project's folder of secrets. */
      readonly secret: string;
    }
  | { readonly kind: 'https'; readonly project: string; readonly node: string; readonly host: string };

/** A digest that somebody else has published for a file. */
export interface Expected {
  readonly algorithm: 'sha512' | 'sha256' | 'sha1' | 'md5';
  /** Hexadecimal, lower case. */
  readonly digest: string;
}

/** One file, or one folder, as its source offers it. `address` is the source's own. */
export interface RemoteFile {
  readonly name: string;
  readonly address: string;
  readonly bytes: number | null;
  readonly expected: Expected | null;
  readonly isFolder: boolean;
}

/** What a source was found to mean, once for the whole import: a branch may move meanwhile, a commit does not. */
export interface Resolution {
  readonly revision: string | null;
  /** SPDX identifier, if the source tells. */
  readonly licence: string | null;
  readonly files: readonly RemoteFile[];
  readonly notes: readonly string[];
}

/** What was not taken over: links and devices lead elsewhere, and some names no store could keep. */
export interface LeftOut {
  readonly count: number;
  /** The first of them. */
  readonly examples: readonly { readonly path: string; readonly why: string }[];
}

/** A stored file of an import, with what it was made from. */
export interface ImportedFile extends NamedArtifact {
  /** A tar of the platform's making: jobs find it laid out as a folder. */
  readonly unpack: boolean;
  readonly origin: {
    readonly address: string;
    readonly bytes: number;
    /** SHA-256 of what was fetched; `null` for a folder, which comes as many files. */
    readonly sha256: Digest | null;
    /** What the source called this state of it: an ETag, a date. */
    readonly validator: string | null;
    /** The published digest that it was held to; `null`: there was none. */
    readonly checked: Expected | null;
  };
  /** Files in the tar. */
  readonly entries: number | null;
  readonly leftOut: LeftOut;
}

/** `resolving` → `fetching` → one of the rest. */
export const importStates = ['resolving', 'fetching', 'done', 'failed', 'cancelled'] as const;
export type ImportState = (typeof importStates)[number];

/** One import, as people see it. */
export interface Import {
  readonly project: string;
  readonly import: string;
  readonly dataset: string;
  readonly source: Source;
  readonly unpack: boolean;
  readonly actor: string;
  readonly state: ImportState;
  /** What it does, waits for or failed at, for people. */
  readonly detail: string;
  /** Fetched so far. */
  readonly bytes: number;
  readonly files: readonly ImportedFile[];
  /** The data sheet, once it is done. */
  readonly sheet: NamedArtifact | null;
  /** What the source was found to mean: fixed for all that follows. */
  readonly resolution?: Resolution;
  /** The same for people, as Markdown; imports of former times have it without its digest. */
  readonly sheetText?: NamedArtifact;
  readonly updatedAt: string;
}

/** The row of an import of which nothing has come yet. */
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

/** What a data sheet says; it lies beside the data set as JSON and as Markdown. */
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

/** The folder of an import's files in the common area. A data set's name has no dot, so that no registered one lies there. */
export const importFolder = ({ dataset, import: id }: { dataset: string; import: string }): string =>
  `${dataSetsFolder}/${dataset}.${id}`;

/** One line for people. */
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

/** `owner/name` as GitHub allows it. */
const REPOSITORY = /^[A-Za-z0-9](?:-?[A-Za-z0-9]){0,38}\/(?!\.{1,2}$)[A-Za-z0-9._-]{1,100}$/;
/** Branches, tags and commits without what git or a URL would read as something else. */
const REF = /^(?!.*(?:\.\.|\/\/|\/\.|\.lock$|\.lock\/|[./]$))[A-Za-z0-9_@][A-Za-z0-9._+@/-]{0,199}$/;
const PART = /^(?!.*\.\.)[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/;
/** Lower case, no user, no fragment, visible ASCII only: one way to write an address, and one way to read it. */
const URL_TEXT = /^https:\/\/[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?(?::[1-9][0-9]{0,4})?(?:[/?][\x21\x22\x24-\x7e]*)?$/;
const URL_LIMIT = 2_000;
const REMOTE_PATH_LIMIT = 1_024;

/** Why `text` is no lawful value of this field of a source, or `undefined` when it is one. */
export const fieldProblems = {
  repository: (text: unknown) => matches(text, REPOSITORY, 'a repository is written owner/name'),
  ref: (text: unknown) => matches(text, REF, 'a ref is a branch, tag or commit'),
  tag: (text: unknown) => matches(text, REF, 'a tag is the name of a release’s tag'),
  coordinate: (text: unknown) =>
    typeof text === 'string' && parseCoordinate(text)
      ? undefined
      : 'a coordinate is group:artifact:version[:classifier][@extension], with a version that stays as it is (no SNAPSHOT, LATEST, RELEASE)',
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

/** Why it is no lawful source, or `undefined` when it is one. Total: whatever it is given, it answers. */
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

/** A Maven coordinate taken apart; `undefined` for what is none, or means something else each day. */
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
