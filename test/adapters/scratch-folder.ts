// A folder for one test file, gone after it.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Makes the folder; call `remove` when done. */
export async function scratchFolder(): Promise<{ readonly path: string; readonly remove: () => Promise<void> }> {
  const path = await mkdtemp(join(tmpdir(), 'ocdl-test-'));
  return { path, remove: () => rm(path, { recursive: true, force: true }) };
}
