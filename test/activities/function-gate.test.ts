// The function gate with services that never answer, refuse, crash or are killed: it fails immediately if a retry cannot help.
import { createHash } from 'node:crypto';
import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { GateContext } from '../../activities/gates/gate.ts';
import { functionGate } from '../../activities/gates/function.ts';
import { once } from '../../activities/model-center.ts';
import type { ServiceEnd } from '../../activities/ports.ts';
import { ServiceNotReady } from '../../activities/ports.ts';
import { isFinal } from '../../activities/failures.ts';
import { submissionFiles } from '../workflows/submission-files.ts';

const files = submissionFiles('gate');
const open: Server[] = [];
afterEach(() => {
  for (const server of open.splice(0)) {
    server.closeAllConnections();
    server.close();
  }
});

/** A cluster whose service answers with the given handler. */
function serving(answer: RequestListener, more: { ended?: Promise<ServiceEnd>; start?: () => void } = {}) {
  const seen = { starts: 0, stopped: [] as string[] };
  const cluster = {
    async startService() {
      seen.starts += 1;
      more.start?.();
      const server = createServer(answer);
      open.push(server);
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
      const { port } = server.address() as AddressInfo;
      return { address: `http://127.0.0.1:${port}`, ...(more.ended && { ended: more.ended }) };
    },
    async stopService(name: string) {
      seen.stopped.push(name);
    },
  };
  return { cluster, seen };
}

function run(cluster: unknown, more: Partial<GateContext> = {}) {
  const long = 'n'.repeat(63);
  const context = {
    application: { application: long },
    release: { release: `${long}-1`, version: 1 },
    files: Object.entries(files).map(([name, text]) => ({
      ...{ name, uri: name },
      sha256: createHash('sha256').update(text).digest('hex'),
    })),
    releases: { read: async (uri: string) => once(Buffer.from(files[uri] ?? '')) },
    ...{ cluster, signal: new AbortController().signal, report: () => undefined },
    limits: { answerMs: 300, gateMs: 60_000 },
    ...more,
  };
  return functionGate(context as unknown as GateContext);
}
const thrown = (work: Promise<unknown>) => work.then(JSON.stringify, (error: unknown) => error);
const never: RequestListener = () => undefined;
const answering =
  (status: number, body: object): RequestListener =>
  (_request, response) =>
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
const golden = answering(200, {
  ...{ model_name: 'm', model_version: '1' },
  outputs: [{ name: 'y', datatype: 'FP32', shape: [1, 2], data: [2, 4] }],
});

it('passes a model with correct answers, under a name that every cluster accepts', async () => {
  const { cluster, seen } = serving(golden);
  const detail = '1 golden samples answered within tolerance (largest deviation 0, tolerance 0.000001)';
  expect(await run(cluster)).toEqual({ passed: true, detail });
  expect(seen.stopped).toEqual([expect.stringMatching(/^function-n+-[0-9a-f]{16}$/)]);
  expect(seen.stopped[0]).toHaveLength(63);
});

it('says how far the answers of a failed model are from the expected ones', async () => {
  const outputs = [{ name: 'y', datatype: 'FP32', shape: [1, 2], data: [2, 5] }];
  const { cluster } = serving(answering(200, { model_name: 'm', model_version: '1', outputs }));
  expect(await run(cluster)).toEqual({
    passed: false,
    detail:
      "1 of 1 golden samples failed (largest deviation 0.25, tolerance 0.000001); first failure: sample 0: output 'y' is 5 at element 1, expected 4",
  });
});

it('fails a model that never answers, within the time limit of one answer', async () => {
  const { cluster, seen } = serving(never);
  const started = performance.now();
  expect(await run(cluster)).toEqual({ passed: false, detail: 'sample 0: no answer within 0.3 s' });
  expect(performance.now() - started).toBeLessThan(5_000);
  expect(seen).toMatchObject({ starts: 1, stopped: [expect.any(String)] });
});

