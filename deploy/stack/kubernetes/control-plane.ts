// A Kubernetes control plane as four processes: etcd, API server, controller manager and scheduler.
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ChildSpec } from '../../local/child.ts';
import { serverEnvironment } from '../../local/settings.ts';
import { askCluster, askHttps } from './client.ts';
import { keyFile, kubeconfigOf, type ClusterPlace } from './identities.ts';
import type { ControlPlanePorts } from './ports.ts';

export type ControlPlaneOptions = {
  readonly place: ClusterPlace;
  /** The prefix of the processes' names. */
  readonly prefix: 'kube' | 'kwok';
  readonly kubeall: string;
  /** Address that the API server binds to, and that pods reach it at; without a node the loopback. */
  readonly host: string;
  readonly ports: ControlPlanePorts;
};

export type ControlPlane = {
  readonly etcd: ChildSpec;
  readonly apiServer: ChildSpec;
  readonly controllers: ChildSpec;
  readonly scheduler: ChildSpec;
};

const loopback = '127.0.0.1';
/** Addresses of pods and services, the same in every cluster of a stack: only one has a network. */
export const podNetwork = '10.244.0.0/24';
export const serviceNetwork = '10.96.0.0/16';
/** The first address of `serviceNetwork`, which Kubernetes gives to its own API. */
export const apiService = '10.96.0.1';

/** Pods of a lost node are replaced after 30 s instead of 300 s. */
const tolerationSeconds = 30;

/** Returns the processes of a control plane. `prepareIdentities` must have run before they start. */
export function controlPlane(options: ControlPlaneOptions): ControlPlane {
  return {
    etcd: etcd(options),
    apiServer: apiServer(options),
    controllers: manager(options, 'controllers', 'kube-controller-manager', controllerFlags(options)),
    scheduler: manager(options, 'scheduler', 'kube-scheduler', {}),
  };
}

/** A process of Kubernetes or etcd. Only fatal errors reach the terminal: components log an error for each early request. */
export function kubernetesSpec(
  name: string,
  program: string,
  args: readonly string[],
  isReady: ChildSpec['isReady'],
  before?: () => void,
): ChildSpec {
  return {
    name,
    command: program,
    args,
    env: serverEnvironment(),
    stopSignal: 'SIGTERM',
    // Each stops within 2 s on an idle machine.
    graceMs: 10_000,
    terminalLine: (line) => (/^F\d{4} |"level":"(fatal|panic)"/.test(line) ? line : undefined),
    ...(isReady === undefined ? {} : { isReady }),
    ...(before === undefined ? {} : { before: () => Promise.resolve(before()) }),
  };
}

/** Writes options as `--name=value`. */
export function flags(options: Readonly<Record<string, string | number | boolean>>): readonly string[] {
  return Object.entries(options).map(([name, value]) => `--${name}=${value}`);
}

function etcd({ place, prefix, kubeall, ports }: ControlPlaneOptions): ChildSpec {
  const { folder } = place;
  const [client, peer] = [`https://${loopback}:${ports.etcd}`, `https://${loopback}:${ports.etcdPeer}`];
  const [cert, key] = [keyFile(folder, 'etcd.crt'), keyFile(folder, 'etcd.key')];
  const args = flags({
    name: prefix,
    'data-dir': join(folder, 'etcd'),
    // A test's cluster need not outlive a power cut.
    'unsafe-no-fsync': true,
    'log-level': 'error',
    'listen-client-urls': client,
    'advertise-client-urls': client,
    'listen-peer-urls': peer,
    'initial-advertise-peer-urls': peer,
    'initial-cluster': `${prefix}=${peer}`,
    'cert-file': cert,
    'key-file': key,
    'client-cert-auth': true,
    'trusted-ca-file': cert,
    'peer-cert-file': cert,
    'peer-key-file': key,
    'peer-client-cert-auth': true,
    'peer-trusted-ca-file': cert,
  });
  const isReady = async (): Promise<boolean> => {
    const pem = readFileSync(cert);
    return (await askHttps(`${client}/health`, { ca: pem, cert: pem, key: readFileSync(key) })).status === 200;
  };
  return kubernetesSpec(`${prefix}-etcd`, kubeall, ['etcd', ...args], isReady, () =>
    mkdirSync(join(folder, 'etcd'), { recursive: true, mode: 0o700 }),
  );
}

