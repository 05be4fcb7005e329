// Scripted compute for workflow tests: jobs write prepared outputs, services give prepared answers.
import { createServer } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { failure } from '../../activities/failures.ts';
import { once } from '../../activities/model-center.ts';
import type { ArtifactStore, Cluster, JobOutcome } from '../../activities/ports.ts';
import type { Records } from '../../activities/records.ts';
import { digestOfToken } from '../../activities/tokens.ts';
import type { Digest } from '../../workflows/domain/names.ts';
import { jobsOf } from '../contracts/run-job.ts';
import { submissionFiles } from './submission-files.ts';

/** The behaviour of the scripted compute; tests change it. */
export interface Script {
  /** `hang` runs until it is cancelled, or its name contains one of `reachEnd`. */
  train: 'succeed' | 'crash' | 'hang' | 'empty';
  /** Overrides of a trained model's card. */
  card?: Readonly<Record<string, unknown>>;
  evaluate: 'pass' | 'fail' | 'crash' | 'other-model' | 'hang';
  reachEnd?: readonly string[];
  /** `slow` never becomes ready, `endless` never answers. */
  service: 'golden' | 'wrong' | 'absent' | 'slow' | 'endless';
}

/** The scripted cluster; `script` may change while it runs. */
export function scriptedCluster(script: Script, { records, areas }: { records: Records; areas: ArtifactStore }) {
  const services = new Map<string, ReturnType<typeof createServer>>();
  const endedJobs: string[] = [];
  const begunJobs: string[] = [];
  type Watch = Parameters<Parameters<typeof jobsOf>[0]>[1];
  const hang = async (name: string, { signal, onLog }: Watch): Promise<void> => {
    onLog('epoch 1 of 1000');
    while (!script.reachEnd?.some((part) => name.includes(part)))
      await sleep(100, undefined, { signal }).catch((error: unknown) => {
        endedJobs.push(name);
        throw error;
      });
  };
  async function leave(token: string, files: Record<string, string | Uint8Array>): Promise<void> {
    const principal = await records.principal(digestOfToken(token));
    for (const { name, path } of principal?.job?.outputs ?? []) {
      const text = files[name];
      if (text !== undefined) await areas.write(path, once(Buffer.from(text)), { ifExists: 'replace' });
    }
  }
  const succeeded: JobOutcome = { status: 'succeeded', seconds: 0, log: 'worked\n' };
  const crashed: JobOutcome = { status: 'failed', reason: 'exit', exitCode: 1, log: 'ValueError: no such column\n' };

  const port: Cluster = {
    ...jobsOf(async (spec, watch) => {
      begunJobs.push(spec.name);
      if (spec.argv.includes('ocdl.evaluate')) {
        if (script.evaluate === 'hang') await hang(spec.name, watch);
        if (script.evaluate === 'crash') return crashed;
        const sha256 =
          script.evaluate === 'other-model'
            ? ('f'.repeat(64) as Digest)
            : spec.inputs.find(({ name }) => name === 'model.onnx')?.sha256;
        const passed = script.evaluate !== 'fail';
        await leave(watch.token, {
          'report.json': JSON.stringify({ v: 1, model: { sha256 }, metrics: { f1: passed ? 0.9 : 0.1 }, passed }),
        });
        return succeeded;
      }
      if (script.train === 'crash') return crashed;
      if (script.train === 'empty')
        return { status: 'failed', reason: 'outputs', exitCode: 3, log: 'model.onnx is missing\n' };
      if (script.train === 'hang') await hang(spec.name, watch);
      await leave(watch.token, { ...submissionFiles(spec.name, script.card), 'metrics.json': '{"oob_f1": 0.5}' });
      return succeeded;
    }),
    async startService({ name }, signal) {
      if (script.service === 'slow') await sleep(600_000, undefined, { signal });
      if (script.service === 'absent') throw failure('GateUnavailable', 'no node has room for the service');
      const data = script.service === 'golden' ? [2, 4] : [2, 5];
      const server = createServer((_request, response) => {
        if (script.service === 'endless') return;
        response.setHeader('content-type', 'application/json');
        response.end(
          JSON.stringify({
            model_name: 'm',
            model_version: '1',
            outputs: [{ name: 'y', datatype: 'FP32', shape: [1, 2], data }],
          }),
        );
      });
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
      services.set(name, server);
      const address = server.address();
      return { address: `http://127.0.0.1:${typeof address === 'object' && address ? address.port : 0}` };
    },
    async stopService(name) {
      services.get(name)?.closeAllConnections();
      services.get(name)?.close();
      services.delete(name);
    },
  };
  return {
    port,
    /** Names of the started jobs, in order. */
    begunJobs: begunJobs as readonly string[],
    /** Names of the jobs that were stopped while running. */
    endedJobs: endedJobs as readonly string[],
    async close() {
      for (const name of services.keys()) await port.stopService(name);
    },
  };
}
