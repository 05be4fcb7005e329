// Systems whose work is instant: bytes and repositories in memory, jobs and services that have their answer ready.
import { createHash, randomBytes } from 'node:crypto';
import { createServer } from 'node:http';
import { failure } from '../../../activities/failures.ts';
import type { Archives, ArtifactStore, Cluster, CodeHost, DataSources, EventBus } from '../../../activities/ports.ts';
import type { ArtifactUri, Digest, StorePath } from '../../../workflows/domain/names.ts';
import { jobsOf } from '../../contracts/run-job.ts';
import { submissionFiles } from '../../workflows/submission-files.ts';

/** The systems of one contender. */
export interface InstantSystems {
  readonly areas: ArtifactStore;
  readonly releases: ArtifactStore;
  readonly code: CodeHost;
  readonly bus: EventBus;
  readonly cluster: Cluster;
  readonly sources: DataSources;
  readonly archives: Archives;
  /** Says where a job's outputs go, by the job's name: what its token would say. */
  expectJob(name: string, outputs: readonly { readonly name: string; readonly path: StorePath }[]): void;
  close(): Promise<void>;
}

/** Opens them; nothing of them outlives the process. */
export async function openInstantSystems(): Promise<InstantSystems> {
  const areas = memoryStore('areas');
  const jobs = new Map<string, readonly { readonly name: string; readonly path: StorePath }[]>();
  const { cluster, close } = await instantCluster(areas, (name) => jobs.get(name) ?? []);
  return {
    areas,
    releases: memoryStore('releases'),
    code: memoryCode(),
    bus: {
      publish: async () => ({ offset: '0' }),
      subscribe: async () => ({ stop: async () => {} }),
      marker: { owner: async () => undefined, claim: async (installation) => installation },
      close: async () => {},
    },
    cluster,
    sources: oneFile,
    archives: { unpack: async () => undefined, pack: () => chunks(new Uint8Array()) },
    expectJob: (name, outputs) => void jobs.set(name, outputs),
    close,
  };
}

const sha256Of = (bytes: Uint8Array): Digest => createHash('sha256').update(bytes).digest('hex') as Digest;

/** A single chunk as a stream. */
async function* chunks(bytes: Uint8Array): AsyncIterable<Uint8Array> {
  yield bytes;
}

function memoryStore(name: string): ArtifactStore {
  const files = new Map<StorePath, { readonly bytes: Buffer; readonly sha256: Digest; readonly modifiedAt: string }>();
  const prefix = `memory:${name}/`;
  const uri = (path: StorePath) => `${prefix}${path}` as ArtifactUri;
  const path = (of: ArtifactUri): StorePath => {
    if (!of.startsWith(prefix)) throw failure('InvalidInput', `${of} is of another store`);
    return of.slice(prefix.length) as StorePath;
  };
  const find = (of: ArtifactUri) => {
    const found = files.get(path(of));
    if (!found) throw failure('NotFound', `there is no ${of}`);
    return found;
  };
  const stored = (at: StorePath, { bytes, modifiedAt }: { bytes: Buffer; modifiedAt: string }) => ({
    ...{ uri: uri(at), path: at, bytes: bytes.length, modifiedAt },
  });
  return {
    uri,
    path,
    async write(at, source, { expect } = {}) {
      const taken: Uint8Array[] = [];
      for await (const chunk of source) taken.push(chunk);
      const bytes = Buffer.concat(taken);
      const sha256 = sha256Of(bytes);
      if (expect?.sha256 !== undefined && expect.sha256 !== sha256)
        throw failure('DigestMismatch', `${at} has digest ${sha256}, not ${expect.sha256}`);
      files.set(at, { bytes, sha256, modifiedAt: new Date().toISOString() });
      return { uri: uri(at), sha256, bytes: bytes.length };
    },
    read: async (of) => chunks(find(of).bytes),
    async stat(of) {
      const found = files.get(path(of));
      return found && stored(path(of), found);
    },
    digest: async (of) => find(of).sha256,
    async list(folder) {
      const below = [...files].filter(([at]) => at.startsWith(`${folder}/`));
      return { files: below.map(([at, file]) => stored(at, file)) };
    },
    async remove(of) {
      files.delete(path(of));
    },
  };
}

/** One branch a repository, which has every file that anybody asks for. */
function memoryCode(): CodeHost {
  const commit = () => ({ commit: randomBytes(20).toString('hex') });
  return {
    ensure: async () => {},
    commit: async () => commit(),
    read: async () => Buffer.from('print()\n'),
    resolve: async () => commit().commit,
    archive: async () => chunks(Buffer.from('a tree')),
    branches: async () => ['main'],
    log: async () => [],
    url: (repository) => repository,
  };
}

/** Jobs that leave at once what they should, and one service that answers the golden samples. */
async function instantCluster(
  areas: ArtifactStore,
  outputsOf: (job: string) => readonly { readonly name: string; readonly path: StorePath }[],
): Promise<{ cluster: Cluster; close: () => Promise<void> }> {
  const outputs = [{ name: 'y', datatype: 'FP32', shape: [1, 2], data: [2, 4] }];
  const service = createServer((_request, response) => {
    response.setHeader('content-type', 'application/json');
    response.end(JSON.stringify({ model_name: 'm', model_version: '1', outputs }));
  });
  await new Promise<void>((resolve) => service.listen(0, '127.0.0.1', resolve));
  const address = service.address();
  const port = typeof address === 'object' && address ? address.port : 0;
  return {
    cluster: {
      ...jobsOf(async ({ name, inputs }) => {
        const sha256 = inputs.find((file) => file.name === 'model.onnx')?.sha256;
        const files: Record<string, string | Uint8Array> = {
          ...submissionFiles(name),
          'metrics.json': '{"oob_f1": 0.5}',
          'report.json': JSON.stringify({ v: 1, model: { sha256 }, metrics: { f1: 0.9 }, passed: true }),
        };
        for (const output of outputsOf(name))
          await areas.write(output.path, chunks(Buffer.from(files[output.name] ?? '')));
        return { status: 'succeeded', seconds: 0, log: 'worked\n' };
      }),
      startService: async () => ({ address: `http://127.0.0.1:${port}` }),
      stopService: async () => {},
    },
    close: () =>
      new Promise<void>((resolve) => {
        service.close(() => resolve());
        service.closeAllConnections();
      }),
  };
}

const row = Buffer.from('{"id": "r1"}\n');

/** A source of one small file. */
const oneFile: DataSources = {
  connect: async () => ({
    resolve: async () => ({
      ...{ revision: null, licence: null, notes: [] },
      files: [{ name: 'rows.jsonl', address: 'rows.jsonl', bytes: row.length, expected: null, isFolder: false }],
    }),
    list: async () => ({ files: [], leftOut: { count: 0, examples: [] } }),
    open: async () => ({ start: 0, bytes: chunks(row), validator: null, total: row.length }),
    close: async () => {},
  }),
};
