// What the benchmark runs on: the embedded platform with its real processes, and versions that can be decided about.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { startPlatform } from '../../deploy/local/platform.ts';
import { anyFreePort } from '../../deploy/local/ports.ts';
import { readSettings } from '../../deploy/local/settings.ts';
import { encodeModel, FLOAT, floats, model, node, value } from '../model-format/onnx-model.ts';

/** A version in state `new`; `report` is the digest of its evaluation's report, where it has one. */
export interface Subject {
  readonly submission: string;
  readonly digest: string;
  readonly report: string | null;
}

const project = '/v1/projects/bench';
const versionSchema = z.object({
  version: z.object({
    state: z.string(),
    revision: z.number(),
    digest: z.string().nullable(),
    detail: z.string(),
  }),
  busy: z.string().nullable(),
});
const evaluationSchema = z.object({
  state: z.string(),
  detail: z.string(),
  report: z.object({ sha256: z.string() }).nullable(),
});
const tokenSchema = z.object({ token: z.string() });

export type Stage = Awaited<ReturnType<typeof openStage>>;

/** Starts the platform in a new home, with `mia`, a manager, and `sam`, a scientist. */
export async function openStage(say: (line: string) => void) {
  // Below a folder that others may enter: as root, PostgreSQL runs as another user.
  const home = await mkdtemp(join(tmpdir(), 'ocdl-bench-'));
  const port = async (): Promise<string> => String(await anyFreePort('127.0.0.1'));
  const settings = readSettings({
    PATH: process.env.PATH,
    HOME: process.env.HOME,
    OCDL_CACHE: process.env.OCDL_CACHE,
    OCDL_HOME: join(home, 'home'),
    OCDL_API_PORT: await port(),
    OCDL_UI_PORT: await port(),
    OCDL_TEMPORAL_PORT: await port(),
  });
  const platform = await startPlatform({ settings, say }).catch(async (error: unknown) => {
    await rm(home, { recursive: true, force: true, maxRetries: 5 });
    throw error;
  });

  /** One request; anything but a success is an error that shows the answer. */
  async function ask(token: string, method: string, path: string, body?: unknown): Promise<unknown> {
    const isBytes = body instanceof Uint8Array;
    const response = await fetch(`${platform.apiUrl}${path}`, {
      method,
      headers: {
        authorization: `Bearer ${token}`,
        ...(body !== undefined && { 'content-type': isBytes ? 'application/octet-stream' : 'application/json' }),
      },
      ...(body !== undefined && { body: isBytes ? Buffer.from(body) : JSON.stringify(body) }),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path} answered ${response.status}: ${text.slice(0, 1_000)}`);
    return JSON.parse(text);
  }

  async function until<T>(what: string, look: () => Promise<T | undefined>): Promise<T> {
    // The first evaluation of a machine makes its Python environment.
    for (const end = Date.now() + 300_000; Date.now() < end; await sleep(50)) {
      const found = await look();
      if (found !== undefined) return found;
    }
    throw new Error(`waited in vain for ${what}`);
  }

  try {
    const admin = platform.adminToken ?? '';
    await ask(admin, 'POST', '/v1/projects', { project: 'bench', types: ['kind'] });
    const tokenOf = async (user: string, role: string): Promise<string> => {
      await ask(admin, 'POST', '/v1/users', { user });
      await ask(admin, 'PUT', `${project}/members/${user}`, { roles: [role] });
      return tokenSchema.parse(await ask(admin, 'POST', `/v1/users/${user}/tokens`, {})).token;
    };
    const sam = await tokenOf('sam', 'scientist');
    const mia = await tokenOf('mia', 'manager');
    await ask(mia, 'PUT', `${project}/files/private/test.jsonl`, Buffer.from(testRows));
    await ask(mia, 'POST', `${project}/datasets`, {
      dataset: 'rows',
      kind: 'test',
      files: [{ name: 'test.jsonl', area: 'private', path: 'test.jsonl' }],
    });

    const look = async (submission: string) =>
      versionSchema.parse(await ask(mia, 'GET', `${project}/models/echo/submissions/${submission}`));

    /** Submits a version of its own bytes and, if asked to, evaluates it for real. */
    async function submit(submission: string, { evaluated }: { evaluated: boolean }): Promise<Subject> {
      for (const [name, content] of Object.entries(filesOf(submission)))
        await ask(sam, 'PUT', `${project}/files/private/${submission}/${name}`, Buffer.from(content));
      const from = { directory: submission };
      await ask(sam, 'POST', `${project}/models/echo/submissions`, { submission, type: 'kind', from });
      const { version } = await until(`${submission} to be new`, async () => {
        const found = await look(submission);
        if (found.version.state === 'invalid') throw new Error(found.version.detail);
        return found.version.state === 'new' && !found.busy ? found : undefined;
      });
      const report = evaluated ? await evaluate(submission) : null;
      return { submission, digest: version.digest ?? '', report };
    }

    async function evaluate(submission: string): Promise<string> {
      const evaluation = `e-${submission}`;
      const asked = { evaluation, model: 'echo', dataset: 'rows', subject: { submission } };
      await ask(mia, 'POST', `${project}/evaluations`, asked);
      return until(`the evaluation of ${submission}`, async () => {
        const found = evaluationSchema.parse(await ask(mia, 'GET', `${project}/evaluations/${evaluation}`));
        if (found.state === 'failed') throw new Error(`the evaluation failed: ${found.detail}`);
        return found.report?.sha256;
      });
    }

    return {
      platform,
      home: settings.home,
      namespace: settings.temporalNamespace,
      ask: (method: string, path: string, body?: unknown) => ask(mia, method, path, body),
      look,
      until,
      submit,
      close: async () => {
        await platform.stop();
        await rm(home, { recursive: true, force: true, maxRetries: 5 });
      },
    };
  } catch (error) {
    await platform.stop();
    await rm(home, { recursive: true, force: true, maxRetries: 5 });
    throw error;
  }
}

/** Rows whose answer is the label: the model returns its input. */
const testRows = [0.9, 0.8, 0.3, 0.1]
  .map((score, i) =>
    JSON.stringify({ id: `r${i}`, inputs: { x: [1 - score, score] }, label: score > 0.5 ? 'YES' : 'NO' }),
  )
  .join('\n');

const tensor = (data: readonly number[]) => ({ datatype: 'FP32', shape: [1, 2], data });
const filesOf = (salt: string): Record<string, string | Uint8Array> => ({
  'model.onnx': encodeModel(
    model(
      {
        node: [node('Mul', ['x', 'one'], ['y'])],
        initializer: [floats('one', [1], [1])],
        input: [value('x', FLOAT, ['batch', 2])],
        output: [value('y', FLOAT, ['batch', 2])],
      },
      { producer_name: `bench ${salt}` },
    ),
  ),
  'model.json': JSON.stringify({
    name: 'echo',
    type: 'kind',
    framework: 'none',
    signature: {
      inputs: [{ name: 'x', datatype: 'FP32', shape: [-1, 2] }],
      outputs: [{ name: 'y', datatype: 'FP32', shape: [-1, 2] }],
    },
    classes: ['NO', 'YES'],
    prediction: { output: 'y', positive: 'YES' },
    threshold: 0.5,
    preprocessing: { name: 'none', version: 1, description: 'none' },
    data: [],
    metrics: {},
    revises: null,
  }),
  'golden.json': JSON.stringify({
    samples: [
      {
        request: { inputs: [{ name: 'x', ...tensor([0.25, 0.75]) }] },
        response: { outputs: [{ name: 'y', ...tensor([0.25, 0.75]) }] },
        tolerance: 1e-6,
      },
    ],
  }),
});
