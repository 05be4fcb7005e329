// Rover (paper 4.2): provisions compute and data, trains models, and evaluates them on data sets.
import type { ArtifactStore, CodeHost } from './ports.ts';
import type { Records } from './records.ts';
import { createEvaluationActivities } from './rover/evaluating.ts';
import { createRecordedJobs } from './rover/recorded-jobs.ts';
import { createTrainingActivities } from './rover/training.ts';

export type RoverActivities = ReturnType<typeof createRoverActivities>;

export function createRoverActivities(deps: {
  records: Records;
  areas: ArtifactStore;
  releases: ArtifactStore;
  code: CodeHost;
  /** Text of the lock of the platform's own Python environment. */
  platformLock: string;
}) {
  const jobs = createRecordedJobs(deps);
  return { ...createTrainingActivities(deps, jobs), ...createEvaluationActivities(deps, jobs) };
}
