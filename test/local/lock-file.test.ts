// `ocdl lock` creates a valid lock from a list of packages, or reports why it cannot and leaves an existing lock unchanged.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { makeLock } from '../../deploy/local/lock-file.ts';
import { readSettings } from '../../deploy/local/settings.ts';
import { parseLock } from '../../workflows/domain/lock.ts';
import { makeSource, makeWheel, startIndex, type PackageIndex } from '../capsule/wheels.ts';
import { toolsEnvironment } from '../python.ts';

const wheels = [
  makeWheel({ name: 'thing', version: '1.0' }),
  makeWheel({ name: 'thing', version: '2.0' }),
  makeWheel({ name: 'other', version: '1.5' }),
];
let index: PackageIndex;
let folder: string;

beforeAll(async () => {
  // From the machine's index; the tests' index has only test packages.
  await toolsEnvironment();
});
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'ocdl-lock-'));
  index = await startIndex([...wheels, makeSource({ name: 'built', canary: join(folder, 'canary') })]);
});
afterEach(async () => {
  await index.close();
  rmSync(folder, { recursive: true, force: true });
});

const make = (packages: string, given: { upgrade?: boolean; output?: string } = {}) => {
  const input = join(folder, 'requirements.in');
  writeFileSync(input, packages);
  const lines: string[] = [];
  const cache = join(homedir(), '.cache', 'ocdl');
  const settings = readSettings({ ...process.env, OCDL_CACHE: cache, OCDL_PIP_INDEX_URL: index.url });
  const made = makeLock({ input, settings, say: (line) => lines.push(line), ...given });
  return made.then((output) => ({ output, lines, text: readFileSync(output, 'utf8') }));
};

test('every package is pinned with the digests of its files, and the lock is valid', async () => {
  const { output, lines, text } = await make('thing\nother>=1\n');
  expect(output).toBe(join(folder, 'requirements.lock'));
  expect(parseLock(text).packages).toEqual([
    { name: 'other', version: '1.5', hashes: [wheels[2]?.sha256] },
    { name: 'thing', version: '2.0', hashes: [wheels[1]?.sha256] },
  ]);
  expect(lines.at(-2)).toMatch(
    /^Wrote .*requirements\.lock: 2 packages with 2 digests, for Python 3\.10 and newer, from /,
  );
  expect(text).toContain('npm run lock -- requirements.in');
  // The index's address must not appear: it may contain a password.
  expect(text).not.toContain('127.0.0.1');
});

test('versions of an existing lock are kept unless an upgrade is requested', async () => {
  expect(parseLock((await make('thing<2\n')).text).packages).toMatchObject([{ version: '1.0' }]);
  expect(parseLock((await make('thing\n')).text).packages).toMatchObject([{ version: '1.0' }]);
  expect(parseLock((await make('thing\n', { upgrade: true })).text).packages).toMatchObject([{ version: '2.0' }]);
});

test.each([
  ['a package that does not exist', 'missing\n', /missing/],
  ['a package that must be built', 'built\n', /built/],
  ['versions that contradict one another', 'thing<2\nthing>=2\n', /thing/],
  ['an address', `thing @ file:///nowhere/thing-1.0-py3-none-any.whl\n`, /./],
])('%s: the reason is reported, and the existing lock is unchanged', async (_, packages, reason) => {
  const { text } = await make('thing\n');
  const error = await make(packages).then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(String(error)).toMatch(/no lock was written/);
  expect(String(error)).toMatch(reason);
  expect(readFileSync(join(folder, 'requirements.lock'), 'utf8')).toBe(text);
  expect(readdirSync(folder).sort()).toEqual(['requirements.in', 'requirements.lock']);
});

test('a reachable address does not give a valid lock either', async () => {
  const [wheel] = wheels;
  if (!wheel) throw new Error('there are three');
  writeFileSync(join(folder, wheel.file), wheel.bytes);
  await expect(make(`thing @ file://${join(folder, wheel.file)}\n`)).rejects.toThrow(/not a valid requirements lock/);
});

test.each([
  [['--help'], 0, /Usage: ocdl lock FILE/],
  [[], 2, /Usage: ocdl lock FILE/],
  [['a.in', 'b.in'], 2, /Usage: ocdl lock FILE/],
  [['--nonsense'], 2, /nonsense/],
  [['/nowhere/nothing.in'], 1, /\/nowhere\/nothing\.in does not exist/],
])('ocdl lock %j ends with %i', (argv, code, says) => {
  const program = join(import.meta.dirname, '../../api/cli/ocdl.js');
  const { status, stdout, stderr } = spawnSync(process.execPath, [program, 'lock', ...argv], { encoding: 'utf8' });
  expect(stdout + stderr).toMatch(says);
  expect(status).toBe(code);
});
