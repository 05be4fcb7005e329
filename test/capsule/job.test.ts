// The data path of a job with an API that disconnects, sends wrong bytes, refuses and recovers.
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { findPython } from '../../activities/adapters/local-process/python.ts';
import { type Ended, runProgram } from './programs.ts';

type Answer = (request: IncomingMessage, response: ServerResponse, body: Buffer) => void;

let python: string;
let folder: string;
let api: string;
let answers: Answer[];
let seen: { method: string; url: string; headers: IncomingMessage['headers']; body: Buffer }[];

const server = createServer((request, response) => {
  const chunks: Buffer[] = [];
  request.on('data', (chunk: Buffer) => chunks.push(chunk));
  request.on('end', () => {
    const body = Buffer.concat(chunks);
    seen.push({ method: request.method ?? '', url: request.url ?? '', headers: request.headers, body });
    // The last answer is repeated for all further attempts.
    const answer = answers.length > 1 ? answers.shift() : answers[0];
    if (answer === undefined) response.writeHead(500).end();
    else answer(request, response, body);
  });
});

beforeAll(async () => {
  python = (await findPython(process.env['OCDL_PYTHON'])).executable;
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  api = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});

afterAll(async () => {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
});

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'ocdl-path-'));
  answers = [];
  seen = [];
});

afterEach(async () => rm(folder, { recursive: true, force: true }));

const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');
const whole =
  (bytes: Buffer): Answer =>
  (_request, response) =>
    response.writeHead(200, { 'Content-Length': bytes.length }).end(bytes);
const status =
  (code: number, detail = 'no'): Answer =>
  (_request, response) =>
    response.writeHead(code, { 'Content-Type': 'application/problem+json' }).end(JSON.stringify({ detail }));
const brokenOff =
  (bytes: Buffer, after: number): Answer =>
  (_request, response) => {
    response.writeHead(200, { 'Content-Length': bytes.length });
    response.write(bytes.subarray(0, after), () => response.destroy());
  };

async function job(
  verb: 'fetch' | 'upload',
  manifest: { inputs?: unknown[]; outputs?: unknown[]; job?: string },
  more: Readonly<Record<string, string>> = {},
): Promise<Ended> {
  await writeFile(join(folder, 'job.json'), JSON.stringify({ job: 'j-1', api, inputs: [], outputs: [], ...manifest }));
  return runProgram(python, ['-m', 'ocdl.job', verb, folder], { env: { OCDL_JOB_TOKEN: 'secret-token', ...more } });
}

const input = (name: string, bytes: Buffer, more: object = {}) => ({
  name,
  sha256: sha256(bytes),
  bytes: bytes.length,
  ...more,
});

