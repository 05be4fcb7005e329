// The objects of one model service: pure functions of its spec. Its pod fetches the model's files, then serves them.
import { failure } from '../../failures.ts';
import type { ServiceSpec } from '../../ports.ts';
import {
  confined,
  container,
  containers,
  descriptionOf,
  INPUT_SLACK_BYTES,
  PLATFORM_USER,
  PROGRAM_USER,
  STEP,
} from './job-manifests.ts';
import { labels, nameAnnotation, namespaceName, objectName, untilAnnotation } from './names.ts';
import { jobAccount, servicePort } from './project-manifests.ts';

export interface ServiceSetting {
  readonly installation: string;
  /** The capsule image (deploy/capsule/Dockerfile), which fetches the files. */
  readonly image: string;
  /** The platform's image (deploy/Dockerfile), which serves the model. */
  readonly platformImage: string;
  /** Address of the API for pods. */
  readonly dataUrl: string;
  readonly fetchSeconds: number;
  /** Default: enough for the model. */
  readonly memoryBytes?: number | undefined;
  /** Number of pods; default 1, as gates need it. */
  readonly replicas?: number | undefined;
}

/** What distinguishes one start of a service from others of the same name. */
export interface ServiceStart {
  readonly id: string;
  /** When nobody can need it any more (ISO 8601). */
  readonly until: string;
}

/** The container with the model. It has no token. */
export const serveContainer = 'serve';

/** Node, ONNX Runtime and the largest bodies of all requests that the service accepts at a time (512 MiB). */
const SERVICE_MEMORY_BYTES = 1024 ** 3;
/** While a model is loaded, its bytes exist as a file's content, as a parsed message and as optimized weights. */
const COPIES_OF_MODEL = 4;
/** A session has one thread; Node parses requests beside it. A waiting service needs little. */
const CPU = { request: '250m', limit: '2' } as const;
/** The service ends its requests within five seconds. */
const GRACE_SECONDS = 10;

/** Memory limit of a service. */
export const memoryOf = (spec: Pick<ServiceSpec, 'files'>, { memoryBytes }: Pick<ServiceSetting, 'memoryBytes'>) =>
  memoryBytes ??
  SERVICE_MEMORY_BYTES + COPIES_OF_MODEL * Math.max(0, ...spec.files.map(({ bytes }) => Math.ceil(bytes)));

/** Throws `InvalidInput` for files that cannot be served. Returns the model's. */
export function servedFile(spec: Pick<ServiceSpec, 'name' | 'files'>): ServiceSpec['files'][number] {
  const invalid = spec.files.find(({ name }) => !/^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/.test(name));
  if (invalid)
    throw failure('InvalidInput', `service ${spec.name}: the file name "${invalid.name.slice(0, 100)}" is invalid`);
  const served = spec.files.find(({ name }) => name === 'model.onnx');
  if (!served || !spec.files.some(({ name }) => name === 'model.json'))
    throw failure('InvalidInput', `service ${spec.name} needs the files model.onnx and model.json`);
  return served;
}

/** The Deployment: one pod that is replaced, never joined by a newer one. */
export function deploymentManifest(spec: ServiceSpec, setting: ServiceSetting, start: ServiceStart) {
  const { own, selected, namespace, annotations } = identityOf(spec, setting, start);
  return {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: {
      name: objectName(spec.name),
      namespace,
      labels: own,
      annotations: { ...annotations, [untilAnnotation]: start.until },
    },
    spec: {
      replicas: setting.replicas ?? 1,
      revisionHistoryLimit: 0,
      strategy: { type: 'Recreate' },
      selector: { matchLabels: selected },
      template: { metadata: { labels: own, annotations }, spec: podSpec(spec, setting, start) },
    },
  };
}

/** The Service in front of the pods of one start, owned by their Deployment. */
export function serviceManifest(spec: ServiceSpec, setting: ServiceSetting, start: ServiceStart, uid: string) {
  const { own, selected } = identityOf(spec, setting, start);
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: metadataOf(spec, setting, start, uid),
    spec: {
      type: 'ClusterIP',
      selector: { ...selected, [labels.installation]: own[labels.installation] },
      ports: [{ name: 'http', protocol: 'TCP', port: servicePort, targetPort: servicePort }],
    },
  };
}

