// Environments are made once, in the sandbox, only from valid locks; failures are marked as retryable or not.
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync } from 'node:fs';
import { access, chmod, mkdir, mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { detectSandbox, type Sandbox } from '../../activities/adapters/local-process/sandbox.ts';
import { isFailure } from '../../activities/failures.ts';
import {
  createEnvironments,
  type EnvironmentRequest,
  type EnvironmentsOptions,
} from '../../activities/adapters/local-process/environments.ts';
import { findPython } from '../../activities/adapters/local-process/python.ts';
import { processesWith } from '../adapters/local-cluster.ts';
import { eventually } from '../contracts/cluster.ts';
import { lockOf, makeSource, makeWheel, startIndex, type PackageIndex } from './wheels.ts';

const named = process.env['OCDL_PYTHON'];
const sandbox: Sandbox = await detectSandbox();
const thing = makeWheel({
  files: [['thing.py', 'value = 42\n']],
  entryPoints: '[console_scripts]\nthing = thing:main\n',
});
const other = makeWheel({ name: 'other', files: [['other/__init__.py', '']] });

/** One for all tests: pip is made once. */
const cache = join(mkdtempSync(join(tmpdir(), 'ocdl-environments-')), 'cache');
let folder: string;
let index: PackageIndex;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'ocdl-environment-'));
  index = await startIndex([thing, other, makeSource({ name: 'built', canary: join(folder, 'canary') })]);
});
afterEach(async () => {
  await index.close();
  for (const path of [folder, join(cache, 'project'), join(cache, 'platform')])
    await rm(path, { recursive: true, force: true });
});
afterAll(() => rm(join(cache, '..'), { recursive: true, force: true }));

const open = (given: Partial<EnvironmentsOptions> = {}) => {
  const options = {
    cache,
    home: join(folder, 'home'),
    python: named,
    index: index.url,
    ...given,
  };
  const ensure = createEnvironments(options);
  return (request: Partial<EnvironmentRequest> = {}) =>
    ensure({ lock: lockOf(thing), owner: 'project', sandbox, ...request });
};
/** What was made, and what is left of what was being made. */
const left = (owner = 'project'): string[] => {
  const path = join(cache, owner);
  return existsSync(path) ? readdirSync(path) : [];
};

test('an environment has the packages of its lock, and its interpreter imports them', async () => {
  const { python, base, folders } = await open()({ lock: lockOf(thing, other) });
  const said: Buffer[] = [];
  const child = spawn(python, ['-I', '-c', 'import other, sys, thing; print(thing.value, sys.prefix)']);
  child.stdout.on('data', (chunk: Buffer) => said.push(chunk));
  await new Promise((resolve) => child.once('close', resolve));
  expect(Buffer.concat(said).toString()).toBe(`42 ${folders[0]}\n`);
  expect(readFileSync(join(python, '../thing'), 'utf8')).toMatch(
    new RegExp(`^#!${python}\nimport sys\nfrom thing import main\n`),
  );
  expect(base).toBe((await findPython(named)).executable);
  // Whatever made it: later users of the sandbox must not own it.
  expect((await stat(folders[0] ?? '')).uid).toBe(process.getuid?.());
});

test('three concurrent requests make one environment, and later ones reuse it', async () => {
  const ensure = open();
  const lines: string[] = [];
  const onProgress = (line: string): void => void lines.push(line);
  const found = await Promise.all([1, 2, 3].map(() => ensure({ onProgress })));
  expect(new Set(found.map(({ python }) => python)).size).toBe(1);
  expect(index.asked.filter((path) => path.startsWith('/files/'))).toHaveLength(1);
  expect(lines.filter((line) => line.startsWith('waiting for the Python environment'))).toHaveLength(2);
  expect(lines.filter((line) => line === 'the Python environment is ready')).toHaveLength(3);
  const again: string[] = [];
  expect((await open()({ onProgress: (line) => again.push(line) })).python).toBe(found[0]?.python);
  expect(again).toEqual([]);
  // A comment makes no other one: each may take gigabytes.
  expect((await ensure({ lock: `${lockOf(thing)}# another comment\n` })).python).toBe(found[0]?.python);
  expect(left()).toHaveLength(1);
});

