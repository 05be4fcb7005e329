// The workflow bundle, cached by content: webpack takes seconds, which later starts avoid.
import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, rename, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { bundleWorkflowCode } from '@temporalio/worker';
import { admitActivities } from '../activities/admission.ts';
import type { Records } from '../activities/records.ts';
import { checkout } from './wiring.ts';

const folder = join(checkout, 'workflows');

/** The worker's data converter; the bundle uses the same one. */
export const dataConverter = { payloadConverterPath: join(folder, 'payload-converter.cjs') };

/**
 * No time limit on workflow code: 49 days, Node's maximum. With a limit, Node interrupts the code anywhere once that much wall
 * clock time has passed, including pauses of the whole process. That can corrupt Node's stack of async hooks, which ends the
 * process. The code is our own and has no endless loop; the server reschedules a task that takes too long (the workflow task
 * timeout). The SDK reads this option but does not declare it, so it is spread into the worker's options.
 */
export const workflowTime = { isolateExecutionTimeout: '4294967295ms' } as const;

/** The worker's activity interceptors: only workflows whose start is recorded may run activities. */
export const admitting = (records: Records) => ({ interceptors: { activity: [admitActivities(records)] } });

/** Modules whose interceptors every workflow has. */
export const interceptorModules = ['start-digest.ts', 'interceptors.ts'].map((file) => join(folder, file));

/** Path of the cached bundle; it is built if the workflows, the lock file or the SDK have changed. */
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
    workflowInterceptorModules: interceptorModules,
    ...dataConverter,
    logger: quiet,
  });
  await mkdir(join(cache, 'workflows'), { recursive: true });
  const draft = `${path}.${process.pid}`;
  await writeFile(draft, code);
  await rename(draft, path);
  return path;
}

/** Discards webpack's report of a successful build; errors are thrown. */
const quiet = {
  log: () => undefined,
  trace: () => undefined,
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
};
