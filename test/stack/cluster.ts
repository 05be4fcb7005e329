// A cluster of the stack as tests use it: objects over HTTPS, and an image with a shell made from this machine's own.
import { execFileSync } from 'node:child_process';
import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { askCluster, type ClusterAnswer } from '../../deploy/stack/kubernetes/client.ts';
import { archiveImage } from '../../deploy/stack/kubernetes/images.ts';

const kubeconfigSchema = z.object({
  clusters: z.tuple([z.object({ cluster: z.object({ server: z.url() }) })]),
});

/** Name of the image that `shellArchive` makes. */
export const shellImage = 'localhost/ocdl-test-shell:1';

/** Sends requests to the cluster in a folder as its administrator; refuses answers that are errors. */
export function clusterIn(folder: string) {
  const config = kubeconfigSchema.parse(JSON.parse(readFileSync(join(folder, 'admin.kubeconfig'), 'utf8')));
  const place = { folder, url: config.clusters[0].cluster.server };
  const ask = async (...request: [string, ('GET' | 'POST' | 'DELETE')?, object?]): Promise<string> => {
    const { status, text } = await askCluster(place, ...request);
    if (status >= 300) throw new Error(`${request[1] ?? 'GET'} ${request[0]} answered ${status}: ${text}`);
    return text;
  };
  return {
    url: place.url,
    text: (path: string): Promise<string> => ask(path),
    read: async <T>(path: string, schema: z.ZodType<T>): Promise<T> => schema.parse(JSON.parse(await ask(path))),
    create: async (path: string, object: object): Promise<void> => void (await ask(path, 'POST', object)),
    answer: (path: string): Promise<ClusterAnswer> => askCluster(place, path),
  };
}

/** Makes an image with `sh`, `sleep` and their libraries, and nothing else. */
export async function shellArchive(file: string): Promise<void> {
  const root = mkdtempSync(join(tmpdir(), 'ocdl-shell-'));
  const put = (from: string, to: string): void => {
    mkdirSync(join(root, dirname(to)), { recursive: true, mode: 0o755 });
    copyFileSync(from, join(root, to));
    chmodSync(join(root, to), 0o755);
  };
  try {
    chmodSync(root, 0o755);
    for (const program of ['/bin/sh', '/bin/sleep']) {
      const from = realpathSync(program);
      put(from, program);
      // Lines such as `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)` and `/lib64/ld-linux-x86-64.so.2 (0x…)`.
      for (const [, path = ''] of execFileSync('ldd', [from], { encoding: 'utf8' }).matchAll(/(\/\S+) \(0x/g))
        put(realpathSync(path), path);
    }
    await archiveImage({ name: shellImage, folder: root, command: ['/bin/sh'], file });
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
}

/** A Job with one pod that runs a shell script once, in the ways of a project's pods: not as root, little of everything. */
export function shellJob(name: string, script: string, limits: Readonly<Record<string, string>> = {}): object {
  const container = {
    name: 'run',
    image: shellImage,
    command: ['/bin/sh', '-c', script],
    resources: { requests: { cpu: '20m', memory: '16Mi' }, limits: { cpu: '500m', memory: '64Mi', ...limits } },
    securityContext: {
      ...{ runAsUser: 1000, runAsNonRoot: true, allowPrivilegeEscalation: false, readOnlyRootFilesystem: true },
      ...{ capabilities: { drop: ['ALL'] }, seccompProfile: { type: 'RuntimeDefault' } },
    },
  };
  const pod = { restartPolicy: 'Never', terminationGracePeriodSeconds: 1, containers: [container] };
  return {
    ...{ apiVersion: 'batch/v1', kind: 'Job', metadata: { name } },
    spec: { backoffLimit: 0, template: { spec: { ...pod, automountServiceAccountToken: false } } },
  };
}