test('two independent makers both get the environment', async () => {
  const [one, two] = await Promise.all([open()(), open()()]);
  expect(one).toEqual({ ...two, done: one.done });
  await access(one.python);
  expect(left()).toHaveLength(1);
});

test("the platform's environments are not shared with projects, even for the same lock", async () => {
  const ensure = open();
  const project = await ensure();
  const platform = await ensure({ owner: 'platform' });
  expect(platform.sha256).toBe(project.sha256);
  expect(platform.python).toContain('/platform/');
  expect(project.python).toContain('/project/');
});

test('an environment whose maker was killed midway is made again', async () => {
  index.trouble.delayMs = 2_000;
  const program = fileURLToPath(new URL('./stand-ins/environment-maker.ts', import.meta.url));
  const given = JSON.stringify({
    cache,
    home: join(folder, 'home'),
    index: index.url,
    lock: lockOf(thing),
  });
  const child = spawn(process.execPath, ['--import', 'tsx', program, given], { stdio: 'inherit' });
  const ended = new Promise((resolve) => child.once('close', resolve));
  await eventually('the download has begun', () => Promise.resolve(index.asked.length > 0), 60_000);
  child.kill('SIGKILL');
  await ended;
  if (sandbox.kind !== 'none')
    await eventually('its sandbox has died with it', () => Promise.resolve(processesWith(cache).length === 0), 10_000);
  index.trouble.delayMs = 0;
  await access((await open()()).python);
});

test('an environment whose interpreter is missing is made again', async () => {
  const first = await open()();
  await rm(first.python);
  expect((await open()()).python).toBe(first.python);
  await access(first.python);
});

test('after one was made, the others that are not used are removed when the total is above the limit', async () => {
  const ensure = open({ totalBytes: 1, idleMs: 0 });
  const first = await ensure();
  const second = await ensure({ lock: lockOf(other) });
  // Still in use.
  await access(first.python);
  first.done();
  second.done();
  await new Promise((resolve) => setTimeout(resolve, 20));
  const third = await ensure({ lock: lockOf(thing, other) });
  expect([first, second, third].map(({ python }) => existsSync(python))).toEqual([false, false, true]);
  expect(left()).toHaveLength(1);
});

test('cancelling stops the maker and leaves nothing behind', async () => {
  index.trouble.delayMs = 60_000;
  const ensure = open();
  const abort = new AbortController();
  const given = ensure({ signal: abort.signal });
  await eventually('the download has begun', () => Promise.resolve(index.asked.length > 0), 60_000);
  const began = Date.now();
  abort.abort(new Error('withdrawn'));
  await expect(given).rejects.toThrow('withdrawn');
  expect(Date.now() - began).toBeLessThan(10_000);
  expect(processesWith(cache)).toEqual([]);
  expect(left()).toEqual([]);
});

test('if one of two requests is cancelled, the other one gets the environment', async () => {
  index.trouble.delayMs = 500;
  const ensure = open();
  const abort = new AbortController();
  const [one, two] = [ensure({ signal: abort.signal }), ensure()];
  await eventually('the download has begun', () => Promise.resolve(index.asked.length > 0), 60_000);
  abort.abort(new Error('withdrawn'));
  await expect(one).rejects.toThrow('withdrawn');
  await access((await two).python);
});

/** How asking for it fails. */
const failureOf = async (given: Promise<unknown>): Promise<{ final: boolean; message: string }> => {
  const error = await given.then(
    () => new Error('it was made'),
    (thrown: unknown) => thrown,
  );
  return { final: isFailure(error, 'InvalidInput'), message: error instanceof Error ? error.message : String(error) };
};

