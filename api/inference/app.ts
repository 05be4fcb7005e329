// One model as a REST service with the Open Inference Protocol v2 (KServe): health, metadata, inference.
import { Hono, type Context } from 'hono';
import { bodyLimit } from 'hono/body-limit';
import {
  inferRequest,
  issuesOf,
  type InferRequest,
  type InferResponse,
  type ServedCard,
} from '../../activities/inference/protocol.ts';
import type { ModelSession } from './session.ts';
import {
  decodeElements,
  encodeElements,
  TensorDataError,
  type Tensor,
} from '../../activities/inference/tensor-data.ts';
import { createTurnstile, TurnstileFullError } from './turnstile.ts';

export interface InferenceAppOptions {
  readonly session: ModelSession;
  readonly card: ServedCard;
  readonly version: number;
  /** Maximum size of a request body; 16 MiB by default. */
  readonly maxBodyBytes?: number;
  /** Maximum number of concurrent requests, including waiting ones; 32 by default, so that bodies take at most 512 MiB. */
  readonly maxQueued?: number;
}

/** An invalid request; the message is for the caller. */
class RequestError extends Error {}
/** The model failed on a valid request. */
class ModelError extends Error {}

/** The service of one version of one model. */
export const createInferenceApp = (options: InferenceAppOptions): Hono => {
  const { session, card } = options;
  const version = String(options.version);
  const maxBodyBytes = options.maxBodyBytes ?? 16 * 1024 * 1024;
  const turnstile = createTurnstile(options.maxQueued ?? 32);
  const app = new Hono();

  app.get('/v2/health/live', (c) => c.json({ live: true }));
  // `live` is the field in the specification, `ready` the one that implementations use.
  app.get('/v2/health/ready', (c) => c.json({ live: true, ready: true }));
  app.get('/v2', (c) => c.json({ name: 'ocdl-inference', version: '1', extensions: [] }));

  for (const path of ['/v2/models/:name', '/v2/models/:name/versions/:version']) {
    app.use(path, ofThisModel(card.name, version));
    app.use(`${path}/*`, ofThisModel(card.name, version));
    app.get(path, (c) => c.json({ name: card.name, versions: [version], platform: 'onnx_onnxv1', ...card.signature }));
    app.get(`${path}/ready`, (c) => c.json({ name: card.name, ready: true }));
    app.post(
      `${path}/infer`,
      async (_c, next) => {
        // Before the body is read: waiting requests keep their body in memory.
        const leave = turnstile.enter();
        try {
          await next();
        } finally {
          leave();
        }
      },
      bodyLimit({
        maxSize: maxBodyBytes,
        onError: (c) => {
          // To keep the connection, the rest of the body would have to be read.
          c.header('Connection', 'close');
          return c.json({ error: `the body exceeds the limit of ${maxBodyBytes} bytes: send a smaller batch` }, 413);
        },
      }),
      async (c) => {
        const request = parseRequest(await c.req.text());
        const inputs = readInputs(request, card);
        const wanted = wantedOutputs(request, card);
        const results = await turnstile.pass(() => run(session, inputs, wanted));
        const response: InferResponse = {
          model_name: card.name,
          model_version: version,
          ...(request.id === undefined ? {} : { id: request.id }),
          outputs: wanted.map((name) => writeOutput(name, results[name])),
        };
        return c.json(response);
      },
    );
  }

  app.notFound((c) => c.json({ error: `not found: ${c.req.method} ${c.req.path}` }, 404));
  app.onError(answerError);
  return app;
};

const ofThisModel = (name: string, version: string) => async (c: Context, next: () => Promise<void>) => {
  const asked = c.req.param();
  if (asked.name !== name) return c.json({ error: `this service serves model '${name}'` }, 404);
  if (asked.version !== undefined && asked.version !== version)
    return c.json({ error: `this service serves version ${version} of model '${name}'` }, 404);
  return next();
};

