// The stack's Kubernetes from the command line: pods that run, and nothing of them left on the machine afterwards.
// It builds Kubernetes once (10 minutes on two cores) and needs root, so it runs only with KUBERNETES=true.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, realpathSync, statSync } from 'node:fs';
import { Resolver } from 'node:dns/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { ownerOf } from '../../deploy/local/home-lock.ts';
import { sendSignal } from '../../activities/adapters/process-start.ts';
import { isAlive } from '../../deploy/local/process-identity.ts';
import { askCluster } from '../../deploy/stack/kubernetes/client.ts';
import { apiService } from '../../deploy/stack/kubernetes/control-plane.ts';
import { nodeAddress, nodeBridge, podBridge } from '../../deploy/stack/kubernetes/host.ts';
import { importImage } from '../../deploy/stack/kubernetes/images.ts';
import { mountsBelow } from '../../deploy/stack/kubernetes/leftovers.ts';
import { containerdSocket } from '../../deploy/stack/kubernetes/node.ts';
import { isLoopback, listeners, socketsOf } from '../../deploy/stack/listeners.ts';
import { eventually } from '../local/homes.ts';
import { clusterIn, shellArchive, shellJob } from './cluster.ts';
import { describeKubernetes, patience, pidLimits, processesNaming, stackOn } from './own-cluster.ts';

const forwardingPath = '/proc/sys/net/ipv4/ip_forward';
const jobSchema = z.object({
  status: z.object({ succeeded: z.number().optional(), failed: z.number().optional() }),
});
const podSchema = z.object({
  metadata: z.object({ name: z.string() }),
  spec: z.object({
    tolerations: z.array(z.looseObject({ key: z.string(), tolerationSeconds: z.number().optional() })),
  }),
  status: z.object({
    phase: z.string(),
    containerStatuses: z
      .array(z.object({ state: z.object({ terminated: z.object({ exitCode: z.number() }).optional() }) }))
      .default([]),
  }),
});
const podsSchema = z.object({ items: z.array(podSchema) });

