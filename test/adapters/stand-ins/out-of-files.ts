// A process that starts programs and opens logs without free file descriptors, and prints the outcome.
import { closeSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { openProgramLog } from '../../../activities/adapters/local-process/program-log.ts';
import { startProgram } from '../../../activities/adapters/local-process/program.ts';

const [folder = ''] = process.argv.slice(2);
const log = openProgramLog({ path: join(folder, 'log') });
const start = (sandboxed: boolean) =>
  startProgram({ program: 'true', args: [], env: { PATH: '/usr/bin:/bin' }, cwd: folder, sandboxed, log }).ended;
const before = await start(false);
const files: number[] = [];
try {
  for (;;) files.push(openSync('/dev/null', 'r'));
} catch {
  // As many as it may.
}
const ended = [await start(false), await start(true)];
let opened = 'opened';
try {
  openProgramLog({ path: join(folder, 'other') });
} catch (error) {
  opened = String(error);
}
files.forEach(closeSync);
process.stdout.write(JSON.stringify({ before, ended, opened, after: await start(false) }));
