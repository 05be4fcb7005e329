// Opens the local cluster for tests: its own home, an API stand-in, small models, and a list of the machine's processes.
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  createLocalProcessCluster,
  type LocalProcessCluster,
  type LocalProcessOptions,
} from '../../activities/adapters/local-process/cluster.ts';
import { findPython } from '../../activities/adapters/local-process/python.ts';
import type { NamedArtifact } from '../../workflows/domain/model.ts';
import type { ClusterHarness } from '../contracts/cluster.ts';
import { artifactOf, startJobApi } from '../contracts/cluster-job-api.ts';
import { addModel, encodeModel } from '../model-format/onnx-model.ts';

export interface LocalHarness extends ClusterHarness {
  readonly cluster: LocalProcessCluster;
  readonly home: string;
  readonly warnings: readonly string[];
}

const CHECKOUT = fileURLToPath(new URL('../..', import.meta.url));

/** Opens a cluster whose environment is the bare Python of this machine: its jobs need the standard library alone. */
export async function openLocalCluster(given: Partial<LocalProcessOptions> = {}): Promise<LocalHarness> {
  const parent = given.home === undefined ? mkdtempSync(join(tmpdir(), 'ocdl-cluster-')) : undefined;
  const home = given.home ?? join(parent ?? '', 'home');
  mkdirSync(home, { recursive: true, mode: 0o700 });
  const api = await startJobApi();
  const python = await findPython(process.env['OCDL_PYTHON']);
  const { files, model, brokenModel } = heldModels();
  const warnings: string[] = [];
  const cluster = await createLocalProcessCluster({
    home,
    capsule: join(CHECKOUT, 'deploy/capsule'),
    checkout: CHECKOUT,
    inferenceEntry: join(CHECKOUT, 'api/inference/main.ts'),
    environment: () =>
      Promise.resolve({ python: python.executable, base: python.executable, folders: [python.prefix] }),
    fetchFile: async (artifact, destination) => writeFile(destination, files.get(artifact.uri) ?? ''),
    onWarn: (message) => warnings.push(message),
    // Tests of an API that is unavailable do not wait for it.
    patience: { fetchSeconds: 1, uploadSeconds: 1 },
    ...given,
  });
  return {
    cluster,
    api,
    home,
    warnings,
    kill: async (marker, signal) => {
      // A process has a higher number than the one that it is run by.
      const innermost = Math.max(...processesWith(marker));
      process.kill(innermost, signal);
    },
    running: (marker) => Promise.resolve(processesWith(marker).length > 0),
    model,
    brokenModel,
    get: getOverSocket,
    close: async () => {
      await cluster.close();
      await api.close();
      if (parent) rmSync(parent, { recursive: true, force: true });
    },
  };
}

/** Files of a model that can be served and of one that cannot, with their bytes by URI. */
export function heldModels() {
  const files = new Map<string, Buffer>();
  const held = (prefix: string, named: Readonly<Record<string, string | Buffer>>): readonly NamedArtifact[] =>
    Object.entries(named).map(([name, content]) => {
      const artifact = artifactOf(`${prefix}/${name}`, Buffer.from(content));
      files.set(artifact.uri, Buffer.from(content));
      return { ...artifact, name };
    });
  const model = held('good', { 'model.onnx': encodeModel(addModel()), 'model.json': CARD });
  const brokenModel = held('broken', { 'model.onnx': 'no model at all', 'model.json': CARD });
  return { files, model, brokenModel };
}

/** Numbers of this machine's processes whose command line holds `marker`. */
export function processesWith(marker: string): readonly number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => commandLine(pid).includes(marker))
    .map(Number);
}

function commandLine(pid: string): string {
  try {
    // A process that has ended but was not yet waited for shows none.
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
  } catch {
    return '';
  }
}

/** Status of a GET at a service's address. */
export function getOverSocket(address: string, path: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const asked = request({ socketPath: address.slice('unix:'.length), path }, (response) => {
      response.resume();
      resolve(response.statusCode ?? 0);
    });
    asked.once('error', reject);
    asked.end();
  });
}

const CARD = JSON.stringify({
  name: 'add',
  signature: {
    inputs: [{ name: 'x', datatype: 'FP32', shape: [-1, 2] }],
    outputs: [{ name: 'y', datatype: 'FP32', shape: [-1, 2] }],
  },
});

/**
 * Whether tests of the sandbox can run here. Without it they fail with CI=true; elsewhere they are skipped, with a notice.
 */
export async function sandboxForTests(what: string): Promise<boolean> {
  const { detectSandbox } = await import('../../activities/adapters/local-process/sandbox.ts');
  const sandbox = await detectSandbox();
  if (sandbox.kind !== 'none') return true;
  if (process.env['CI'] === 'true')
    throw new Error(`bubblewrap is needed for ${what} and does not work: ${sandbox.why}`);
  console.warn(`\n!!! SKIPPED: ${what}. bubblewrap does not work here: ${sandbox.why}\n`);
  return false;
}
