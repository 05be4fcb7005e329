// Runs tests of one file with jest in a folder, and says what came of them.
import { spawn } from 'node:child_process';
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import type { Target } from './fault.ts';

/** Which tests of a file passed and failed, by full name; `unclear` says why nothing is known. */
export type Ran = { readonly seconds: number } & (
  { readonly passed: readonly string[]; readonly failed: readonly string[] } | { readonly unclear: string }
);

/** What a run says of one target. */
export type Verdict =
  | { readonly status: 'passed' }
  | { readonly status: 'failed'; readonly test: string }
  | { readonly status: 'unclear'; readonly why: string };

const resultsSchema = z.object({
  testResults: z.array(
    z.object({
      message: z.string(),
      assertionResults: z.array(z.object({ status: z.string(), fullName: z.string() })),
    }),
  ),
});

/** Runs a file's tests, or those alone whose name holds one of `tests`; after `limitMs` they are ended. */
export async function runTests(
  folder: string,
  file: string,
  tests: readonly string[] | undefined,
  limitMs: number,
  signal: AbortSignal,
): Promise<Ran> {
  const output = join(folder, '.planted-results.json');
  await rm(output, { force: true });
  const started = performance.now();
  const ended = await jest(folder, file, tests, output, limitMs, signal);
  const seconds = Math.round((performance.now() - started) / 1000);
  signal.throwIfAborted();
  if (ended === TOO_LONG) return { unclear: `no end within ${limitMs / 1000} s`, seconds };
  const text = await readFile(output, 'utf8').catch(() => undefined);
  if (text === undefined) return { unclear: `jest wrote no results: ${ended.slice(-300)}`, seconds };
  const { testResults } = resultsSchema.parse(JSON.parse(text));
  const all = testResults.flatMap(({ assertionResults }) => assertionResults);
  const namesOf = (status: string) => all.filter((one) => one.status === status).map(({ fullName }) => fullName);
  const [passed, failed] = [namesOf('passed'), namesOf('failed')];
  if (passed.length + failed.length > 0) return { passed, failed, seconds };
  const [why = ''] = testResults.map(({ message }) => message.trim()).filter(Boolean);
  return { unclear: why === '' ? 'no test ran' : `it does not load: ${why.slice(0, 300)}`, seconds };
}

/** What a run of its file says of a target: it failed with its first failed test, and passed only if some test of it ran. */
export function verdictOf({ test = '' }: Target, ran: Ran): Verdict {
  if ('unclear' in ran) return { status: 'unclear', why: ran.unclear };
  const failed = ran.failed.find((name) => name.includes(test));
  if (failed !== undefined) return { status: 'failed', test: failed };
  if (ran.passed.some((name) => name.includes(test))) return { status: 'passed' };
  return { status: 'unclear', why: `no test is called "${test}"` };
}

const TOO_LONG = 'too long';

/** Returns what jest said, or that it did not end in time. Its process group ends with it. */
function jest(
  folder: string,
  file: string,
  tests: readonly string[] | undefined,
  output: string,
  limitMs: number,
  signal: AbortSignal,
): Promise<string> {
  const pattern = tests?.map((test) => test.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')).join('|');
  const argv = [
    ...['--experimental-vm-modules', '--disable-warning=ExperimentalWarning', 'node_modules/jest/bin/jest.js'],
    ...['--runTestsByPath', file, '--maxWorkers=1', '--json', `--outputFile=${output}`],
    `--cacheDirectory=${join(folder, '.jest-cache')}`,
    ...(pattern === undefined ? [] : ['--testNamePattern', pattern]),
  ];
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, argv, { cwd: folder, detached: true, stdio: ['ignore', 'ignore', 'pipe'] });
    const state = { said: '', isTooLong: false };
    child.stderr.on('data', (chunk: Buffer) => void (state.said = (state.said + chunk.toString()).slice(-4_000)));
    const end = (): void => {
      if (child.pid === undefined) return;
      try {
        process.kill(-child.pid, 'SIGKILL');
      } catch {
        // It has just ended by itself.
      }
    };
    const timer = setTimeout(() => {
      state.isTooLong = true;
      end();
    }, limitMs);
    signal.addEventListener('abort', end, { once: true });
    child.once('error', reject);
    child.once('exit', () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', end);
      resolve(state.isTooLong ? TOO_LONG : state.said);
    });
  });
}