/** The token for the model's files and their description, owned by the Deployment. */
export function serviceSecretManifest(
  spec: ServiceSpec,
  setting: ServiceSetting,
  start: ServiceStart,
  given: { readonly uid: string; readonly token: string },
) {
  const description = descriptionOf(
    {
      ...{ name: spec.name, inputs: spec.files, outputs: [], lock: '', parameters: {} },
      data: { api: setting.dataUrl, job: spec.name },
    },
    setting,
  );
  return {
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: metadataOf(spec, setting, start, given.uid),
    immutable: true,
    type: 'Opaque',
    data: { token: Buffer.from(given.token).toString('base64'), 'job.json.gz': description.toString('base64') },
  };
}

/** Name of the Service and of the Secret of one start. */
export const startName = ({ name }: Pick<ServiceSpec, 'name'>, { id }: ServiceStart): string =>
  `${objectName(name)}-${id}`;

function identityOf(spec: ServiceSpec, { installation }: ServiceSetting, { id }: ServiceStart) {
  const selected = { [labels.service]: objectName(spec.name), [labels.start]: id };
  return {
    selected,
    own: { 'app.kubernetes.io/managed-by': 'ocdl', [labels.installation]: installation, ...selected },
    namespace: namespaceName(installation, spec.project),
    annotations: { [nameAnnotation]: spec.name },
  };
}

function metadataOf(spec: ServiceSpec, setting: ServiceSetting, start: ServiceStart, uid: string) {
  const { own, namespace } = identityOf(spec, setting, start);
  return {
    name: startName(spec, start),
    namespace,
    labels: own,
    ownerReferences: [{ apiVersion: 'apps/v1', kind: 'Deployment', name: objectName(spec.name), uid }],
  };
}

function podSpec(spec: ServiceSpec, setting: ServiceSetting, start: ServiceStart) {
  const work = (mountPath: string, subPath: string, readOnly = false) => ({
    ...{ name: 'work', mountPath, subPath },
    ...(readOnly && { readOnly }),
  });
  const memory = String(memoryOf(spec, setting));
  const workBytes = String(spec.files.reduce((sum, { bytes }) => sum + bytes, 0) + INPUT_SLACK_BYTES);
  // The name tells on the machine which model a process serves.
  const model = `/models/${objectName(spec.name)}`;
  return {
    serviceAccountName: jobAccount,
    automountServiceAccountToken: false,
    enableServiceLinks: false,
    terminationGracePeriodSeconds: GRACE_SECONDS,
    securityContext: { runAsNonRoot: true, seccompProfile: { type: 'RuntimeDefault' } },
    initContainers: [
      container({
        ...{ name: containers.fetch, image: setting.image, user: PLATFORM_USER, args: ['fetch'] },
        resources: { ...STEP, 'ephemeral-storage': workBytes },
        variables: { OCDL_JOB_PATIENCE: String(setting.fetchSeconds) },
        mounts: [
          { name: 'work', mountPath: '/ocdl/work' },
          { name: 'data', mountPath: '/ocdl/data', readOnly: true },
        ],
      }),
    ],
    containers: [
      {
        name: serveContainer,
        image: setting.platformImage,
        command: ['node', '--import', 'tsx', 'api/inference/main.ts'],
        args: [
          ...['--model', model, '--version', spec.version, '--sha256', servedFile(spec).sha256],
          ...['--host', '$(OCDL_POD_ADDRESS)', '--port', String(servicePort)],
        ],
        workingDir: '/opt/ocdl',
        env: [
          { name: 'OCDL_POD_ADDRESS', valueFrom: { fieldRef: { fieldPath: 'status.podIP' } } },
          { name: 'HOME', value: '/tmp' },
          { name: 'LANG', value: 'C.UTF-8' },
          { name: 'NODE_ENV', value: 'production' },
        ],
        ports: [{ name: 'http', containerPort: servicePort, protocol: 'TCP' }],
        resources: {
          requests: { cpu: CPU.request, memory, 'ephemeral-storage': workBytes },
          limits: { cpu: CPU.limit, memory, 'ephemeral-storage': workBytes },
        },
        // The service listens once its model is loaded and checked.
        readinessProbe: {
          httpGet: { path: '/v2/health/ready', port: servicePort },
          ...{ periodSeconds: 1, timeoutSeconds: 5, failureThreshold: 5 },
        },
        securityContext: confined(PROGRAM_USER),
        volumeMounts: [work(model, 'in', true), work('/tmp', 'tmp')],
      },
    ],
    volumes: [
      { name: 'work', emptyDir: { sizeLimit: workBytes } },
      { name: 'data', secret: { secretName: startName(spec, start), defaultMode: 0o444 } },
    ],
  };
}
