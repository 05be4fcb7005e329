// Environments are made once, also by several at a time and after a death half-way; what is missing is said.
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { access, chmod, mkdir, mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ensureEnvironment, findPython } from '../../deploy/local/environments.ts';

const MAKER = fileURLToPath(new URL('../../deploy/capsule/ocdl/environment.py', import.meta.url));

let folder: string;
let lock: string;
const named = process.env['OCDL_PYTHON'];

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'ocdl-environment-'));
  lock = join(folder, 'requirements.lock');
  await writeFile(lock, '# nothing to install\n');
});

afterEach(() => rm(folder, { recursive: true, force: true }));

const ensure = (lines: string[] = []) =>
  ensureEnvironment({
    lock: readFileSync(lock, 'utf8'),
    cache: join(folder, 'cache'),
    python: named,
    onProgress: (line) => lines.push(line),
  });

test('three at once make one environment, and later ones find it', async () => {
  const lines: string[] = [];
  const found = await Promise.all([ensure(lines), ensure(lines), ensure(lines)]);
  expect(new Set(found.map(({ python }) => python)).size).toBe(1);
  expect(lines.filter((line) => line.startsWith('making'))).toHaveLength(1);
  const [first] = found;
  await access(first?.python ?? '');
  const again: string[] = [];
  expect(await ensure(again)).toEqual(first);
  expect(again).toEqual([]);
}, 600_000);

test('an environment whose maker was killed half-way is made anew', async () => {
  const base = await findPython(named);
  const target = join(folder, 'killed');
  // detached: a process group of its own, so that the maker dies together with what it started.
  const child = spawn(base.executable, ['-I', MAKER, target, lock], { stdio: 'ignore', detached: true });
  const ended = new Promise((resolve) => child.once('close', resolve));
  for (let tries = 0; tries < 200 && !(await stat(join(target, 'bin')).catch(() => undefined)); tries += 1)
    await new Promise((resolve) => setTimeout(resolve, 20));
  process.kill(-(child.pid ?? NaN), 'SIGKILL');
  await ended;
  await expect(access(join(target, '.complete'))).rejects.toThrow('ENOENT');
  const again = spawn(base.executable, ['-I', MAKER, target, lock], { stdio: 'ignore' });
  expect(await new Promise((resolve) => again.once('close', resolve))).toBe(0);
  await access(join(target, '.complete'));
}, 600_000);

test('an environment whose interpreter is gone is made anew', async () => {
  const first = await ensure();
  await rm(first.python);
  expect(await ensure()).toEqual(first);
  await access(first.python);
}, 600_000);

test('what pip cannot install is said, and is no environment afterwards', async () => {
  await writeFile(lock, `./no-such-package-${'x'.repeat(8)}\n`);
  for (let again = 0; again < 2; again += 1)
    await expect(ensure()).rejects.toThrow(/could not be made in .*\n[^]*pip could not install/);
}, 600_000);

test('without a usable Python the error says what was tried and what to install', async () => {
  await expect(findPython(join(folder, 'none'))).rejects.toThrow(
    /No usable Python found[^]*python3-venv[^]*does not start/,
  );
  const fake = async (name: string, answer: object) => {
    const path = join(folder, name);
    await writeFile(path, `#!/bin/sh\necho '${JSON.stringify(answer)}'\n`);
    await chmod(path, 0o755);
    return path;
  };
  const whole = { version: [3, 12], executable: '/usr/bin/python3', prefix: '/usr', missing: [] };
  await mkdir(join(folder, 'bin'));
  await expect(findPython(await fake('old', { ...whole, version: [3, 9] }))).rejects.toThrow(
    'is Python 3.9, older than 3.10',
  );
  await expect(findPython(await fake('bare', { ...whole, missing: ['ensurepip'] }))).rejects.toThrow(
    'lacks the modules ensurepip',
  );
  expect(await findPython(await fake('good', whole))).toMatchObject({ version: '3.12' });
});
