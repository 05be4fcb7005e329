// Runs a TypeScript program of the tests as a separate process and reads the lines it prints.
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

export interface ChildProgram {
  readonly lines: readonly string[];
  /** Rejects with what it wrote to stderr unless it ends well; resolves also when it was killed by `kill`. */
  readonly ended: Promise<void>;
  kill(): void;
}

/** Starts `program` (a file beside this one) with arguments. */
export function startProgram(program: string, args: readonly string[]): ChildProgram {
  const file = fileURLToPath(new URL(program, import.meta.url));
  const child: ChildProcess = spawn(process.execPath, ['--import', 'tsx', file, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    cwd: fileURLToPath(new URL('../..', import.meta.url)),
  });
  const lines: string[] = [];
  let complaint = '';
  let killed = false;
  child.stderr?.on('data', (text: Buffer) => (complaint += text.toString()));
  if (child.stdout) createInterface({ input: child.stdout }).on('line', (line) => lines.push(line));
  const ended = once(child, 'close').then(([code]) => {
    if (code !== 0 && !killed) throw new Error(`${program} ended with ${String(code)}: ${complaint}`);
  });
  ended.catch(() => undefined);
  return {
    lines,
    ended,
    kill: () => {
      killed = true;
      child.kill('SIGKILL');
    },
  };
}
