// The node of the stack's Kubernetes: containerd, kubelet, kube-proxy and CoreDNS as processes of this machine. Needs root.
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { ChildSpec } from '../../local/child.ts';
import { runProgram } from '../../local/run-program.ts';
import { answersHttp } from '../java.ts';
import { askCluster } from './client.ts';
import { flags, kubernetesSpec, podNetwork } from './control-plane.ts';
import { nodeAddress, podBridge } from './host.ts';
import { keyFile, kubeconfigOf, writeIfDifferent, type ClusterPlace } from './identities.ts';
import type { KubernetesPorts } from './ports.ts';
import { pauseImage, type KubernetesPrograms } from './programs.ts';

export const nodeName = 'ocdl-node';

export type NodeOptions = {
  readonly place: ClusterPlace;
  readonly programs: KubernetesPrograms;
  readonly ports: KubernetesPorts;
  /** Number of simulated GPUs on the node. */
  readonly gpus: number;
};

export type KubernetesNode = {
  readonly containerd: ChildSpec;
  readonly dns: ChildSpec;
  readonly proxy: ChildSpec;
  readonly kubelet: ChildSpec;
  /** Undefined without simulated GPUs. */
  readonly gpus: ChildSpec | undefined;
};

/** Processes that one pod may have: without a limit, a fork bomb in a pod stops the whole machine. */
const podPidsLimit = 512;

/** Path of containerd's socket. */
export function containerdSocket(folder: string): string {
  return join(folder, 'containerd.sock');
}

/** Returns the processes of the node. The control plane must be up before they start, except containerd. */
export function kubernetesNode(options: NodeOptions): KubernetesNode {
  return {
    containerd: containerd(options),
    dns: dns(options),
    proxy: proxy(options),
    kubelet: kubelet(options),
    gpus: options.gpus > 0 ? gpus(options) : undefined,
  };
}

/** Whether the API server has the node as ready. */
export async function isNodeReady(place: ClusterPlace, gpuCount: number): Promise<boolean> {
  const { status, text } = await askCluster(place, `/api/v1/nodes/${nodeName}`);
  if (status !== 200 || !/"type":\s*"Ready",\s*"status":\s*"True"/.test(text)) return false;
  return gpuCount === 0 || text.includes(`"nvidia.com/gpu":"${gpuCount}"`);
}

function containerd({ place: { folder } }: NodeOptions): ChildSpec {
  const socket = containerdSocket(folder);
  const [config, network] = [join(folder, 'containerd.toml'), join(folder, 'cni')];
  const isReady = async (): Promise<boolean> => (await runProgram('ctr', ['-a', socket, 'version'])).code === 0;
  return {
    ...kubernetesSpec('containerd', 'containerd', ['--config', config], isReady, () => {
      mkdirSync(network, { recursive: true, mode: 0o700 });
      writeIfDifferent(config, containerdToml(folder));
      writeIfDifferent(join(network, '10-ocdl.conflist'), JSON.stringify(podNetworkList(folder), null, 2));
    }),
    terminalLine: (line) => (/level=fatal/.test(line) ? line : undefined),
  };
}

function containerdToml(folder: string): string {
  const text = (path: string): string => JSON.stringify(path);
  const cri = 'plugins."io.containerd.grpc.v1.cri"';
  return [
    'version = 2',
    `root = ${text(join(folder, 'containerd'))}`,
    `state = ${text(join(folder, 'containerd-run'))}`,
    '[grpc]',
    `address = ${text(containerdSocket(folder))}`,
    '[ttrpc]',
    `address = ${text(`${containerdSocket(folder)}.ttrpc`)}`,
    '[plugins."io.containerd.internal.v1.opt"]',
    `path = ${text(join(folder, 'containerd', 'opt'))}`,
    `[${cri}]`,
    `sandbox_image = ${text(pauseImage)}`,
    'disable_apparmor = true',
    'netns_mounts_under_state_dir = true',
    // Without CAP_SYS_RESOURCE (as in many virtual machines and containers), runc cannot lower a process's oom_score_adj.
    'restrict_oom_score_adj = true',
    `[${cri}.cni]`,
    'bin_dir = "/usr/lib/cni"',
    `conf_dir = ${text(join(folder, 'cni'))}`,
    `[${cri}.containerd]`,
    'snapshotter = "overlayfs"',
    'default_runtime_name = "runc"',
    `[${cri}.containerd.runtimes.runc]`,
    'runtime_type = "io.containerd.runc.v2"',
    `[${cri}.containerd.runtimes.runc.options]`,
    'SystemdCgroup = false',
    `Root = ${text(join(folder, 'runc'))}`,
    '',
  ].join('\n');
}

function podNetworkList(folder: string): object {
  return {
    cniVersion: '1.0.0',
    name: 'ocdl',
    plugins: [
      {
        type: 'bridge',
        bridge: podBridge,
        isGateway: true,
        hairpinMode: true,
        // host.ts masquerades: the plugin would need iptables.
        ipMasq: false,
        ipam: {
          type: 'host-local',
          dataDir: join(folder, 'pod-addresses'),
          ranges: [[{ subnet: podNetwork }]],
          routes: [{ dst: '0.0.0.0/0' }],
        },
      },
    ],
  };
}

