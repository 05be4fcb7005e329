// The objects of one job: pure functions of its spec. A spec has no field for mounts, users, single nodes, accounts or privileges.
import { gzipSync } from 'node:zlib';
import { failure } from '../../failures.ts';
import type { NamedArtifact } from '../../../workflows/domain/model.ts';
import type { JobSpec } from '../../ports.ts';
import { digestOf, labels, nameAnnotation, namespaceName, objectName } from './names.ts';
import { jobAccount } from './project-manifests.ts';

export interface JobSetting {
  /** Names this installation on the cluster. */
  readonly installation: string;
  /** The capsule image (deploy/capsule/Dockerfile). */
  readonly image: string;
  /** Address of the API for pods; by default the spec's. */
  readonly dataUrl?: string | undefined;
  /** Resource name of a GPU. */
  readonly gpuResource: string;
  readonly patience: { readonly fetchSeconds: number; readonly uploadSeconds: number };
}

/** Containers of a job's pod. Only the first two have the token. */
export const containers = { fetch: 'fetch', upload: 'upload', run: 'run' } as const;

/** Where a pod has the environment of the job's lock, if it is not that of the image: the same path as in ocdl/pod.py. */
export const lockFolder = '/ocdl/environment';

/** Users of the image: the platform's own steps, and the job's program. */
export const PLATFORM_USER = 10_001;
export const PROGRAM_USER = 10_002;
/** Python with a connection needs 40 MiB; hashing and sending are limited by the network. */
export const STEP = { cpu: '250m', memory: String(128 * 1024 ** 2) } as const;
/** An archive is unpacked next to itself; small files and folders occupy whole blocks. */
export const INPUT_SLACK_BYTES = 256 * 1024 ** 2;
/** The image may have to be loaded while the pod already counts as active, and processes need time to end. */
const ACTIVE_SLACK_SECONDS = 3_600;
/** Nothing is lost when a program is ended: the platform's steps end at once. */
const GRACE_SECONDS = 10;
/** The platform removes ended jobs; this removes those that it does not know any more. */
const FORGOTTEN_AFTER_SECONDS = 8 * 86_400;
/** A Secret has at most 1 MiB. */
const MOST_SECRET_BYTES = 1_000_000;

/** The Job. `secret` is the name of the Secret that it waits for, which differs between starts. */
export function jobManifest(spec: JobSpec, setting: JobSetting, secret: string) {
  const own = {
    'app.kubernetes.io/managed-by': 'ocdl',
    [labels.installation]: setting.installation,
    [labels.job]: objectName(spec.name),
    [labels.digest]: digestOf(spec),
  };
  const annotations = { [nameAnnotation]: spec.name };
  return {
    apiVersion: 'batch/v1',
    kind: 'Job',
    metadata: {
      name: objectName(spec.name),
      namespace: namespaceName(setting.installation, spec.project),
      labels: own,
      annotations,
    },
    spec: {
      // A second pod would be a second training: the platform decides what is started again.
      backoffLimit: 0,
      completions: 1,
      parallelism: 1,
      podReplacementPolicy: 'Failed',
      ttlSecondsAfterFinished: FORGOTTEN_AFTER_SECONDS,
      template: { metadata: { labels: own, annotations }, spec: podSpec(spec, setting, secret) },
    },
  };
}

/** The job's token and description, owned by its Job. Throws `InvalidInput` if they do not fit. */
export function secretManifest(
  spec: JobSpec,
  setting: JobSetting,
  given: { readonly secret: string; readonly uid: string; readonly token: string },
) {
  const description = descriptionOf(spec, setting);
  const { name, namespace, labels: own } = jobManifest(spec, setting, given.secret).metadata;
  return {
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: {
      name: given.secret,
      namespace,
      labels: own,
      ownerReferences: [
        { apiVersion: 'batch/v1', kind: 'Job', name, uid: given.uid, controller: true, blockOwnerDeletion: true },
      ],
    },
    immutable: true,
    type: 'Opaque',
    data: { token: Buffer.from(given.token).toString('base64'), 'job.json.gz': description.toString('base64') },
  };
}

type Described = Pick<JobSpec, 'name' | 'inputs' | 'outputs' | 'lock' | 'packages' | 'parameters' | 'data'>;

/** What the wrapper reads, compressed. Throws `InvalidInput` if it does not fit into a Secret. */
export function descriptionOf(spec: Described, { dataUrl }: Pick<JobSetting, 'dataUrl'>): Buffer {
  const packed = gzipSync(
    JSON.stringify({
      job: spec.data.job,
      api: dataUrl ?? spec.data.api,
      inputs: spec.inputs.map((input) => ({ ...named(input), unpack: input.unpack ?? false })),
      outputs: spec.outputs,
      lock: spec.lock,
      ...(spec.packages && { packages: named(spec.packages) }),
      parameters: spec.parameters,
    }),
  );
  if (packed.length > MOST_SECRET_BYTES)
    throw failure(
      'InvalidInput',
      `job ${spec.name}: the description of its ${spec.inputs.length} inputs has ${packed.length} bytes, and a cluster ` +
        `accepts ${MOST_SECRET_BYTES}: put the files into fewer archives`,
    );
  return packed;
}

const named = ({ name, sha256, bytes }: NamedArtifact) => ({ name, sha256, bytes });

