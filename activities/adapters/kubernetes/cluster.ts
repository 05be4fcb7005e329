// The Cluster port on Kubernetes: jobs and services go on without the worker that started them, and are found again by their labels.
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { failure } from '../../failures.ts';
import { isPassing, type Cluster, type JobSpec, type JobState } from '../../ports.ts';
import { isRefused, openClient, Refused, type ClusterPlace, type KubernetesClient } from './client.ts';
import { readLog } from './job-log.ts';
import { jobManifest, secretManifest, type JobSetting } from './job-manifests.ts';
import { jobsPath, watchAllJobs } from './job-watch.ts';
import { checkName, digestOf, labels, namespaceName, ofJob, tokenAnnotation } from './names.ts';
import { readJob, readPod, type JobFacts, type PodFacts } from './objects.ts';
import {
  keptManifests,
  namespaceManifest,
  quotaManifest,
  servicePolicyManifest,
  type ProjectQuota,
} from './project-manifests.ts';
import { removeOwner, type RemovedOwner } from './removal.ts';
import { createKubernetesServices, type ServiceTokens } from './services.ts';
import { outcomeOf, standingOf } from './standing.ts';
import { listObjects } from './watch.ts';

export interface KubernetesOptions {
  readonly place: ClusterPlace;
  /** Distinguishes this installation from others on the cluster, and begins the names of its namespaces. */
  readonly installation: string;
  /** The capsule image. */
  readonly image: string;
  /** The platform's image, which serves models. */
  readonly platformImage: string;
  /** Address ranges of the control plane, through which a platform outside of the cluster reaches model services. */
  readonly callerRanges: readonly string[];
  /** Address of the API for pods. */
  readonly dataUrl: string;
  readonly dataRanges: readonly string[];
  readonly gpuResource: string;
  readonly quota: ProjectQuota;
  /** The lock of the environment in the image. */
  readonly platformLock: string;
  /** How long a pod retries an unresponsive API; default: 15 minutes for inputs, 12 hours for outputs. */
  readonly patience?: JobSetting['patience'];
  /** How long another worker may take from a job's creation to its token; default 15 s. */
  readonly tokenWithinMs?: number;
  /** Tokens with which the pods of services fetch their files. */
  readonly serviceTokens: ServiceTokens;
  /** How long a service may take to be ready; default 4 minutes. */
  readonly readyWithinMs?: number;
  /** Memory of each service; default: enough for its model. */
  readonly serviceMemoryBytes?: number;
  /** After how long without a byte a watch counts as lost; default 150 s. */
  readonly watchSilenceMs?: number;
  readonly onWarn?: (message: string) => void;
}

export type KubernetesCluster = Cluster & {
  readonly client: KubernetesClient;
  close(): Promise<void>;
};

/** A failed fetch loses nothing; an output may have cost a week. */
const PATIENCE = { fetchSeconds: 900, uploadSeconds: 43_200 } as const;
const TOKEN_WITHIN_MS = 15_000;
const POLL_MS = 500;
/** Field owner of server-side apply. */
const OWNER = 'ocdl';