describe('fetch', () => {
  const bytes = Buffer.alloc(3_000_000, 'abc');

  test('fetches an input completely, with the token, and leaves no other files', async () => {
    answers = [whole(bytes)];
    const ended = await job('fetch', { inputs: [input('train.npz', bytes)] });
    expect(ended).toMatchObject({ status: 0, stderr: '' });
    expect((await readFile(join(folder, 'in', 'train.npz'))).equals(bytes)).toBe(true);
    expect(await readdir(join(folder, 'in'))).toEqual(['train.npz']);
    expect(seen.map(({ method, url, headers }) => [method, url, headers.authorization])).toEqual([
      ['GET', '/v1/jobs/j-1/inputs/train.npz', 'Bearer secret-token'],
    ]);
    // A second fetch after a crash finds it there.
    expect(await job('fetch', { inputs: [input('train.npz', bytes)] })).toMatchObject({ status: 0 });
    expect(seen).toHaveLength(1);
  });

  test('retries after a truncated body and after a 500', async () => {
    answers = [brokenOff(bytes, 1_000_000), status(500), whole(bytes)];
    expect(await job('fetch', { inputs: [input('train.npz', bytes)] })).toMatchObject({ status: 0 });
    expect((await readFile(join(folder, 'in', 'train.npz'))).equals(bytes)).toBe(true);
    expect(seen).toHaveLength(3);
  });

  test('exits with status 5 (retryable) if every body is truncated', async () => {
    answers = [brokenOff(bytes, 1_000_000)];
    const ended = await job('fetch', { inputs: [input('train.npz', bytes)] });
    expect(ended.status).toBe(5);
    expect(ended.stderr).toMatch(/train\.npz ended after \d+ of 3000000 bytes/);
    expect(await readdir(join(folder, 'in'))).toEqual([]);
  });

  test.each([
    ['other bytes of the same length', Buffer.alloc(3_000_000, 'abd'), /has sha256:[0-9a-f]{64}, expected sha256:/],
    ['more bytes than declared', Buffer.alloc(3_000_001, 'abc'), /longer than its declared 3000000/],
  ])('refuses %s with status 4, without a retry', async (_name, sent, message) => {
    answers = [whole(sent)];
    const ended = await job('fetch', { inputs: [input('train.npz', bytes)] });
    expect(ended.status).toBe(4);
    expect(ended.stderr).toMatch(message);
    expect(await readdir(join(folder, 'in'))).toEqual([]);
    expect(seen).toHaveLength(1);
  });

  test.each([
    [401, 5],
    [403, 5],
    [404, 7],
    [422, 7],
  ])('an answer of %d exits with status %d and the problem detail, without a retry', async (refused, exit) => {
    answers = [status(refused, 'the token is of another job')];
    const ended = await job('fetch', { inputs: [input('train.npz', bytes)] });
    expect(ended.status).toBe(exit);
    expect(ended.stderr).toContain(`${refused} the token is of another job`);
    expect(ended.stderr + ended.stdout).not.toContain('secret-token');
    expect(seen).toHaveLength(1);
  });

  test('does not follow a redirect with the token', async () => {
    answers = [(_request, response) => response.writeHead(302, { Location: `${api}/elsewhere` }).end()];
    expect(await job('fetch', { inputs: [input('train.npz', bytes)] })).toMatchObject({ status: 7 });
    expect(seen.map(({ url }) => url)).toEqual(['/v1/jobs/j-1/inputs/train.npz']);
  });

  test('puts inputs whose names contain folders into those folders, at maximum length', async () => {
    const longest = `${Array.from({ length: 15 }, (_, i) => `d${i}`).join('/')}/${'n'.repeat(196)}.csv`;
    answers = [whole(bytes)];
    const inputs = ['train/part-0/a.csv', 'train/_SUCCESS', longest].map((name) => input(name, bytes));
    expect(await job('fetch', { inputs })).toMatchObject({ status: 0, stderr: '' });
    for (const { name } of inputs) expect((await readFile(join(folder, 'in', name))).equals(bytes)).toBe(true);
    expect(seen.map(({ url }) => url)).toEqual(inputs.map(({ name }) => `/v1/jobs/j-1/inputs/${name}`));
  });

  test.each([[['a', 'a/b']], [['a/b', 'a']], [['a.tar', 'a/b']], [['a/b', 'a.tar']]])(
    'refuses %j with status 2: one path contains the other',
    async (names) => {
      const inputs = names.map((name) => input(name, bytes, { unpack: name.endsWith('.tar') }));
      const ended = await job('fetch', { inputs });
      expect([ended.status, ended.stderr]).toEqual([2, expect.stringContaining('two inputs use the path a')]);
    },
  );

  test.each(['../escape', '/etc/passwd', '.hidden', 'a//b', 'a/../b', 'a/.b', `${'n'.repeat(201)}`, '', 'a?b', 'ä'])(
    'refuses the name %j with status 2',
    async (name) => {
      const ended = await job('fetch', { inputs: [input(name, bytes)] });
      expect(ended.status).toBe(2);
      expect(ended.stderr).toContain('is not a valid name of an input');
      expect(seen).toHaveLength(0);
    },
  );
});

