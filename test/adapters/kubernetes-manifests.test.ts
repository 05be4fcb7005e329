// The objects that the adapter for Kubernetes makes, compared whole, and the rules for how a job stands.
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { rights } from '../../activities/adapters/kubernetes/check.ts';
import { descriptionOf, jobManifest, secretManifest } from '../../activities/adapters/kubernetes/job-manifests.ts';
import { digestOf, namespaceName, objectName } from '../../activities/adapters/kubernetes/names.ts';
import {
  keptManifests,
  namespaceManifest,
  quotaManifest,
} from '../../activities/adapters/kubernetes/project-manifests.ts';
import type { JobSpec } from '../../activities/ports.ts';
import { artifactOf } from '../contracts/cluster-job-api.ts';

const MIB = 1024 ** 2;
const spec: JobSpec = {
  name: 'train-1',
  project: 'Fraud Team',
  inputs: [{ ...artifactOf('code.tar', Buffer.alloc(1000)), name: 'code.tar', unpack: true }],
  outputs: [{ name: 'model.onnx', required: true }],
  argv: ['python', 'in/code/main.py', '$(HOME)'],
  lock: 'numpy==2.2.6\n',
  lockOwner: 'platform',
  parameters: { seed: 1 },
  compute: 'gpu',
  resources: { cpus: 1.5, memoryBytes: 512 * MIB, diskBytes: 64 * MIB, gpus: 1 },
  deadlineSeconds: 60,
  data: { api: 'http://127.0.0.1:8470', job: 'train-1' },
};
const setting = {
  installation: 'ocdl',
  image: 'registry.example/ocdl-capsule:1',
  dataUrl: 'https://10.1.2.3:8471',
  gpuResource: 'nvidia.com/gpu',
  patience: { fetchSeconds: 900, uploadSeconds: 43_200 },
};
const project = {
  ...setting,
  dataRanges: [],
  quota: { cpus: 16, memoryBytes: 2 ** 36, diskBytes: 2 ** 38, gpus: 1 },
};

