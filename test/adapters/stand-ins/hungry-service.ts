// A service that takes memory or disk space without limit: before it is ready, or once it has been.
import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const argument = (name: string): string => process.argv[process.argv.indexOf(name) + 1] ?? '';
const socket = argument('--socket');
// The test says what to take in the version.
const [what, moment] = argument('--version').split('-');

const HOLD = 'const held = Buffer.alloc(100 * 1024 ** 2, 1); setInterval(() => held.at(0), 1000)';

async function take(): Promise<never> {
  for (let count = 0; ; count += 1) {
    // In several processes: the kernel limits the memory of each.
    if (what === 'memory') spawn(process.execPath, ['-e', HOLD], { stdio: 'inherit' });
    else writeFileSync(join(dirname(socket), `pile-${count}`), Buffer.alloc(1024 ** 2 - 1, 1));
    await sleep(what === 'memory' ? 500 : 50);
  }
}

if (moment === 'early') await take();
createServer((_, response) => {
  response.end();
  void take();
}).listen(socket);