/** Opens the cluster; connects to nothing yet. */
export function createKubernetesCluster(options: KubernetesOptions): KubernetesCluster {
  const { installation, onWarn = () => undefined } = options;
  const client = openClient(options.place);
  const setting: JobSetting = { ...options, patience: options.patience ?? PATIENCE };
  const prepared = new Map<string, Promise<void>>();

  const findJobs = async (name: string): Promise<readonly JobFacts[]> => {
    const { items } = await listObjects(client, jobsPath, { labelSelector: ofJob(installation, name) });
    return items.flatMap((item) => readJob(item) ?? []);
  };
  const podOf = async ({ namespace, name }: JobFacts): Promise<PodFacts | undefined> => {
    const path = `/api/v1/namespaces/${namespace}/pods`;
    const { items } = await listObjects(client, path, { labelSelector: ofJob(installation, name) });
    return items.flatMap((item) => readPod(item) ?? [])[0];
  };

  /** What the cluster reported last instead of making a job's pod. */
  const hindranceOf = async ({ namespace, object, uid }: JobFacts): Promise<string | undefined> => {
    const fieldSelector = `involvedObject.kind=Job,involvedObject.name=${object},reason=FailedCreate`;
    const { items } = await listObjects(client, `/api/v1/namespaces/${namespace}/events`, { fieldSelector });
    const own = items
      .flatMap((item) => eventSchema.safeParse(item).data ?? [])
      .filter((one) => one.involvedObject.uid === uid);
    return own.at(-1)?.message;
  };

  const look = async (name: string) => {
    checkName(name);
    const [job] = await findJobs(name);
    const pod = job && (await podOf(job));
    return { job, pod, standing: standingOf(job, pod, job && !pod ? await hindranceOf(job) : undefined) };
  };

  const jobState = async (name: string): Promise<JobState> => {
    const { pod, standing } = await look(name);
    if (standing.phase === 'missing' || standing.phase === 'waiting') return standing;
    const log = pod && (await readLog(client, pod));
    if (standing.phase === 'ended') return { phase: 'ended', outcome: outcomeOf(standing, log?.text ?? '') };
    return { phase: 'running', ...(log?.progress && { progress: log.progress }) };
  };

  const prepareProject = (project: string | undefined): Promise<void> => {
    const key = namespaceName(installation, project);
    const known = prepared.get(key) ?? ensureProject(client, options, project);
    prepared.set(key, known);
    known.catch(() => prepared.delete(key));
    return known;
  };

  /** The Job that was created, or undefined if another worker was faster. */
  const createJob = async (spec: JobSpec, secret: string): Promise<JobFacts | undefined> => {
    const manifest = jobManifest(spec, setting, secret);
    try {
      return readJob(
        await client.ask('POST', `/apis/batch/v1/namespaces/${manifest.metadata.namespace}/jobs`, { body: manifest }),
      );
    } catch (error) {
      if (isRefused(error, 409)) return undefined;
      // Somebody removed the namespace.
      if (isRefused(error, 404)) prepared.delete(manifest.metadata.namespace);
      if (error instanceof Refused && error.status !== 404)
        throw failure('InvalidInput', `job ${spec.name}: the cluster refuses it: ${error.message}`);
      throw error;
    }
  };

  /** Whether a job got its token: its worker may have ended between the two. */
  const getsToken = async (job: JobFacts): Promise<boolean> => {
    const until = Date.now() + (options.tokenWithinMs ?? TOKEN_WITHIN_MS);
    for (let one: JobFacts | undefined = job; one?.uid === job.uid; one = (await findJobs(job.name))[0]) {
      if (one.hasToken) return true;
      if (Date.now() > until) return false;
      await sleep(POLL_MS);
    }
    return false;
  };

  /** Whether a Job does this work, or did it, and need not be started again. */
  const holds = async (job: JobFacts, spec: JobSpec): Promise<boolean> => {
    const { isBeingRemoved, digest, namespace } = job;
    if (isBeingRemoved || digest !== digestOf(spec) || namespace !== namespaceName(installation, spec.project))
      return false;
    const standing = standingOf(job, await podOf(job));
    if (standing.phase === 'ended') return !isPassing(outcomeOf(standing, ''));
    return getsToken(job);
  };

  const removeAll = async (jobs: readonly JobFacts[]): Promise<void> => {
    const one = (job: JobFacts): RemovedOwner => ({ ...job, path: jobPath(job), pods: ofJob(installation, job.name) });
    await Promise.all(jobs.map((job) => removeOwner(client, one(job))));
  };

  const services = createKubernetesServices({
    ...{ ...options, client, onWarn, prepareProject },
    forgetProject: (project) => void prepared.delete(namespaceName(installation, project)),
  });

  return {
    client,
    startService: services.startService,
    stopService: services.stopService,
    async startJob(spec, token) {
      checkSpec(spec, options);
      await prepareProject(spec.project);
      for (;;) {
        const found = await findJobs(spec.name);
        const [first] = found;
        if (first !== undefined && found.length === 1 && (await holds(first, spec))) return;
        await removeAll(found);
        const secret = `${jobManifest(spec, setting, '').metadata.name}-${randomBytes(4).toString('hex')}`;
        const created = await createJob(spec, secret);
        if (created === undefined) continue;
        try {
          const body = secretManifest(spec, setting, { secret, uid: created.uid, token: await token() });
          await client.ask('POST', `/api/v1/namespaces/${created.namespace}/secrets`, { body });
          await client.ask('PATCH', jobPath(created), { query: { fieldManager: OWNER }, body: tokenMark(created) });
        } catch (error) {
          await removeAll([created]);
          throw error;
        }
        return;
      }
    },
    jobState,
    async jobLog(name) {
      const { pod, standing } = await look(name);
      const log = (pod && (await readLog(client, pod)))?.text ?? '';
      return standing.phase === 'ended' ? outcomeOf(standing, log).log : log;
    },
    watchJobs: (onChange, signal) => {
      const silenceMs = options.watchSilenceMs;
      return watchAllJobs({ client, installation, hindranceOf, onWarn, silenceMs }, onChange, signal);
    },
    async removeJob(name) {
      checkName(name);
      await removeAll(await findJobs(name));
    },
    async close() {
      await services.close();
      client.close();
    },
  };
}

