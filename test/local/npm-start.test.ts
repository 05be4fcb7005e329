// `npm start` under a service manager: SIGTERM reaches only npm, and the whole platform stops.
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { ownerOf } from '../../deploy/local/home-lock.ts';
import { endProcess, isAlive } from '../../deploy/local/process-identity.ts';
import { readRunRecords } from '../../deploy/local/run-records.ts';
import { findTemporal } from '../../deploy/local/temporal-binary.ts';
import { programs } from '../servers.ts';
import { eventually, newHome } from './homes.ts';

const root = fileURLToPath(new URL('../../', import.meta.url));

test('SIGTERM to `npm start` ends the platform, and npm waits for it', async () => {
  await findTemporal(programs);
  const home = await newHome({ OCDL_CACHE: programs.cache });
  const env = { PATH: process.env.PATH, HOME: process.env.HOME, ...home.env };
  const npm = spawn('npm', ['start'], { cwd: root, env, detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
  const said = { text: '' };
  for (const stream of [npm.stdout, npm.stderr]) stream.on('data', (data: Buffer) => (said.text += data.toString()));
  const ended: { how?: number | NodeJS.Signals | null } = {};
  const exit = new Promise((resolve) => npm.once('exit', (code, signal) => resolve((ended.how = signal ?? code))));
  try {
    await eventually('the platform to be ready', () => {
      if (ended.how !== undefined) throw new Error(`npm ended (${ended.how}): ${said.text}`);
      return said.text.includes('The platform is ready');
    });
    const supervisor = ownerOf(home.home);
    const children = readRunRecords(join(home.home, 'run')).map(({ child }) => child);
    expect(children).toHaveLength(5);
    npm.kill('SIGTERM');
    expect(await exit).toBe(0);
    expect(said.text).toContain('The platform has stopped.');
    expect(supervisor !== undefined && isAlive(supervisor)).toBe(false);
    expect(children.filter(isAlive)).toEqual([]);
  } finally {
    const left = ownerOf(home.home);
    if (left !== undefined) await endProcess(left, 'SIGTERM', 20_000);
    await home.remove();
  }
}, 300_000);

test.each(['start', 'demo', 'stack'])('npm run %s is the program itself, not a shell in front of it', (name) => {
  const manifest = z.object({ scripts: z.record(z.string(), z.string()) });
  const { scripts } = manifest.parse(JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')));
  // npm forwards a signal to the shell that it has started, but the shell forwards nothing.
  expect(scripts[name]).toMatch(/^exec node /);
});
