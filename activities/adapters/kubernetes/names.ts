// Names and labels of the platform's objects on a cluster: each follows from the installation, the project, and the job or service.
import { systemName } from '../../../workflows/domain/names.ts';
import { failure } from '../../failures.ts';
import type { JobSpec } from '../../ports.ts';
import { keyOf } from '../local-process/job-progress.ts';

export const labels = {
  installation: 'ocdl/installation',
  /** Name of the Job object. */
  job: 'ocdl/job',
  /** What identifies the job's work (`digestOf`). */
  digest: 'ocdl/digest',
  /** Name of the service's Deployment. */
  service: 'ocdl/service',
  /** One start of a service: its Service selects the pods of this start only. */
  start: 'ocdl/start',
} as const;

/** The name of the job or service as the platform knows it: the inverse of `objectName`. */
export const nameAnnotation = 'ocdl/name';

/** On a Job whose Secret exists: the platform cannot read Secrets. */
export const tokenAnnotation = 'ocdl/token';

/** On the Deployment of a service: when nobody can need it any more, so that any worker may remove it. */
export const untilAnnotation = 'ocdl/until';

/** A Job adds six characters to its name for its pod, a Deployment eleven for its ReplicaSet; labels and host names have at most 63. */
const LONGEST_OBJECT = 52;
/** Digits of a SHA-256 digest that fit into a label. */
const DIGEST_DIGITS = 40;

/** Name of the objects of a job or service. */
export const objectName = (name: string): string => systemName(name, LONGEST_OBJECT);

/** Name of a project's namespace; jobs without a project share one. */
export const namespaceName = (installation: string, project: string | undefined): string =>
  project === undefined ? `${installation}-jobs` : systemName(`${installation}-${project}`, 63);

/** Selects all objects of an installation. */
export const ofInstallation = (installation: string): string => `${labels.installation}=${installation}`;

/** Selects the objects of one job. */
export const ofJob = (installation: string, job: string): string =>
  `${ofInstallation(installation)},${labels.job}=${objectName(job)}`;

/** Selects the objects of one service. */
export const ofService = (installation: string, service: string): string =>
  `${ofInstallation(installation)},${labels.service}=${objectName(service)}`;

/** What identifies a job's work, as a label. */
export const digestOf = (spec: JobSpec): string => keyOf(spec).slice(0, DIGEST_DIGITS);

/** Throws `InvalidInput` for a name that no job or service can have. */
export function checkName(name: string): void {
  if (!/^[a-z0-9-]{1,63}$/.test(name))
    throw failure(
      'InvalidInput',
      `${JSON.stringify(name)} is not a valid name of a job or service: use 1 to 63 of a-z, 0-9 and "-"`,
    );
}
