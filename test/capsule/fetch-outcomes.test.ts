// Which failures of a wheel download are retryable, and which are not.
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const PROGRAM = fileURLToPath(new URL('../../deploy/capsule/ocdl/fetch_wheels.py', import.meta.url));
const [FINAL, AGAIN] = [7, 8];
const state = { folder: '' };
beforeAll(async () => {
  state.folder = await mkdtemp(join(tmpdir(), 'ocdl-fetch-'));
});
afterAll(() => rm(state.folder, { recursive: true, force: true }));

/** Runs the program over a pip that writes this into its log and fails; its exit status. */
async function statusOf(said: string): Promise<number | string> {
  const at = (name: string): string => join(state.folder, name);
  await writeFile(at('said'), said);
  // The last but one argument of the log's option: -I -m pip … --log LOG download …
  await writeFile(at('pip'), `#!/bin/sh\nwhile [ "$1" != --log ]; do shift; done\ncp '${at('said')}' "$2"\nexit 1\n`, {
    mode: 0o755,
  });
  const args = ['-I', PROGRAM, at('pip'), at('socket'), at('requirements'), at('wheels'), at('log')];
  return new Promise((resolve) => {
    execFile('python3', args, (error) => resolve(error?.code ?? 0));
  });
}

it.each([
  [
    'no space left on the disk',
    "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device: '/w/a.whl'",
  ],
  ['disk quota used up', 'OSError: [Errno 122] Disk quota exceeded'],
  ['a failing disk', 'OSError: [Errno 5] Input/output error'],
  ['out of memory', 'OSError: [Errno 12] Cannot allocate memory'],
  ['an index that is down', 'WARNING: Retrying (Retry(total=4)) after connection broken by ProxyError'],
  ['an index with server errors', 'ERROR: HTTP error 503 while getting http://index/a.whl'],
  ['an index that does not answer', "ReadTimeoutError('HTTPSConnectionPool: Read timed out.')"],
  [
    'a page that could not be fetched',
    'Could not fetch URL http://index/a/: 502 Server Error: Bad Gateway for url - skipping',
  ],
])('is retryable: %s', async (_, said) => {
  expect(await statusOf(said)).toBe(AGAIN);
});

it.each([
  ['another digest', 'ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.'],
  ['another digest, after network errors', 'Retrying (Retry(total=4))\nERROR: THESE PACKAGES DO NOT MATCH THE HASHES'],
  ['no such version', 'ERROR: Could not find a version that satisfies the requirement a==9'],
  ['no such page', 'Could not fetch URL http://index/a/: 404 Client Error: Not Found for url - skipping'],
  ['no wheel', 'ERROR: No matching distribution found for a==1'],
  ['a file over the limit', 'OSError: [Errno 27] File too large'],
])('is non-retryable: %s', async (_, said) => {
  expect(await statusOf(said)).toBe(FINAL);
});
