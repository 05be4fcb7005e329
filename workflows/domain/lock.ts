// The only definition of a valid requirements lock: pinned packages with the digests of their files, and nothing else.
import { markerProblem } from './marker.ts';

/** The command that creates a valid lock; messages name it. */
export const LOCK_COMMAND = 'npm run lock -- requirements.in';

/** A lock of 1,000 packages with 50 files each has about 5 MB; those of real projects have 100 packages at most. */
export const LOCK_BYTES = 2 * 1024 * 1024;
const MOST_LINES = 50_000;
const MOST_PACKAGES = 1_000;
/** Files of one version: numpy has about 60. */
const MOST_HASHES = 500;
/** A line with a digest has 90 characters; the longest markers in use have a few hundred. */
const LONGEST_LINE = 2_000;
/** Longer than any name with its version. */
const LONGEST_PIN = 400;
/** Enough to correct a file; a text that is not a lock would have a problem in every line. */
const MOST_PROBLEMS = 20;

export interface LockedPackage {
  /** The name as written in the lock. */
  readonly name: string;
  readonly version: string;
  /** Condition for the installation (PEP 508), such as `python_version < "3.11"`. */
  readonly marker?: string;
  /** SHA-256 of the files that may be installed, 64 lower-case hexadecimal digits each. */
  readonly hashes: readonly string[];
}

export interface LockProblem {
  /** Line number, counted from 1. */
  readonly line: number;
  readonly message: string;
}

export type Lock =
  | { readonly packages: readonly LockedPackage[]; readonly problems: readonly [] }
  | { readonly packages?: never; readonly problems: readonly [LockProblem, ...LockProblem[]] };

/** Parses a lock's text; returns either its packages or at most the first 20 problems. */
export function parseLock(text: string): Lock {
  const problems: LockProblem[] = [];
  const add = (line: number, message: string): void => void problems.push({ line, message });
  const sizeProblem = tooLarge(text);
  const packages: LockedPackage[] = [];
  /** Whether a package is listed without a marker, by normalised name. */
  const always = new Map<string, boolean>();
  const lines = sizeProblem === undefined ? logicalLines(text, add) : [];
  if (sizeProblem !== undefined) add(1, sizeProblem);
  for (const { line, content } of lines) {
    if (problems.length >= MOST_PROBLEMS) break;
    const read = readPackage(content);
    if (typeof read === 'string') add(line, read);
    else {
      const name = plainName(read.name);
      const before = always.get(name);
      if (before === true || (before === false && read.marker === undefined))
        add(line, `${read.name} is listed twice: a package may be listed twice only if both lines have a marker`);
      if (packages.length === MOST_PACKAGES) add(line, `a lock has at most ${MOST_PACKAGES} packages`);
      always.set(name, read.marker === undefined);
      packages.push(read);
    }
  }
  const [first, ...more] = problems.sort((a, b) => a.line - b.line).slice(0, MOST_PROBLEMS);
  return first === undefined ? { packages, problems: [] } : { problems: [first, ...more] };
}

/** The problems of a lock's text by line; empty for a valid lock. */
export const lockProblems = (text: string): readonly LockProblem[] => parseLock(text).problems;

/** The message for an invalid lock: its problems and how to create a valid one. */
export function lockMessage(file: string, problems: readonly LockProblem[]): string {
  const listed = problems.map(({ line, message }) => `line ${line}: ${message}`).join('; ');
  return (
    `${file} is not a valid requirements lock: ${listed}. A lock contains only lines of the form "name==version --hash=sha256:…". ` +
    `Create one from a list of the packages you need, in a checkout of OCDL: ${LOCK_COMMAND}`
  );
}

/** The lock for pip, written from the parsed packages so that pip cannot interpret the original text differently. */
export function renderLock(packages: readonly LockedPackage[]): string {
  return packages
    .map(({ name, version, marker, hashes }) =>
      [
        `${name}==${version}${marker === undefined ? '' : ` ; ${marker}`}`,
        ...hashes.map((h) => `--hash=sha256:${h}`),
      ].join(' \\\n    '),
    )
    .map((entry) => `${entry}\n`)
    .join('');
}

function tooLarge(text: string): string | undefined {
  if (text.length > LOCK_BYTES) return `a lock has at most ${LOCK_BYTES} characters; this has ${text.length}`;
  const lines = text.split('\n').length;
  return lines > MOST_LINES ? `a lock has at most ${MOST_LINES} lines; this has ${lines}` : undefined;
}

interface LogicalLine {
  readonly line: number;
  readonly content: string;
}

