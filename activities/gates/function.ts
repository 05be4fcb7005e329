// The function gate: the model behind its REST service, in a process of its own, answers the golden samples within tolerance, in time.
import { createHash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { checkGolden, createInferenceClient, InferenceError } from '../inference/client.ts';
import { systemName } from '../../workflows/domain/names.ts';
import { failure } from '../failures.ts';
import { ModelFormatError, parseGolden, parseModelJson } from '../model-format.ts';
import type { ServiceEnd } from '../ports.ts';
import { ServiceNotReady } from '../ports.ts';
import type { Gate, GateContext, GateLimits } from './gate.ts';

/** A golden sample takes milliseconds; a model that takes half a minute for one is of no use to an application. */
const LIMITS: GateLimits = { answerMs: 30_000, gateMs: 10 * 60_000 };
/** A machine may be busy once or twice; a model that is never ready does not end to load. */
const MOST_STARTS = 3;
/** A service's end is known a moment after its socket has closed. */
const END_KNOWN_WITHIN_MS = 2_000;

type Verdict = Awaited<ReturnType<Gate>>;
const failed = (detail: string): Verdict => ({ passed: false, detail });

export const functionGate: Gate = async (context) => {
  const { application, release, signal, cluster, limits = LIMITS } = context;
  // Distinct per application, so that two of them may gate one release at the same time.
  const name = systemName(`function-${application.application}-${release.release}`);
  const deadline = AbortSignal.timeout(limits.gateMs);
  try {
    return await check(context, name, limits, AbortSignal.any([signal, deadline]));
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof ModelFormatError) return failed(error.message);
    if (!deadline.aborted) throw error;
    return failed(`the gate was not done within ${limits.gateMs / 1000} s`);
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
  for (const [index, sample] of samples.entries()) {
    report({ gate: 'function', step: `sample ${index + 1} of ${samples.length}` });
    try {
      const [result] = await checkGolden(client, { samples: [sample] }, signal);
      if (result && result.problems.length > 0) wrong.push(`sample ${index}: ${result.problems.join('; ')}`);
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof InferenceError)) throw error;
      return failed(`sample ${index}: ${await reasonOf(error, service.ended)}`);
    }
  }
  return wrong.length > 0
    ? failed(`${wrong.length} of ${samples.length} golden samples answered otherwise; ${wrong[0]}`)
    : { passed: true, detail: `${samples.length} golden samples answered within tolerance` };
}

/** Starts the service; a verdict where the model is never ready. */
async function start({ cluster, release, files, report }: GateContext, name: string, signal: AbortSignal) {
  const spec = { name, files, version: String(release.version), compute: 'cpu' } as const;
  for (let time = 1; ; time += 1)
    try {
      report({ gate: 'function', step: `starting the service, time ${time} of ${MOST_STARTS}` });
      return await cluster.startService(spec, signal);
    } catch (error) {
      if (!(error instanceof ServiceNotReady)) throw error;
      if (time === MOST_STARTS) return failed(`started ${time} times: ${error.message}`);
    }
}

/** Why a model gave no answer that can be compared. Thrown is what says nothing of the model: then the gate is run again. */
async function reasonOf(error: InferenceError, ended: Promise<ServiceEnd> | undefined): Promise<string> {
  if (error.kind === 'late' || error.kind === 'refused' || error.kind === 'failed' || error.kind === 'malformed')
    return error.message;
  if (error.kind !== 'unreachable' || !ended) throw error;
  const end = await Promise.race([ended, sleep(END_KNOWN_WITHIN_MS, undefined, { ref: false })]);
  if (!end) throw error;
  if (end.killed) throw new Error(`${end.detail}\nThe gate is run again.`, { cause: error });
  return end.detail;
}

async function readFile({ files, releases }: Pick<GateContext, 'files' | 'releases'>, name: string): Promise<string> {
  const file = files.find((one) => one.name === name);
  if (!file) throw failure('Corrupt', `the release has no ${name}`);
  const chunks: Uint8Array[] = [];
  for await (const chunk of await releases.read(file.uri)) chunks.push(chunk);
  const bytes = Buffer.concat(chunks);
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  if (sha256 !== file.sha256)
    throw failure('DigestMismatch', `${file.uri} has digest ${sha256}, not ${file.sha256}: restore it from a backup`);
  return bytes.toString('utf8');
}
