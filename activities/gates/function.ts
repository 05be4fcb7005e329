// The function gate: the model behind its REST service, in a process of its own, answers the golden samples within tolerance.
import { createHash } from 'node:crypto';
import { checkGolden, createInferenceClient } from '../../api/inference/client.ts';
import { failure } from '../failures.ts';
import { parseGolden, parseModelJson } from '../model-format.ts';
import type { Gate, GateContext } from './gate.ts';

export const functionGate: Gate = async ({ application, release, files, cluster, releases, signal, report }) => {
  const read = (name: string) => readFile({ files, releases }, name);
  const card = parseModelJson(await read('model.json'));
  const golden = parseGolden(await read('golden.json'));
  // Distinct per application, so that two of them may gate one release at the same time.
  const name = serviceName(`function-${application.application}-${release.release}`);
  report({ gate: 'function', step: 'starting the service' });
  const { address } = await cluster.startService(
    { name, files, version: String(release.version), compute: 'cpu' },
    signal,
  );
  try {
    const results = await checkGolden(createInferenceClient({ address, name: card.name }), golden, signal);
    const wrong = results.filter(({ problems }) => problems.length > 0);
    const first = wrong[0];
    return first
      ? {
          passed: false,
          detail: `${wrong.length} of ${results.length} golden samples answered otherwise; sample ${first.index}: ${first.problems.join('; ')}`,
        }
      : { passed: true, detail: `${results.length} golden samples answered within tolerance` };
  } finally {
    await cluster.stopService(name);
  }
};

async function readFile({ files, releases }: Pick<GateContext, 'files' | 'releases'>, name: string): Promise<string> {
  const file = files.find((one) => one.name === name);
  if (!file) throw new Error(`the release has no ${name}`);
  const chunks: Uint8Array[] = [];
  for await (const chunk of await releases.read(file.uri)) chunks.push(chunk);
  const bytes = Buffer.concat(chunks);
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  if (sha256 !== file.sha256)
    throw failure('DigestMismatch', `${file.uri} has digest ${sha256}, not ${file.sha256}: restore it from a backup`);
  return bytes.toString('utf8');
}

/** Readable, at most 63 characters, distinct for distinct texts. */
const serviceName = (text: string): string =>
  `${text.slice(0, 50)}-${createHash('sha256').update(text).digest('hex').slice(0, 12)}`;
