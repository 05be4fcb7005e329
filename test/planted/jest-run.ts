// Runs the tests of one target with jest in a folder, and says what came of it.
import { spawn } from 'node:child_process';
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import type { Target } from './fault.ts';

/** `passed` and `failed` are verdicts of tests that ran; `unclear` says why there is none. */
export type Verdict = { readonly seconds: number } & (
  | { readonly status: 'passed' }
  | { readonly status: 'failed'; readonly test: string }
  | { readonly status: 'unclear'; readonly why: string }
);

const resultsSchema = z.object({
  numPassedTests: z.number(),
  testResults: z.array(
    z.object({
      message: z.string(),
      assertionResults: z.array(z.object({ status: z.string(), fullName: z.string() })),
    }),
  ),
});

/** Runs the target's tests; after `limitMs` they are ended. */
export async function runTests(folder: string, target: Target, limitMs: number, signal: AbortSignal): Promise<Verdict> {
  const output = join(folder, '.planted-results.json');
  await rm(output, { force: true });
  const started = performance.now();
  const ended = await jest(folder, target, output, limitMs, signal);
  const seconds = Math.round((performance.now() - started) / 1000);
  signal.throwIfAborted();
  if (ended === 'too long') return { status: 'unclear', why: `no end within ${limitMs / 1000} s`, seconds };
  const text = await readFile(output, 'utf8').catch(() => undefined);
  if (text === undefined) return { status: 'unclear', why: `jest wrote no results: ${ended.slice(-300)}`, seconds };
  const { numPassedTests, testResults } = resultsSchema.parse(JSON.parse(text));
  const failed = testResults
    .flatMap(({ assertionResults }) => assertionResults)
    .find(({ status }) => status === 'failed');
  if (failed) return { status: 'failed', test: failed.fullName, seconds };
  if (numPassedTests > 0) return { status: 'passed', seconds };
  const [why = ''] = testResults.map(({ message }) => message.trim()).filter(Boolean);
  return { status: 'unclear', why: why === '' ? 'no test ran' : `it does not load: ${why.slice(0, 300)}`, seconds };
}

/** Returns what jest said, or that it did not end in time. Its process group ends with it. */
function jest(
  folder: string,
  { file, test }: Target,
  output: string,
  limitMs: number,
  signal: AbortSignal,
): Promise<string> {
  const argv = [
    ...['--experimental-vm-modules', '--disable-warning=ExperimentalWarning', 'node_modules/jest/bin/jest.js'],
    ...['--runTestsByPath', file, '--maxWorkers=1', '--json', `--outputFile=${output}`],
    `--cacheDirectory=${join(folder, '.jest-cache')}`,
    ...(test === undefined ? [] : ['--testNamePattern', test.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')]),
  ];
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, argv, { cwd: folder, detached: true, stdio: ['ignore', 'ignore', 'pipe'] });
    let said = '';
    child.stderr.on('data', (chunk: Buffer) => void (said = (said + chunk.toString()).slice(-4_000)));
    const end = (): void => {
      if (child.pid === undefined) return;
      try {
        process.kill(-child.pid, 'SIGKILL');
      } catch {
        // It has just ended by itself.
      }
    };
    const timer = setTimeout(() => {
      said = 'too long';
      end();
    }, limitMs);
    signal.addEventListener('abort', end, { once: true });
    child.once('error', reject);
    child.once('exit', (_, killed) => {
      clearTimeout(timer);
      signal.removeEventListener('abort', end);
      resolve(killed === 'SIGKILL' && said === 'too long' ? said : said || `killed by ${killed ?? 'nothing'}`);
    });
  });
}
