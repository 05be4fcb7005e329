// Ports of Kubernetes and of the second control plane with simulated nodes: variables and defaults.
import type { PortTable } from '../ports.ts';

export type ControlPlanePorts = Readonly<Record<'api' | 'etcd' | 'etcdPeer' | 'controllers' | 'scheduler', number>>;

/** The API server of the cluster with a node listens on the node's bridge, everything else on the loopback. */
export const kubernetesPortTable = {
  api: { what: 'Kubernetes API server', variable: 'OCDL_STACK_KUBERNETES_PORT', preferred: 6443 },
  etcd: { what: 'etcd of Kubernetes', variable: 'OCDL_STACK_KUBERNETES_ETCD_PORT', preferred: 12_379 },
  etcdPeer: { what: 'etcd of Kubernetes (peers)', variable: 'OCDL_STACK_KUBERNETES_ETCD_PEER_PORT', preferred: 12_380 },
  controllers: {
    what: 'Kubernetes controller manager',
    variable: 'OCDL_STACK_KUBERNETES_CONTROLLERS_PORT',
    preferred: 10_257,
  },
  scheduler: { what: 'Kubernetes scheduler', variable: 'OCDL_STACK_KUBERNETES_SCHEDULER_PORT', preferred: 10_259 },
  kubelet: { what: 'kubelet', variable: 'OCDL_STACK_KUBELET_PORT', preferred: 10_250 },
  kubeletHealth: { what: 'kubelet (health)', variable: 'OCDL_STACK_KUBELET_HEALTH_PORT', preferred: 10_248 },
  proxyHealth: { what: 'kube-proxy (health)', variable: 'OCDL_STACK_KUBE_PROXY_HEALTH_PORT', preferred: 10_256 },
  proxyMetrics: { what: 'kube-proxy (metrics)', variable: 'OCDL_STACK_KUBE_PROXY_METRICS_PORT', preferred: 10_249 },
  dnsReady: { what: 'CoreDNS (health)', variable: 'OCDL_STACK_COREDNS_HEALTH_PORT', preferred: 18_181 },
} as const satisfies PortTable<string>;

export const kwokPortTable = {
  api: { what: 'kwok API server', variable: 'OCDL_STACK_KWOK_PORT', preferred: 6444 },
  etcd: { what: 'etcd of kwok', variable: 'OCDL_STACK_KWOK_ETCD_PORT', preferred: 12_389 },
  etcdPeer: { what: 'etcd of kwok (peers)', variable: 'OCDL_STACK_KWOK_ETCD_PEER_PORT', preferred: 12_390 },
  controllers: { what: 'kwok controller manager', variable: 'OCDL_STACK_KWOK_CONTROLLERS_PORT', preferred: 11_257 },
  scheduler: { what: 'kwok scheduler', variable: 'OCDL_STACK_KWOK_SCHEDULER_PORT', preferred: 11_259 },
  kwok: { what: 'kwok', variable: 'OCDL_STACK_KWOK_NODES_PORT', preferred: 10_247 },
} as const satisfies PortTable<string>;

export type KubernetesPorts = Readonly<Record<keyof typeof kubernetesPortTable, number>>;
export type KwokPorts = Readonly<Record<keyof typeof kwokPortTable, number>>;
