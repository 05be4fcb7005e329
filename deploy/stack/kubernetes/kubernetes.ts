// Starts the stack's Kubernetes clusters on a home, lists their processes and deletes their data.
import { mkdirSync, realpathSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ChildSpec } from '../../local/child.ts';
import { findOnPath } from '../../local/temporal-binary.ts';
import { choosePortsOf, defaultPortsOf, readPortsOf, type PortTable } from '../ports.ts';
import type { FetchOptions } from '../programs.ts';
import type { KubernetesSettings } from '../settings.ts';
import { askCluster, ensureObject } from './client.ts';
import { clusterFolder, kwokCluster, nodeCluster, type ClusterProcess, type KubernetesSystem } from './clusters.ts';
import { apiService, type ControlPlane } from './control-plane.ts';
import { nodeAddress, prepareHost, whyNoNode } from './host.ts';
import { kubeconfigOf, prepareIdentities, type ClusterPlace } from './identities.ts';
import { importImage } from './images.ts';
import { removeUnmounted } from './leftovers.ts';
import { containerdSocket } from './node.ts';
import { firstObjects, simulatedNode } from './objects.ts';
import { kubernetesPortTable, kwokPortTable } from './ports.ts';
import { fetchKubernetes, programsIn, type KubernetesPrograms } from './programs.ts';

/** Processes to stop after all others, group after group. */
export const kubernetesEndLast: readonly (readonly string[])[] = [
  ['kube-apiserver', 'kwok-apiserver'],
  ['kube-etcd', 'kwok-etcd', 'containerd'],
];

export type KubernetesStart = {
  readonly home: string;
  readonly settings: KubernetesSettings;
  readonly fetch: FetchOptions;
  /** Starts a process and resolves when it is ready. */
  readonly start: (spec: ChildSpec) => Promise<void>;
  readonly say: (line: string) => void;
};

/** Why the systems cannot start here, with what to do; undefined if they can. */
export function whyNoKubernetes(
  systems: readonly KubernetesSystem[],
  settings: KubernetesSettings,
  env: FetchOptions['env'],
): string | undefined {
  const lacking = systems.includes('kubernetes') && settings.node ? whyNoNode(env) : undefined;
  if (lacking !== undefined) return lacking;
  return findOnPath('openssl', env.PATH) === undefined
    ? 'Kubernetes needs openssl, which makes its certificates: install it (Debian: apt-get install openssl).'
    : undefined;
}

/** Starts the systems and returns the platform's variables. */
export async function startKubernetes(
  systems: readonly KubernetesSystem[],
  options: KubernetesStart,
): Promise<Readonly<Record<string, string>>> {
  const { settings, fetch } = options;
  const node = systems.includes('kubernetes') && settings.node;
  const programs = await fetchKubernetes({ node, kwok: systems.includes('kwok') }, fetch);
  if (systems.includes('kubernetes')) await startCluster(programs, options);
  if (systems.includes('kwok')) await startKwok(programs, options);
  return {
    KUBECONFIG: systems.map((system) => kubeconfigOf(clusterFolder(options.home, system), 'admin')).join(':'),
  };
}

/** Every process of the systems with its main port, as of the last start on a home; nothing is started. */
export function kubernetesProcesses(
  systems: readonly KubernetesSystem[],
  home: string,
  settings: Pick<KubernetesSettings, 'node' | 'gpus'>,
  cache: string,
): readonly ClusterProcess[] {
  const programs = programsIn(cache);
  return systems.flatMap((system) => {
    if (system === 'kwok') return kwokCluster(home, portsOf(home, system, kwokPortTable), programs).processes;
    return nodeCluster(home, portsOf(home, system, kubernetesPortTable), settings, programs).processes;
  });
}

/** Deletes the data of all clusters of a home; their keys, tokens and imported images are kept. */
export function dropClusterData(home: string): void {
  for (const system of ['kubernetes', 'kwok'] as const)
    for (const name of ['etcd', 'kubelet', 'pod-logs']) removeUnmounted(join(clusterFolder(home, system), name));
}

async function startCluster(programs: KubernetesPrograms, options: KubernetesStart): Promise<void> {
  const { settings, start, say } = options;
  mkdirSync(clusterFolder(options.home, 'kubernetes'), { recursive: true, mode: 0o700 });
  // The kernel names mounts by the real path.
  const home = realpathSync(options.home);
  const path = portsPath(home, 'kubernetes');
  const ports = await choosePortsOf(kubernetesPortTable, path, settings.kubernetesPorts, say);
  const { place, plane, node } = nodeCluster(home, ports, settings, programs);
  if (node === undefined) {
    await prepareIdentities(place, []);
    await startPlane(plane, place, options);
    return;
  }
  const socket = containerdSocket(place.folder);
  // The kernel limits the path of a socket to 107 characters; containerd opens a second one with an ending.
  if (socket.length > 100)
    throw new Error(`The path ${socket} is too long for a socket: set OCDL_STACK_HOME to a shorter folder.`);
  await prepareHost(home);
  await prepareIdentities(place, [nodeAddress, apiService]);
  const startContainers = async (): Promise<void> => {
    await start(node.containerd);
    await importImage(socket, programs.pauseArchive);
  };
  await Promise.all([startContainers(), startPlane(plane, place, options)]);
  // Together: kube-proxy waits for the node, which the kubelet registers. The kubelet last, so that it stops first: while it
  // runs, it starts pods again.
  await Promise.all([node.dns, node.proxy, node.kubelet].map(start));
  if (node.gpus !== undefined) await start(node.gpus);
}

async function startKwok(programs: KubernetesPrograms, options: KubernetesStart): Promise<void> {
  const { home, settings, start, say } = options;
  mkdirSync(clusterFolder(home, 'kwok'), { recursive: true, mode: 0o700 });
  const ports = await choosePortsOf(kwokPortTable, portsPath(home, 'kwok'), settings.kwokPorts, say);
  const { place, plane, kwok } = kwokCluster(home, ports, programs);
  await prepareIdentities(place, []);
  await startPlane(plane, place, options);
  await start(kwok);
  for (let index = 0; index < settings.kwokNodes; index += 1)
    await ensureObject(place, '/api/v1/nodes', simulatedNode(index));
}

async function startPlane(
  plane: ControlPlane,
  place: ClusterPlace,
  { start, fetch: { signal } }: KubernetesStart,
): Promise<void> {
  await start(plane.etcd);
  await start(plane.apiServer);
  for (const { path, object } of firstObjects) await ensureObject(place, path, object);
  await Promise.all([plane.controllers, plane.scheduler].map(start));
  // The controller manager creates it within a second; a minute allows for a busy machine.
  const end = Date.now() + 60_000;
  const account = '/api/v1/namespaces/default/serviceaccounts/default';
  while ((await askCluster(place, account)).status !== 200) {
    signal?.throwIfAborted();
    if (Date.now() > end) throw new Error(`${place.name} created no service account within a minute: see its logs.`);
    await sleep(100);
  }
}

function portsOf<Name extends string>(
  home: string,
  system: KubernetesSystem,
  table: PortTable<Name>,
): Readonly<Record<Name, number>> {
  return readPortsOf(table, portsPath(home, system)) ?? defaultPortsOf(table);
}

function portsPath(home: string, system: KubernetesSystem): string {
  return join(clusterFolder(home, system), 'ports.json');
}