describe('the Job of a job', () => {
  const labels = {
    'app.kubernetes.io/managed-by': 'ocdl',
    'ocdl/installation': 'ocdl',
    'ocdl/job': objectName('train-1'),
    'ocdl/digest': digestOf(spec),
  };
  const annotations = { 'ocdl/name': 'train-1' };
  const securityContext = (user: number): object => ({
    runAsUser: user,
    runAsGroup: user,
    allowPrivilegeEscalation: false,
    readOnlyRootFilesystem: true,
    capabilities: { drop: ['ALL'] },
  });
  const variables = (own: Readonly<Record<string, string>>): object[] =>
    Object.entries({
      PATH: '/usr/local/bin:/usr/bin:/bin',
      LANG: 'C.UTF-8',
      PYTHONPATH: '/opt/ocdl/capsule',
      PYTHONHASHSEED: '0',
      PYTHONUNBUFFERED: '1',
      PYTHONDONTWRITEBYTECODE: '1',
      ...own,
    }).map(([name, value]) => ({ name, value }));
  const same = <T>(resources: T): object => ({ requests: resources, limits: resources });
  const bytes = String(64 * MIB + 2000 + 256 * MIB);
  const own = { cpu: '1500m', memory: String(512 * MIB), 'ephemeral-storage': bytes };
  const step = { image: 'registry.example/ocdl-capsule:1', command: ['python3', '-S', '-s', '-m', 'ocdl.pod'] };
  const data = { name: 'data', mountPath: '/ocdl/data', readOnly: true };
  const work = (mountPath: string, subPath: string): object => ({ name: 'work', mountPath, subPath });

  test('is exactly this', () => {
    expect(jobManifest(spec, setting, 'the-secret')).toEqual({
      apiVersion: 'batch/v1',
      kind: 'Job',
      metadata: { name: objectName('train-1'), namespace: namespaceName('ocdl', 'Fraud Team'), labels, annotations },
      spec: {
        backoffLimit: 0,
        completions: 1,
        parallelism: 1,
        podReplacementPolicy: 'Failed',
        ttlSecondsAfterFinished: 691_200,
        template: {
          metadata: { labels, annotations },
          spec: {
            restartPolicy: 'Never',
            serviceAccountName: 'ocdl-job',
            automountServiceAccountToken: false,
            enableServiceLinks: false,
            terminationGracePeriodSeconds: 10,
            activeDeadlineSeconds: 900 + 60 + 43_200 + 3_600,
            securityContext: { runAsNonRoot: true, seccompProfile: { type: 'RuntimeDefault' } },
            initContainers: [
              {
                ...{ ...step, name: 'fetch', args: ['fetch'], workingDir: '/' },
                env: variables({ OCDL_JOB_PATIENCE: '900' }),
                resources: same(own),
                securityContext: securityContext(10_001),
                volumeMounts: [{ name: 'work', mountPath: '/ocdl/work' }, data],
              },
              {
                ...{ ...step, name: 'upload', args: ['upload'], workingDir: '/', restartPolicy: 'Always' },
                env: variables({ OCDL_JOB_PATIENCE: '43200' }),
                resources: same({ cpu: '250m', memory: String(128 * MIB) }),
                securityContext: securityContext(10_001),
                volumeMounts: [
                  { name: 'work', mountPath: '/ocdl/work', readOnly: true },
                  work('/ocdl/upload', 'upload'),
                  data,
                ],
              },
            ],
            containers: [
              {
                ...{ ...step, name: 'run', workingDir: '/job' },
                args: ['run', '60', 'python', 'in/code/main.py', '$$(HOME)'],
                env: variables({ OMP_NUM_THREADS: '1' }),
                resources: same({ ...own, 'nvidia.com/gpu': '1' }),
                securityContext: securityContext(10_002),
                // No token, no description, and of the files only what is the program's own.
                volumeMounts: [
                  work('/job', 'scratch'),
                  { ...work('/job/in', 'in'), readOnly: true },
                  work('/job/out', 'out'),
                  { ...work('/job/parameters.json', 'parameters.json'), readOnly: true },
                  work('/tmp', 'tmp'),
                  work('/ocdl/run', 'run'),
                  { ...work('/ocdl/upload', 'upload'), readOnly: true },
                ],
              },
            ],
            volumes: [
              { name: 'work', emptyDir: { sizeLimit: bytes } },
              { name: 'data', secret: { secretName: 'the-secret', defaultMode: 0o444 } },
            ],
          },
        },
      },
    });
  });

  test('has the GPUs, the nodes and, for the program alone, the image of its compute profile', () => {
    const image = `registry.example/torch@sha256:${'a'.repeat(64)}`;
    const placed = {
      nodeSelector: { accelerator: 'h200' },
      tolerations: [{ key: 'nvidia.com/gpu', operator: 'Exists', effect: 'NoSchedule' }],
    } as const;
    const plain = jobManifest(spec, setting, 's');
    const { spec: pod } = plain.spec.template;
    const [program] = pod.containers;
    const resources = same({ ...own, 'nvidia.com/gpu': '4' });
    const large = { ...spec, ...placed, image, resources: { ...spec.resources, gpus: 4 } };
    expect(jobManifest(large, setting, 's')).toEqual({
      ...plain,
      spec: {
        ...plain.spec,
        template: {
          ...plain.spec.template,
          spec: { ...pod, ...placed, containers: [{ ...program, image, resources }] },
        },
      },
    });
    const none = { ...spec, resources: { ...spec.resources, gpus: 0 } };
    expect(jobManifest(none, setting, 's').spec.template.spec.containers[0]?.resources).toEqual(same(own));
  });

  test('has a Secret of its own with the token and the description', () => {
    const secret = secretManifest(spec, setting, { secret: 'the-secret', uid: 'uid-1', token: 'token-1' });
    expect(secret).toEqual({
      apiVersion: 'v1',
      kind: 'Secret',
      metadata: {
        name: 'the-secret',
        namespace: namespaceName('ocdl', 'Fraud Team'),
        labels,
        ownerReferences: [
          {
            ...{ apiVersion: 'batch/v1', kind: 'Job', name: objectName('train-1'), uid: 'uid-1' },
            ...{ controller: true, blockOwnerDeletion: true },
          },
        ],
      },
      immutable: true,
      type: 'Opaque',
      data: {
        token: Buffer.from('token-1').toString('base64'),
        'job.json.gz': descriptionOf(spec, setting).toString('base64'),
      },
    });
    expect(JSON.parse(gunzipSync(descriptionOf(spec, setting)).toString())).toEqual({
      job: 'train-1',
      api: 'https://10.1.2.3:8471',
      inputs: [{ name: 'code.tar', sha256: spec.inputs[0]?.sha256, bytes: 1000, unpack: true }],
      outputs: spec.outputs,
      lock: spec.lock,
      parameters: { seed: 1 },
    });
  });

  test('gives the packages of another lock only to the step that fetches, and their environment to the program', () => {
    const packages = { ...artifactOf('lock-1.tar', Buffer.alloc(5000)), name: 'lock-1.tar' };
    const pod = jobManifest({ ...spec, packages }, setting, 's').spec.template.spec;
    const mount = { mountPath: '/ocdl/environment', name: 'work', readOnly: true, subPath: 'lock/environment' };
    expect(pod.containers[0]?.volumeMounts).toContainEqual(mount);
    expect(JSON.stringify(pod.initContainers)).not.toContain('/ocdl/environment');
    expect(pod.volumes[0]).toEqual({ name: 'work', emptyDir: { sizeLimit: String(Number(bytes) + 10_000) } });
    const described: unknown = JSON.parse(gunzipSync(descriptionOf({ ...spec, packages }, setting)).toString());
    expect(described).toMatchObject({ packages: { name: 'lock-1.tar', sha256: packages.sha256, bytes: 5000 } });
    // The work is the same: the lock says what is installed.
    expect(digestOf({ ...spec, packages })).toBe(digestOf(spec));
  });

  test('ignores whatever else a spec carries', () => {
    const widened = {
      ...spec,
      hostPath: '/',
      privileged: true,
      serviceAccountName: 'admin',
      nodeName: 'n',
      hostNetwork: true,
      volumes: [{ name: 'host', hostPath: { path: '/' } }],
    };
    expect(jobManifest(widened, setting, 's')).toEqual(jobManifest(spec, setting, 's'));
  });

  test('refuses a description that does not fit', () => {
    const inputs = Array.from({ length: 40_000 }, (_, index) => ({
      ...artifactOf(`${index}`, Buffer.from(String(index))),
      name: `file-${index}`,
    }));
    expect(() => descriptionOf({ ...spec, inputs }, setting)).toThrow(/40000 inputs .* fewer archives/s);
  });

  test('has names that are valid labels and differ for different jobs', () => {
    const names = ['a', '-', '-a-', 'a'.repeat(63), `${'a'.repeat(62)}b`, '0'].map(objectName);
    for (const name of names) expect(name).toMatch(/^[a-z]([a-z0-9-]{0,50}[a-z0-9])?$/);
    expect(new Set(names).size).toBe(names.length);
  });
});

