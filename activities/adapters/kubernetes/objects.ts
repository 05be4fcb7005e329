// What the adapter reads of Jobs and pods, as small values: objects of a cluster have hundreds of fields.
import { z } from 'zod';
import { labels, nameAnnotation, tokenAnnotation, untilAnnotation } from './names.ts';

/** One job of this installation. */
export interface JobFacts {
  readonly namespace: string;
  readonly object: string;
  /** The platform's name. */
  readonly name: string;
  readonly uid: string;
  readonly digest: string;
  /** Its Secret exists: whoever created the Job finished starting it. */
  readonly hasToken: boolean;
  readonly isBeingRemoved: boolean;
  readonly finished: 'complete' | 'failed' | undefined;
  /** Duration as the cluster knows it. */
  readonly seconds: number;
}

/** One model service of this installation. */
export interface DeploymentFacts {
  readonly namespace: string;
  readonly object: string;
  /** The platform's name. */
  readonly name: string;
  readonly uid: string;
  /** When nobody can need it any more. */
  readonly until: string;
  /** Why it has no pod. */
  readonly hindrance: string | undefined;
}

export interface ContainerFacts {
  readonly name: string;
  readonly image?: string;
  readonly isRunning: boolean;
  readonly waiting?: { readonly reason: string; readonly message: string } | undefined;
  readonly ended?: EndFacts | undefined;
  /** How it ended before the cluster started it again. */
  readonly before?: EndFacts | undefined;
}

export interface EndFacts {
  readonly exitCode: number;
  readonly reason: string;
  readonly message: string;
}

export interface PodFacts {
  readonly namespace: string;
  readonly pod: string;
  /** Name of its Job or Deployment object. */
  readonly job: string;
  readonly phase: string;
  readonly image: string;
  readonly isBeingRemoved: boolean;
  /** No longer on the cluster: these are its last facts. */
  readonly isGone: boolean;
  /** Its containers answer. */
  readonly isReady?: boolean;
  /** Why the pod as a whole failed. */
  readonly reason: string;
  readonly message: string;
  readonly unschedulable?: string | undefined;
  /** Kubernetes's word for why it removed the pod. */
  readonly disruption?: string | undefined;
  readonly containers: readonly ContainerFacts[];
}

const text = z.string().default('');
const metadata = z.object({
  name: z.string(),
  namespace: z.string(),
  uid: z.string(),
  labels: z.record(z.string(), z.string()).default({}),
  annotations: z.record(z.string(), z.string()).default({}),
  deletionTimestamp: z.string().optional(),
});
const condition = z.object({ type: z.string(), status: z.string(), reason: text, message: text });

const jobSchema = z.object({
  metadata,
  status: z
    .object({
      startTime: z.string().optional(),
      completionTime: z.string().optional(),
      conditions: z.array(condition).default([]),
    })
    .prefault({}),
});

const deploymentSchema = z.object({
  metadata,
  status: z.object({ conditions: z.array(condition).default([]) }).prefault({}),
});

const stateSchema = z.object({
  running: z.object({}).optional(),
  waiting: z.object({ reason: text, message: text }).optional(),
  terminated: z.object({ exitCode: z.number(), reason: text, message: text }).optional(),
});
const containerStatus = z.object({
  name: z.string(),
  image: text,
  state: stateSchema.prefault({}),
  lastState: stateSchema.prefault({}),
});
const podSchema = z.object({
  metadata,
  spec: z.object({ containers: z.array(z.object({ image: text })) }),
  status: z.object({
    phase: text,
    reason: text,
    message: text,
    conditions: z.array(condition).default([]),
    initContainerStatuses: z.array(containerStatus).default([]),
    containerStatuses: z.array(containerStatus).default([]),
  }),
});

/** Reads a Job; undefined if it is not one of the platform's. */
export function readJob(object: unknown): JobFacts | undefined {
  const job = jobSchema.safeParse(object).data;
  const name = job?.metadata.annotations[nameAnnotation];
  if (job === undefined || name === undefined) return undefined;
  const { startTime, completionTime, conditions } = job.status;
  const has = (...types: string[]): boolean =>
    conditions.some(({ type, status }) => types.includes(type) && status === 'True');
  return {
    namespace: job.metadata.namespace,
    object: job.metadata.name,
    name,
    uid: job.metadata.uid,
    digest: job.metadata.labels[labels.digest] ?? '',
    hasToken: job.metadata.annotations[tokenAnnotation] !== undefined,
    isBeingRemoved: job.metadata.deletionTimestamp !== undefined,
    finished: has('Complete') ? 'complete' : has('Failed', 'FailureTarget') ? 'failed' : undefined,
    seconds: startTime && completionTime ? (Date.parse(completionTime) - Date.parse(startTime)) / 1000 : 0,
  };
}

/** Reads a Deployment; undefined if it is not one of the platform's services. */
export function readDeployment(object: unknown): DeploymentFacts | undefined {
  const deployment = deploymentSchema.safeParse(object).data;
  const name = deployment?.metadata.annotations[nameAnnotation];
  if (deployment === undefined || name === undefined) return undefined;
  const { metadata: found, status } = deployment;
  return {
    namespace: found.namespace,
    object: found.name,
    name,
    uid: found.uid,
    until: found.annotations[untilAnnotation] ?? '',
    hindrance: status.conditions.find((one) => one.type === 'ReplicaFailure' && one.status === 'True')?.message,
  };
}

/** Reads a pod; undefined if it belongs to none of the platform's jobs, or services for their label. */
export function readPod(object: unknown, label: string = labels.job): PodFacts | undefined {
  const pod = podSchema.safeParse(object).data;
  const job = pod?.metadata.labels[label];
  if (pod === undefined || job === undefined) return undefined;
  const { phase, reason, message, conditions, initContainerStatuses, containerStatuses } = pod.status;
  const found = (type: string, status: string) =>
    conditions.find((one) => one.type === type && one.status === status && one.reason !== '');
  return {
    namespace: pod.metadata.namespace,
    pod: pod.metadata.name,
    job,
    phase,
    image: pod.spec.containers[0]?.image ?? '',
    isBeingRemoved: pod.metadata.deletionTimestamp !== undefined,
    isGone: false,
    isReady: conditions.some(({ type, status }) => type === 'Ready' && status === 'True'),
    reason,
    message,
    unschedulable: found('PodScheduled', 'False')?.message,
    disruption: found('DisruptionTarget', 'True')?.reason,
    containers: [...initContainerStatuses, ...containerStatuses].map(({ name, image, state, lastState }) => ({
      name,
      image,
      isRunning: state.running !== undefined,
      waiting: state.waiting,
      ended: state.terminated,
      before: lastState.terminated,
    })),
  };
}
