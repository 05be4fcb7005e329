// The Python that tests of the capsule's package run: the lock's environment, made on first use and kept between runs.
import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { detectSandbox } from '../activities/adapters/local-process/sandbox.ts';
import { createEnvironments, type Environment } from '../activities/adapters/local-process/environments.ts';

/** Path of the environment's interpreter; the first call on a machine installs it, which takes up to a minute. */
export const pythonEnvironment = async (): Promise<string> => (await platformEnvironment()).python;

/** The environment of the platform's own lock. */
export const platformEnvironment = (): Promise<Environment> => environmentOf('requirements.lock');

/** The environment of the platform's own commands. */
export const toolsEnvironment = (): Promise<Environment> => environmentOf('tools.lock');

async function environmentOf(file: string): Promise<Environment> {
  const lock = readFileSync(new URL(`../deploy/capsule/${file}`, import.meta.url), 'utf8');
  const cache = join(homedir(), '.cache', 'ocdl', 'environments');
  const lines: string[] = [];
  const ensure = createEnvironments({ cache, home: join(homedir(), '.ocdl'), python: process.env['OCDL_PYTHON'] });
  return ensure({
    lock,
    owner: 'platform',
    sandbox: await detectSandbox(),
    onProgress: (line) => lines.push(line),
  }).catch((error: unknown) => {
    throw new Error(`these tests need the Python environment:\n${lines.join('\n')}`, { cause: error });
  });
}
