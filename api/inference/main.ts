// Serves one model: `--model DIR --version N (--socket PATH | [--host ADDRESS] --port N) [--sha256 HEX]`. Designed to run in a sandbox.
import { createHash } from 'node:crypto';
import { lstatSync, readFileSync, unlinkSync } from 'node:fs';
import type { Server } from 'node:http';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { createAdaptorServer } from '@hono/node-server';
import { z } from 'zod';
import { createInferenceApp } from './app.ts';
import { issuesOf, servedCard, type ServedCard, type TensorMetadata } from '../../activities/inference/protocol.ts';
import { loadSession, type ModelSession } from './session.ts';

// The kernel limits a socket's path to 108 bytes, including the terminating zero.
const MAX_SOCKET_PATH_BYTES = 107;
// Time for running requests after SIGTERM; supervisors commonly kill after ten seconds.
const GRACE_MS = 5_000;
// A slow upload occupies a place; even the largest body takes only seconds over a slow network.
const REQUEST_TIMEOUT_MS = 60_000;

const number = z
  .string()
  .regex(/^\d{1,9}$/)
  .transform(Number);
const settings = z
  .object({
    model: z.string().min(1),
    version: number.pipe(z.int().min(1)),
    socket: z
      .string()
      .min(1)
      .refine((path) => Buffer.byteLength(path) <= MAX_SOCKET_PATH_BYTES, `longer than ${MAX_SOCKET_PATH_BYTES} bytes`)
      .optional(),
    host: z.union([z.ipv4(), z.ipv6()]).optional(),
    port: number.pipe(z.int().max(65_535)).optional(),
    sha256: z
      .string()
      .regex(/^[0-9a-f]{64}$/)
      .optional(),
  })
  .refine(({ socket, port }) => (socket === undefined) !== (port === undefined), 'use either --socket or --port')
  .refine(({ socket, host }) => socket === undefined || host === undefined, '--host is for --port');
type Settings = z.infer<typeof settings>;

const readSettings = (argv: string[]): Settings => {
  const text = { type: 'string' } as const;
  const { values } = parseArgs({
    args: argv,
    options: { model: text, version: text, socket: text, host: text, port: text, sha256: text },
  });
  const parsed = settings.safeParse(values);
  if (!parsed.success) throw new Error(`arguments: ${issuesOf(parsed.error)}`);
  return parsed.data;
};

/** The model's bytes, read only once, so that the loaded bytes are the checked ones. */
const readModel = (folder: string, sha256: string | undefined): Uint8Array => {
  const bytes = readFileSync(join(folder, 'model.onnx'));
  const actual = createHash('sha256').update(bytes).digest('hex');
  if (sha256 !== undefined && actual !== sha256)
    throw new Error(`model.onnx has sha256:${actual}, expected sha256:${sha256}: these are not the approved bytes`);
  return bytes;
};

const readCard = (folder: string): ServedCard => {
  const parsed = servedCard.safeParse(JSON.parse(readFileSync(join(folder, 'model.json'), 'utf8')));
  if (!parsed.success) throw new Error(`model.json: ${issuesOf(parsed.error)}`);
  return parsed.data;
};

/** Every tensor in the card must be in the model with the same datatype: otherwise the service would fail on requests. */
const checkCard = (card: ServedCard, session: ModelSession): void => {
  const sides: [string, readonly TensorMetadata[], readonly TensorMetadata[]][] = [
    ['inputs', card.signature.inputs, session.inputs],
    ['outputs', card.signature.outputs, session.outputs],
  ];
  for (const [side, declared, actual] of sides) {
    const key = (tensors: readonly TensorMetadata[]): string =>
      tensors
        .map(({ name, datatype }) => `${name} ${datatype}`)
        .sort()
        .join(', ');
    if (key(declared) !== key(actual))
      throw new Error(`model.json declares the ${side} ${key(declared)}, the model has ${key(actual)}`);
  }
};

const removeStaleSocket = (path: string): void => {
  const status = lstatSync(path, { throwIfNoEntry: false });
  if (status === undefined) return;
  if (!status.isSocket()) throw new Error(`${path} exists and is not a socket: remove it or use another path`);
  unlinkSync(path);
};

const listen = async (server: Server, { socket, host = '127.0.0.1', port }: Settings): Promise<string> => {
  if (socket !== undefined) {
    removeStaleSocket(socket);
    // Only the owner can read and write the socket from its creation on.
    process.umask(0o177);
  }
  server.requestTimeout = REQUEST_TIMEOUT_MS;
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    if (socket !== undefined) server.listen(socket, resolve);
    else server.listen(port, host, resolve);
  });
  const address = server.address();
  if (socket !== undefined) return `unix:${socket}`;
  return `http://${host.includes(':') ? `[${host}]` : host}:${typeof address === 'object' && address !== null ? address.port : port}`;
};

const stopOnSignal = (server: Server): void => {
  const stop = (): void => {
    setTimeout(() => process.exit(1), GRACE_MS).unref();
    // ONNX Runtime's threads keep the process alive, so it must exit explicitly.
    server.close(() => process.exit(0));
    server.closeIdleConnections();
  };
  process.once('SIGTERM', stop);
  process.once('SIGINT', stop);
};

const main = async (): Promise<void> => {
  const chosen = readSettings(process.argv.slice(2));
  const card = readCard(chosen.model);
  const session = await loadSession(readModel(chosen.model, chosen.sha256));
  checkCard(card, session);
  const app = createInferenceApp({ session, card, version: chosen.version });
  // The adaptor's type includes HTTP/2 servers, which only other options create.
  const server = createAdaptorServer({ fetch: app.fetch }) as Server;
  stopOnSignal(server);
  const address = await listen(server, chosen);
  console.log(JSON.stringify({ listening: address, model: card.name, version: chosen.version }));
};

try {
  await main();
} catch (error) {
  console.error(`inference service: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
}
