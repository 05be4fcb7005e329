// A process that runs git without free file descriptors, and prints the outcome.
import { closeSync, openSync } from 'node:fs';
import { createGit } from '../../activities/adapters/git/run-git.ts';
import { collect } from '../contracts/cases.ts';

const [gitDir = ''] = process.argv.slice(2);
const git = createGit('git');
const call = { gitDir, args: ['rev-parse', 'main'] };
process.stdout.write(`before: ${await git.tell(call)}\n`);
const files: number[] = [];
try {
  for (;;) files.push(openSync('/dev/null', 'r'));
} catch {
  // As many as it may.
}
const ended = [await git.tell(call).catch(String), await collect(git.stream(call)).catch(String)];
// Errors of processes that did not start come a turn later.
await new Promise((resolve) => setTimeout(resolve, 50));
files.forEach(closeSync);
for (const each of ended) process.stdout.write(`meanwhile: ${String(each)}\n`);
process.stdout.write(`after: ${await git.tell(call)}\n`);
