// The objects of one project: its namespace, its limits, and what its pods may reach. Pure functions of the setting.
import { isIP } from 'node:net';
import { failure } from '../../failures.ts';
import { labels, namespaceName } from './names.ts';

export interface ProjectSetting {
  readonly installation: string;
  /** Address of the API for pods. */
  readonly dataUrl: string;
  /** Address ranges of the API, if its host is neither an address nor a service of the cluster. */
  readonly dataRanges: readonly string[];
  readonly gpuResource: string;
  /** Limits of all running jobs of a project together. */
  readonly quota: ProjectQuota;
}

/** Who may connect to model services. */
export interface ServiceCallers {
  /** Namespace of the platform's own pods, if it runs on the cluster. */
  readonly namespace: string | undefined;
  /** Address ranges of the control plane, which passes on the requests of a platform outside of the cluster. */
  readonly ranges: readonly string[];
}

export interface ProjectQuota {
  readonly cpus: number;
  readonly memoryBytes: number;
  readonly diskBytes: number;
  readonly gpus: number;
}

/** Service account of all jobs: it has no rights and no token. */
export const jobAccount = 'ocdl-job';
/** Port of model services. */
export const servicePort = 8000;
const everything = 'ocdl';

/** A namespace that accepts only pods of the standard `restricted`. */
export function namespaceManifest({ installation }: Pick<ProjectSetting, 'installation'>, project: string | undefined) {
  return {
    apiVersion: 'v1',
    kind: 'Namespace',
    metadata: {
      name: namespaceName(installation, project),
      labels: {
        'app.kubernetes.io/managed-by': 'ocdl',
        [labels.installation]: installation,
        'pod-security.kubernetes.io/enforce': 'restricted',
        'pod-security.kubernetes.io/enforce-version': 'latest',
      },
      annotations: { 'ocdl/project': project ?? '' },
    },
  };
}

/** The account, the network and the defaults of a project, which the platform keeps as they are here. */
export function keptManifests(setting: ProjectSetting, project: string | undefined) {
  const metadata = (name: string) => metadataOf(setting, project, name);
  return {
    serviceaccounts: {
      apiVersion: 'v1',
      kind: 'ServiceAccount',
      metadata: metadata(jobAccount),
      automountServiceAccountToken: false,
    },
    limitranges: {
      apiVersion: 'v1',
      kind: 'LimitRange',
      metadata: metadata(everything),
      // For containers that state nothing; those of jobs state everything.
      spec: {
        limits: [
          {
            type: 'Container',
            default: { cpu: '250m', memory: '256Mi', 'ephemeral-storage': '256Mi' },
            defaultRequest: { cpu: '250m', memory: '256Mi', 'ephemeral-storage': '256Mi' },
          },
        ],
      },
    },
    networkpolicies: {
      apiVersion: 'networking.k8s.io/v1',
      kind: 'NetworkPolicy',
      metadata: metadata(everything),
      spec: {
        podSelector: {},
        policyTypes: ['Ingress', 'Egress'],
        ingress: [],
        egress: [
          { to: dataPeers(setting), ports: [{ protocol: 'TCP', port: portOf(setting.dataUrl) }] },
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
  };
}

/** Lets only the platform connect to model services; for what their pods may reach, the project's policy applies. */
export function servicePolicyManifest(
  setting: Pick<ProjectSetting, 'installation'>,
  { namespace, ranges }: ServiceCallers,
  project: string | undefined,
) {
  const own = { namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': namespace } } };
  const from = [...(namespace === undefined ? [] : [own]), ...ranges.map((cidr) => ({ ipBlock: { cidr } }))];
  return {
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    metadata: metadataOf(setting, project, `${everything}-services`),
    spec: {
      podSelector: { matchExpressions: [{ key: labels.service, operator: 'Exists' }] },
      policyTypes: ['Ingress'],
      // Without a source, a rule would let in everybody.
      ingress: from.length === 0 ? [] : [{ from, ports: [{ protocol: 'TCP', port: servicePort }] }],
    },
  };
}

/** The limits of a project at its start. Operators may change them; the platform creates them only once. */
export function quotaManifest(setting: ProjectSetting, project: string | undefined) {
  const { cpus, memoryBytes, diskBytes, gpus } = setting.quota;
  return {
    apiVersion: 'v1',
    kind: 'ResourceQuota',
    metadata: metadataOf(setting, project, everything),
    spec: {
      hard: {
        'requests.cpu': String(cpus),
        'requests.memory': String(memoryBytes),
        'requests.ephemeral-storage': String(diskBytes),
        [`requests.${setting.gpuResource}`]: String(gpus),
        persistentvolumeclaims: '0',
        'services.loadbalancers': '0',
        'services.nodeports': '0',
      },
    },
  };
}

function metadataOf({ installation }: Pick<ProjectSetting, 'installation'>, project: string | undefined, name: string) {
  const own = { 'app.kubernetes.io/managed-by': 'ocdl', [labels.installation]: installation };
  return { name, namespace: namespaceName(installation, project), labels: own };
}

function portOf(url: string): number {
  const { port, protocol } = new URL(url);
  return port === '' ? (protocol === 'https:' ? 443 : 80) : Number(port);
}

/** Throws `InvalidInput` if a host name tells nothing about its addresses. */
function dataPeers({ dataUrl, dataRanges }: ProjectSetting): object[] {
  const host = new URL(dataUrl).hostname.replace(/^\[|\]$/g, '');
  if (dataRanges.length > 0) return dataRanges.map((cidr) => ({ ipBlock: { cidr } }));
  if (isIP(host) !== 0) return [{ ipBlock: { cidr: `${host}/${isIP(host) === 4 ? 32 : 128}` } }];
  const [, namespace] = /^[^.]+\.([^.]+)\.svc(\.|$)/.exec(host) ?? [];
  if (namespace === undefined)
    throw failure(
      'InvalidInput',
      `pods may reach only the API, and ${host} is neither an address nor a service of the cluster (NAME.NAMESPACE.svc): ` +
        'set OCDL_KUBERNETES_DATA_RANGES to its addresses',
    );
  return [{ namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': namespace } } }];
}
