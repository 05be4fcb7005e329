// Runs the program that fetches or builds a server, with progress for the person who waits.
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

export type MakerOptions = {
  /** Name of the result, for messages. */
  readonly what: string;
  /** Lines that count as a step of the work. */
  readonly step: RegExp;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly onProgress: (line: string) => void;
  readonly cwd?: URL;
  readonly signal?: AbortSignal | undefined;
};

/** Runs the program that makes the result; if it fails, throws with its last output. */
export async function runMaker(program: string, args: readonly string[], options: MakerOptions): Promise<void> {
  const { what, onProgress } = options;
  const started = Date.now();
  const state = { steps: 0, said: [] as string[] };
  const elapsed = (): string => `${Math.round((Date.now() - started) / 1000)} s`;
  onProgress(`Fetching ${what} with ${program}: only once, up to several minutes.`);
  const ticking = setInterval(() => onProgress(`Fetching ${what}: ${elapsed()}, ${state.steps} steps`), 10_000);
  try {
    const child = spawn(program, [...args], {
      env: { ...options.env },
      cwd: options.cwd,
      stdio: ['ignore', 'pipe', 'pipe'],
      signal: options.signal,
    });
    for (const stream of [child.stdout, child.stderr]) {
      createInterface({ input: stream }).on('line', (line) => {
        if (options.step.test(line)) state.steps += 1;
        // The last output of Maven and Go shows what went wrong; both are verbose, so a dozen lines.
        else state.said = [...state.said, line].slice(-12);
      });
    }
    const code = await new Promise<number | null>((resolve, reject) => {
      child.once('error', reject);
      child.once('close', resolve);
    });
    if (code !== 0) {
      throw new Error(
        `Fetching ${what} failed after ${elapsed()} (${program} exit ${code}). Check that it can reach its registry. ` +
          `Its output:\n${state.said.join('\n')}`,
      );
    }
    onProgress(`Fetched ${what} in ${elapsed()}.`);
  } finally {
    clearInterval(ticking);
  }
}

/** Lines of `go build -v` that name a package it fetches or compiles. */
export const goSteps = /^(\S+\/\S+|go: downloading .*)$/;
