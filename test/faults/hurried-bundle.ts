// The real workflows, bundled with a shorter timeout for dead workers.
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { bundleWorkflowCode, DefaultLogger } from '@temporalio/worker';
import { dataConverter, interceptorModules } from '../../workers/bundle.ts';
import { checkout } from '../../workers/wiring.ts';

/** Builds it in a folder and returns its path. */
export async function hurriedBundle(folder: string): Promise<string> {
  const { code } = await bundleWorkflowCode({
    workflowsPath: join(checkout, 'workflows', 'index.ts'),
    workflowInterceptorModules: [...interceptorModules, join(import.meta.dirname, 'short-patience.ts')],
    ...dataConverter,
    logger: new DefaultLogger('ERROR', () => undefined),
  });
  const path = join(folder, 'workflows.js');
  await writeFile(path, code);
  return path;
}
