// Signals to a foreground program: what the first and the next ones do.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { until } from '../workflows/until.ts';

const module = join(import.meta.dirname, '../../deploy/local/ctrl-c.ts');

/** Sends the signals, far enough apart to count as separate, to a program that has a reason to ask; returns its output. */
async function said(reason: string | undefined, ...signals: readonly NodeJS.Signals[]): Promise<string> {
  const program = `
    const { stopOnSignals } = await import(${JSON.stringify(module)});
    const { stop } = stopOnSignals(console.log, () => ${JSON.stringify(reason) ?? 'undefined'});
    const idle = setInterval(() => undefined, 1000);
    stop.addEventListener('abort', () => { console.log('stopped'); clearInterval(idle); process.exit(0); });
    console.log('ready');`;
  const args = ['--import', 'tsx', '--input-type=module', '--eval', program];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = once(child, 'exit');
  const seen = { text: '' };
  child.stdout.on('data', (chunk: Buffer) => (seen.text += chunk.toString()));
  try {
    await until('the program', () => Promise.resolve(seen.text.includes('ready')));
    for (const signal of signals) {
      child.kill(signal);
      await sleep(1_300);
    }
    if (seen.text.includes('stopped')) await ended;
    return seen.text;
  } finally {
    child.kill('SIGKILL');
    await ended;
  }
}

test('Ctrl-C stops at once if there is nothing to ask', async () => {
  expect(await said(undefined, 'SIGINT')).toContain('stopped');
}, 60_000);

test('the first Ctrl-C says what would break, and only the second one stops', async () => {
  const reason = 'The stack is in use by a worker';
  const once = await said(reason, 'SIGINT');
  expect(once).toContain(`${reason}. Press Ctrl-C again to stop anyway.`);
  expect(once).not.toContain('stopped');
  expect(await said(reason, 'SIGINT', 'SIGINT')).toContain('stopped');
}, 60_000);

test('SIGTERM does not ask', async () => {
  expect(await said('The stack is in use by a worker', 'SIGTERM')).toContain('stopped');
}, 60_000);
