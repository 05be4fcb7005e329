// The service as a separate process: on a Unix socket and on a port, through the client, with golden samples.
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer, request as ask, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { checkGolden, compareOutputs, createInferenceClient } from '../../activities/inference/client.ts';
import { addModel, encodeModel } from '../model-format/onnx-model.ts';
import { killServices, startService } from './service-process.ts';

const folder = mkdtempSync(join(tmpdir(), 'inference-'));
const bytes = encodeModel(addModel());
const sha256 = createHash('sha256').update(bytes).digest('hex');
const tensor = (name: string, shape: number[] = [-1, 2]) => ({ name, datatype: 'FP32', shape });
const card = { name: 'adder', signature: { inputs: [tensor('x')], outputs: [tensor('y')] }, framework: 'test' };
const start = (args: string[], model = folder) => startService(model, args);

beforeAll(() => {
  writeFileSync(join(folder, 'model.onnx'), bytes);
  writeFileSync(join(folder, 'model.json'), JSON.stringify(card));
});
afterAll(() => {
  killServices();
  rmSync(folder, { recursive: true, force: true });
});

const soon = (): AbortSignal => AbortSignal.timeout(60_000);
const request = { inputs: [{ name: 'x', datatype: 'FP32' as const, shape: [1, 2], data: [1, 1] }] };
const outputs = (data: number[]) => [{ name: 'y', datatype: 'FP32' as const, shape: [1, 2], data }];

describe('on a Unix socket', () => {
  const socket = join(folder, 'model.sock');
  const client = createInferenceClient({ address: `unix:${socket}`, name: 'adder' });

  it('is ready once it listens, answers, and ends after SIGTERM', async () => {
    expect(await client.ready(soon())).toBe(false);
    const service = start(['--socket', socket, '--sha256', sha256]);
    expect(await service.listening).toBe(`unix:${socket}`);
    expect(statSync(socket).mode & 0o777).toBe(0o600);
    expect(await client.ready(soon())).toBe(true);
    expect(await client.metadata(soon())).toMatchObject({ name: 'adder', versions: ['1'] });
    expect((await client.infer(request, soon())).outputs).toEqual(outputs([2, 3]));
    await expect(
      client.infer({ inputs: [{ ...request.inputs[0], name: 'q' } as never] }, soon()),
    ).rejects.toMatchObject({
      kind: 'refused',
      status: 400,
      message: expect.stringContaining("no input 'q'") as string,
    });
    const other = createInferenceClient({ address: `unix:${socket}`, name: 'other' });
    expect(await other.ready(soon())).toBe(false);

    const golden = {
      samples: [
        { request, response: { outputs: outputs([2, 3]) }, tolerance: 0 },
        { request, response: { outputs: outputs([2, 3.5]) }, tolerance: 0.1 },
      ],
    };
    const results = await checkGolden(client, golden, soon());
    expect(results.map(({ problems }) => problems)).toEqual([[], ["output 'y' is 3 at element 1, expected 3.5"]]);

    service.child.kill('SIGTERM');
    expect(await service.ended).toBe(0);
    expect(existsSync(socket)).toBe(false);
    await expect(client.infer(request, soon())).rejects.toMatchObject({ kind: 'unreachable' });
  });

  it('takes over the socket of a killed service', async () => {
    const first = start(['--socket', socket]);
    await first.listening;
    first.child.kill('SIGKILL');
    await first.ended;
    expect(existsSync(socket)).toBe(true);
    const second = start(['--socket', socket]);
    await second.listening;
    expect(await client.ready(soon())).toBe(true);
    second.child.kill('SIGTERM');
    expect(await second.ended).toBe(0);
  });
});