/** Joins lines that end with a backslash, without comments and blank lines. */
function logicalLines(text: string, add: (line: number, message: string) => void): readonly LogicalLine[] {
  const found: LogicalLine[] = [];
  const open: { line: number; parts: string[] } = { line: 0, parts: [] };
  const close = (): void => {
    const content = open.parts.join(' ').trim();
    if (content !== '') found.push({ line: open.line, content });
    open.parts = [];
  };
  text.split(/\r\n|\n|\r/).forEach((raw, index) => {
    const line = index + 1;
    // Other line ends, terminal codes and byte order marks: programs read such a text differently from people.
    if (CONTROL.test(raw)) add(line, 'control characters and byte order marks are not allowed');
    if (raw.length > LONGEST_LINE)
      return add(line, `a line has at most ${LONGEST_LINE} characters; this has ${raw.length}`);
    // From here on, single spaces and no comments.
    const words = raw
      .replace(/(^|[ \t])#.*$/, '$1')
      .split(/[ \t]/)
      .filter((word) => word !== '');
    const content = words.join(' ');
    const goesOn = content.endsWith('\\');
    if (open.parts.length === 0) open.line = line;
    open.parts.push(goesOn ? content.slice(0, -1).trim() : content);
    if (!goesOn) close();
  });
  close();
  return found;
}

const CONTROL = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u2028\u2029\ufeff]/;

const NAME = '[A-Za-z0-9](?:[A-Za-z0-9._-]{0,126}[A-Za-z0-9])?';
const EXTRAS = `\\[ ?(?:${NAME}(?: ?, ?${NAME}){0,19})? ?\\]`;
/** PEP 440, without wildcards. */
const VERSION =
  '(?:\\d{1,9}!)?\\d{1,18}(?:\\.\\d{1,18}){0,9}(?:[._-]?(?:a|b|c|rc|alpha|beta|pre|preview)[._-]?\\d{0,9})?' +
  '(?:-\\d{1,9}|[._-]?(?:post|rev|r)[._-]?\\d{0,9})?(?:[._-]?dev[._-]?\\d{0,9})?(?:\\+[A-Za-z0-9]{1,40}(?:[._-][A-Za-z0-9]{1,40}){0,9})?';
const PINNED = new RegExp(`^(${NAME}) ?(?:${EXTRAS})? ?== ?(${VERSION})$`, 'i');
const HASH = /^--hash=sha256:([0-9a-f]{64})$/;

/** Parses one entry; returns a text if it is invalid. */
function readPackage(content: string): LockedPackage | string {
  const refused = refusedKind(content);
  if (refused !== undefined) return refused;
  const [head = '', ...options] = content.split(/ (?=--)/);
  const [pin = '', ...rest] = head.split(';');
  const marker = rest.length === 0 ? undefined : rest.join(';').trim();
  const pinned = pin.length > LONGEST_PIN ? null : PINNED.exec(pin.trim());
  if (pinned === null) return `"${shown(pin.trim())}" is not a pinned package: name==version`;
  const [, name = '', version = ''] = pinned;
  const problem = marker === undefined ? undefined : markerProblem(marker);
  if (problem !== undefined) return `the marker of ${name} cannot be read: ${problem}`;
  const hashes: string[] = [];
  for (const option of options) {
    const hash = HASH.exec(option.trim())?.[1];
    if (hash === undefined)
      return option.startsWith('--hash')
        ? `"${shown(option)}" is not a digest: --hash=sha256: and 64 lower-case hexadecimal digits`
        : `the option ${shown(option)} is not allowed`;
    hashes.push(hash);
  }
  if (hashes.length === 0) return `${name}==${version} has no --hash=sha256:…`;
  if (hashes.length > MOST_HASHES)
    return `${name}==${version} has ${hashes.length} digests, and at most ${MOST_HASHES} are allowed`;
  return { name, version, ...(marker !== undefined && { marker }), hashes };
}

/** The message for lines that pip accepts but a lock must not contain. */
function refusedKind(content: string): string | undefined {
  const option = /^-[^ =]*/.exec(content)?.[0];
  if (option !== undefined) return `the option ${shown(option)} is not allowed: a lock lists only packages`;
  if (content.includes('://') || /^(?:git|hg|svn|bzr)\+/i.test(content) || /^file:/i.test(content))
    return `"${shown(content)}" names an address: packages come only from the platform's package index`;
  if (/^[^;]*@/.test(content)) return `"${shown(content)}" names an address: packages are pinned as name==version`;
  if (/^(?:\.|~|[^;=]*[\\/])/.test(content))
    return `"${shown(content)}" is a path: packages come only from the package index`;
  return undefined;
}

/** Normalises a package name: case and separators do not matter (PEP 503). */
const plainName = (name: string): string => name.toLowerCase().replace(/[._-]+/g, '-');

function shown(text: string): string {
  return text.replace(/[^\x20-\x7e]/g, '?').slice(0, 80);
}
