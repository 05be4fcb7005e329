// Where things lie, for activities: what is no name or path is a non-retryable failure, never a plain error that is tried for ever.
import type { Digest, Location, StorePath } from '../workflows/domain/names.ts';
import { locationProblem, releasePathProblem } from '../workflows/domain/names.ts';
import * as names from '../workflows/domain/names.ts';
import { failure } from './failures.ts';

/** The store path of a location; `InvalidInput` for anything that is no name or path. */
export function storePath(location: Location): StorePath {
  const problem = locationProblem(location);
  if (problem) throw failure('InvalidInput', `"${location.path.slice(0, 200)}" in ${location.area}: ${problem}`);
  return names.storePath(location);
}

/** Where a released file lies; `InvalidInput` for anything that is no name, digest or path. */
export function releasePath(type: string, digest: Digest, file: string): StorePath {
  const problem = releasePathProblem(type, digest, file);
  if (problem) throw failure('InvalidInput', `file "${file.slice(0, 200)}" of a release of ${type}: ${problem}`);
  return names.releasePath(type, digest, file);
}