describe('on a port', () => {
  it('listens on the loopback interface, and refuses a body over the limit', async () => {
    const service = start(['--port', '0']);
    const address = await service.listening;
    expect(address).toMatch(/^http:\/\/127\.0\.0\.1:\d+$/);
    const client = createInferenceClient({ address, name: 'adder' });
    expect((await client.infer(request, soon())).outputs).toEqual(outputs([2, 3]));
    // The refusal is sent before the body arrives, so an upload may meet a closed connection.
    const big = ask(`${address}/v2/models/adder/infer`, {
      method: 'POST',
      headers: { 'content-length': 17 * 2 ** 20 },
    });
    big.flushHeaders();
    const [answer] = (await once(big, 'response')) as [IncomingMessage];
    expect(answer.statusCode).toBe(413);
    big.destroy();
    expect((await client.infer(request, soon())).outputs).toEqual(outputs([2, 3]));
    service.child.kill('SIGTERM');
    expect(await service.ended).toBe(0);
  });
});

it('leaves nothing in the home folder: the runtime’s telemetry keeps its identifier and its events there', async () => {
  const home = mkdtempSync(join(folder, 'home-'));
  const service = startService(folder, ['--port', '0'], { HOME: home, XDG_CACHE_HOME: '', ORT_DISABLE_TELEMETRY: '' });
  const client = createInferenceClient({ address: await service.listening, name: 'adder' });
  await client.infer(request, soon());
  service.child.kill('SIGTERM');
  expect(await service.ended).toBe(0);
  expect(readdirSync(home, { recursive: true })).toEqual([]);
});

describe('a service that does not start', () => {
  it.each([
    ['another digest', ['--port', '0', '--sha256', 'f'.repeat(64)], /not the approved bytes/],
    ['neither socket nor port', [], /either --socket or --port/],
    ['both', ['--port', '0', '--socket', '/tmp/x.sock'], /either --socket or --port/],
    ['a version that is not a number', ['--port', '0', '--version', 'x'], /version/],
    ['an unknown argument', ['--host', '0.0.0.0'], /--host/],
    ['a path too long for a socket', ['--socket', `/tmp/${'x'.repeat(120)}`], /socket: longer than/],
    ['a file where the socket should be', ['--socket', join(folder, 'model.json')], /is not a socket/],
  ])('%s', async (_, args, words) => {
    const service = start(args);
    await expect(service.listening).rejects.toThrow(words);
    expect(await service.ended).toBe(1);
    expect(statSync(join(folder, 'model.json')).isFile()).toBe(true);
  });

  it('a card that is not the model’s', async () => {
    const other = mkdtempSync(join(folder, 'other-'));
    writeFileSync(join(other, 'model.onnx'), bytes);
    writeFileSync(
      join(other, 'model.json'),
      JSON.stringify({ ...card, signature: { ...card.signature, inputs: [tensor('z')] } }),
    );
    await expect(start(['--port', '0'], other).listening).rejects.toThrow(
      /declares the inputs z FP32, the model has x FP32/,
    );
  });
});

