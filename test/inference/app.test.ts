// The service of one model, without a port: the protocol's addresses, what it answers, and what it refuses.
import { jest } from '@jest/globals';
import type { Hono } from 'hono';
import { createInferenceApp, type InferenceAppOptions } from '../../api/inference/app.ts';
import type { ServedCard, TensorMetadata } from '../../activities/inference/protocol.ts';
import type { ModelSession } from '../../api/inference/session.ts';
import type { Tensor } from '../../activities/inference/tensor-data.ts';

type Run = (inputs: Readonly<Record<string, Tensor>>) => Record<string, Tensor>;

const f32 = (name: string, shape: number[]): TensorMetadata => ({ name, datatype: 'FP32', shape });
const numbers = (tensor: Tensor | undefined): number[] => Array.from(tensor?.elements as Float32Array);

/** A model in plain JavaScript: runtime.test.ts tests the real runtime in a separate process. */
const session = (inputs: TensorMetadata[], outputs: TensorMetadata[], run: Run): ModelSession => ({
  inputs,
  outputs,
  run: async (given, wanted) => {
    const results = run(given);
    return Object.fromEntries(Object.entries(results).filter(([name]) => wanted.includes(name)));
  },
  close: async () => undefined,
});

/** y = x + 1, x of shape [-1, 2]. */
const adder = session([f32('x', [-1, 2])], [f32('y', [-1, 2])], ({ x: given }) => ({
  y: {
    datatype: 'FP32',
    shape: given?.shape ?? [],
    elements: Float32Array.from(numbers(given), (element) => element + 1),
  },
}));

/** Returns each input under its name with the suffix `_out`. */
const echo = (inputs: TensorMetadata[]): ModelSession =>
  session(
    inputs,
    inputs.map((input) => ({ ...input, name: `${input.name}_out` })),
    (given) => Object.fromEntries(Object.entries(given).map(([name, tensor]) => [`${name}_out`, tensor])),
  );

const cardOf = ({ inputs, outputs }: ModelSession): ServedCard => ({
  name: 'm',
  signature: { inputs: [...inputs], outputs: [...outputs] },
});

const serve = (model: ModelSession, more: Partial<InferenceAppOptions> = {}): Hono =>
  createInferenceApp({ session: model, card: cardOf(model), version: 3, ...more });

const ask = async (app: Hono, body: unknown, path = '/v2/models/m/infer') => {
  const text = typeof body === 'string' ? body : JSON.stringify(body);
  const headers = { 'content-length': String(Buffer.byteLength(text)) };
  const response = await app.request(path, { method: 'POST', body: text, headers });
  return {
    status: response.status,
    headers: response.headers,
    body: (await response.json()) as Record<string, unknown>,
  };
};

/** Expected log output is kept out of the test report. */
const quietly = async <T>(work: () => Promise<T>): Promise<T> => {
  const logged = jest.spyOn(console, 'error').mockImplementation(() => undefined);
  try {
    return await work();
  } finally {
    logged.mockRestore();
  }
};

const x = (shape: number[], data: unknown[]) => ({ name: 'x', datatype: 'FP32', shape, data });

describe('the addresses of the protocol', () => {
  const app = serve(adder);
  const signature = {
    inputs: [{ name: 'x', datatype: 'FP32', shape: [-1, 2] }],
    outputs: [{ name: 'y', datatype: 'FP32', shape: [-1, 2] }],
  };
  const metadata = { name: 'm', versions: ['3'], platform: 'onnx_onnxv1', ...signature };

  it.each([
    ['/v2/health/live', { live: true }],
    ['/v2/health/ready', { live: true, ready: true }],
    ['/v2', { name: 'ocdl-inference', version: '1', extensions: [] }],
    ['/v2/models/m', metadata],
    ['/v2/models/m/ready', { name: 'm', ready: true }],
    ['/v2/models/m/versions/3', metadata],
    ['/v2/models/m/versions/3/ready', { name: 'm', ready: true }],
  ])('GET %s', async (path, expected) => {
    const response = await app.request(path);
    expect(response.status).toBe(200);
    expect(await response.json()).toEqual(expected);
  });

  it.each([
    '/v2/models/other',
    '/v2/models/other/ready',
    '/v2/models/m/versions/4',
    '/v2/models/m/versions/4/ready',
    '/',
    '/v2/models/m/infer',
  ])('GET %s is not found, with a reason', async (path) => {
    const response = await app.request(path);
    expect(response.status).toBe(404);
    expect(await response.json()).toEqual({ error: expect.any(String) as string });
  });

  it('answers an inference at both addresses, but not for another version or model', async () => {
    const request = { inputs: [x([1, 2], [1, 1])] };
    for (const path of ['/v2/models/m/infer', '/v2/models/m/versions/3/infer'])
      expect(await ask(app, request, path)).toMatchObject({ status: 200, body: { outputs: [{ data: [2, 2] }] } });
    for (const path of ['/v2/models/m/versions/2/infer', '/v2/models/n/infer'])
      expect((await ask(app, request, path)).status).toBe(404);
  });
});

