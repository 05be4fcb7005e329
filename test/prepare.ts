// Fetches what tests need and the registries' packages do not hold, before any test waits for it: servers and the Python environment.
import { findTemporal } from '../deploy/local/temporal-binary.ts';
import { fetchKubernetes } from '../deploy/stack/kubernetes/programs.ts';
import { fetchJava, fetchS3, missingFor } from '../deploy/stack/programs.ts';
import { pythonEnvironment, toolsEnvironment } from './python.ts';
import { kafkaTools } from './e2e/foreign-clients.ts';
import { programs } from './servers.ts';

const fetched = await Promise.all([
  pythonEnvironment().then(async (python) => [python, (await toolsEnvironment()).python]),
  // Go compiles on every core: one build after the other.
  findTemporal(programs).then(async (temporal) => {
    const s3 = await unlessMissing('s3', () => fetchS3(programs));
    if (process.env['KUBERNETES'] !== 'true') return [temporal, s3];
    return [temporal, s3, (await fetchKubernetes({ node: true, kwok: true }, programs)).kubeall];
  }),
  // Maven waits for the network most of the time: side by side with the rest, but not with itself (they share a folder).
  (async () => {
    const jars: string[] = [];
    for (const server of ['kafka', 'hdfs', 'alluxio'] as const) {
      jars.push(await unlessMissing(server, async () => (await fetchJava(server, programs)).jars));
    }
    jars.push(await unlessMissing('kafka', kafkaTools));
    return jars;
  })(),
]);
programs.onProgress(`tests use ${fetched.flat().join(', ')}`);

/** Outside of CI, tests of a system without its tools are skipped, so its programs are not required here. */
async function unlessMissing(
  server: Parameters<typeof missingFor>[0],
  fetchIt: () => Promise<string>,
): Promise<string> {
  const missing = process.env['CI'] === 'true' ? undefined : missingFor(server, programs);
  return missing === undefined ? await fetchIt() : `no ${server} (SKIPPED: ${missing} is missing)`;
}
