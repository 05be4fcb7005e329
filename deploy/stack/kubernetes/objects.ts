// Objects that a new cluster of the stack gets: rights of its own servers, and the simulated nodes of kwok.
import { kubeletClientUser } from './identities.ts';

const api = 'rbac.authorization.k8s.io';
const roles = `/apis/${api}/v1/clusterroles`;
const bindings = `/apis/${api}/v1/clusterrolebindings`;

const binding = (name: string, role: string, user: string): { readonly path: string; readonly object: object } => ({
  path: bindings,
  object: {
    apiVersion: `${api}/v1`,
    kind: 'ClusterRoleBinding',
    metadata: { name },
    roleRef: { apiGroup: api, kind: 'ClusterRole', name: role },
    subjects: [{ apiGroup: api, kind: 'User', name: user }],
  },
});

/** What Kubernetes' own roles do not cover. */
export const firstObjects: readonly { readonly path: string; readonly object: object }[] = [
  binding('ocdl:kubelet-client', 'system:kubelet-api-admin', kubeletClientUser),
  {
    path: roles,
    object: {
      apiVersion: `${api}/v1`,
      kind: 'ClusterRole',
      metadata: { name: 'ocdl:coredns' },
      rules: [
        { apiGroups: [''], resources: ['services', 'pods', 'namespaces'], verbs: ['list', 'watch'] },
        { apiGroups: ['discovery.k8s.io'], resources: ['endpointslices'], verbs: ['list', 'watch'] },
      ],
    },
  },
  binding('ocdl:coredns', 'ocdl:coredns', 'system:coredns'),
];

/** A node that kwok simulates: large, with GPUs. */
export function simulatedNode(index: number): object {
  const name = `kwok-${index}`;
  const capacity = { cpu: '32', memory: '256Gi', pods: '110', 'nvidia.com/gpu': '4' };
  return {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name, labels: { type: 'kwok', 'kubernetes.io/hostname': name } },
    status: { capacity, allocatable: capacity },
  };
}