const answerError = (error: Error, c: Context): Response => {
  if (error instanceof RequestError) return c.json({ error: error.message }, 400);
  if (error instanceof TurnstileFullError) {
    c.header('Retry-After', '1');
    return c.json({ error: `${error.message}: try again in a second` }, 503);
  }
  if (error instanceof ModelError) return c.json({ error: error.message }, 500);
  console.error(error);
  return c.json({ error: 'internal error' }, 500);
};

const parseRequest = (text: string): InferRequest => {
  const parsed = inferRequest.safeParse(json(text));
  if (!parsed.success) throw new RequestError(issuesOf(parsed.error));
  return parsed.data;
};

const json = (text: string): unknown => {
  try {
    return JSON.parse(text);
  } catch {
    throw new RequestError('the body is not JSON');
  }
};

const readInputs = (request: InferRequest, card: ServedCard): Record<string, Tensor> => {
  const specs = new Map(card.signature.inputs.map((spec) => [spec.name, spec]));
  const inputs = new Map<string, Tensor>();
  for (const { name, datatype, shape, data } of request.inputs) {
    const spec = specs.get(name);
    if (spec === undefined)
      throw new RequestError(`the model has no input '${name}': it takes ${[...specs.keys()].join(', ')}`);
    if (inputs.has(name)) throw new RequestError(`input '${name}' is given twice`);
    if (datatype !== spec.datatype) throw new RequestError(`input '${name}' is ${datatype}: must be ${spec.datatype}`);
    if (shape.length !== spec.shape.length || spec.shape.some((size, axis) => size !== -1 && size !== shape[axis]))
      throw new RequestError(`input '${name}' has shape [${shape.join(', ')}]: must be [${spec.shape.join(', ')}]`);
    inputs.set(name, { datatype, shape, elements: decoded(name, () => decodeElements(datatype, shape, data)) });
  }
  const missing = [...specs.keys()].filter((name) => !inputs.has(name));
  if (missing.length > 0) throw new RequestError(`missing input: ${missing.join(', ')}`);
  return Object.fromEntries(inputs);
};

const decoded = <T>(name: string, decode: () => T): T => {
  try {
    return decode();
  } catch (error) {
    if (error instanceof TensorDataError) throw new RequestError(`input '${name}' ${error.message}`);
    throw error;
  }
};

const wantedOutputs = (request: InferRequest, card: ServedCard): string[] => {
  const all = card.signature.outputs.map(({ name }) => name);
  // An empty list means all outputs.
  if (request.outputs === undefined || request.outputs.length === 0) return all;
  const wanted = request.outputs.map(({ name }) => name);
  const unknown = wanted.find((name) => !all.includes(name));
  if (unknown !== undefined)
    throw new RequestError(`the model has no output '${unknown}': it returns ${all.join(', ')}`);
  return [...new Set(wanted)];
};

const run = async (
  session: ModelSession,
  inputs: Record<string, Tensor>,
  outputs: string[],
): Promise<Readonly<Record<string, Tensor>>> => {
  try {
    return await session.run(inputs, outputs);
  } catch (error) {
    console.error(error);
    // Only one short line: the rest of the runtime's messages are addresses in its own code.
    const reason = error instanceof Error ? (error.message.split('\n')[0] ?? '').slice(0, 300) : 'unknown';
    throw new ModelError(`the model failed on this input: ${reason}`);
  }
};

const writeOutput = (name: string, tensor: Tensor | undefined): InferResponse['outputs'][number] => {
  if (tensor === undefined) throw new ModelError(`the model returned no output '${name}'`);
  try {
    const data = encodeElements(tensor.datatype, tensor.elements);
    return { name, datatype: tensor.datatype, shape: [...tensor.shape], data };
  } catch (error) {
    if (error instanceof TensorDataError) throw new ModelError(`output '${name}' ${error.message}`);
    throw error;
  }
};
