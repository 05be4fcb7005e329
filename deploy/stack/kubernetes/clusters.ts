// The two clusters of the stack as processes: one whose node is this machine, and one whose nodes are simulated (kwok).
import { existsSync, realpathSync } from 'node:fs';
import { join } from 'node:path';
import type { ChildSpec } from '../../local/child.ts';
import { answersHttp } from '../java.ts';
import type { KubernetesSettings } from '../settings.ts';
import { controlPlane, flags, kubernetesSpec, type ControlPlane } from './control-plane.ts';
import { nodeAddress } from './host.ts';
import { kubeconfigOf, type ClusterPlace } from './identities.ts';
import { kubernetesNode, type KubernetesNode } from './node.ts';
import type { ControlPlanePorts, KubernetesPorts, KwokPorts } from './ports.ts';
import type { KubernetesPrograms } from './programs.ts';

export type KubernetesSystem = 'kubernetes' | 'kwok';
export type ClusterProcess = { readonly spec: ChildSpec; readonly port?: number };

type Cluster = {
  readonly place: ClusterPlace;
  readonly plane: ControlPlane;
  /** Every process with its main port. */
  readonly processes: readonly ClusterProcess[];
};

/** Folder of a cluster's data. */
export function clusterFolder(home: string, system: KubernetesSystem): string {
  return join(home, system);
}

/** Describes the cluster of this machine; without a node, it is only a control plane on the loopback. */
export function nodeCluster(
  home: string,
  ports: KubernetesPorts,
  settings: Pick<KubernetesSettings, 'node' | 'gpus'>,
  programs: KubernetesPrograms,
): Cluster & { readonly node: KubernetesNode | undefined } {
  const host = settings.node ? nodeAddress : '127.0.0.1';
  const folder = clusterFolder(existsSync(home) ? realpathSync(home) : home, 'kubernetes');
  const place = { name: 'kubernetes', folder, url: `https://${host}:${ports.api}` };
  const plane = controlPlane({ place, prefix: 'kube', kubeall: programs.kubeall, ports, host });
  const node = settings.node ? kubernetesNode({ place, programs, ports, gpus: settings.gpus }) : undefined;
  const ofNode: readonly ClusterProcess[] =
    node === undefined
      ? []
      : [
          { spec: node.containerd },
          { spec: node.dns, port: 53 },
          { spec: node.proxy, port: ports.proxyHealth },
          { spec: node.kubelet, port: ports.kubelet },
          ...(node.gpus === undefined ? [] : [{ spec: node.gpus }]),
        ];
  return { place, plane, node, processes: [...processesOf(plane, ports), ...ofNode] };
}

/** Describes the cluster of simulated nodes: they become ready, pods run at once, and pods of Jobs succeed at once. */
export function kwokCluster(
  home: string,
  ports: KwokPorts,
  programs: KubernetesPrograms,
): Cluster & { readonly kwok: ChildSpec } {
  const host = '127.0.0.1';
  const folder = clusterFolder(home, 'kwok');
  const place = { name: 'kwok', folder, url: `https://${host}:${ports.api}` };
  const plane = controlPlane({ place, prefix: 'kwok', kubeall: programs.kubeall, ports, host });
  const args = flags({
    kubeconfig: kubeconfigOf(folder, 'kwok'),
    'manage-all-nodes': true,
    'node-lease-duration-seconds': 40,
    'server-address': `${host}:${ports.kwok}`,
    'node-ip': host,
    // Addresses of pods, which exist only as text; the default has 254.
    cidr: '10.250.0.1/16',
  });
  const isReady = (): Promise<boolean> => answersHttp(`http://${host}:${ports.kwok}/healthz`);
  const kwok = kubernetesSpec('kwok', programs.kwok, args, isReady);
  return { place, plane, kwok, processes: [...processesOf(plane, ports), { spec: kwok, port: ports.kwok }] };
}

function processesOf(plane: ControlPlane, ports: ControlPlanePorts): readonly ClusterProcess[] {
  return [
    { spec: plane.etcd, port: ports.etcd },
    { spec: plane.apiServer, port: ports.api },
    { spec: plane.controllers, port: ports.controllers },
    { spec: plane.scheduler, port: ports.scheduler },
  ];
}
