// Watches of a cluster whose connections fail, the account of the platform's own pod, and jobs that nobody knows.
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { openClient } from '../../activities/adapters/kubernetes/client.ts';
import { createKubernetesCluster, type KubernetesCluster } from '../../activities/adapters/kubernetes/cluster.ts';
import type { JobState } from '../../activities/ports.ts';
import { watchJobs, type JobWatchDeps } from '../../workers/job-watch.ts';
import { eventually } from '../contracts/cluster.ts';
import { testPool } from '../contracts/records/jobs.ts';
import { openScriptedApi, shownJob, TOKEN, type ScriptedApi } from './kubernetes-api.ts';

const opened: { folder: string; api?: ScriptedApi; jobs?: KubernetesCluster } = { folder: '' };
const api = (): ScriptedApi => {
  if (!opened.api) throw new Error('no API server');
  return opened.api;
};
const jobs = (): KubernetesCluster => {
  if (!opened.jobs) throw new Error('no cluster');
  return opened.jobs;
};
const SILENCE_MS = 2_000;
/** No test here starts a service. */
const serviceTokens = { issue: () => Promise.reject(new Error('no service')), revoke: () => Promise.resolve() };

beforeEach(async () => {
  opened.folder = mkdtempSync(join(tmpdir(), 'ocdl-api-server-'));
  opened.api = await openScriptedApi(opened.folder);
  opened.jobs = createKubernetesCluster({
    ...{ installation: 'ours', image: 'registry.example/capsule:1', dataUrl: 'https://10.1.2.3', dataRanges: [] },
    ...{ gpuResource: 'nvidia.com/gpu', quota: { cpus: 1, memoryBytes: 1, diskBytes: 1, gpus: 0 }, platformLock: '' },
    ...{ platformImage: 'registry.example/platform:1', callerRanges: [], serviceTokens },
    place: { kubeconfig: api().kubeconfig },
    watchSilenceMs: SILENCE_MS,
  });
});
afterEach(async () => {
  await opened.jobs?.close();
  await opened.api?.close();
  rmSync(opened.folder, { recursive: true });
});

const put = (name: string, state: 'running' | 'ended', installation = 'ours'): void => {
  const { job, pod } = shownJob(name, installation, state);
  api().put('pods', pod);
  api().put('jobs', job);
};

describe.each([
  ['410 Gone as the status of the answer', (): void => api().expire('status')],
  ['410 Gone as an event of the stream', (): void => api().expire('event')],
  ['a connection that goes silent', (): void => undefined],
] as const)('a watch that is interrupted: %s', (_, interrupt) => {
  test('no change is lost, and each end is told once', async () => {
    const seen: [name: string, state: JobState][] = [];
    const told = (name: string): string[] => seen.flatMap(([one, { phase }]) => (one === name ? [phase] : []));
    const stop = new AbortController();
    for (const name of ['a', 'b', 'c']) put(name, 'running');
    const watched = jobs().watchJobs((name, state) => void seen.push([name, state]), stop.signal);
    const resumed = (): Promise<void> =>
      eventually('both watches go on', async () => api().watching() === 2, SILENCE_MS + 20_000);
    try {
      await eventually('all run', async () => seen.length >= 3);
      put('a', 'ended');
      await eventually('a has ended', async () => told('a').includes('ended'));

      // What happens now is not delivered: an end, a new job, a job that is removed, and the pod of an ended job.
      api().silence();
      put('b', 'ended');
      put('d', 'running');
      const gone = shownJob('c', 'ours', 'running');
      for (const [kind, object] of [
        ['jobs', gone.job],
        ['pods', gone.pod],
        ['pods', shownJob('a', 'ours', 'ended').pod],
      ] as const)
        api().remove(kind, object);
      interrupt();
      await resumed();
      await eventually('the changes are told', async () => told('b').includes('ended') && told('d').length > 0);
      await eventually('c is missing', async () => told('c').at(-1) === 'missing');

      // And once more, with nothing but the next change.
      api().silence();
      put('d', 'ended');
      interrupt();
      await resumed();
      await eventually('d has ended', async () => told('d').includes('ended'));
      await sleep(500);
      for (const name of ['a', 'b', 'd'])
        expect([name, told(name).filter((phase) => phase === 'ended')]).toEqual([name, ['ended']]);
      const [, end] = seen.find(([name, { phase }]) => name === 'b' && phase === 'ended') ?? [];
      expect(end).toMatchObject({ outcome: { status: 'succeeded', log: 'the log\n' } });
    } finally {
      stop.abort();
      await watched;
    }
  }, 120_000);
});

