// Model services as pods of the stack's Kubernetes: how they are reached, and what can go wrong. Runs with KUBERNETES=true.
import { randomUUID } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, realpathSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openClient } from '../../activities/adapters/kubernetes/client.ts';
import { createKubernetesCluster, type KubernetesOptions } from '../../activities/adapters/kubernetes/cluster.ts';
import { namespaceName, objectName, ofService } from '../../activities/adapters/kubernetes/names.ts';
import { listObjects } from '../../activities/adapters/kubernetes/watch.ts';
import { createInferenceClient } from '../../activities/inference/client.ts';
import { ServiceNotReady, type ServiceSpec } from '../../activities/ports.ts';
import { openKubernetes, type KubernetesHarness } from '../adapters/kubernetes-cluster.ts';
import { processesWith } from '../adapters/local-cluster.ts';
import { eventually, pythonJob } from '../contracts/cluster.ts';
import { runJob } from '../contracts/run-job.ts';
import { describeKubernetes, patience, stackOn } from './own-cluster.ts';

/** The home of a stack that runs already: its cluster is used as it is. */
const given = process.env['OCDL_TEST_KUBERNETES_HOME'];
const GIB = 1024 ** 3;
const signal = new AbortController().signal;

describeKubernetes('model services', ['kubernetes'], () => {
  const home = given ?? realpathSync(mkdtempSync(join(tmpdir(), 'ocdl-services-')));
  const folder = join(home, 'kubernetes');
  if (given === undefined) {
    const { stack } = stackOn(home);
    beforeAll(async () => {
      const { code, said } = await stack('up', '--only', 'kubernetes', '--detach');
      if (code !== 0) throw new Error(said);
    }, patience);
  }
  const opened: { harness?: KubernetesHarness } = {};
  beforeAll(async () => {
    opened.harness = await openKubernetes(folder);
  }, patience);
  afterAll(() => opened.harness?.close());

  const harness = (): KubernetesHarness => {
    if (opened.harness === undefined) throw new Error('the cluster did not open');
    return opened.harness;
  };
  const specOf = (more: Partial<ServiceSpec> = {}): ServiceSpec => ({
    ...{ name: `s${randomUUID().slice(0, 8)}`, files: harness().model, version: '3', compute: 'cpu' },
    ...more,
  });
  const podsOf = async ({ name }: ServiceSpec): Promise<readonly unknown[]> =>
    (await listObjects(harness().cluster.client, '/api/v1/pods', { labelSelector: ofService('ocdl-test', name) }))
      .items;

  /** The error of a service that does not start; nothing of it is left. */
  const failureOf = async (more: Partial<ServiceSpec>, options: Partial<KubernetesOptions>): Promise<unknown> => {
    const spec = specOf(more);
    const cluster = createKubernetesCluster({ ...harness().options, ...options });
    try {
      const error = await cluster.startService(spec, signal).then(
        () => new Error('it started'),
        (thrown: unknown) => thrown,
      );
      expect(await podsOf(spec)).toEqual([]);
      return error;
    } finally {
      await cluster.close();
    }
  };
  const notReady = (pattern: RegExp, isOfCluster: boolean): unknown =>
    expect.objectContaining({
      ...{ name: 'ServiceNotReady', isOfCluster },
      message: expect.stringMatching(pattern) as unknown,
    });

  test('answers many requests at a time from outside, and inside of the cluster under its name', async () => {
    const { cluster, api } = harness();
    const spec = specOf();
    const { address } = await cluster.startService(spec, signal);
    try {
      expect(address).toMatch(/^http:\/\/127\.0\.0\.1:\d+$/);
      const client = createInferenceClient({ address, name: 'add' });
      expect(await client.ready(signal)).toBe(true);
      const ask = async (value: number): Promise<unknown> => {
        const input = { name: 'x', datatype: 'FP32' as const, shape: [1, 2], data: [value, value] };
        const { outputs } = await client.infer({ inputs: [input] }, signal);
        return outputs[0]?.data[0];
      };
      const base = Number(await ask(0));
      // As many as the service accepts at a time.
      const values = Array.from({ length: 32 }, (_, index) => index);
      const answers = await Promise.all(values.map(ask));
      expect(new Set(answers).size).toBe(values.length);
      expect(answers[0]).toBe(base);
      const services = `/api/v1/namespaces/${namespaceName('ocdl-test', undefined)}/services`;
      const admin = openClient({ kubeconfig: join(folder, 'admin.kubeconfig') });
      const { items } = await listObjects(admin, services, { labelSelector: ofService('ocdl-test', spec.name) });
      admin.close();
      const [service] = items as readonly { metadata: { name: string; namespace: string } }[];
      const host = `${service?.metadata.name}.${service?.metadata.namespace}.svc`;
      const code = `import urllib.request; print(urllib.request.urlopen("http://${host}:8000/v2/health/ready").status)`;
      expect(await runJob(harness(), pythonJob(api, { code }))).toMatchObject({ status: 'succeeded', log: '200\n' });
    } finally {
      await cluster.stopService(spec.name);
    }
    await expect(fetch(address)).rejects.toThrow();
    expect(await podsOf(spec)).toEqual([]);
  });

  test('has no rights, no token and no account', async () => {
    const { cluster } = harness();
    const spec = specOf();
    await cluster.startService(spec, signal);
    try {
      const pid = Math.min(...processesWith(`/models/${objectName(spec.name)}`));
      const status = readFileSync(`/proc/${pid}/status`, 'utf8');
      expect(status).toMatch(/^Uid:\t10002\t10002\t/m);
      expect(status).toMatch(/^CapEff:\t0+$/m);
      expect(status).toMatch(/^NoNewPrivs:\t1$/m);
      expect(status).toMatch(/^Seccomp:\t2$/m);
      const root = `/proc/${pid}/root`;
      expect(existsSync(`${root}/opt/ocdl/api/inference/main.ts`)).toBe(true);
      for (const path of ['ocdl/data', 'ocdl/work', 'var/run/secrets'])
        expect(existsSync(join(root, path))).toBe(false);
      expect(readFileSync(`/proc/${pid}/mounts`, 'utf8')).toMatch(/^\S+ \/ \S+ ro,/m);
      expect(readFileSync(`/proc/${pid}/environ`, 'utf8')).not.toMatch(/token-/);
    } finally {
      await cluster.stopService(spec.name);
    }
  });

  test('a crash at its start ends with its last words, at once', async () => {
    const error = await failureOf({ files: harness().brokenModel }, {});
    expect(error).toMatchObject({ type: 'JobFailed', nonRetryable: true });
    expect(String(error)).toMatch(
      /not ready: service \S+ exited on its own \(status 1\); last lines of its log:\ninference service: /,
    );
  });

  test('out of memory', async () => {
    const serviceMemoryBytes = 32 * 1024 ** 2;
    const error = await failureOf({}, { serviceMemoryBytes });
    expect(error).toMatchObject({ type: 'JobFailed', nonRetryable: true });
    expect(String(error)).toMatch(/needed more memory than its limit of 33554432 bytes/);
  });

  test('files with other bytes than recorded', async () => {
    const [first, ...rest] = harness().model;
    const files = [{ ...first, bytes: 7 }, ...rest] as ServiceSpec['files'];
    const error = await failureOf({ files }, {});
    expect(error).toMatchObject({ type: 'JobFailed' });
    expect(String(error)).toMatch(/did not get its files as they were recorded.*\n.*longer than its declared 7 bytes/s);
  });

  test.each([
    [
      'an image that does not exist',
      { platformImage: 'localhost/nobody-made-this:1' },
      /the image localhost\/nobody-made-this:1 cannot be loaded/,
    ],
    ['more than the quota', { serviceMemoryBytes: 100 * GIB }, /all that its quota allows.*memory/],
    ['an API that does not answer', { dataUrl: 'http://127.0.0.1:9' }, /files from the API/],
  ])('%s', async (_, options, pattern) => {
    const error = await failureOf({}, { readyWithinMs: 20_000, ...options });
    expect(error).toBeInstanceOf(ServiceNotReady);
    expect(error).toEqual(notReady(pattern, true));
  });

  test('more than any machine has', async () => {
    const quota = { ...harness().options.quota, memoryBytes: 2_000 * GIB };
    const options = { readyWithinMs: 10_000, serviceMemoryBytes: 1_000 * GIB, quota };
    const error = await failureOf({ project: 'roomy' }, options);
    expect(error).toEqual(notReady(/no machine of the cluster has room: not enough free memory/, true));
  });

  test('a pod that is deleted by hand', async () => {
    const { cluster } = harness();
    const spec = specOf();
    const { ended } = await cluster.startService(spec, signal);
    try {
      const pods = `/api/v1/namespaces/${namespaceName('ocdl-test', undefined)}/pods`;
      const query = { labelSelector: ofService('ocdl-test', spec.name) };
      await cluster.client.ask('DELETE', pods, { query });
      expect(await ended).toEqual({
        killed: true,
        detail: expect.stringMatching(/was killed from outside: its pod was deleted on the cluster/) as unknown,
      });
    } finally {
      await cluster.stopService(spec.name);
    }
    expect(await podsOf(spec)).toEqual([]);
  });

  test('a start that is aborted leaves nothing', async () => {
    const spec = specOf();
    const abort = new AbortController();
    const started = harness().cluster.startService(spec, abort.signal);
    started.catch(() => undefined);
    await eventually('its pod exists', async () => (await podsOf(spec)).length === 1, 60_000);
    abort.abort(new Error('withdrawn'));
    await expect(started).rejects.toThrow('withdrawn');
    expect(await podsOf(spec)).toEqual([]);
  });

  test('a service whose worker is gone: another worker stops it by its name, and removes it when it is old', async () => {
    const gone = createKubernetesCluster(harness().options);
    const [first, second] = [specOf(), specOf()];
    await Promise.all([first, second].map((spec) => gone.startService(spec, signal)));
    const { cluster } = harness();
    await cluster.stopService(first.name);
    expect(await podsOf(first)).toEqual([]);
    const admin = openClient({ kubeconfig: join(folder, 'admin.kubeconfig') });
    const namespace = namespaceName('ocdl-test', undefined);
    const past = {
      ...{ apiVersion: 'apps/v1', kind: 'Deployment' },
      metadata: { name: objectName(second.name), namespace, annotations: { 'ocdl/until': '2026-01-01T00:00:00Z' } },
    };
    const path = `/apis/apps/v1/namespaces/${namespace}/deployments/${objectName(second.name)}`;
    await admin.ask('PATCH', path, { query: { fieldManager: 'test', force: true }, body: past });
    admin.close();
    const third = specOf();
    await cluster.startService(third, signal);
    await eventually('the old one is gone', async () => (await podsOf(second)).length === 0, 60_000);
    expect(harness().warnings.join('\n')).toMatch(`service ${second.name} was left by a worker`);
    expect(await podsOf(third)).toHaveLength(1);
    await cluster.stopService(third.name);
    await gone.close();
  });
});