it('fails when the gate exceeds its deadline', async () => {
  const { cluster } = serving(never);
  expect(await run(cluster, { limits: { answerMs: 60_000, gateMs: 300 } })).toEqual({
    ...{ passed: false, detail: 'deadline exceeded: the gate did not finish within 0.3 s' },
  });
});

it.each([
  [
    400,
    { error: "input 'x' wants decimal strings beyond 2^53" },
    "sample 0: input 'x' wants decimal strings beyond 2^53",
  ],
  [500, { error: 'the model broke off' }, 'sample 0: the model broke off'],
  [200, { outputs: 'none' }, 'sample 0: the response does not follow the protocol'],
])('fails a model immediately if it answers %d', async (status, body, detail) => {
  const { cluster, seen } = serving(answering(status, body));
  expect(await run(cluster)).toEqual({ passed: false, detail: expect.stringContaining(detail) as unknown });
  expect(seen.starts).toBe(1);
});

it('is retryable if the service is busy', async () => {
  const error = await thrown(run(serving(answering(503, { error: 'all workers are busy' })).cluster));
  expect([String(error), isFinal(error)]).toEqual([expect.stringContaining('all workers are busy'), false]);
});

const breaking: RequestListener = (request) => request.socket.destroy();

it('is retryable, and says so, if the service was killed from outside', async () => {
  const ended = Promise.resolve({ killed: true, detail: 'service x was killed from outside (status 137)' });
  const error = await thrown(run(serving(breaking, { ended }).cluster));
  expect(error).toBeInstanceOf(Error);
  expect(isFinal(error)).toBe(false);
  expect(String(error)).toMatch(/killed from outside \(status 137\)\nThe gate will be retried/);
});

it('fails a model that crashes the service', async () => {
  const ended = Promise.resolve({ killed: false, detail: 'service x ended by itself (status 139)' });
  expect(await run(serving(breaking, { ended }).cluster)).toEqual({
    ...{ passed: false, detail: 'sample 0: service x ended by itself (status 139)' },
  });
});

it('starts a service that is not ready three times, then fails the model', async () => {
  const { cluster, seen } = serving(golden, {
    start: () => {
      throw new ServiceNotReady('service x was not ready within 20 seconds');
    },
  });
  expect(await run(cluster)).toEqual({
    ...{ passed: false, detail: 'not ready after 3 starts: service x was not ready within 20 seconds' },
  });
  expect(seen.starts).toBe(3);
});

it('gives no verdict if the cluster could not run the service: the gate is retried', async () => {
  const { cluster, seen } = serving(golden, {
    start: () => {
      throw new ServiceNotReady('service x was not ready: no machine has room', { isOfCluster: true });
    },
  });
  const error = await thrown(run(cluster));
  expect([String(error), isFinal(error)]).toEqual([expect.stringContaining('no machine has room'), false]);
  expect(seen).toMatchObject({ starts: 1, stopped: [expect.any(String)] });
});

it('gives no verdict when the delivery is stopped', async () => {
  const stop = new AbortController();
  const { cluster } = serving(() => stop.abort(new Error('withdrawn')));
  expect(String(await thrown(run(cluster, { signal: stop.signal })))).toBe('Error: withdrawn');
});

it('fails a release with malformed files, and names a missing file', async () => {
  const { cluster, seen } = serving(golden);
  const releases = { read: async () => once(Buffer.from('{')) } as unknown as GateContext['releases'];
  const sha256 = createHash('sha256').update('{').digest('hex');
  const broken = Object.keys(files).map((name) => ({ name, uri: name, sha256 })) as unknown as GateContext['files'];
  expect(await run(cluster, { releases, files: broken })).toMatchObject({ passed: false });
  // Bytes that differ from the record say nothing about the model.
  expect(isFinal(await thrown(run(cluster, { releases })))).toBe(true);
  expect(isFinal(await thrown(run(cluster, { files: [] })))).toBe(true);
  expect(seen.starts).toBe(0);
});
