// Checks a cluster for `ocdl doctor`: whether it answers, each right that the platform needs, the image and the GPUs.
import { z } from 'zod';
import { messageOf, SystemUnavailable } from '../../failures.ts';
import { openClient, type KubernetesClient } from './client.ts';
import type { KubernetesOptions } from './cluster.ts';
import { mismatchOf, type LockArchivesOptions } from './lock-archives.ts';
import { keptManifests } from './project-manifests.ts';
import { listObjects } from './watch.ts';

export interface Right {
  /** Only for a platform outside of the cluster. */
  readonly isOutside?: true;
  readonly group: string;
  readonly resource: string;
  readonly verbs: readonly string[];
}

/** What the platform may do in all namespaces: deploy/README.md has it as a ClusterRole. It cannot read Secrets. */
export const rights: readonly Right[] = [
  { group: 'batch', resource: 'jobs', verbs: ['get', 'list', 'watch', 'create', 'patch', 'delete'] },
  // Only where the cluster checks who may block the deletion of a Job.
  { group: 'batch', resource: 'jobs/finalizers', verbs: ['update'] },
  { group: 'apps', resource: 'deployments', verbs: ['get', 'list', 'create', 'delete'] },
  { group: '', resource: 'services', verbs: ['create'] },
  { isOutside: true, group: '', resource: 'services/proxy', verbs: ['get', 'create'] },
  { group: '', resource: 'pods', verbs: ['list', 'watch', 'deletecollection'] },
  { group: '', resource: 'pods/log', verbs: ['get'] },
  { group: '', resource: 'secrets', verbs: ['create'] },
  { group: '', resource: 'events', verbs: ['list'] },
  { group: '', resource: 'namespaces', verbs: ['get', 'create', 'patch'] },
  { group: '', resource: 'serviceaccounts', verbs: ['create', 'patch'] },
  { group: '', resource: 'limitranges', verbs: ['create', 'patch'] },
  { group: '', resource: 'resourcequotas', verbs: ['create'] },
  { group: 'networking.k8s.io', resource: 'networkpolicies', verbs: ['create', 'patch'] },
  { group: '', resource: 'nodes', verbs: ['list'] },
];

/** The sidecar of a job's pod needs this version. */
const OLDEST_MINOR = 29;

const versionSchema = z.object({ gitVersion: z.string(), minor: z.string() });
const reviewSchema = z.object({ status: z.object({ allowed: z.boolean() }) });
const nodeSchema = z.object({
  status: z.object({
    allocatable: z.record(z.string(), z.string()).default({}),
    images: z.array(z.object({ names: z.array(z.string()).nullish() })).default([]),
    nodeInfo: z.object({ architecture: z.string().default('') }).prefault({}),
  }),
});

/** Returns what was found, with a warning if needed. Rejects with what is wrong. Changes nothing. */
export async function checkKubernetes(
  options: Pick<
    KubernetesOptions,
    'place' | 'image' | 'platformImage' | 'gpuResource' | 'installation' | 'dataUrl' | 'dataRanges' | 'quota'
  > &
    Pick<LockArchivesOptions, 'imagePython'>,
  python?: string,
): Promise<string | { readonly found: string; readonly warning: string }> {
  keptManifests(options, 'check');
  const client = openClient(options.place);
  try {
    const { gitVersion, minor } = versionSchema.parse(await client.ask('GET', '/version'));
    if (Number.parseInt(minor, 10) < OLDEST_MINOR)
      throw new Error(
        `the cluster has Kubernetes ${gitVersion}, but 1.${OLDEST_MINOR} or newer is required: upgrade it`,
      );
    const lacking = await missingRights(client);
    if (lacking.length > 0)
      throw new Error(`the platform lacks rights: ${lacking.join(', ')}. Grant the ClusterRole in deploy/README.md`);
    const nodes = (await listObjects(client, '/api/v1/nodes', {})).items.map((item) => nodeSchema.parse(item).status);
    const gpus = nodes.reduce((sum, { allocatable }) => sum + Number(allocatable[options.gpuResource] ?? 0), 0);
    const found = `Kubernetes ${gitVersion} at ${client.server}, ${nodes.length} nodes, ${gpus} GPUs (${options.gpuResource})`;
    const isLoaded = (image: string): boolean =>
      nodes.some(({ images }) => images.some(({ names }) => names?.some((name) => isSameImage(name, image))));
    const missing = [options.image, options.platformImage].filter((image) => !isLoaded(image));
    const warnings = [
      ...(missing.length === 0
        ? []
        : [`no node has loaded ${missing.join(' or ')} yet: the first job or model service shows whether they can`]),
      ...(await lockWarnings({ ...options, python }, new Set(nodes.map(({ nodeInfo }) => nodeInfo.architecture)))),
    ];
    return warnings.length === 0 ? found : { found, warning: warnings.join('; ') };
  } catch (error) {
    throw error instanceof SystemUnavailable ? new Error(`${error.message}: ${error.reason}`, { cause: error }) : error;
  } finally {
    client.close();
  }
}

/** Why this machine cannot install the locks of projects for the image and the nodes. */
async function lockWarnings(
  options: Pick<LockArchivesOptions, 'python' | 'imagePython'>,
  architectures: ReadonlySet<string>,
): Promise<readonly string[]> {
  const without = 'jobs with a lock of their own fail, if the workers are like this machine';
  const own = { x64: 'amd64' }[process.arch as string] ?? process.arch;
  const mismatch = await mismatchOf(options).catch(messageOf);
  const others = [...architectures].filter((one) => one !== own);
  return [
    ...(mismatch === undefined ? [] : [`${without}: ${mismatch}`]),
    ...(others.length === 0 ? [] : [`${without}, on nodes with the processor ${others.join(', ')}: it has ${own}`]),
  ];
}

/** The rights that the platform's account lacks, as `verb resource`. */
async function missingRights(client: KubernetesClient): Promise<readonly string[]> {
  const needed = rights.filter(({ isOutside }) => !isOutside || client.ownNamespace === undefined);
  const asked = needed.flatMap(({ group, resource, verbs }) =>
    verbs.map(async (verb): Promise<string[]> => {
      const [kind, subresource = ''] = resource.split('/');
      const body = {
        apiVersion: 'authorization.k8s.io/v1',
        kind: 'SelfSubjectAccessReview',
        spec: { resourceAttributes: { group, resource: kind, subresource, verb } },
      };
      const answer = await client.ask('POST', '/apis/authorization.k8s.io/v1/selfsubjectaccessreviews', { body });
      return reviewSchema.parse(answer).status.allowed ? [] : [`${verb} ${resource}`];
    }),
  );
  return (await Promise.all(asked)).flat();
}

/** Nodes list images with tag and with digest, each without the other. */
function isSameImage(listed: string, image: string): boolean {
  const [name = '', digest] = image.split('@');
  return (
    listed === image ||
    listed === name ||
    (digest !== undefined && listed === `${name.replace(/:[\w.-]+$/, '')}@${digest}`)
  );
}
