// The environment variables of compute on Kubernetes.
import { z } from 'zod';
import { file, list, text, webUrl, whole, yesOrNo } from './variable-formats.ts';

const ranges = list.pipe(
  z.array(z.union([z.cidrv4(), z.cidrv6()], 'must be address ranges such as 10.1.2.0/24, separated by commas')),
);
const image = text.regex(
  /^[a-z0-9.-]+(:\d+)?(\/[a-z0-9._-]+)+(:[\w][\w.-]*)?(@sha256:[0-9a-f]{64})?$/,
  'must be an image with its registry',
);

/** Defaults are written as in the environment. */
export const kubernetesVariables = {
  OCDL_KUBERNETES_KUBECONFIG: file
    .optional()
    .describe(
      'kubeconfig of the cluster that runs jobs and model services. Without it and OCDL_KUBERNETES_IN_CLUSTER, they are local processes.',
    ),
  OCDL_KUBERNETES_CONTEXT: text.optional().describe('Context of the kubeconfig; by default its current one.'),
  OCDL_KUBERNETES_IN_CLUSTER: yesOrNo
    .prefault('false')
    .describe(
      'Run jobs and model services on the cluster that the platform itself runs in, with the service account of its pod.',
    ),
  OCDL_KUBERNETES_IMAGE: image
    .optional()
    .describe('Image of jobs, built from deploy/capsule/Dockerfile of this version; best with its digest.'),
  OCDL_KUBERNETES_IMAGE_PYTHON: text
    .regex(/^3\.\d{1,2}$/, 'must be a version such as 3.12')
    .prefault('3.12')
    .describe(
      'Python version of the image. Workers install the locks of projects for it, and must have the same version (OCDL_PYTHON).',
    ),
  OCDL_KUBERNETES_PLATFORM_IMAGE: image
    .optional()
    .describe('Image of model services, built from deploy/Dockerfile of this version; best with its digest.'),
  OCDL_KUBERNETES_DATA_URL: webUrl
    .optional()
    .describe('Address for pods, which leads to OCDL_DATA_LISTEN, or to the whole API if that is not set.'),
  OCDL_KUBERNETES_DATA_RANGES: ranges
    .optional()
    .describe(
      'Address ranges of the API that pods may connect to, separated by commas; needed if the host of OCDL_KUBERNETES_DATA_URL is neither an address nor a service of the cluster.',
    ),
  OCDL_KUBERNETES_CONTROL_PLANE_RANGES: ranges
    .optional()
    .describe(
      "Address ranges of the cluster's control plane, separated by commas: workers outside of the cluster reach model services through it. Needed with OCDL_KUBERNETES_KUBECONFIG.",
    ),
  OCDL_KUBERNETES_NAMESPACE_PREFIX: text
    .regex(/^[a-z]([a-z0-9-]{0,28}[a-z0-9])?$/, 'must be 1 to 30 of a-z, 0-9 and "-"')
    .prefault('ocdl')
    .describe("Begins the names of the projects' namespaces; differs between installations on one cluster."),
  OCDL_KUBERNETES_GPU_RESOURCE: text
    .regex(/^[a-z0-9.-]+\/[A-Za-z0-9._-]+$/, 'must be a resource name')
    .prefault('nvidia.com/gpu')
    .describe('Resource name of a GPU.'),
  OCDL_KUBERNETES_PROJECT_CPUS: whole('a number of processors', 1, 100_000)
    .prefault('16')
    .describe('Processors that the jobs of a new project may use together.'),
  OCDL_KUBERNETES_PROJECT_MEMORY_BYTES: whole('a number of bytes', 1, 999_999_999_999_999)
    .prefault(String(64 * 1024 ** 3))
    .describe('Memory that the jobs of a new project may use together.'),
  OCDL_KUBERNETES_PROJECT_DISK_BYTES: whole('a number of bytes', 1, 999_999_999_999_999)
    .prefault(String(256 * 1024 ** 3))
    .describe('Disk that the jobs of a new project may use together.'),
  OCDL_KUBERNETES_PROJECT_GPUS: whole('a number of GPUs', 0, 100_000)
    .prefault('1')
    .describe('GPUs that the jobs of a new project may use together.'),
} as const;
