// Model services on Kubernetes without a cluster: their objects, compared whole, how they stand, and the way to them from outside.
import { createServer, request, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { gunzipSync } from 'node:zlib';
import type { Passed } from '../../activities/adapters/kubernetes/client.ts';
import { namespaceName, objectName } from '../../activities/adapters/kubernetes/names.ts';
import { readDeployment, readPod, type PodFacts } from '../../activities/adapters/kubernetes/objects.ts';
import { servicePolicyManifest } from '../../activities/adapters/kubernetes/project-manifests.ts';
import { openForwarder, safePath } from '../../activities/adapters/kubernetes/service-forwarder.ts';
import {
  deploymentManifest,
  memoryOf,
  servedFile,
  serviceManifest,
  serviceSecretManifest,
} from '../../activities/adapters/kubernetes/service-manifests.ts';
import { serviceStanding } from '../../activities/adapters/kubernetes/service-standing.ts';
import type { ServiceSpec } from '../../activities/ports.ts';
import { artifactOf } from '../contracts/cluster-job-api.ts';

const MIB = 1024 ** 2;
const file = (name: string, bytes: number) => ({ ...artifactOf(name, Buffer.alloc(bytes)), name });
const spec: ServiceSpec = {
  ...{ name: 'function-shop-1', project: 'Fraud Team', version: '3', compute: 'cpu' },
  files: [file('model.onnx', 1000), file('model.json', 20)],
};
const setting = {
  installation: 'ocdl',
  image: 'registry.example/ocdl-capsule:1',
  platformImage: 'registry.example/ocdl-platform:1',
  dataUrl: 'https://10.1.2.3:8471',
  fetchSeconds: 240,
};
const start = { id: '0a1b2c3d', until: '2026-01-01T01:00:00.000Z' };
const name = objectName('function-shop-1');
const namespace = namespaceName('ocdl', 'Fraud Team');
const selected = { 'ocdl/service': name, 'ocdl/start': '0a1b2c3d' };
const labels = { 'app.kubernetes.io/managed-by': 'ocdl', 'ocdl/installation': 'ocdl', ...selected };
const owned = {
  name: `${name}-0a1b2c3d`,
  namespace,
  labels,
  ownerReferences: [{ apiVersion: 'apps/v1', kind: 'Deployment', name, uid: 'uid-1' }],
};

describe('the objects of a service', () => {
  const securityContext = (user: number): object => ({
    ...{ runAsUser: user, runAsGroup: user, allowPrivilegeEscalation: false, readOnlyRootFilesystem: true },
    capabilities: { drop: ['ALL'] },
  });
  const disk = String(1020 + 256 * MIB);
  const memory = String(1024 * MIB + 4 * 1000);
  const fetchResources = { cpu: '250m', memory: String(128 * MIB), 'ephemeral-storage': disk };

  test('its Deployment is exactly this', () => {
    expect(deploymentManifest(spec, setting, start)).toEqual({
      apiVersion: 'apps/v1',
      kind: 'Deployment',
      metadata: {
        ...{ name, namespace, labels },
        annotations: { 'ocdl/name': 'function-shop-1', 'ocdl/until': start.until },
      },
      spec: {
        replicas: 1,
        revisionHistoryLimit: 0,
        strategy: { type: 'Recreate' },
        selector: { matchLabels: selected },
        template: {
          metadata: { labels, annotations: { 'ocdl/name': 'function-shop-1' } },
          spec: {
            serviceAccountName: 'ocdl-job',
            automountServiceAccountToken: false,
            enableServiceLinks: false,
            terminationGracePeriodSeconds: 10,
            securityContext: { runAsNonRoot: true, seccompProfile: { type: 'RuntimeDefault' } },
            initContainers: [
              {
                ...{ name: 'fetch', image: setting.image, args: ['fetch'], workingDir: '/' },
                command: ['python3', '-S', '-s', '-m', 'ocdl.pod'],
                env: expect.arrayContaining([
                  { name: 'OCDL_JOB_PATIENCE', value: '240' },
                  { name: 'PYTHONPATH', value: '/opt/ocdl/capsule' },
                ]) as unknown,
                resources: { requests: fetchResources, limits: fetchResources },
                securityContext: securityContext(10_001),
                volumeMounts: [
                  { name: 'work', mountPath: '/ocdl/work' },
                  { name: 'data', mountPath: '/ocdl/data', readOnly: true },
                ],
              },
            ],
            containers: [
              {
                name: 'serve',
                image: setting.platformImage,
                command: ['node', '--import', 'tsx', 'api/inference/main.ts'],
                args: [
                  ...['--model', `/models/${name}`, '--version', '3', '--sha256', spec.files[0]?.sha256],
                  ...['--host', '$(OCDL_POD_ADDRESS)', '--port', '8000'],
                ],
                workingDir: '/opt/ocdl',
                env: [
                  { name: 'OCDL_POD_ADDRESS', valueFrom: { fieldRef: { fieldPath: 'status.podIP' } } },
                  { name: 'HOME', value: '/tmp' },
                  { name: 'LANG', value: 'C.UTF-8' },
                  { name: 'NODE_ENV', value: 'production' },
                ],
                ports: [{ name: 'http', containerPort: 8000, protocol: 'TCP' }],
                resources: {
                  requests: { cpu: '250m', memory, 'ephemeral-storage': disk },
                  limits: { cpu: '2', memory, 'ephemeral-storage': disk },
                },
                readinessProbe: {
                  httpGet: { path: '/v2/health/ready', port: 8000 },
                  ...{ periodSeconds: 1, timeoutSeconds: 5, failureThreshold: 5 },
                },
                securityContext: securityContext(10_002),
                // No token and no description.
                volumeMounts: [
                  { name: 'work', mountPath: `/models/${name}`, subPath: 'in', readOnly: true },
                  { name: 'work', mountPath: '/tmp', subPath: 'tmp' },
                ],
              },
            ],
            volumes: [
              { name: 'work', emptyDir: { sizeLimit: disk } },
              { name: 'data', secret: { secretName: owned.name, defaultMode: 0o444 } },
            ],
          },
        },
      },
    });
    expect(deploymentManifest(spec, { ...setting, replicas: 3 }, start).spec.replicas).toBe(3);
  });

  test('its Service and Secret belong to the Deployment and to this start', () => {
    expect(serviceManifest(spec, setting, start, 'uid-1')).toEqual({
      ...{ apiVersion: 'v1', kind: 'Service', metadata: owned },
      spec: {
        type: 'ClusterIP',
        selector: { ...selected, 'ocdl/installation': 'ocdl' },
        ports: [{ name: 'http', protocol: 'TCP', port: 8000, targetPort: 8000 }],
      },
    });
    const secret = serviceSecretManifest(spec, setting, start, { uid: 'uid-1', token: 'token-1' });
    expect(secret).toMatchObject({ kind: 'Secret', metadata: owned, immutable: true, type: 'Opaque' });
    expect(Buffer.from(secret.data.token, 'base64').toString()).toBe('token-1');
    expect(JSON.parse(gunzipSync(Buffer.from(secret.data['job.json.gz'], 'base64')).toString())).toEqual({
      ...{ job: 'function-shop-1', api: setting.dataUrl, outputs: [], lock: '', parameters: {} },
      inputs: spec.files.map((one) => ({ name: one.name, sha256: one.sha256, bytes: one.bytes, unpack: false })),
    });
  });

  test('ignore whatever else a spec carries, and refuse files that cannot be served', () => {
    const widened = { ...spec, hostPath: '/', privileged: true, serviceAccountName: 'admin', image: 'x' };
    expect(deploymentManifest(widened, setting, start)).toEqual(deploymentManifest(spec, setting, start));
    expect(() => servedFile({ ...spec, files: [file('model.onnx', 1)] })).toThrow(/model\.onnx and model\.json/);
    for (const bad of ['../x', 'a/b', '.x', 'ä', ''])
      expect(() => servedFile({ ...spec, files: [...spec.files, file(bad, 1)] })).toThrow(/file name ".*" is invalid/);
    expect(memoryOf(spec, { memoryBytes: 5 })).toBe(5);
  });

  test('only the platform connects to it', () => {
    const policy = (space: string | undefined, ranges: string[]) =>
      servicePolicyManifest(setting, { namespace: space, ranges }, 'Fraud Team');
    expect(policy('ocdl-system', ['10.0.0.0/28'])).toEqual({
      apiVersion: 'networking.k8s.io/v1',
      kind: 'NetworkPolicy',
      metadata: {
        ...{ name: 'ocdl-services', namespace },
        labels: { 'app.kubernetes.io/managed-by': 'ocdl', 'ocdl/installation': 'ocdl' },
      },
      spec: {
        podSelector: { matchExpressions: [{ key: 'ocdl/service', operator: 'Exists' }] },
        policyTypes: ['Ingress'],
        ingress: [
          {
            from: [
              { namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': 'ocdl-system' } } },
              { ipBlock: { cidr: '10.0.0.0/28' } },
            ],
            ports: [{ protocol: 'TCP', port: 8000 }],
          },
        ],
      },
    });
    // An empty list of sources would mean everybody.
    expect(policy(undefined, []).spec.ingress).toEqual([]);
  });
});

describe('how a service stands', () => {
  const pod: PodFacts = {
    ...{ namespace: 'n', pod: 'o-1', job: 'o', phase: 'Running', image: 'r.example/platform:1', reason: '' },
    ...{ message: '', isBeingRemoved: false, isGone: false, containers: [] },
  };
  const serve = (facts: object): PodFacts => ({ ...pod, containers: [{ name: 'serve', isRunning: false, ...facts }] });
  const fetched = (facts: object): PodFacts => ({
    ...pod,
    containers: [{ name: 'fetch', isRunning: false, ...facts }],
  });
  const end = (exitCode: number, reason = 'Error', message = '') => ({ exitCode, reason, message });
  const stands = (pods: readonly PodFacts[], hindrance?: string) =>
    serviceStanding(pods, { memoryBytes: 7, hindrance });
  const ready = { ...serve({ isRunning: true }), isReady: true };

  test.each([
    [[], 'the cluster is making the pod', true],
    [[serve({ isRunning: true })], 'it loads its model', false],
    [[fetched({ isRunning: true })], 'fetches the model’s files', true],
    [[fetched({ ended: end(4, 'Error', '{"status":"failed","reason":"fetch","exitCode":4}') })], 'cannot fetch', true],
    [[{ ...pod, unschedulable: '0/1 nodes are available: 1 Insufficient memory.' }], 'not enough free memory', true],
    [
      [serve({ image: 'r.example/other:2', waiting: { reason: 'ErrImagePull', message: 'no such image' } })],
      'the image r.example/other:2 cannot be loaded',
      true,
    ],
    [[serve({ ended: end(128, 'StartError', 'node: not found') })], 'does not start: node: not found', true],
  ])('waits: %j', (pods, why, isOfCluster) =>
    expect(stands(pods)).toEqual({ phase: 'waiting', why: expect.stringContaining(why) as unknown, isOfCluster }),
  );

  test('waits for the quota', () =>
    expect(stands([], 'pods "x" is forbidden: exceeded quota: ocdl, used: requests.memory=1')).toMatchObject({
      why: expect.stringMatching(/all that its quota allows.*requests\.memory/) as unknown,
      isOfCluster: true,
    }));

  test.each([
    ['exits', serve({ ended: end(1) }), false, 'exited on its own', 1],
    ['was started again', serve({ isRunning: true, before: end(1) }), false, 'exited on its own', 1],
    ['is killed', serve({ isRunning: true, before: end(137) }), true, 'was killed from outside', 137],
    ['out of memory', serve({ ended: end(137, 'OOMKilled') }), false, 'needed more memory than its limit of 7', 137],
    ['deleted', { ...ready, isBeingRemoved: true }, true, 'was deleted on the cluster', undefined],
    ['gone', { ...ready, isGone: true }, true, 'was deleted on the cluster', undefined],
    ['evicted', { ...pod, phase: 'Failed', reason: 'Evicted', message: 'disk' }, true, 'ended it: disk', undefined],
    ['drained', { ...pod, disruption: 'EvictionByEvictionAPI' }, true, 'an operator emptied', undefined],
    [
      'other bytes',
      fetched({ before: end(5, 'Error', '{"status":"failed","reason":"inputs","exitCode":5}') }),
      false,
      'did not get its files',
      5,
    ],
  ])('has ended: %s', (_, one, killed, how, status) =>
    expect(stands([one])).toMatchObject({
      ...{ phase: 'ended', killed, status },
      how: expect.stringContaining(how) as unknown,
    }),
  );

  test('is ready, and a replacement that is not ready yet is not what was started', () => {
    expect(stands([ready])).toEqual({ phase: 'ready' });
    expect(stands([{ ...ready, isGone: true }, serve({ isRunning: true })])).toMatchObject({ phase: 'ended' });
    expect(stands([{ ...ready, isGone: true }, ready])).toEqual({ phase: 'ready' });
  });

  test('reads pods and Deployments of services, and leaves those of jobs alone', () => {
    const metadata = { name: 'p', namespace: 'n', uid: 'u', labels: { 'ocdl/service': 'o' }, annotations: {} };
    const object = {
      metadata,
      spec: { containers: [{ image: 'i' }] },
      status: {
        phase: 'Running',
        conditions: [{ type: 'Ready', status: 'True' }],
        containerStatuses: [
          {
            ...{ name: 'serve', image: 'i', state: { running: {} } },
            lastState: { terminated: { exitCode: 137, reason: 'OOMKilled' } },
          },
        ],
      },
    };
    expect(readPod(object)).toBeUndefined();
    expect(readPod(object, 'ocdl/service')).toMatchObject({
      ...{ job: 'o', isReady: true },
      containers: [{ name: 'serve', isRunning: true, before: { exitCode: 137, reason: 'OOMKilled', message: '' } }],
    });
    expect(readDeployment({ metadata })).toBeUndefined();
    const annotations = { 'ocdl/name': 'x', 'ocdl/until': 't' };
    const conditions = [{ type: 'ReplicaFailure', status: 'True', message: 'exceeded quota: q' }];
    expect(readDeployment({ metadata: { ...metadata, annotations }, status: { conditions } })).toEqual({
      ...{ namespace: 'n', object: 'p', name: 'x', uid: 'u', until: 't', hindrance: 'exceeded quota: q' },
    });
  });
});

describe('the way to a service from outside of the cluster', () => {
  test.each([
    ['/v2/health/ready', true],
    ['/v2/models/m%C3%BC/infer', true],
    ['/v2', true],
    ['/v2/../../../secrets', false],
    ['/v2/%2e%2e/%2e%2e/secrets', false],
    ['/v2/..%2f..%2fsecrets', false],
    ['/v2/%252e%252e/x', false],
    ['/v2/models/..;/x', true],
    ['/v2/a\\..\\b', false],
    ['/v2/x?watch=true', false],
    ['/api/v1/secrets', false],
    ['/v2x', false],
    ['http://other/v2', false],
    ['/v2/%', false],
  ])('lets %s through: %s', (url, isSafe) => {
    expect(safePath(url)).toBe(isSafe ? url : undefined);
    const target = 'https://api/api/v1/namespaces/n/services/s/proxy';
    if (isSafe)
      expect(new URL(target + url).href).toMatch(/^https:\/\/api\/api\/v1\/namespaces\/n\/services\/s\/proxy\/v2/);
  });

  /** A forwarder whose API server is this handler. */
  async function forwarding(answer: (path: string, body: string) => { status: number; body: string }) {
    const seen: { path: string; headers: Readonly<Record<string, string>> }[] = [];
    const warnings: string[] = [];
    const upstream = createServer((asked, response) => {
      const chunks: Buffer[] = [];
      asked.on('data', (chunk: Buffer) => chunks.push(chunk));
      asked.on('end', () => {
        const { status, body } = answer(asked.url ?? '', Buffer.concat(chunks).toString());
        response.writeHead(status, { 'content-type': 'application/json', 'retry-after': '1' }).end(body);
      });
    });
    await new Promise<void>((resolve) => upstream.listen(0, '127.0.0.1', resolve));
    const { port } = upstream.address() as AddressInfo;
    const pass = ({ method, path, headers, body, signal }: Passed): Promise<IncomingMessage> => {
      seen.push({ path, headers });
      return new Promise((resolve, reject) => {
        const sent = request({ host: '127.0.0.1', port, method, path, headers, signal, agent: false }, resolve);
        sent.once('error', reject);
        body.pipe(sent);
      });
    };
    const forwarder = await openForwarder({ pass }, '/proxy', (message) => warnings.push(message));
    const close = async (): Promise<void> => {
      await forwarder.close();
      upstream.closeAllConnections();
      upstream.close();
    };
    return { ...forwarder, seen, warnings, close };
  }

  test('passes many requests at a time, without the caller’s credentials, on loopback only', async () => {
    const way = await forwarding((path, body) => ({ status: 200, body: JSON.stringify({ path, body }) }));
    expect(way.address).toMatch(/^http:\/\/127\.0\.0\.1:\d+$/);
    const bodies = Array.from({ length: 40 }, (_, index) => String(index).repeat(50_000));
    const answers = await Promise.all(
      bodies.map(async (body) => {
        const headers = { authorization: 'Bearer mine', cookie: 'x', 'impersonate-user': 'admin' };
        const answer = await fetch(`${way.address}/v2/models/m/infer`, { method: 'POST', body, headers });
        return (await answer.json()) as { path: string; body: string };
      }),
    );
    expect(answers.map(({ body }) => body)).toEqual(bodies);
    expect(new Set(answers.map(({ path }) => path))).toEqual(new Set(['/proxy/v2/models/m/infer']));
    for (const { headers } of way.seen)
      expect(Object.keys(headers).sort()).toEqual(['accept', 'content-length', 'content-type']);
    for (const method of ['DELETE', 'PUT', 'PATCH'])
      expect((await fetch(`${way.address}/v2`, { method })).status).toBe(404);
    expect((await fetch(`${way.address}/api`)).status).toBe(404);
    expect(way.seen).toHaveLength(40);
    await way.close();
    await expect(fetch(`${way.address}/v2`)).rejects.toThrow();
  });

  test('passes on refusals of the service, and turns those of the API server into a lost connection', async () => {
    const own = { status: 503, body: '{"error":"busy"}' };
    const status = { kind: 'Status', message: 'no endpoints available for service "s"' };
    const way = await forwarding((path) =>
      path.endsWith('busy') ? own : { status: 503, body: JSON.stringify(status) },
    );
    const busy = await fetch(`${way.address}/v2/busy`);
    expect([busy.status, busy.headers.get('retry-after'), await busy.json()]).toEqual([503, '1', { error: 'busy' }]);
    await expect(fetch(`${way.address}/v2/gone`)).rejects.toThrow();
    expect(way.warnings).toEqual([expect.stringContaining('no endpoints available')]);
    await way.close();
  });
});
