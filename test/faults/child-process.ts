// Child processes of fault tests: started, seen to die by SIGKILL, started again, ended with their scene.
import { spawn, type ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import { checkout } from '../../workers/wiring.ts';

export interface Child {
  readonly process: ChildProcess;
  /** How it ended: its signal, or its exit code as text. */
  readonly ended: Promise<string>;
  /** Messages it sent besides `ready`. */
  readonly said: readonly unknown[];
  /** What it wrote, for the message of a failed test. */
  output(): string;
  stop(): Promise<void>;
}

/** Starts one of this folder's programs and waits until it says `ready`; if it dies before, only `ended` reports it. */
export async function startChild(program: string, environment: Readonly<Record<string, string>>): Promise<Child> {
  const child = spawn(process.execPath, ['--import', 'tsx', join(import.meta.dirname, program)], {
    cwd: checkout,
    env: { PATH: process.env.PATH ?? '', HOME: process.env.HOME ?? '', ...environment },
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  });
  const written: string[] = [];
  const said: unknown[] = [];
  for (const stream of [child.stdout, child.stderr])
    stream?.on('data', (text: Buffer) => written.push(text.toString('utf8')));
  const ended = new Promise<string>((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code, signal) => resolve(signal ?? String(code)));
  });
  const ready = new Promise<void>((resolve) => {
    child.on('message', (message) => {
      if (message === 'ready') resolve();
      else said.push(message);
    });
  });
  await Promise.race([ready, ended]);
  return {
    process: child,
    ended,
    said,
    output: () => written.join('').slice(-4_000),
    async stop() {
      child.kill('SIGKILL');
      await ended;
    },
  };
}