function apiServer({ place, prefix, kubeall, host, ports }: ControlPlaneOptions): ChildSpec {
  const { folder } = place;
  const key = (name: string): string => keyFile(folder, name);
  const args = flags({
    'etcd-servers': `https://${loopback}:${ports.etcd}`,
    'etcd-cafile': key('etcd.crt'),
    'etcd-certfile': key('etcd.crt'),
    'etcd-keyfile': key('etcd.key'),
    'bind-address': host,
    'secure-port': ports.api,
    // Kubernetes refuses a loopback address as an endpoint of its own service.
    ...(host === loopback
      ? { 'endpoint-reconciler-type': 'none', 'advertise-address': apiService }
      : { 'advertise-address': host }),
    'service-cluster-ip-range': serviceNetwork,
    'tls-cert-file': key('apiserver.crt'),
    'tls-private-key-file': key('apiserver.key'),
    'client-ca-file': key('ca.crt'),
    'token-auth-file': key('tokens.csv'),
    'anonymous-auth': false,
    'authorization-mode': 'Node,RBAC',
    'enable-admission-plugins': 'NodeRestriction',
    'default-not-ready-toleration-seconds': tolerationSeconds,
    'default-unreachable-toleration-seconds': tolerationSeconds,
    'service-account-issuer': 'https://kubernetes.default.svc',
    'service-account-key-file': key('accounts.pub'),
    'service-account-signing-key-file': key('accounts.key'),
    'kubelet-client-certificate': key('kubelet-client.crt'),
    'kubelet-client-key': key('kubelet-client.key'),
    'kubelet-certificate-authority': key('ca.crt'),
    'kubelet-preferred-address-types': 'InternalIP',
    'requestheader-client-ca-file': key('ca.crt'),
    'requestheader-allowed-names': 'front-proxy-client',
    'requestheader-username-headers': 'X-Remote-User',
    'requestheader-group-headers': 'X-Remote-Group',
    'requestheader-extra-headers-prefix': 'X-Remote-Extra-',
    'allow-privileged': true,
    profiling: false,
  });
  const isReady = async (): Promise<boolean> => (await askCluster(place, '/readyz')).status === 200;
  return kubernetesSpec(`${prefix}-apiserver`, kubeall, ['kube-apiserver', ...args], isReady);
}

function controllerFlags({ place }: ControlPlaneOptions): Readonly<Record<string, string | number | boolean>> {
  return {
    'use-service-account-credentials': true,
    'root-ca-file': keyFile(place.folder, 'ca.crt'),
    'service-account-private-key-file': keyFile(place.folder, 'accounts.key'),
    'cluster-cidr': podNetwork,
    'service-cluster-ip-range': serviceNetwork,
    'allocate-node-cidrs': false,
    // Half of the default, so that a lost node is noticed within half a minute.
    'node-monitor-grace-period': '20s',
  };
}

function manager(
  { place, prefix, kubeall, ports }: ControlPlaneOptions,
  name: 'controllers' | 'scheduler',
  program: string,
  more: Readonly<Record<string, string | number | boolean>>,
): ChildSpec {
  const { folder } = place;
  const kubeconfig = kubeconfigOf(folder, name);
  const args = flags({
    kubeconfig,
    'authentication-kubeconfig': kubeconfig,
    'authorization-kubeconfig': kubeconfig,
    'bind-address': loopback,
    'secure-port': ports[name],
    'tls-cert-file': keyFile(folder, 'server.crt'),
    'tls-private-key-file': keyFile(folder, 'server.key'),
    'leader-elect': false,
    // With the default of 20 requests/s, a thousand pods take two minutes instead of 20 s.
    'kube-api-qps': 300,
    'kube-api-burst': 600,
    profiling: false,
    ...more,
  });
  const url = `https://${loopback}:${ports[name]}/healthz`;
  const isReady = async (): Promise<boolean> =>
    (await askHttps(url, { ca: readFileSync(keyFile(folder, 'ca.crt')) })).status === 200;
  return kubernetesSpec(`${prefix}-${name}`, kubeall, [program, ...args], isReady);
}
