// The workflows' bundle, built once per content: webpack takes seconds, a later start should not.
import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, rename, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { bundleWorkflowCode } from '@temporalio/worker';
import { admitActivities } from '../activities/admission.ts';
import type { Records } from '../activities/records.ts';
import { checkout } from './wiring.ts';

const folder = join(checkout, 'workflows');

/** The worker's data converter; the same one goes into the bundle. */
export const dataConverter = { payloadConverterPath: join(folder, 'payload-converter.cjs') };

/**
 * No time limit on workflow code: the longest that Node takes, 49 days. With a limit, Node breaks off the code wherever it is
 * once that much time has passed on the clock, a pause of the whole process included, and that can corrupt its stack of async
 * hooks, which ends the process. The code is our own and has no endless loop; a task that takes too long is given out again
 * by the server (the workflow task timeout). The SDK reads this option and does not declare it: so it is a value to spread.
 */
export const workflowTime = { isolateExecutionTimeout: '4294967295ms' } as const;

/** What a worker runs activities by: only workflows whose start is recorded have any run. */
export const admitting = (records: Records) => ({ interceptors: { activity: [admitActivities(records)] } });

/** Path of the bundle in the cache, built if the workflows, their lock file or the SDK have changed. */
export async function workflowBundle(cache: string): Promise<string> {
  const hash = createHash('sha256');
  for (const name of (await readdir(folder, { recursive: true })).filter((file) => /\.c?[jt]s$/.test(file)).sort())
    hash.update(`${name}\0`).update(await readFile(join(folder, name)));
  const { version } = createRequire(import.meta.url)('@temporalio/worker/package.json') as { version: string };
  hash.update(version).update(await readFile(join(checkout, 'package-lock.json')).catch(() => ''));
  const path = join(cache, 'workflows', `${hash.digest('hex').slice(0, 32)}.js`);
  if (await readFile(path).catch(() => undefined)) return path;
  const { code } = await bundleWorkflowCode({
    workflowsPath: join(folder, 'index.ts'),
    workflowInterceptorModules: ['start-digest.ts', 'found-by.ts'].map((file) => join(folder, file)),
    ...dataConverter,
    logger: quiet,
  });
  await mkdir(join(cache, 'workflows'), { recursive: true });
  const draft = `${path}.${process.pid}`;
  await writeFile(draft, code);
  await rename(draft, path);
  return path;
}

/** Webpack's report of a bundle that succeeded interests nobody; errors are thrown. */
const quiet = {
  log: () => undefined,
  trace: () => undefined,
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
};
