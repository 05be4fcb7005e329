// Opens the adapter for Kubernetes on the stack's cluster for tests: its jobs are pods, its services local processes.
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import {
  createKubernetesJobs,
  type KubernetesJobs,
  type KubernetesOptions,
} from '../../activities/adapters/kubernetes/cluster.ts';
import { nodeAddress } from '../../deploy/stack/kubernetes/host.ts';
import { containerdSocket } from '../../deploy/stack/kubernetes/node.ts';
import type { ClusterHarness } from '../contracts/cluster.ts';
import { startJobApi } from '../contracts/cluster-job-api.ts';
import { capsuleImage, importCapsule } from '../stack/capsule-image.ts';
import { openLocalCluster, processesWith } from './local-cluster.ts';

export interface KubernetesHarness extends ClusterHarness {
  readonly cluster: ClusterHarness['cluster'] & Pick<KubernetesJobs, 'client'>;
  readonly options: KubernetesOptions;
  readonly warnings: readonly string[];
}

/** The lock of the environment in the image. */
export const platformLock = readFileSync(
  resolve(import.meta.dirname, '../../deploy/capsule/requirements.lock'),
  'utf8',
);

/** Opens the adapter on the cluster in a folder of the stack. */
export async function openKubernetes(
  folder: string,
  given: Partial<KubernetesOptions> = {},
): Promise<KubernetesHarness> {
  await importCapsule(containerdSocket(folder));
  const api = await startJobApi(nodeAddress);
  const local = await openLocalCluster({ sandbox: 'none' });
  const warnings: string[] = [];
  const options: KubernetesOptions = {
    place: { kubeconfig: join(folder, 'admin.kubeconfig') },
    installation: 'ocdl-test',
    image: capsuleImage,
    dataUrl: api.url,
    dataRanges: [],
    gpuResource: 'nvidia.com/gpu',
    quota: { cpus: 8, memoryBytes: 8 * 1024 ** 3, diskBytes: 64 * 1024 ** 3, gpus: 2 },
    platformLock,
    // An input is given up at once, and an output never.
    patience: { fetchSeconds: 1, uploadSeconds: 600 },
    onWarn: (message) => warnings.push(message),
    ...given,
  };
  const jobs = createKubernetesJobs(options);
  return {
    ...local,
    api,
    options,
    warnings,
    cluster: { ...jobs, startService: local.cluster.startService, stopService: local.cluster.stopService },
    // The node of the cluster is this machine.
    running: (marker) => Promise.resolve(processesWith(marker).length > 0),
    close: async () => {
      await jobs.close();
      await api.close();
      await local.close();
    },
  };
}