describe('inference', () => {
  it('answers a batch, flat or nested, and echoes the id', async () => {
    const app = serve(adder);
    const expected = {
      model_name: 'm',
      model_version: '3',
      id: 'r-7',
      outputs: [{ name: 'y', datatype: 'FP32', shape: [3, 2], data: [1, 1, 2, 2, 3, 3] }],
    };
    expect((await ask(app, { id: 'r-7', inputs: [x([3, 2], [0, 0, 1, 1, 2, 2])] })).body).toEqual(expected);
    expect(
      (
        await ask(app, {
          id: 'r-7',
          inputs: [
            x(
              [3, 2],
              [
                [0, 0],
                [1, 1],
                [2, 2],
              ],
            ),
          ],
        })
      ).body,
    ).toEqual(expected);
  });

  it('returns the requested outputs in the requested order', async () => {
    const app = serve(echo([f32('a', [-1]), { name: 's', datatype: 'BYTES', shape: [-1] }]));
    const inputs = [
      { name: 'a', datatype: 'FP32', shape: [1], data: [1] },
      { name: 's', datatype: 'BYTES', shape: [1], data: ['t'] },
    ];
    const names = async (outputs?: unknown) => {
      const { body } = await ask(app, { inputs, outputs });
      return (body.outputs as { name: string }[]).map(({ name }) => name);
    };
    expect(await names()).toEqual(['a_out', 's_out']);
    expect(await names([{ name: 's_out' }])).toEqual(['s_out']);
    expect(await names([{ name: 's_out' }, { name: 'a_out' }])).toEqual(['s_out', 'a_out']);
  });

  it('reports outputs that JSON cannot represent, and missing outputs', async () => {
    const of = (results: Record<string, Tensor>): Hono =>
      serve(session([f32('x', [-1])], [f32('y', [-1])], () => results));
    const elements = Float32Array.of(1, NaN);
    const app = of({ y: { datatype: 'FP32', shape: [2], elements } });
    const { status, body } = await ask(app, { inputs: [x([2], [1, -1])] });
    expect(status).toBe(500);
    expect(body.error).toContain("output 'y' has NaN at element 1");
    expect((await ask(of({}), { inputs: [x([1], [1])] })).body.error).toContain("returned no output 'y'");
  });

  it('reports a failure of the model in one short line and continues to serve', async () => {
    const app = serve(
      session([f32('x', [-1])], [f32('y', [-1])], ({ x: given }) => {
        if (numbers(given)[0] === 0) throw new Error(`division by zero ${'x'.repeat(1000)}\n at secret.cc:1`);
        return { y: { datatype: 'FP32', shape: [1], elements: Float32Array.of(1) } };
      }),
    );
    const { status, body } = await quietly(() => ask(app, { inputs: [x([1], [0])] }));
    expect(status).toBe(500);
    expect(body.error).toContain('the model failed on this input: division by zero');
    expect(String(body.error).length).toBeLessThan(400);
    expect(body.error).not.toContain('secret');
    expect((await ask(app, { inputs: [x([1], [1])] })).status).toBe(200);
  });
});