describeKubernetes('a node with pods', ['kubernetes'], () => {
  const home = realpathSync(mkdtempSync(join(tmpdir(), 'ocdl-kubernetes-')));
  const folder = join(home, 'kubernetes');
  const { stack, running } = stackOn(home, { OCDL_STACK_KUBERNETES_GPUS: '2' });
  const namespace = '/api/v1/namespaces/work';
  const jobs = '/apis/batch/v1/namespaces/work/jobs';
  const tables = (): string => execFileSync('nft', ['list', 'tables'], { encoding: 'utf8' });
  const before = { tables: '', forwarding: '' };
  beforeAll(() => {
    before.tables = tables();
    before.forwarding = readFileSync(forwardingPath, 'utf8');
  });

  const podsOf = async (job: string) =>
    (await clusterIn(folder).read(`${namespace}/pods?labelSelector=job-name%3D${job}`, podsSchema)).items;
  const finished = async (job: string): Promise<z.infer<typeof jobSchema>['status']> => {
    const state = { last: {} as z.infer<typeof jobSchema>['status'] };
    await eventually(
      `the job ${job} has ended`,
      async () => {
        state.last = (await clusterIn(folder).read(`${jobs}/${job}`, jobSchema)).status;
        return (state.last.succeeded ?? 0) + (state.last.failed ?? 0) > 0;
      },
      patience,
    );
    return state.last;
  };

  /** Creates a job whose pod does not end by itself, and waits until it runs. */
  const runsOn = async (job: string): Promise<void> => {
    await clusterIn(folder).create(jobs, shellJob(job, 'sleep 3600'));
    await eventually('the pod runs', async () => (await podsOf(job))[0]?.status.phase === 'Running', patience);
  };

  test(
    'starts, and only its owner can read the administrator’s token',
    async () => {
      const { code, said } = await stack('up', '--only', 'kubernetes', '--detach');
      expect([code, said]).toEqual([0, expect.stringContaining('kubectl')]);
      expect(statSync(join(folder, 'admin.kubeconfig')).mode & 0o777).toBe(0o600);
      expect(readFileSync(join(home, 'stack.env'), 'utf8')).toBe(`KUBECONFIG=${join(folder, 'admin.kubeconfig')}\n`);
      const status = await stack('status');
      expect([status.code, status.said.match(/ running /g)?.length]).toEqual([0, running().length]);
      expect(running().map(({ name }) => name)).toEqual(expect.arrayContaining(['containerd', 'kubelet', 'coredns']));
    },
    patience,
  );

  test('listens only on the loopback and its own bridge', () => {
    // The kernel prints addresses in the order of the machine's bytes.
    const own = nodeAddress.split('.').map(Number).reverse();
    const bridge = Buffer.from(own).toString('hex').toUpperCase();
    const open = listeners();
    for (const { name, child } of running()) {
      const inodes = socketsOf(child.pid);
      // The plugin of the GPUs listens on a socket file.
      expect([name, open.some((one) => inodes.has(one.inode))]).toEqual([name, name !== 'kube-gpus']);
      const elsewhere = open.filter(
        (one) => inodes.has(one.inode) && !isLoopback(one) && !one.address.endsWith(bridge),
      );
      expect([name, elsewhere]).toEqual([name, []]);
    }
  });

  test('answers under service names and service addresses, as pods use them', async () => {
    const resolver = new Resolver();
    resolver.setServers([nodeAddress]);
    expect(await resolver.resolve4('kubernetes.default.svc.cluster.local')).toEqual([apiService]);
    expect(await askCluster({ folder, url: `https://${apiService}` }, '/readyz')).toMatchObject({ status: 200 });
  });

  test(
    'runs jobs to success and to failure, with exit code and log',
    async () => {
      const cluster = clusterIn(folder);
      const archive = join(home, 'shell.tar');
      await shellArchive(archive);
      await importImage(containerdSocket(folder), archive);
      await cluster.create('/api/v1/namespaces', { metadata: { name: 'work' } });
      await eventually(
        'the namespace has its service account',
        async () => (await cluster.answer(`${namespace}/serviceaccounts/default`)).status === 200,
        patience,
      );
      await cluster.create(jobs, shellJob('good', 'echo "it says $((6 * 7))"'));
      await cluster.create(jobs, shellJob('bad', 'echo "about to fail"; exit 7'));
      expect(await finished('good')).toMatchObject({ succeeded: 1 });
      expect(await finished('bad')).toMatchObject({ failed: 1 });
      const [[good], [bad]] = [await podsOf('good'), await podsOf('bad')];
      expect(good?.status.containerStatuses[0]?.state.terminated?.exitCode).toBe(0);
      expect(bad?.status.containerStatuses[0]?.state.terminated?.exitCode).toBe(7);
      expect(await cluster.text(`${namespace}/pods/${good?.metadata.name}/log`)).toBe('it says 42\n');
      expect(await cluster.text(`${namespace}/pods/${bad?.metadata.name}/log`)).toBe('about to fail\n');
      // Instead of 300 s.
      expect(good?.spec.tolerations.map(({ tolerationSeconds }) => tolerationSeconds)).toEqual([30, 30]);
    },
    patience,
  );

  test(
    'gives a pod the GPUs that the node simulates, and lets another wait',
    async () => {
      const cluster = clusterIn(folder);
      const script = 'echo "$NVIDIA_VISIBLE_DEVICES"';
      await cluster.create(jobs, shellJob('gpus', script, { 'nvidia.com/gpu': '2' }));
      await cluster.create(jobs, shellJob('too-many', script, { 'nvidia.com/gpu': '3' }));
      expect(await finished('gpus')).toMatchObject({ succeeded: 1 });
      const [pod] = await podsOf('gpus');
      const log = await cluster.text(`${namespace}/pods/${pod?.metadata.name}/log`);
      expect(log.trim().split(',').sort()).toEqual(['GPU-simulated-0', 'GPU-simulated-1']);
      expect((await podsOf('too-many'))[0]?.status.phase).toBe('Pending');
    },
    patience,
  );

  test(
    'limits the processes of a pod, and survives a killed supervisor',
    async () => {
      await runsOn('long');
      expect(pidLimits()).toEqual(expect.arrayContaining(['512']));

      const servers = running();
      sendSignal(ownerOf(home)?.pid ?? 0, 'SIGKILL');
      await eventually('the servers ended', () => servers.every(({ child }) => !isAlive(child)), patience);
      // No process is left to end pods.
      expect(existsSync(`/sys/class/net/${nodeBridge}`)).toBe(true);
      const again = await stack('up', '--only', 'kubernetes', '--detach');
      expect([again.code, again.said]).toEqual([0, expect.stringContaining('kubectl')]);
      expect((await clusterIn(folder).answer(`${jobs}/good`)).status).toBe(200);
      await runsOn('longer');
    },
    patience,
  );

  test(
    'leaves nothing on the machine',
    async () => {
      const servers = running();
      expect(servers.length).toBeGreaterThan(5);
      // Otherwise the checks below would pass without anything to remove.
      expect([tables(), mountsBelow(home).length > 0]).toEqual([expect.stringContaining('ocdl-kubernetes'), true]);
      const { code, said } = await stack('down', '--yes');
      expect([code, said]).toEqual([0, expect.stringContaining('has stopped')]);
      expect(servers.filter(({ child }) => isAlive(child))).toEqual([]);
      expect(tables()).toBe(before.tables);
      expect(processesNaming(home)).toEqual([]);
      expect(mountsBelow(home)).toEqual([]);
      expect([nodeBridge, podBridge].filter((name) => existsSync(`/sys/class/net/${name}`))).toEqual([]);
      expect(pidLimits()).toEqual([]);
      expect(existsSync('/run/ocdl-kubernetes-node.json')).toBe(false);
      expect(readFileSync(forwardingPath, 'utf8')).toBe(before.forwarding);
      expect((await stack('status')).code).toBe(1);
    },
    patience,
  );

  test(
    'keeps its objects until a reset',
    async () => {
      expect((await stack('up', '--only', 'kubernetes', '--detach')).code).toBe(0);
      expect((await clusterIn(folder).answer(`${jobs}/good`)).status).toBe(200);
      expect((await stack('down', '--yes', '--reset')).code).toBe(0);
      expect((await stack('up', '--only', 'kubernetes', '--detach')).code).toBe(0);
      expect((await clusterIn(folder).answer(namespace)).status).toBe(404);
      expect((await stack('down', '--yes')).code).toBe(0);
    },
    patience,
  );
});

describeKubernetes('kwok', ['kwok'], () => {
  const home = mkdtempSync(join(tmpdir(), 'ocdl-kwok-'));
  const { stack, running } = stackOn(home);

  test(
    'schedules a job with GPUs on a simulated node',
    async () => {
      expect((await stack('up', '--only', 'kwok', '--detach')).code).toBe(0);
      const cluster = clusterIn(join(home, 'kwok'));
      const resources = { limits: { cpu: '1', 'nvidia.com/gpu': '4' } };
      const containers = [{ name: 'run', image: 'localhost/never-pulled:1', resources }];
      await cluster.create('/apis/batch/v1/namespaces/default/jobs', {
        metadata: { name: 'gpus' },
        spec: { template: { spec: { restartPolicy: 'Never', containers } } },
      });
      const path = '/apis/batch/v1/namespaces/default/jobs/gpus';
      await eventually(
        'the job has succeeded',
        async () => (await cluster.read(path, jobSchema)).status.succeeded === 1,
        patience,
      );
      const before = running();
      expect((await stack('down', '--yes')).code).toBe(0);
      expect(before.filter(({ child }) => isAlive(child))).toEqual([]);
    },
    patience,
  );
});
