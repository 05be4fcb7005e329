// The only definition of valid names, paths and digests. All boundaries (API, commands, model.json) use these functions.
import { sha256Hex } from './sha256.ts';

/** A name of a project, model, type, user, application …: lower-case words joined by hyphens, also a valid DNS label and Kafka topic. */
export const NAME_PATTERN = /^[a-z][a-z0-9]*(-[a-z0-9]+)*$/;
/** DNS label limit (RFC 1035); Kafka would allow 249. */
export const NAME_LIMIT = 63;
/** Actors in the audit that are not users: an unsigned command's sender, the platform itself, an unverified claim. */
export const reservedActors = ['operator', 'platform', 'unproven'] as const;
/** One segment of a path in an area: no hidden files, no traversal, no characters that any store or URL treats specially. */
const SEGMENT = /^[A-Za-z0-9_][A-Za-z0-9._-]*$/;
const SEGMENT_LIMIT = 128;
const PATH_LIMIT = 512;
const PATH_DEPTH = 12;
/**
 * The platform's own paths in an area may be longer than people's paths: it adds folders in front
 * (`datasets/DATASET.IMPORT/files/`: 3 segments, 143 characters), appends files (`/reports/EVALUATION.json`) and joins names to one
 * segment (`delivery-APPLICATION-RELEASE-STEP.json`: 170 characters). File systems allow 255 characters per segment.
 */
const AREA_SEGMENT_LIMIT = 200;
const AREA_PATH_LIMIT = PATH_LIMIT + 256;
const AREA_PATH_DEPTH = PATH_DEPTH + 4;

/** SHA-256 of an artifact's bytes as 64 lower-case hexadecimal digits. */
export type Digest = string & { readonly __brand: 'Digest' };
/** Address of stored bytes; only the adapter that created it can open it. */
export type ArtifactUri = string & { readonly __brand: 'ArtifactUri' };
/** A validated relative path in a store, e.g. `private/vulnerability/sam/runs/rf-1/model.onnx`. */
export type StorePath = string & { readonly __brand: 'StorePath' };

/** Why `text` is not a valid name; `undefined` if it is valid. */
export function nameProblem(text: unknown): string | undefined {
  if (typeof text !== 'string') return 'a name must be text';
  if (text.length > NAME_LIMIT) return `a name has at most ${NAME_LIMIT} characters, this one has ${text.length}`;
  if (!NAME_PATTERN.test(text))
    return 'a name has lower-case letters, digits and single hyphens, and begins with a letter (for example "random-forest")';
  return undefined;
}

/** Why `text` is not a path that a person may use; `undefined` if it is valid. */
export const pathProblem = (text: unknown): string | undefined =>
  problemOf(text, { path: PATH_LIMIT, depth: PATH_DEPTH, segment: SEGMENT_LIMIT });

/** Why `text` is not a valid path inside an area; `undefined` if it is valid. Every valid path of a person fits, with the platform's additions. */
export const areaPathProblem = (text: unknown): string | undefined =>
  problemOf(text, { path: AREA_PATH_LIMIT, depth: AREA_PATH_DEPTH, segment: AREA_SEGMENT_LIMIT });

/** Why `text` is not a valid segment of a path inside an area; `undefined` if it is valid. */
export const segmentProblem = (text: unknown): string | undefined =>
  problemOf(text, { path: AREA_PATH_LIMIT, depth: 1, segment: AREA_SEGMENT_LIMIT });

function problemOf(text: unknown, most: { path: number; depth: number; segment: number }): string | undefined {
  if (typeof text !== 'string') return 'a path must be text';
  if (text.length === 0) return 'a path must not be empty';
  if (text.length > most.path) return `a path has at most ${most.path} characters, this one has ${text.length}`;
  const segments = text.split('/');
  if (segments.length > most.depth) return `a path has at most ${most.depth} segments, this one has ${segments.length}`;
  for (const segment of segments) {
    if (segment.length > most.segment)
      return `a path segment has at most ${most.segment} characters, "${printable(segment)}" has ${segment.length}`;
    if (!SEGMENT.test(segment))
      return `"${printable(segment)}" is not a valid path segment: use only letters, digits, ".", "_" and "-", and do not begin with "." or "-"`;
  }
  return undefined;
}