const eventSchema = z.object({
  message: z.string().default(''),
  involvedObject: z.object({ uid: z.string().default('') }),
});

function checkSpec(spec: JobSpec, { platformLock, dataUrl, dataRanges, ...rest }: KubernetesOptions): void {
  checkName(spec.name);
  const { cpus, memoryBytes, diskBytes } = spec.resources;
  if (![cpus, memoryBytes, diskBytes, spec.deadlineSeconds].every((number) => Number.isFinite(number) && number > 0))
    throw failure('InvalidInput', `job ${spec.name}: cpus, memoryBytes, diskBytes and deadlineSeconds must be above 0`);
  if (!spec.argv[0]) throw failure('InvalidInput', `job ${spec.name}: argv names no program`);
  if (spec.lock.trim() !== '' && spec.lock !== platformLock && spec.packages === undefined)
    throw failure(
      'InvalidInput',
      `job ${spec.name}: its lock is not that of the capsule image (${rest.image}), and the archive of its packages is missing`,
    );
  keptManifests({ ...rest, dataUrl, dataRanges }, spec.project);
}

/** Makes a project's namespace and what belongs to it. Refuses a namespace of somebody else. */
async function ensureProject(
  client: KubernetesClient,
  options: KubernetesOptions,
  project: string | undefined,
): Promise<void> {
  const namespace = namespaceManifest(options, project);
  const { name } = namespace.metadata;
  const found = await client.ask('GET', `/api/v1/namespaces/${name}`).catch((error: unknown) => {
    if (isRefused(error, 404)) return undefined;
    throw error;
  });
  const owner = namespaceSchema.safeParse(found).data?.metadata.labels[labels.installation];
  if (found !== undefined && owner !== options.installation)
    throw failure(
      'Conflict',
      `the namespace ${name} belongs to ${owner === undefined ? 'somebody else' : `the installation ${owner}`}: set OCDL_KUBERNETES_NAMESPACE_PREFIX to another name`,
    );
  const query = { fieldManager: OWNER, force: true };
  await client.ask('PATCH', `/api/v1/namespaces/${name}`, { query, body: namespace });
  const callers = { namespace: client.ownNamespace, ranges: options.callerRanges };
  const kept = [
    ...Object.entries(keptManifests(options, project)),
    ['networkpolicies', servicePolicyManifest(options, callers, project)] as const,
  ];
  for (const [plural, body] of kept) {
    const group = body.apiVersion === 'v1' ? '/api/v1' : `/apis/${body.apiVersion}`;
    await client.ask('PATCH', `${group}/namespaces/${name}/${plural}/${body.metadata.name}`, { query, body });
  }
  try {
    await client.ask('POST', `/api/v1/namespaces/${name}/resourcequotas`, { body: quotaManifest(options, project) });
  } catch (error) {
    if (!isRefused(error, 409)) throw error;
  }
}

const jobPath = ({ namespace, object }: JobFacts): string => `/apis/batch/v1/namespaces/${namespace}/jobs/${object}`;

const tokenMark = ({ namespace, object, uid }: JobFacts): object => ({
  apiVersion: 'batch/v1',
  kind: 'Job',
  metadata: { name: object, namespace, uid, annotations: { [tokenAnnotation]: 'issued' } },
});

const namespaceSchema = z.object({ metadata: z.object({ labels: z.record(z.string(), z.string()).default({}) }) });