describe('the client', () => {
  const answering = async (
    answer: { status?: number; headers?: Record<string, string>; body?: string } | 'never' | 'endless',
    use: (address: string) => Promise<void>,
  ): Promise<void> => {
    const server = createServer((_, response) => {
      if (answer === 'never') return;
      if (answer === 'endless') {
        response.writeHead(200);
        const chunk = 'x'.repeat(64 * 1024);
        const more = (): void => {
          while (!response.destroyed && response.write(chunk));
          if (!response.destroyed) response.once('drain', more);
        };
        more();
        return;
      }
      response.writeHead(answer.status ?? 200, answer.headers).end(answer.body);
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    try {
      await use(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
    } finally {
      server.closeAllConnections();
      server.close();
    }
  };

  it.each([
    [
      { status: 503, headers: { 'retry-after': '4' }, body: '{"error":"busy"}' },
      { kind: 'overloaded', retryAfterSeconds: 4, message: 'busy' },
    ],
    [
      { status: 500, body: '{"error":"NaN"}' },
      { kind: 'failed', status: 500, message: 'NaN' },
    ],
    [
      { status: 502, body: '<html>' },
      { kind: 'failed', status: 502 },
    ],
    [
      { status: 413, body: '{"error":"too big"}' },
      { kind: 'refused', status: 413 },
    ],
    [{ status: 302, headers: { location: 'http://127.0.0.1:1' } }, { kind: 'malformed' }],
    [{ body: 'ok' }, { kind: 'malformed' }],
    [{ body: '{"outputs":[{"name":"y"}]}' }, { kind: 'malformed' }],
  ])('interprets %j', async (answer, expected) => {
    await answering(answer, async (address) => {
      const client = createInferenceClient({ address, name: 'm' });
      await expect(client.infer(request, soon())).rejects.toMatchObject(expected);
    });
  });

  it('ends when its signal aborts, and when the response is too large', async () => {
    await answering('never', async (address) => {
      const client = createInferenceClient({ address, name: 'm' });
      await expect(client.infer(request, AbortSignal.timeout(100))).rejects.toMatchObject({ kind: 'aborted' });
      await expect(client.ready(AbortSignal.timeout(100))).rejects.toMatchObject({ kind: 'aborted' });
    });
    await answering('endless', async (address) => {
      const client = createInferenceClient({ address, name: 'm', maxResponseBytes: 1_000_000 });
      await expect(client.infer(request, soon())).rejects.toThrow('exceeds the limit of 1000000');
    });
  });

  it('refuses an invalid address', () => {
    for (const address of ['', 'file:///x', 'unix:x', 'https://127.0.0.1'])
      expect(() => createInferenceClient({ address, name: 'm' })).toThrow(TypeError);
  });
});

describe('compareOutputs', () => {
  const real = (data: unknown[], datatype: 'FP32' | 'FP64' = 'FP64') => [
    { name: 'y', datatype, shape: [data.length], data },
  ];

  it('allows real numbers the tolerance, multiplied by their size above one', () => {
    expect(compareOutputs(real([1, 1000]), real([1.05, 1050]), 0.1)).toEqual([]);
    expect(compareOutputs(real([1]), real([1.2]), 0.1)).toEqual(["output 'y' is 1.2 at element 0, expected 1"]);
    expect(compareOutputs(real([0.1], 'FP32'), real([Math.fround(0.1)], 'FP32'), 0)).toEqual([]);
    expect(compareOutputs(real([1]), real([null]), 100)).toHaveLength(1);
  });

  it('requires everything else to be equal, flat or nested, and limits the number of reported differences', () => {
    const text = (data: unknown[]) => [{ name: 's', datatype: 'BYTES' as const, shape: [2, 1], data }];
    expect(compareOutputs(text(['a', 'b']), text([['a'], ['b']]), 9)).toEqual([]);
    expect(compareOutputs(text(['a', 'b']), text(['a', 'c']), 9)).toHaveLength(1);
    const big = (element: unknown) => [{ name: 'i', datatype: 'INT64' as const, shape: [1], data: [element] }];
    expect(compareOutputs(big(5), big('5'), 0)).toEqual([]);
    expect(compareOutputs(big('9007199254740993'), big('9007199254740992'), 1)).toHaveLength(1);
    expect(compareOutputs(real(Array(100).fill(0)), real(Array(100).fill(1)), 0)).toHaveLength(6);
  });

  it('reports a missing output and a different datatype, shape or count; ignores additional outputs', () => {
    expect(compareOutputs(real([1]), [], 0)).toEqual(["output 'y' is missing"]);
    expect(compareOutputs(real([1]), real([1], 'FP32'), 0)[0]).toContain('is FP32, expected FP64');
    expect(compareOutputs(real([1]), real([1, 2]), 0)[0]).toContain('has shape [2]');
    expect(compareOutputs(real([1]), [{ ...real([1, 2])[0], shape: [1] } as never], 0)[0]).toContain('has 2 elements');
    expect(compareOutputs([], real([1]), 0)).toEqual([]);
  });
});
