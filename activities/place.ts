// Store paths for activities: an invalid name or path is a non-retryable failure, not a plain error that is retried forever.
import type { Digest, Location, StorePath } from '../workflows/domain/names.ts';
import { locationProblem, releasePathProblem } from '../workflows/domain/names.ts';
import * as names from '../workflows/domain/names.ts';
import { failure } from './failures.ts';

/** The store path of a location; `InvalidInput` for an invalid name or path. */
export function storePath(location: Location): StorePath {
  const problem = locationProblem(location);
  if (problem) throw failure('InvalidInput', `"${location.path.slice(0, 200)}" in ${location.area}: ${problem}`);
  return names.storePath(location);
}

/** The path of a released file; `InvalidInput` for an invalid name, digest or path. */
export function releasePath(type: string, digest: Digest, file: string): StorePath {
  const problem = releasePathProblem(type, digest, file);
  if (problem) throw failure('InvalidInput', `file "${file.slice(0, 200)}" of a release of ${type}: ${problem}`);
  return names.releasePath(type, digest, file);
}
