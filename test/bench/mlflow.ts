// MLflow's tracking server with its model registry in PostgreSQL, in a Python environment of the benchmark's own.
import { spawn } from 'node:child_process';
import { existsSync, openSync, readFileSync } from 'node:fs';
import { mkdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { anyFreePort } from '../../deploy/local/ports.ts';
import { runProgram } from '../../deploy/local/run-program.ts';

const VERSION = '3.17.2';
/** Some hundred megabytes from the package index. */
const INSTALL_MS = 900_000;
const READY_MS = 180_000;

/** Makes the environment once and returns its `mlflow`. */
export async function installMlflow(
  cache: string,
  { python, say }: { readonly python: string; readonly say: (line: string) => void },
): Promise<string> {
  const folder = join(cache, 'bench', `mlflow-${VERSION}`);
  const program = join(folder, 'bin', 'mlflow');
  if (existsSync(program)) return program;
  say(`installing MLflow ${VERSION} into ${folder} …`);
  const run = async (command: string, ...args: string[]): Promise<void> => {
    const { code, output } = await runProgram(command, args, { env: environment(), timeoutMs: INSTALL_MS });
    if (code !== 0) throw new Error(`${command} ${args.join(' ')} ended with ${code}: ${output.slice(-2_000)}`);
  };
  await rm(folder, { recursive: true, force: true });
  await mkdir(join(cache, 'bench'), { recursive: true });
  await run(python, '-m', 'venv', folder);
  try {
    const pip = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check'];
    await run(join(folder, 'bin', 'python'), ...pip, `mlflow==${VERSION}`, 'psycopg2-binary');
  } catch (error) {
    // Half an environment would look like a whole one.
    await rename(folder, `${folder}.failed`).catch(() => undefined);
    await rm(`${folder}.failed`, { recursive: true, force: true });
    throw error;
  }
  return program;
}

/** Starts the server over a database; with one worker, as requests come one after the other. */
export async function startMlflow(
  program: string,
  { url, folder }: { readonly url: string; readonly folder: string },
): Promise<{ readonly address: string; stop(): Promise<void> }> {
  const port = await anyFreePort('127.0.0.1');
  // The driver that MLflow's own images have.
  const store = [
    '--backend-store-uri',
    url.replace(/^postgresql:/, 'postgresql+psycopg2:'),
    '--default-artifact-root',
    join(folder, 'artifacts'),
  ];
  const log = openSync(join(folder, 'mlflow.log'), 'a');
  const server = spawn(program, ['server', ...store, '--host', '127.0.0.1', '--port', String(port), '--workers', '1'], {
    env: environment(),
    stdio: ['ignore', log, log],
    // Its workers are ended with it.
    detached: true,
  });
  const ended = new Promise<void>((resolve) => server.once('exit', () => resolve()));
  const stop = async (): Promise<void> => {
    if (server.exitCode === null && server.pid !== undefined) process.kill(-server.pid, 'SIGTERM');
    await ended;
  };
  const address = `http://127.0.0.1:${port}`;
  for (const until = Date.now() + READY_MS; Date.now() < until && server.exitCode === null; await sleep(500))
    if ((await fetch(`${address}/health`).catch(() => undefined))?.ok) return { address, stop };
  await stop();
  throw new Error(`MLflow did not come up: ${readFileSync(join(folder, 'mlflow.log'), 'utf8').slice(-2_000)}`);
}

/** It sends figures of its use to its makers unless told not to, and starts workers for jobs that nobody gives it. */
const environment = (): Record<string, string> => ({
  PATH: process.env.PATH ?? '/usr/bin:/bin',
  HOME: process.env.HOME ?? '/tmp',
  DO_NOT_TRACK: 'true',
  MLFLOW_DISABLE_TELEMETRY: 'true',
  MLFLOW_SERVER_ENABLE_JOB_EXECUTION: 'false',
});
