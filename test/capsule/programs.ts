// Runs the capsule's Python programs as a job would: argv only, an environment made of what is given and nothing else.
import { spawn } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const CAPSULE = fileURLToPath(new URL('../../deploy/capsule', import.meta.url));
export const EXAMPLE = fileURLToPath(new URL('../../deploy/examples/vulnerability', import.meta.url));

export type Ended = { readonly status: number | null; readonly stdout: string; readonly stderr: string };

/** Runs a program to its end. */
export async function runProgram(
  program: string,
  args: readonly string[],
  options: { readonly env?: Record<string, string>; readonly cwd?: string; readonly stdin?: string } = {},
): Promise<Ended> {
  const env = { PATH: process.env['PATH'] ?? '', PYTHONPATH: CAPSULE, PYTHONDONTWRITEBYTECODE: '1', ...options.env };
  const child = spawn(program, args, { env, cwd: options.cwd, stdio: 'pipe' });
  const said = { stdout: '', stderr: '' };
  child.stdout.setEncoding('utf8').on('data', (text: string) => (said.stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (said.stderr += text));
  // If a program ends before it has read its input, its status counts, not the broken pipe.
  child.stdin.on('error', () => undefined);
  child.stdin.end(options.stdin ?? '');
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (status) => resolve({ status, ...said }));
  });
}

export type JobFolders = {
  readonly root: string;
  readonly inputs: string;
  readonly outputs: string;
  readonly env: Record<string, string>;
  readonly remove: () => Promise<void>;
};

/** The folders and the environment a job's own process sees. */
export async function jobFolders(parameters: unknown): Promise<JobFolders> {
  const root = await mkdtemp(join(tmpdir(), 'ocdl-job-'));
  const [inputs, outputs, file] = [join(root, 'in'), join(root, 'out'), join(root, 'parameters.json')];
  await mkdir(inputs);
  await mkdir(outputs);
  await writeFile(file, JSON.stringify(parameters));
  const env = { OCDL_INPUTS: inputs, OCDL_OUTPUTS: outputs, OCDL_PARAMETERS: file };
  return { root, inputs, outputs, env, remove: () => rm(root, { recursive: true, force: true }) };
}
