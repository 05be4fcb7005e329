// Runs a short program to its end and returns its output; never through a shell.
import { execFile } from 'node:child_process';

export type RunOptions = {
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly timeoutMs?: number;
  readonly input?: string;
  readonly cwd?: string;
};

export type ProgramEnd = { readonly code: number; readonly output: string };

/** Runs a program; `code` is -1 if it could not be started or timed out. The output combines both streams. */
export function runProgram(program: string, args: readonly string[], options: RunOptions = {}): Promise<ProgramEnd> {
  return new Promise((resolve) => {
    const child = execFile(
      program,
      [...args],
      // 15 s: the slowest caller asks for the version of a program that may be on a cold disk.
      {
        env: options.env && { ...options.env },
        cwd: options.cwd,
        timeout: options.timeoutMs ?? 15_000,
        killSignal: 'SIGKILL',
      },
      (error, stdout, stderr) => {
        const code = error === null ? 0 : typeof error.code === 'number' ? error.code : -1;
        resolve({ code, output: `${stdout}${stderr}`.trim() || (error?.message ?? '') });
      },
    );
    // A program may end without reading its input; its exit code shows whether it failed.
    child.stdin?.on('error', () => undefined);
    child.stdin?.end(options.input ?? '');
  });
}