function dns({ place: { folder }, programs, ports }: NodeOptions): ChildSpec {
  const file = join(folder, 'Corefile');
  const corefile = [
    '.:53 {',
    `  bind ${nodeAddress}`,
    '  errors',
    `  ready 127.0.0.1:${ports.dnsReady}`,
    '  kubernetes cluster.local in-addr.arpa ip6.arpa {',
    `    kubeconfig "${kubeconfigOf(folder, 'coredns')}"`,
    '    pods insecure',
    '    ttl 1',
    '  }',
    '  forward . /etc/resolv.conf',
    // 1 s: a test that replaces a service sees the new one.
    '  cache 1',
    '}',
    '',
  ].join('\n');
  const isReady = (): Promise<boolean> => answersHttp(`http://127.0.0.1:${ports.dnsReady}/ready`);
  return {
    ...kubernetesSpec('coredns', programs.coredns, ['-conf', file], isReady, () => writeIfDifferent(file, corefile)),
    terminalLine: () => undefined,
  };
}

function proxy({ place: { folder }, programs, ports }: NodeOptions): ChildSpec {
  const file = join(folder, 'kube-proxy.json');
  const config = {
    apiVersion: 'kubeproxy.config.k8s.io/v1alpha1',
    kind: 'KubeProxyConfiguration',
    // Its rules are in tables of their own, which are removed whole.
    mode: 'nftables',
    oomScoreAdj: 0,
    clusterCIDR: podNetwork,
    hostnameOverride: nodeName,
    bindAddress: nodeAddress,
    // Otherwise services of type NodePort are open to the network.
    nodePortAddresses: [`${nodeAddress}/32`],
    healthzBindAddress: `127.0.0.1:${ports.proxyHealth}`,
    metricsBindAddress: `127.0.0.1:${ports.proxyMetrics}`,
    clientConnection: { kubeconfig: kubeconfigOf(folder, 'proxy') },
    // The machine's own limits and timeouts stay as they are.
    conntrack: { maxPerCore: 0, min: 0, tcpEstablishedTimeout: '0s', tcpCloseWaitTimeout: '0s' },
    nftables: { minSyncPeriod: '0s', syncPeriod: '30s' },
  };
  const isReady = (): Promise<boolean> => answersHttp(`http://127.0.0.1:${ports.proxyHealth}/healthz`);
  return kubernetesSpec('kube-proxy', programs.kubeall, ['kube-proxy', `--config=${file}`], isReady, () =>
    writeIfDifferent(file, JSON.stringify(config, null, 2)),
  );
}

function kubelet({ place, programs, ports }: NodeOptions): ChildSpec {
  const { folder } = place;
  const file = join(folder, 'kubelet.json');
  const args = flags({
    config: file,
    kubeconfig: kubeconfigOf(folder, 'kubelet'),
    'root-dir': join(folder, 'kubelet'),
    'hostname-override': nodeName,
    'node-ip': nodeAddress,
  });
  const isReady = async (): Promise<boolean> =>
    (await answersHttp(`http://127.0.0.1:${ports.kubeletHealth}/healthz`)) && (await isNodeReady(place, 0));
  return kubernetesSpec('kubelet', programs.kubeall, ['kubelet', ...args], isReady, () => {
    mkdirSync(join(folder, 'kubelet'), { recursive: true, mode: 0o700 });
    writeIfDifferent(file, JSON.stringify(kubeletConfiguration(folder, ports), null, 2));
  });
}

function kubeletConfiguration(folder: string, ports: KubernetesPorts): object {
  const least = { 'nodefs.available': '1%', 'imagefs.available': '1%', 'nodefs.inodesFree': '1%' };
  return {
    apiVersion: 'kubelet.config.k8s.io/v1beta1',
    kind: 'KubeletConfiguration',
    failCgroupV1: false,
    cgroupDriver: 'cgroupfs',
    containerRuntimeEndpoint: `unix://${containerdSocket(folder)}`,
    podLogsDir: join(folder, 'pod-logs'),
    volumePluginDir: join(folder, 'volume-plugins'),
    address: nodeAddress,
    port: ports.kubelet,
    readOnlyPort: 0,
    healthzBindAddress: '127.0.0.1',
    healthzPort: ports.kubeletHealth,
    tlsCertFile: keyFile(folder, 'server.crt'),
    tlsPrivateKeyFile: keyFile(folder, 'server.key'),
    authentication: {
      anonymous: { enabled: false },
      webhook: { enabled: true },
      x509: { clientCAFile: keyFile(folder, 'ca.crt') },
    },
    authorization: { mode: 'Webhook' },
    clusterDomain: 'cluster.local',
    clusterDNS: [nodeAddress],
    resolvConf: '/etc/resolv.conf',
    podPidsLimit,
    failSwapOn: false,
    // Images are imported by hand: one that the kubelet removed could not be pulled again.
    imageGCHighThresholdPercent: 100,
    // Small, because a personal machine's disk and memory are mostly in use.
    evictionHard: { 'memory.available': '100Mi', ...least },
    nodeStatusUpdateFrequency: '5s',
    oomScoreAdj: 0,
    // kube-proxy uses nftables, so the kubelet need not prepare iptables.
    makeIPTablesUtilChains: false,
  };
}

function gpus({ place, programs, gpus: count }: NodeOptions): ChildSpec {
  const isReady = (): Promise<boolean> => isNodeReady(place, count);
  return kubernetesSpec('kube-gpus', programs.kubeall, ['simulated-gpus', String(count)], isReady);
}