test('in the cluster: the account of the pod, from its files and variables', async () => {
  const root = mkdtempSync(join(tmpdir(), 'ocdl-pod-'));
  const account = join(root, 'var/run/secrets/kubernetes.io/serviceaccount');
  const { KUBERNETES_SERVICE_HOST: host, KUBERNETES_SERVICE_PORT: port } = process.env;
  try {
    mkdirSync(account, { recursive: true });
    writeFileSync(join(account, 'token'), `${TOKEN}-of-the-pod`);
    writeFileSync(join(account, 'ca.crt'), readFileSync(api().caFile));
    writeFileSync(join(account, 'namespace'), 'platform');
    Object.assign(process.env, { KUBERNETES_SERVICE_HOST: '127.0.0.1', KUBERNETES_SERVICE_PORT: String(api().port) });
    const client = openClient({ root });
    expect(client.server).toBe(`https://127.0.0.1:${api().port}`);
    expect(await client.ask('GET', '/version')).toMatchObject({ minor: '34' });
    client.close();
    expect([...api().credentials]).toEqual([`Bearer ${TOKEN}-of-the-pod`]);
    // Another authority than that of the server.
    writeFileSync(join(account, 'ca.crt'), readFileSync(join(opened.folder, 'api-server.pem')));
    const deceived = openClient({ root });
    await expect(deceived.ask('GET', '/version')).rejects.toThrow(/certificate/);
    deceived.close();
  } finally {
    for (const [name, value] of [
      ['KUBERNETES_SERVICE_HOST', host],
      ['KUBERNETES_SERVICE_PORT', port],
    ] as const)
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    rmSync(root, { recursive: true });
  }
}, 60_000);

test('jobs that the record does not know are removed, those of another installation are not touched', async () => {
  put('orphan', 'running');
  put('orphan', 'running', 'theirs');
  put('known', 'running');
  const known = {
    name: 'known',
    kind: 'training',
    state: 'running',
    pool: 'kubernetes',
    job: { lock: '' },
    beatMs: 1e9,
  };
  const records = {
    exclusively: (_: string, work: (lost: AbortSignal) => Promise<void>) => work(new AbortController().signal),
    takenJobs: async () => [known],
    job: async (name: string) => (name === 'known' ? known : undefined),
    jobTurns: async () => [],
    queuedJobs: async () => [],
    watchedPool: async () => undefined,
  };
  const warnings: string[] = [];
  const watch = watchJobs({
    ...{ records, cluster: jobs(), pool: testPool('kubernetes'), earlier: [], apiUrl: '' },
    ...{ client: { activity: { heartbeat: async () => undefined } }, onWarn: (text: string) => warnings.push(text) },
    areas: {},
  } as unknown as JobWatchDeps);
  try {
    const deleted = (): string[] => api().requests.filter((one) => one.startsWith('DELETE'));
    await eventually('the orphan is removed', async () => deleted().length > 0);
    await sleep(3_000);
    expect(deleted()).toEqual([
      `DELETE /apis/batch/v1/namespaces/ours-jobs/jobs/${shownJob('orphan', 'ours', 'running').job.metadata.name}`,
    ]);
    expect([...api().objects.jobs.values()].map(({ metadata }) => metadata.namespace).sort()).toEqual([
      'ours-jobs',
      'theirs-jobs',
    ]);
  } finally {
    await watch.stop();
  }
}, 60_000);