function podSpec(spec: JobSpec, setting: JobSetting, secret: string) {
  const { fetchSeconds, uploadSeconds } = setting.patience;
  const { cpus, memoryBytes, diskBytes, gpus = 0 } = spec.resources;
  const fetched = [...spec.inputs, ...(spec.packages ? [spec.packages] : [])];
  const workBytes = diskBytes + 2 * fetched.reduce((sum, { bytes }) => sum + bytes, 0) + INPUT_SLACK_BYTES;
  const program = {
    cpu: `${Math.max(1, Math.round(cpus * 1000))}m`,
    memory: String(Math.ceil(memoryBytes)),
    'ephemeral-storage': String(Math.ceil(workBytes)),
  };
  const token = { name: 'data', mountPath: '/ocdl/data', readOnly: true };
  const work = (mountPath: string, subPath: string, readOnly = false) => ({
    ...{ name: 'work', mountPath, subPath },
    ...(readOnly && { readOnly }),
  });
  const steps = { image: setting.image, user: PLATFORM_USER };
  return {
    restartPolicy: 'Never',
    serviceAccountName: jobAccount,
    automountServiceAccountToken: false,
    enableServiceLinks: false,
    terminationGracePeriodSeconds: GRACE_SECONDS,
    // Of the pod, not of the Job: there, the time in which a job waits for room on the cluster would count.
    activeDeadlineSeconds: Math.ceil(fetchSeconds + spec.deadlineSeconds + uploadSeconds + ACTIVE_SLACK_SECONDS),
    securityContext: { runAsNonRoot: true, seccompProfile: { type: 'RuntimeDefault' } },
    initContainers: [
      container({
        ...{
          ...steps,
          name: containers.fetch,
          args: ['fetch'],
          resources: { ...program, memory: atLeastStep(program.memory) },
        },
        variables: { OCDL_JOB_PATIENCE: String(fetchSeconds) },
        mounts: [{ name: 'work', mountPath: '/ocdl/work' }, token],
      }),
      {
        ...container({
          ...{ ...steps, name: containers.upload, args: ['upload'], resources: STEP },
          variables: { OCDL_JOB_PATIENCE: String(uploadSeconds) },
          mounts: [{ name: 'work', mountPath: '/ocdl/work', readOnly: true }, work('/ocdl/upload', 'upload'), token],
        }),
        // A sidecar: it runs beside the program, and is started again if it fails.
        restartPolicy: 'Always',
      },
    ],
    ...(spec.nodeSelector && { nodeSelector: spec.nodeSelector }),
    ...(spec.tolerations && { tolerations: spec.tolerations }),
    containers: [
      container({
        // The other containers have the token, and always the platform's own image.
        ...{ name: containers.run, image: spec.image ?? setting.image, user: PROGRAM_USER },
        args: ['run', String(spec.deadlineSeconds), ...spec.argv.map(withoutVariables)],
        resources: gpus > 0 ? { ...program, [setting.gpuResource]: String(gpus) } : program,
        variables: { OMP_NUM_THREADS: String(Math.max(1, Math.floor(cpus))) },
        mounts: [
          work('/job', 'scratch'),
          work('/job/in', 'in', true),
          work('/job/out', 'out'),
          work('/job/parameters.json', 'parameters.json', true),
          work('/tmp', 'tmp'),
          work('/ocdl/run', 'run'),
          ...(spec.packages ? [work(lockFolder, 'lock/environment', true)] : []),
          work('/ocdl/upload', 'upload', true),
        ],
      }),
    ],
    volumes: [
      { name: 'work', emptyDir: { sizeLimit: String(Math.ceil(workBytes)) } },
      // Readable for the platform's user; no other container mounts it.
      { name: 'data', secret: { secretName: secret, defaultMode: 0o444 } },
    ],
  };
}

/** A container of the capsule image. */
export function container(given: {
  readonly name: string;
  readonly image: string;
  readonly user: number;
  readonly args: readonly string[];
  readonly resources: Readonly<Record<string, string>>;
  readonly variables: Readonly<Record<string, string>>;
  readonly mounts: readonly object[];
}) {
  const variables = { PATH: '/usr/local/bin:/usr/bin:/bin', LANG: 'C.UTF-8', ...PYTHON, ...given.variables };
  return {
    name: given.name,
    image: given.image,
    command: ['python3', '-S', '-s', '-m', 'ocdl.pod'],
    args: given.args,
    workingDir: given.name === containers.run ? '/job' : '/',
    env: Object.entries(variables).map(([name, value]) => ({ name, value })),
    resources: { requests: given.resources, limits: given.resources },
    securityContext: confined(given.user),
    volumeMounts: given.mounts,
  };
}

/** A container without rights. */
export const confined = (user: number) => ({
  runAsUser: user,
  runAsGroup: user,
  allowPrivilegeEscalation: false,
  readOnlyRootFilesystem: true,
  capabilities: { drop: ['ALL'] },
});

const PYTHON = {
  PYTHONPATH: '/opt/ocdl/capsule',
  PYTHONHASHSEED: '0',
  PYTHONUNBUFFERED: '1',
  PYTHONDONTWRITEBYTECODE: '1',
} as const;

const atLeastStep = (memory: string): string => String(Math.max(Number(memory), Number(STEP.memory)));

/** Kubernetes replaces `$(NAME)` in arguments by variables, and `$$` by `$`. */
const withoutVariables = (word: string): string => word.replaceAll('$', '$$$$');
