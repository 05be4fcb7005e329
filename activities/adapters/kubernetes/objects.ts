// What the adapter reads of Jobs and pods, as small values: objects of a cluster have hundreds of fields.
import { z } from 'zod';
import { labels, nameAnnotation, tokenAnnotation } from './names.ts';

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

export interface ContainerFacts {
  readonly name: string;
  readonly isRunning: boolean;
  readonly waiting?: { readonly reason: string; readonly message: string } | undefined;
  readonly ended?: { readonly exitCode: number; readonly reason: string; readonly message: string } | undefined;
}

export interface PodFacts {
  readonly namespace: string;
  readonly pod: string;
  /** Name of its Job object. */
  readonly job: string;
  readonly phase: string;
  readonly image: string;
  readonly isBeingRemoved: boolean;
  /** No longer on the cluster: these are its last facts. */
  readonly isGone: boolean;
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

const stateSchema = z.object({
  running: z.object({}).optional(),
  waiting: z.object({ reason: text, message: text }).optional(),
  terminated: z.object({ exitCode: z.number(), reason: text, message: text }).optional(),
});
const containerStatus = z.object({ name: z.string(), state: stateSchema.prefault({}) });
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

/** Reads a pod; undefined if it belongs to none of the platform's jobs. */
export function readPod(object: unknown): PodFacts | undefined {
  const pod = podSchema.safeParse(object).data;
  const job = pod?.metadata.labels[labels.job];
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
    reason,
    message,
    unschedulable: found('PodScheduled', 'False')?.message,
    disruption: found('DisruptionTarget', 'True')?.reason,
    containers: [...initContainerStatuses, ...containerStatuses].map(({ name, state }) => ({
      name,
      isRunning: state.running !== undefined,
      waiting: state.waiting,
      ended: state.terminated,
    })),
  };
}
