// Opens the adapter for Kubernetes on the stack's cluster for tests: its jobs and services are pods.
import { randomUUID } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { z } from 'zod';
import { rights } from '../../activities/adapters/kubernetes/check.ts';
import { openClient } from '../../activities/adapters/kubernetes/client.ts';
import {
  createKubernetesCluster,
  type KubernetesCluster,
  type KubernetesOptions,
} from '../../activities/adapters/kubernetes/cluster.ts';
import { nodeAddress } from '../../deploy/stack/kubernetes/host.ts';
import { containerdSocket } from '../../deploy/stack/kubernetes/node.ts';
import type { ServiceSpec } from '../../activities/ports.ts';
import type { ClusterHarness } from '../contracts/cluster.ts';
import { startJobApi } from '../contracts/cluster-job-api.ts';
import { capsuleImage, capsulePython, importImages, platformImage } from '../stack/images.ts';
import { heldModels, processesWith } from './local-cluster.ts';

export interface KubernetesHarness extends ClusterHarness {
  readonly cluster: ClusterHarness['cluster'] & Pick<KubernetesCluster, 'client'>;
  readonly options: KubernetesOptions & { readonly imagePython: string };
  readonly warnings: readonly string[];
}

/** The lock of the environment in the image. */
export const platformLock = readFileSync(
  resolve(import.meta.dirname, '../../deploy/capsule/requirements.lock'),
  'utf8',
);

/** A kubeconfig of an account that has exactly the rights in deploy/README.md. */
export async function kubeconfigWithRole(folder: string): Promise<string> {
  const admin = join(folder, 'admin.kubeconfig');
  const client = openClient({ kubeconfig: admin });
  const apply = (path: string, body: object): Promise<unknown> =>
    client.ask('PATCH', path, { query: { fieldManager: 'test', force: true }, body });
  const group = '/apis/rbac.authorization.k8s.io/v1';
  const role = { apiVersion: 'rbac.authorization.k8s.io/v1', metadata: { name: 'ocdl' } };
  const account = '/api/v1/namespaces/default/serviceaccounts/ocdl';
  const rules = rights.map(({ group: api, resource, verbs }) => ({ apiGroups: [api], resources: [resource], verbs }));
  try {
    await apply(account, {
      apiVersion: 'v1',
      kind: 'ServiceAccount',
      metadata: { name: 'ocdl', namespace: 'default' },
    });
    await apply(`${group}/clusterroles/ocdl`, { ...role, kind: 'ClusterRole', rules });
    await apply(`${group}/clusterrolebindings/ocdl`, {
      ...{ ...role, kind: 'ClusterRoleBinding' },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'ocdl' },
      subjects: [{ kind: 'ServiceAccount', name: 'ocdl', namespace: 'default' }],
    });
    const request = {
      apiVersion: 'authentication.k8s.io/v1',
      kind: 'TokenRequest',
      spec: { expirationSeconds: 86_400 },
    };
    const { status } = tokenSchema.parse(await client.ask('POST', `${account}/token`, { body: request }));
    const config = kubeconfigSchema.parse(JSON.parse(readFileSync(admin, 'utf8')));
    const path = join(mkdtempSync(join(tmpdir(), 'ocdl-role-')), 'kubeconfig');
    writeFileSync(path, JSON.stringify({ ...config, users: [{ name: config.users[0].name, user: status }] }), {
      mode: 0o600,
    });
    return path;
  } finally {
    client.close();
  }
}

const tokenSchema = z.object({ status: z.object({ token: z.string() }) });
const kubeconfigSchema = z.looseObject({ users: z.tuple([z.object({ name: z.string() })]) });

/** Opens the adapter on the cluster in a folder of the stack. */
export async function openKubernetes(
  folder: string,
  given: Partial<KubernetesOptions> = {},
): Promise<KubernetesHarness> {
  await importImages(containerdSocket(folder));
  const kubeconfig = await kubeconfigWithRole(folder);
  const api = await startJobApi(nodeAddress);
  const { files, model, brokenModel } = heldModels();
  const warnings: string[] = [];
  const options = {
    place: { kubeconfig },
    installation: 'ocdl-test',
    image: capsuleImage,
    imagePython: capsulePython,
    platformImage,
    callerRanges: [`${nodeAddress}/32`],
    dataUrl: api.url,
    dataRanges: [],
    gpuResource: 'nvidia.com/gpu',
    quota: { cpus: 8, memoryBytes: 8 * 1024 ** 3, diskBytes: 64 * 1024 ** 3, gpus: 2 },
    platformLock,
    // An input is given up at once, and an output never.
    patience: { fetchSeconds: 1, uploadSeconds: 600 },
    serviceTokens: {
      issue: (spec: Pick<ServiceSpec, 'name' | 'files'>) => {
        const token = `token-${randomUUID()}`;
        const held = spec.files.map(({ name, uri }) => [name, files.get(uri) ?? Buffer.alloc(0)] as const);
        api.open(spec.name, token, new Map(held));
        return Promise.resolve(token);
      },
      revoke: (name: string) => Promise.resolve(api.open(name, `revoked-${randomUUID()}`, new Map())),
    },
    onWarn: (message: string) => warnings.push(message),
    ...given,
  };
  const cluster = createKubernetesCluster(options);
  return {
    ...{ cluster, api, options, warnings, model, brokenModel },
    // The node of the cluster is this machine. A process has a higher number than the one that it is run by.
    kill: async (marker, signal) => void process.kill(Math.max(...processesWith(marker)), signal),
    running: (marker) => Promise.resolve(processesWith(marker).length > 0),
    get: (address, path) => fetch(`${address}${path}`).then(({ status }) => status),
    close: async () => {
      await cluster.close();
      await api.close();
      rmSync(dirname(kubeconfig), { recursive: true });
    },
  };
}
