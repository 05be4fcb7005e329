// The Python that tests of the capsule's package run: the lock's environment, made on first use and kept between runs.
import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { ensureEnvironment } from '../deploy/local/environments.ts';

/** Path of the environment's interpreter; the first call on a machine installs it, which takes up to a minute. */
export async function pythonEnvironment(): Promise<string> {
  const lock = readFileSync(new URL('../deploy/capsule/requirements.lock', import.meta.url), 'utf8');
  const cache = join(homedir(), '.cache', 'ocdl', 'environments');
  const lines: string[] = [];
  const { python } = await ensureEnvironment({
    lock,
    cache,
    python: process.env['OCDL_PYTHON'],
    onProgress: (line) => lines.push(line),
  }).catch((error: unknown) => {
    throw new Error(`these tests need the Python environment:\n${lines.join('\n')}`, { cause: error });
  });
  return python;
}
