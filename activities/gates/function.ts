// The function gate: serves the model in its own process and checks its answers to the golden samples for accuracy and time.
import { createHash } from 'node:crypto';
import { buffer } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { checkGolden, createInferenceClient, InferenceError } from '../inference/client.ts';
import { digestMismatch } from '../../workflows/domain/digest-mismatch.ts';
import { systemName } from '../../workflows/domain/names.ts';
import { failure } from '../failures.ts';
import { ModelFormatError, parseGolden, parseModelJson } from '../model-format.ts';
import type { ServiceEnd } from '../ports.ts';
import { ServiceNotReady } from '../ports.ts';
import type { Gate, GateContext, GateLimits } from './gate.ts';

/** A sample takes milliseconds; a model that needs half a minute for one is useless to an application. */
const LIMITS: GateLimits = { answerMs: 30_000, gateMs: 10 * 60_000 };
/** A busy machine may delay one or two starts; a model that is never ready fails the gate. */
const MOST_STARTS = 3;
/** The exit of a service becomes visible shortly after its socket closes. */
const END_KNOWN_WITHIN_MS = 2_000;

type Verdict = Awaited<ReturnType<Gate>>;
const failed = (detail: string): Verdict => ({ passed: false, detail });

export const functionGate: Gate = async (context) => {
  const { application, release, signal, cluster, limits = LIMITS } = context;
  // Distinct per application, so that two applications can run this gate on one release at the same time.
  const name = systemName(`function-${application.application}-${release.release}`);
  const deadline = AbortSignal.timeout(limits.gateMs);
  try {
    return await check(context, name, limits, AbortSignal.any([signal, deadline]));
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof ModelFormatError) return failed(error.message);
    if (!deadline.aborted) throw error;
    return failed(`deadline exceeded: the gate did not finish within ${limits.gateMs / 1000} s`);
  } finally {
    await cluster.stopService(name);
  }
};

async function check(context: GateContext, name: string, limits: GateLimits, signal: AbortSignal): Promise<Verdict> {
  const { report } = context;
  const card = parseModelJson(await readFile(context, 'model.json'));
  const { samples } = parseGolden(await readFile(context, 'golden.json'));
  const service = await start(context, name, signal);
  if ('passed' in service) return service;
  const client = createInferenceClient({ address: service.address, name: card.name, answerWithinMs: limits.answerMs });
  const wrong: string[] = [];
  const deviations: number[] = [];
  for (const [index, sample] of samples.entries()) {
    report({ gate: 'function', step: `sample ${index + 1} of ${samples.length}` });
    try {
      const [result] = await checkGolden(client, { samples: [sample] }, signal);
      if (result) deviations.push(result.deviation);
      if (result && result.problems.length > 0) wrong.push(`sample ${index}: ${result.problems.join('; ')}`);
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof InferenceError)) throw error;
      return failed(`sample ${index}: ${await reasonOf(error, service.ended)}`);
    }
  }
  const tolerance = Math.max(...samples.map((sample) => sample.tolerance));
  const measured = `largest deviation ${Number(Math.max(...deviations).toPrecision(2))}, tolerance ${tolerance}`;
  return wrong.length > 0
    ? failed(`${wrong.length} of ${samples.length} golden samples failed (${measured}); first failure: ${wrong[0]}`)
    : { passed: true, detail: `${samples.length} golden samples answered within tolerance (${measured})` };
}

/** Starts the service; returns a failed verdict if the model never becomes ready. */
async function start({ cluster, release, files, report }: GateContext, name: string, signal: AbortSignal) {
  const { project, version } = release;
  const spec = { name, project, files, version: String(version), compute: 'cpu' } as const;
  for (let time = 1; ; time += 1)
    try {
      report({ gate: 'function', step: `starting the service, attempt ${time} of ${MOST_STARTS}` });
      return await cluster.startService(spec, signal);
    } catch (error) {
      if (!(error instanceof ServiceNotReady) || error.isOfCluster) throw error;
      if (time === MOST_STARTS) return failed(`not ready after ${time} starts: ${error.message}`);
    }
}

/** Why the model gave no comparable answer. Throws when the cause is not the model, so that the gate is retried. */
async function reasonOf(error: InferenceError, ended: Promise<ServiceEnd> | undefined): Promise<string> {
  if (error.kind === 'late' || error.kind === 'refused' || error.kind === 'failed' || error.kind === 'malformed')
    return error.message;
  if (error.kind !== 'unreachable' || !ended) throw error;
  const end = await Promise.race([ended, sleep(END_KNOWN_WITHIN_MS, undefined, { ref: false })]);
  if (!end) throw error;
  if (end.killed) throw new Error(`${end.detail}\nThe gate will be retried.`, { cause: error });
  return end.detail;
}

async function readFile({ files, releases }: Pick<GateContext, 'files' | 'releases'>, name: string): Promise<string> {
  const file = files.find((one) => one.name === name);
  if (!file) throw failure('Corrupt', `the release has no file ${name}: submit a new version`);
  const bytes = await buffer(await releases.read(file.uri));
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  if (sha256 !== file.sha256)
    throw failure('DigestMismatch', `${digestMismatch(file.uri, sha256, file.sha256)}: restore it from a backup`);
  return bytes.toString('utf8');
}