describe('non-retryable failures, each with its reason:', () => {
  test.each([
    ['a direct address', (url: string) => `thing @ ${url}/evil.tar.gz`],
    ['--no-binary', () => `--no-binary :all:\n${lockOf(thing)}`],
    ['-e', () => '-e .'],
    ['another index', () => `--index-url http://127.0.0.1:9/simple\n${lockOf(thing)}`],
    ['no digest', () => 'thing==1.0'],
  ])('a lock with %s: nothing is started', async (_, lock) => {
    const { final, message } = await failureOf(open()({ lock: lock(index.url) }));
    expect(final).toBe(true);
    expect(message).toMatch(/not a valid requirements lock: line 1: .*npm run lock/s);
    expect(index.asked).toEqual([]);
    expect(left()).toEqual([]);
  });

  test('a deadline that has passed', async () => {
    index.trouble.delayMs = 60_000;
    const error = await open({ deadlineMs: 6_000 })().catch((thrown: unknown) => thrown);
    expect([isFailure(error, 'JobTimedOut'), String(error)]).toEqual([
      true,
      expect.stringContaining('was not ready within 0.1 minutes'),
    ]);
    expect(processesWith(cache)).toEqual([]);
  });

  test('a package that the index has only as source: it is not built', async () => {
    const source = makeSource({ name: 'built', canary: join(folder, 'canary') });
    const { final, message } = await failureOf(open()({ lock: lockOf(source) }));
    expect(final).toBe(true);
    expect(message).toMatch(/No matching distribution found for built==1.0/);
    expect(existsSync(join(folder, 'canary'))).toBe(false);
    expect(left()).toEqual([]);
  });

  test('a package that the index does not have', async () => {
    const { final, message } = await failureOf(open()({ lock: lockOf(makeWheel({ name: 'missing' })) }));
    expect(final).toBe(true);
    expect(message).toMatch(/No matching distribution found for missing==1.0/);
  });

  test('a wheel with another digest', async () => {
    const { final, message } = await failureOf(open()({ lock: `thing==1.0 --hash=sha256:${'0'.repeat(64)}` }));
    expect(final).toBe(true);
    expect(message).toMatch(/DO NOT MATCH THE HASHES/);
  });

  test('a wheel that contains an interpreter', async () => {
    const evil = makeWheel({ name: 'evil', files: [['evil-1.0.data/scripts/python', '#!/bin/sh\n']] });
    const offering = await startIndex([evil]);
    try {
      const { final, message } = await failureOf(open({ index: offering.url })({ lock: lockOf(evil) }));
      expect(final).toBe(true);
      expect(message).toMatch(
        /evil-1.0-py3-none-any.whl contains 'bin\/python': a package must not contain an interpreter/,
      );
      expect(left()).toEqual([]);
    } finally {
      await offering.close();
    }
  });

  test('more bytes than the limit', async () => {
    const big = makeWheel({ name: 'big', files: [['big.bin', 'x'.repeat(3_000_000)]] });
    const offering = await startIndex([big]);
    try {
      const { final, message } = await failureOf(
        open({ index: offering.url, limitBytes: 2_000_000 })({ lock: lockOf(big) }),
      );
      expect(final).toBe(true);
      expect(message).toMatch(/larger than 2000000 bytes in total/);
    } finally {
      await offering.close();
    }
  });
});

describe('retryable failures, each with its reason:', () => {
  test('an index that is down', async () => {
    await index.close();
    const { final, message } = await failureOf(open()());
    expect(final).toBe(false);
    expect(message).toMatch(/the package index cannot be reached: 127\.0\.0\.1:\d+: .*ECONNREFUSED/);
  });

  test('an index that answers with errors', async () => {
    index.trouble.status = 503;
    const { final, message } = await failureOf(open()());
    expect(final).toBe(false);
    expect(message).toMatch(/the package index is unavailable or returns errors/);
  });

  test('an index that redirects to another service of this machine, which is not reached', async () => {
    const inner = await startIndex([thing]);
    try {
      index.trouble.redirect = new URL(inner.url).origin;
      const { final, message } = await failureOf(open()());
      expect(final).toBe(false);
      expect(message).toContain(`redirects to ${new URL(inner.url).host}, which is not an allowed host`);
      expect(message).toContain('OCDL_PIP_INDEX_HOSTS');
      expect(inner.asked).toEqual([]);
    } finally {
      await inner.close();
    }
  });
});

test('without a usable Python, the error lists what was tried and what to install', async () => {
  await expect(findPython(join(folder, 'none'))).rejects.toThrow(
    /No usable Python found[^]*python3-venv[^]*could not be started/,
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
    'does not have the modules ensurepip',
  );
  expect(await findPython(await fake('good', whole))).toMatchObject({ version: '3.12' });
});
