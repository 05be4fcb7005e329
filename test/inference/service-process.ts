// Starts the service of one model as a separate process, as a sandbox would, and stops processes that a test leaves behind.
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));
const children: ChildProcess[] = [];

export interface ServiceProcess {
  readonly child: ChildProcess;
  /** The address that it reports; rejects with its output if it ends instead. */
  readonly listening: Promise<string>;
  readonly ended: Promise<number | null>;
}

export const startService = (
  model: string,
  args: readonly string[],
  environment: Readonly<Record<string, string>> = {},
): ServiceProcess => {
  const main = fileURLToPath(new URL('../../api/inference/main.ts', import.meta.url));
  const argv = ['--import', 'tsx', main, '--model', model, '--version', '1', ...args];
  const child = spawn(process.execPath, argv, {
    cwd: root,
    env: { ...process.env, ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  children.push(child);
  const output = { text: '' };
  const listening = new Promise<string>((resolve, reject) => {
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', (chunk: Buffer) => {
        output.text += chunk.toString();
        const line = /^\{"listening":.*\}$/m.exec(output.text)?.[0];
        if (line !== undefined) resolve((JSON.parse(line) as { listening: string }).listening);
      });
    // 'close' follows the last output; 'exit' may precede it.
    child.once('close', () => reject(new Error(`the service ended: ${output.text}`)));
  });
  const ended = once(child, 'close').then(([code]) => code as number | null);
  return { child, listening, ended };
};

export const killServices = (): void => {
  for (const child of children) child.kill('SIGKILL');
};