describe('upload', () => {
  const output = (name: string, required = true) => ({ name, required });

  beforeEach(() => mkdir(join(folder, 'out')));

  test('sends outputs with length and digest, again after a 500, and skips missing optional ones', async () => {
    const bytes = Buffer.alloc(2_500_000, 'onnx');
    await writeFile(join(folder, 'out', 'model.onnx'), bytes);
    await writeFile(join(folder, 'out', 'undeclared'), 'stays');
    answers = [status(500), status(204)];
    const ended = await job('upload', { outputs: [output('model.onnx'), output('notes.md', false)] });
    expect(ended).toMatchObject({ status: 0, stderr: '' });
    expect(seen).toHaveLength(2);
    for (const { method, url, headers, body } of seen) {
      expect([method, url]).toEqual(['PUT', '/v1/jobs/j-1/outputs/model.onnx']);
      expect(headers['content-length']).toBe('2500000');
      expect(headers['repr-digest']).toBe(`sha-256=:${createHash('sha256').update(bytes).digest('base64')}:`);
      expect(body.equals(bytes)).toBe(true);
    }
  });

  test('sends nothing and exits with status 3 if a required output is missing', async () => {
    await writeFile(join(folder, 'out', 'metrics.json'), '{}');
    answers = [status(204)];
    const ended = await job('upload', { outputs: [output('metrics.json'), output('model.onnx')] });
    expect(ended.status).toBe(3);
    expect(ended.stderr).toContain('required outputs: model.onnx');
    expect(seen).toHaveLength(0);
  });

  test('refuses a link in place of an output, even of an optional one', async () => {
    await writeFile(join(folder, 'secret'), 'of the platform');
    await symlink(join(folder, 'secret'), join(folder, 'out', 'model.onnx'));
    answers = [status(204)];
    for (const required of [true, false]) {
      const ended = await job('upload', { outputs: [output('model.onnx', required)] });
      expect(ended.status).toBe(3);
      expect(ended.stderr).toContain('links are refused');
    }
    expect(seen).toHaveLength(0);
  });

  test('refuses a folder, a named pipe and a linked output folder', async () => {
    answers = [status(204)];
    await mkdir(join(folder, 'out', 'model.onnx'));
    expect(await job('upload', { outputs: [output('model.onnx')] })).toMatchObject({ status: 3 });
    await rm(join(folder, 'out', 'model.onnx'), { recursive: true });
    expect((await runProgram('mkfifo', [join(folder, 'out', 'model.onnx')])).status).toBe(0);
    expect(await job('upload', { outputs: [output('model.onnx')] })).toMatchObject({ status: 3 });
    await rm(join(folder, 'out'), { recursive: true });
    await symlink('/etc', join(folder, 'out'));
    expect(await job('upload', { outputs: [output('hostname')] })).toMatchObject({ status: 3 });
    expect(seen).toHaveLength(0);
  });

  test('retries an unavailable API for the configured time, without filling the log', async () => {
    await writeFile(join(folder, 'out', 'model.onnx'), 'x');
    answers = [...Array<Answer>(6).fill(status(503, 'PostgreSQL is unavailable')), status(204)];
    const ended = await job('upload', { outputs: [output('model.onnx')] }, { OCDL_JOB_PATIENCE: '60' });
    expect(ended).toMatchObject({ status: 0, stderr: '' });
    expect(seen).toHaveLength(7);
    const reports = ended.stdout.split('\n').filter((line) => line.includes('PostgreSQL is unavailable'));
    expect(reports).toHaveLength(6);
    for (const line of reports) expect(line).toMatch(/^::progress \{.*retrying"\}$/);
  });

  test('sends an output again if it arrived corrupted', async () => {
    await writeFile(join(folder, 'out', 'model.onnx'), 'x');
    answers = [status(400, 'the received bytes do not match the announced digest or length'), status(204)];
    expect(await job('upload', { outputs: [output('model.onnx')] })).toMatchObject({ status: 0 });
    answers = [status(413, 'larger than the limit')];
    expect(await job('upload', { outputs: [output('model.onnx')] })).toMatchObject({ status: 7 });
  });

  test('refuses a patience that is not a number', async () => {
    expect(await job('upload', {}, { OCDL_JOB_PATIENCE: 'long' })).toMatchObject({ status: 2 });
  });

  test('exits with status 5 if nothing listens', async () => {
    await writeFile(join(folder, 'out', 'model.onnx'), 'x');
    await writeFile(
      join(folder, 'job.json'),
      JSON.stringify({ job: 'j-1', api: 'http://127.0.0.1:1', inputs: [], outputs: [output('model.onnx')] }),
    );
    const env = { OCDL_JOB_TOKEN: 'secret-token' };
    const ended = await runProgram(python, ['-m', 'ocdl.job', 'upload', folder], { env });
    expect(ended.status).toBe(5);
    expect(ended.stderr).toContain('the API did not answer');
  });
});