describe('a refused request', () => {
  const app = serve(adder);
  const good = x([1, 2], [1, 2]);
  const cases: [string, unknown, string][] = [
    ['invalid JSON', '{', 'not JSON'],
    ['an empty body', '', 'not JSON'],
    ['not an object', '[]', 'body'],
    ['no inputs', {}, 'inputs'],
    ['an empty list of inputs', { inputs: [] }, 'inputs'],
    ['an unknown input', { inputs: [good, { ...good, name: 'q' }] }, "no input 'q'"],
    ['a missing input', { inputs: [{ ...good, name: 'q' }] }, "no input 'q'"],
    ['an input twice', { inputs: [good, good] }, 'is given twice'],
    ['another datatype', { inputs: [{ ...good, datatype: 'FP64' }] }, 'must be FP32'],
    ['an unknown datatype', { inputs: [{ ...good, datatype: 'STRING' }] }, 'datatype'],
    ['another rank', { inputs: [x([2], [1, 2])] }, 'has shape [2]'],
    ['another size', { inputs: [x([1, 3], [1, 2, 3])] }, 'has shape [1, 3]'],
    ['a negative size', { inputs: [x([-1, 2], [1, 2])] }, 'shape'],
    ['too few elements', { inputs: [x([2, 2], [1, 2])] }, 'has 2 elements'],
    ['an element of another type', { inputs: [x([1, 2], [1, 'a'])] }, '"a" at element 1'],
    [
      'a number out of range',
      '{"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[1,1e999]}]}',
      'element 1',
    ],
    ['no data', { inputs: [{ name: 'x', datatype: 'FP32', shape: [1, 2] }] }, 'data'],
    ['an unknown output', { inputs: [good], outputs: [{ name: 'q' }] }, "no output 'q'"],
    ['an id that is not a string', { id: 7, inputs: [good] }, 'id'],
  ];
  it.each(cases)('%s', async (_, body, words) => {
    const { status, body: answer } = await ask(app, body);
    expect(status).toBe(400);
    expect(answer).toEqual({ error: expect.stringContaining(words) as string });
  });

  it('names all missing inputs', async () => {
    const app = serve(echo([f32('a', [-1]), { name: 'b', datatype: 'INT64', shape: [-1] }, f32('c', [-1])]));
    const { body } = await ask(app, { inputs: [{ name: 'b', datatype: 'INT64', shape: [1], data: [1] }] });
    expect(body).toEqual({ error: 'missing input: a, c' });
  });

  it('a body over the limit, with or without a Content-Length', async () => {
    const app = serve(adder, { maxBodyBytes: 100 });
    expect((await ask(app, ' '.repeat(101))).status).toBe(413);
    const stream = new Blob([' '.repeat(101)]).stream();
    const chunked = await app.request('/v2/models/m/infer', {
      method: 'POST',
      body: stream,
      duplex: 'half',
    });
    expect(chunked.status).toBe(413);
    expect((await ask(app, { inputs: [good] })).status).toBe(200);
  });
});

describe('the queue', () => {
  it('runs one request at a time and refuses requests above the limit with a retry time', async () => {
    const gate: { open: () => void } = { open: () => undefined };
    const opens = new Promise<void>((resolve) => (gate.open = resolve));
    const running = { now: 0, most: 0 };
    const slow: ModelSession = {
      inputs: [{ name: 'x', datatype: 'FP32', shape: [-1] }],
      outputs: [{ name: 'y', datatype: 'FP32', shape: [-1] }],
      run: async (inputs) => {
        running.now += 1;
        running.most = Math.max(running.most, running.now);
        await opens;
        running.now -= 1;
        if (inputs.x?.shape[0] === 2) throw new Error('no pairs');
        return { y: { datatype: 'FP32', shape: [1], elements: new Float32Array([1]) } };
      },
      close: async () => undefined,
    };
    const app = serve(slow, { maxQueued: 3 });
    const one = { inputs: [x([1], [1])] };
    await quietly(async () => {
      const accepted = [ask(app, { inputs: [x([2], [1, 2])] }), ask(app, one), ask(app, one)];
      const refused = await ask(app, one);
      expect(refused.status).toBe(503);
      expect(refused.headers.get('retry-after')).toBe('1');
      gate.open();
      // The failure of the first request must not affect the others.
      expect((await Promise.all(accepted)).map(({ status }) => status)).toEqual([500, 200, 200]);
    });
    expect(running.most).toBe(1);
    expect((await ask(app, { inputs: [x([1], [1])] })).status).toBe(200);
  });
});