export const isName = (text: unknown): text is string => nameProblem(text) === undefined;
export const isDigest = (text: unknown): text is Digest => typeof text === 'string' && /^[0-9a-f]{64}$/.test(text);

/** A location in one of Rover's three areas (paper 4.2) or in the release store. */
export type Location =
  | { readonly area: 'private'; readonly project: string; readonly user: string; readonly path: string }
  | { readonly area: 'common' | 'staging'; readonly project: string; readonly path: string };

/** Why a location is not valid; `undefined` if it is valid. */
export function locationProblem(location: Location): string | undefined {
  const owner = location.area === 'private' ? nameProblem(location.user) : undefined;
  return nameProblem(location.project) ?? owner ?? areaPathProblem(location.path);
}

/** The store path of a location. Throws `TypeError` for invalid names and paths: callers must validate them first. */
export function storePath(location: Location): StorePath {
  const problem = locationProblem(location);
  if (problem) throw new TypeError(problem);
  const owner = location.area === 'private' ? [location.project, location.user] : [location.project];
  return [location.area, ...owner, location.path].join('/') as StorePath;
}

/** The folder of registered data sets in an area; only the platform writes there. */
export const dataSetsFolder = 'datasets';

/** Inverse of {@link storePath}; `undefined` for any other path. */
export function locationOf(path: string): Location | undefined {
  const [area, project = '', third = '', ...rest] = path.split('/');
  const location: Location | undefined =
    area === 'private'
      ? { area, project, user: third, path: rest.join('/') }
      : area === 'common' || area === 'staging'
        ? { area, project, path: [third, ...rest].join('/') }
        : undefined;
  if (!location || !isName(project) || areaPathProblem(location.path)) return undefined;
  if (location.area === 'private' && !isName(location.user)) return undefined;
  return location;
}

/** Why these values do not form a valid path of a released file; `undefined` if they do. */
export const releasePathProblem = (type: string, digest: Digest, file: string): string | undefined =>
  nameProblem(type) ?? pathProblem(file) ?? (isDigest(digest) ? undefined : 'no SHA-256 digest');

/** Path of a released file in the release store, by type and the file's digest, so that a path always refers to the same bytes. Throws `TypeError`. */
export function releasePath(type: string, digest: Digest, file: string): StorePath {
  const problem = releasePathProblem(type, digest, file);
  if (problem) throw new TypeError(problem);
  return `releases/${type}/${digest}/${file}` as StorePath;
}

/** The folder of one submission in staging, relative to its project. */
export const stagingFolder = (model: string, submission: string): string => `models/${model}/${submission}`;

/** The name of a version in the audit and for people. */
export const subjectOf = ({ project, model, submission }: { project: string; model: string; submission: string }) =>
  `${project}/${model}/${submission}`;

/** Hexadecimal digits of a system name's hash: 64 bits, which makes accidental collisions practically impossible. */
const HASH_DIGITS = 16;

/**
 * A name for another system (a job, a service, an object of a cluster): a readable DNS label of at most `limit` characters,
 * deterministic, and distinct for distinct texts of any length and content.
 */
export function systemName(text: string, limit = NAME_LIMIT): string {
  const words = text
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^[^a-z]+/, '');
  const slug = words.slice(0, limit - HASH_DIGITS - 1).replace(/-+$/, '') || 'x';
  return `${slug}-${sha256Hex(text).slice(0, HASH_DIGITS)}`;
}

function printable(text: string): string {
  return text.replace(/[^\x20-\x7e]/g, '?').slice(0, 60);
}