describe('the namespace of a project', () => {
  const metadata = (name: string): object => ({
    ...{ name, namespace: namespaceName('ocdl', 'Fraud Team') },
    labels: { 'app.kubernetes.io/managed-by': 'ocdl', 'ocdl/installation': 'ocdl' },
  });
  const none = { cpu: '250m', memory: '256Mi', 'ephemeral-storage': '256Mi' };

  test('is exactly this', () => {
    expect(namespaceManifest(setting, 'Fraud Team')).toEqual({
      apiVersion: 'v1',
      kind: 'Namespace',
      metadata: {
        name: expect.stringMatching(/^ocdl-fraud-team-[0-9a-f]{16}$/) as unknown,
        labels: {
          'app.kubernetes.io/managed-by': 'ocdl',
          'ocdl/installation': 'ocdl',
          'pod-security.kubernetes.io/enforce': 'restricted',
          'pod-security.kubernetes.io/enforce-version': 'latest',
        },
        annotations: { 'ocdl/project': 'Fraud Team' },
      },
    });
    expect(keptManifests(project, 'Fraud Team')).toEqual({
      serviceaccounts: {
        ...{ apiVersion: 'v1', kind: 'ServiceAccount', metadata: metadata('ocdl-job') },
        automountServiceAccountToken: false,
      },
      limitranges: {
        ...{ apiVersion: 'v1', kind: 'LimitRange', metadata: metadata('ocdl') },
        spec: { limits: [{ type: 'Container', default: none, defaultRequest: none }] },
      },
      networkpolicies: {
        ...{ apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy', metadata: metadata('ocdl') },
        spec: {
          podSelector: {},
          policyTypes: ['Ingress', 'Egress'],
          ingress: [],
          egress: [
            { to: [{ ipBlock: { cidr: '10.1.2.3/32' } }], ports: [{ protocol: 'TCP', port: 8471 }] },
            {
              to: [{ namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': 'kube-system' } } }],
              ports: [
                { protocol: 'UDP', port: 53 },
                { protocol: 'TCP', port: 53 },
              ],
            },
          ],
        },
      },
    });
    expect(quotaManifest(project, 'Fraud Team')).toEqual({
      ...{ apiVersion: 'v1', kind: 'ResourceQuota', metadata: metadata('ocdl') },
      spec: {
        hard: {
          'requests.cpu': '16',
          'requests.memory': String(2 ** 36),
          'requests.ephemeral-storage': String(2 ** 38),
          'requests.nvidia.com/gpu': '1',
          persistentvolumeclaims: '0',
          'services.loadbalancers': '0',
          'services.nodeports': '0',
        },
      },
    });
  });

  test.each([
    ['http://api.ocdl.svc.cluster.local', [], { 'kubernetes.io/metadata.name': 'ocdl' }, 80],
    ['https://api.example', ['10.0.0.0/8'], undefined, 443],
  ])('lets pods reach %s', (dataUrl, dataRanges, matchLabels, port) => {
    const [rule] = keptManifests({ ...project, dataUrl, dataRanges }, 'p').networkpolicies.spec.egress;
    const to = matchLabels ? { namespaceSelector: { matchLabels } } : { ipBlock: { cidr: '10.0.0.0/8' } };
    expect(rule).toEqual({ to: [to], ports: [{ protocol: 'TCP', port }] });
  });

  test('refuses a host whose addresses are unknown', () => {
    expect(() => keptManifests({ ...project, dataUrl: 'https://api.example' }, 'p')).toThrow(
      /OCDL_KUBERNETES_DATA_RANGES/,
    );
  });
});

test('the role in deploy/README.md has exactly the rights that doctor checks', () => {
  const readme = readFileSync(resolve(import.meta.dirname, '../../deploy/README.md'), 'utf8');
  const rules = readme.split('\n').filter((line) => line.startsWith('  - { apiGroups:'));
  expect(rules).toEqual(
    rights.map(({ group, resource, verbs }) => {
      const groups = group === '' ? '""' : group;
      return `  - { apiGroups: [${groups}], resources: [${resource}], verbs: [${verbs.join(', ')}] }`;
    }),
  );
});
