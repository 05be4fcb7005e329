// The API's job resource as the contract of clusters needs it: serves inputs and accepts outputs, with a token for one job.
import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Artifact } from '../../workflows/domain/model.ts';
import type { ArtifactUri, Digest } from '../../workflows/domain/names.ts';

export interface JobApi {
  readonly url: string;
  /** Registers a job: its token and inputs. */
  readonly open: (job: string, token: string, inputs: ReadonlyMap<string, Uint8Array>) => void;
  /** The token of a registered job. */
  readonly tokenOf: (job: string) => string;
  /** What was uploaded, by name. */
  readonly outputs: (job: string) => ReadonlyMap<string, Buffer>;
  /** Answers every request with 503 from now on, or stops doing so. */
  readonly setAway: (isAway: boolean) => void;
  readonly isAway: () => boolean;
  /** Answers every upload after so many milliseconds. */
  readonly setSlow: (uploadMs: number) => void;
  /** Every request seen, as `METHOD path`. */
  readonly requests: string[];
  readonly close: () => Promise<void>;
}

export const sha256 = (bytes: Uint8Array): Digest => createHash('sha256').update(bytes).digest('hex') as Digest;

export const artifactOf = (name: string, bytes: Uint8Array): Artifact => ({
  uri: `memory:${name}` as ArtifactUri,
  sha256: sha256(bytes),
  bytes: bytes.length,
});

/** Listens on a free port of 127.0.0.1, or of the address that the cluster's wrapper can reach. */
export async function startJobApi(host = '127.0.0.1'): Promise<JobApi> {
  const jobs = new Map<
    string,
    { token: string; inputs: ReadonlyMap<string, Uint8Array>; outputs: Map<string, Buffer> }
  >();
  const requests: string[] = [];
  const state = { isAway: false, uploadMs: 0 };

  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    requests.push(`${request.method} ${request.url}`);
    const [, id = '', kind, name = ''] =
      /^\/v1\/jobs\/([^/]+)\/(inputs|outputs)\/([^/]+)$/.exec(request.url ?? '') ?? [];
    const job = jobs.get(id);
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    if (state.isAway) return void response.writeHead(503).end('{"detail":"PostgreSQL is unavailable"}');
    if (request.method === 'PUT' && state.uploadMs > 0) await sleep(state.uploadMs);
    if (!job || request.headers.authorization !== `Bearer ${job.token}`) return void response.writeHead(401).end('{}');
    if (request.method === 'GET' && kind === 'inputs') {
      const bytes = job.inputs.get(name);
      return void (bytes ? response.end(bytes) : response.writeHead(404).end('{}'));
    }
    const body = Buffer.concat(chunks);
    const digest = `sha-256=:${Buffer.from(sha256(body), 'hex').toString('base64')}:`;
    if (request.method !== 'PUT' || request.headers['repr-digest'] !== digest)
      return void response.writeHead(400).end('{}');
    job.outputs.set(name, body);
    response.writeHead(201).end('{}');
  };
  const server = createServer((request, response) => void answer(request, response));
  await new Promise<void>((resolve) => server.listen(0, host, resolve));
  return {
    url: `http://${host}:${(server.address() as AddressInfo).port}`,
    open: (job, token, inputs) => void jobs.set(job, { token, inputs, outputs: new Map() }),
    tokenOf: (job) => jobs.get(job)?.token ?? '',
    outputs: (job) => jobs.get(job)?.outputs ?? new Map<string, Buffer>(),
    setAway: (isAway) => void (state.isAway = isAway),
    isAway: () => state.isAway,
    setSlow: (uploadMs) => void (state.uploadMs = uploadMs),
    requests,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

/** A tar archive of text files. */
export function tarOf(files: Readonly<Record<string, string>>): Buffer {
  const blocks: Buffer[] = [];
  for (const [name, text] of Object.entries(files)) {
    const content = Buffer.from(text);
    const header = Buffer.alloc(512);
    header.write(name, 0);
    // Mode, owner and group; then size, time, a sum of blanks, the kind of a regular file.
    header.write('0000644', 100);
    header.write('0000000', 108);
    header.write('0000000', 116);
    header.write(content.length.toString(8).padStart(11, '0'), 124);
    header.write('00000000000', 136);
    header.write('        0', 148);
    header.write('ustar', 257);
    header.write('00', 263);
    const sum = header.reduce((total, byte) => total + byte, 0);
    header.writeUInt8(0, header.write(sum.toString(8).padStart(6, '0'), 148) + 148);
    blocks.push(header, content, Buffer.alloc((512 - (content.length % 512)) % 512));
  }
  return Buffer.concat([...blocks, Buffer.alloc(1024)]);
}
