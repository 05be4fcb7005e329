// Wheels that attack the machine that installs them: refused, or harmless until the job's own sandbox.
import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { detectSandbox } from '../../activities/adapters/local-process/sandbox.ts';
import { createEnvironments } from '../../activities/adapters/local-process/environments.ts';
import { findPython } from '../../activities/adapters/local-process/python.ts';
import { openLocalCluster, sandboxForTests } from '../adapters/local-cluster.ts';
import { pythonJob } from '../contracts/cluster.ts';
import { runJob } from '../contracts/run-job.ts';
import { lockOf, makeSource, makeWheel, startIndex, type Made, type WheelGiven } from './wheels.ts';

const INSTALLER = fileURLToPath(new URL('../../deploy/capsule/ocdl/install_wheels.py', import.meta.url));
const { executable: python, version } = await findPython(process.env['OCDL_PYTHON']);
const hasSandbox = await sandboxForTests('that what a wheel brings runs in the sandbox of its job alone');

/** One for all tests: the platform's pip is made once. */
const CACHE = mkdtempSync(join(tmpdir(), 'ocdl-hostile-cache-'));
afterAll(() => rmSync(CACHE, { recursive: true, force: true }));

let folder: string;
beforeEach(() => (folder = mkdtempSync(join(tmpdir(), 'ocdl-wheels-'))));
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** Runs the platform's own installer over these wheels. */
function install(wheels: readonly Made[], limit = 1_000_000, program: readonly string[] = [INSTALLER]) {
  const [target, source, requirements] = ['target', 'wheels', 'requirements.txt'].map((name) => join(folder, name));
  if (!target || !source || !requirements) throw new Error('there are three paths');
  mkdirSync(target);
  mkdirSync(source);
  for (const { file, bytes } of wheels) writeFileSync(join(source, file), bytes);
  writeFileSync(requirements, lockOf(...wheels));
  const argv = ['-I', ...program, target, '/final', source, requirements, String(limit)];
  const { status, stderr } = spawnSync(python, argv, { encoding: 'utf8' });
  const site = join(target, 'lib', `python${version}`, 'site-packages');
  return { status, stderr, target, site };
}

/** The installer with a compiler that a module named crash.py crashes, as a fault of Python's own would. */
const CRASHING = `
import os, py_compile, runpy, sys
compile = py_compile.compile
py_compile.compile = lambda path, **more: os.abort() if path.endswith('crash.py') else compile(path, **more)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name='__main__')
`;

it('installs a wheel with a module that crashes the compiler', () => {
  const made = makeWheel({ files: ['crash.py', 'first.py'].map((name) => [`thing/${name}`, 'x = 1\n']) });
  const { status, site } = install([made], 1_000_000, ['-c', CRASHING, INSTALLER]);
  expect(status).toBe(0);
  expect(readFileSync(join(site, 'thing', 'crash.py'), 'utf8')).toBe('x = 1\n');
});

describe('the installer refuses a wheel that', () => {
  const outside = 'ocdl-escaped';
  const refused: readonly (readonly [what: string, given: WheelGiven, message: RegExp])[] = [
    [
      'contains a program called python',
      { files: [['thing-1.0.data/scripts/python', '#!/bin/sh\n']] },
      /bin\/python.*a package must not contain an interpreter/,
    ],
    [
      'contains python3 as data',
      { files: [['thing-1.0.data/data/bin/python3', 'x']] },
      /a package must not contain an interpreter/,
    ],
    [
      'contains another interpreter',
      { files: [['thing-1.0.data/scripts/python3.99', 'x']] },
      /a package must not contain an interpreter/,
    ],
    [
      'declares an entry point called python',
      { entryPoints: '[console_scripts]\npython = thing:main\n' },
      /a package must not contain an interpreter/,
    ],
    [
      'declares an entry point outside its folder',
      { entryPoints: '[console_scripts]\n../../python = thing:main\n' },
      /is not a valid program/,
    ],
    [
      'hides code in an entry point',
      { entryPoints: '[console_scripts]\nrun = thing:main();import os\n' },
      /is not a valid program/,
    ],
    ['has entry points that cannot be read', { entryPoints: 'no section\n' }, /entry_points.txt cannot be read/],
    [
      "replaces the environment's settings",
      { files: [['thing-1.0.data/data/pyvenv.cfg', 'home = /evil']] },
      /would replace .*of the environment/,
    ],
    [
      'replaces the activation script of the environment',
      { files: [['thing-1.0.data/scripts/activate', 'x']] },
      /would replace .*of the environment/,
    ],
    [
      'puts a folder in place of the interpreter',
      { files: [['thing-1.0.data/data/bin/python/x', 'x']] },
      /would replace/,
    ],
    ['writes through a link', { files: [['thing-1.0.data/data/lib64/x', 'x']] }, /through a link/],
    ['leaves its folder', { files: [[`../../../../../${outside}`, 'x']] }, /leaves the package's folder/],
    [
      'leaves its folder in the middle',
      { files: [[`a/../../../../../../${outside}`, 'x']] },
      /leaves the package's folder/,
    ],
    [
      'leaves its folder from data',
      { files: [[`thing-1.0.data/data/../../${outside}`, 'x']] },
      /leaves the package's folder/,
    ],
    [
      'leaves its folder from purelib',
      { files: [[`thing-1.0.data/purelib/../${outside}`, 'x']] },
      /leaves the package's folder/,
    ],
    ['has an absolute path', { files: [[`/tmp/${outside}`, 'x']] }, /leaves the package's folder/],
    ['has a Windows path', { files: [[`..\\..\\${outside}`, 'x']] }, /leaves the package's folder/],
    ['has control characters in a path', { files: [['a\u001b[2J', 'x']] }, /not allowed/],
    ['has a path that is too long', { files: [['a/'.repeat(600) + 'x', 'x']] }, /not allowed/],
    ['has a path segment that is too long', { files: [['a'.repeat(256), 'x']] }, /not allowed/],
    [
      'has a file twice',
      {
        files: [
          ['a.py', '1'],
          ['a.py', '2'],
        ],
      },
      /is a duplicate/,
    ],
    ['has data of an unknown kind', { files: [['thing-1.0.data/cron/x', 'x']] }, /has an unknown kind of path/],
    ['has a program in a folder', { files: [['thing-1.0.data/scripts/a/b', 'x']] }, /has an unknown kind of path/],
    ['records paths outside', { record: '../../../etc/passwd,,\n' }, /leaves the package's folder/],
    ['records absolute paths', { record: '/etc/passwd,,\n' }, /leaves the package's folder/],
    [
      'unpacks to more than the limit',
      { files: [['zeros', '0'.repeat(2_000_000)]] },
      /larger than 1000000 bytes in total/,
    ],
  ];
  test.each(refused)('%s', (_, given, message) => {
    const { status, stderr, target } = install([makeWheel(given)]);
    expect(stderr).toMatch(message);
    expect(status).toBe(7);
    // The environment's own interpreter is a link to the base, as before.
    expect(execFileSync('readlink', ['-f', join(target, 'bin/python')], { encoding: 'utf8' }).trim()).toBe(python);
    expect(readFileSync(join(target, 'pyvenv.cfg'), 'utf8')).not.toContain('evil');
    for (const path of [folder, target, join(target, 'lib'), '/tmp'])
      expect(existsSync(join(path, outside))).toBe(false);
  });

  test('is not in the lock', () => {
    const wheel = makeWheel({});
    const { status, stderr } = install([{ ...wheel, sha256: '0'.repeat(64) }]);
    expect(stderr).toMatch(/the lock does not list the file .* with this digest/);
    expect(status).toBe(7);
  });

  test.each<[damage: string, compression: WheelGiven['compression'], damaged: (bytes: Buffer) => void]>([
    ['in its deflated bytes', 'ZIP_DEFLATED', (bytes) => bytes.fill(0xff, 40, 60)],
    ['in its bzip2 bytes', 'ZIP_BZIP2', (bytes) => bytes.fill(0xff, 50, 70)],
    ['in its lzma bytes', 'ZIP_LZMA', (bytes) => bytes.fill(0xff, 50, 70)],
    // In the record at the end of an archive.
    ['in its offsets', 'ZIP_DEFLATED', (bytes) => bytes.writeUInt32LE(0x7fffffff, bytes.length - 6)],
  ])('is damaged %s', (_, compression, damaged) => {
    const wheel = makeWheel({ files: [['a.py', 'x = 1\n'.repeat(1_000)]], compression });
    const bytes = Buffer.from(wheel.bytes);
    damaged(bytes);
    const sha256 = execFileSync('sha256sum', { input: bytes, encoding: 'utf8' }).slice(0, 64);
    const { status, stderr } = install([{ ...wheel, bytes, sha256 }]);
    expect(stderr).toMatch(/^refused: /m);
    expect(status).toBe(7);
  });
});

test('the installer puts all other files where pip puts them', () => {
  const wheel = makeWheel({
    files: [
      ['thing/__init__.py', 'x = 1\n'],
      ['thing/broken.py', 'this is no Python ('],
      ['thing-1.0.data/purelib/pure.py', 'y = 2\n'],
      ['thing-1.0.data/platlib/plat.py', 'z = 3\n'],
      ['thing-1.0.data/scripts/run', '#!python\nprint(1)\n'],
      ['thing-1.0.data/scripts/shell', '#!/bin/sh\n'],
      ['thing-1.0.data/data/share/doc/thing', 'd'],
      ['thing-1.0.data/headers/thing.h', 'h'],
      ['tests/__init__.py', 'first\n'],
    ],
    entryPoints: '[console_scripts]\ngo = thing.deep:main.run\n[other]\nx = not: looked at\n',
  });
  const second = makeWheel({ name: 'zzz', files: [['tests/__init__.py', 'second = 1\n']] });
  const { status, stderr, target, site } = install([wheel, second]);
  expect(stderr).toBe('');
  expect(status).toBe(0);
  const text = (...parts: string[]): string => readFileSync(join(...parts), 'utf8');
  expect(text(site, 'pure.py') + text(site, 'plat.py')).toBe('y = 2\nz = 3\n');
  expect(text(target, 'bin/run')).toBe('#!/final/bin/python\nprint(1)\n');
  expect(text(target, 'bin/shell')).toBe('#!/bin/sh\n');
  expect(text(target, 'bin/go')).toBe(
    '#!/final/bin/python\nimport sys\nfrom thing.deep import main\nsys.exit(main.run())\n',
  );
  expect(text(target, 'share/doc/thing')).toBe('d');
  expect(text(target, `include/site/python${version}/thing/thing.h`)).toBe('h');
  // Of two packages with the same file the later one has it.
  expect(text(site, 'tests/__init__.py')).toBe('second = 1\n');
  expect(readdirSync(join(site, 'thing/__pycache__'))).toHaveLength(1);
});

(hasSandbox ? describe : describe.skip)('a wheel that starts code with the interpreter', () => {
  test('runs in the sandbox of its job, and nowhere else', async () => {
    // Not below /tmp, which a sandbox covers in any case; open to every user.
    const parent = mkdtempSync('/var/tmp/ocdl-hostile-');
    const [canaries, home, cache] = ['canaries', 'home', 'cache'].map((name) => join(parent, name));
    if (!canaries || !home || !cache) throw new Error('there are three paths');
    for (const path of [canaries, home, cache]) mkdirSync(path);
    for (const path of [parent, canaries]) chmodSync(path, 0o777);
    writeFileSync(join(home, 'key'), 'the key of the platform', { mode: 0o644 });
    const boot = (who: string): string => `
import os, sys
def look():
    try: open(os.path.join(${JSON.stringify(canaries)}, "${who}-%d" % os.getpid()), "w").write("ran")
    except OSError: pass
    print("BOOTED ${who} in", os.getcwd())
    print("KEY", os.path.exists(${JSON.stringify(join(home, 'key'))}), "TOKEN", "OCDL_JOB_TOKEN" in os.environ)
look()
`;
    const evil = makeWheel({
      name: 'evil',
      files: [
        ['evil_boot.py', boot('pth')],
        ['evil.pth', 'import evil_boot\n'],
        ['sitecustomize.py', boot('sitecustomize')],
        ['usercustomize.py', boot('usercustomize')],
        ['evil.py', `${boot('import')}\ndef main(): pass\n`],
        // What the platform's own wrapper imports, if it ever looked here.
        ['ocdl/__init__.py', boot('ocdl')],
        ['ocdl/job.py', boot('wrapper')],
        ['evil-1.0.data/purelib/zlib.py', boot('zlib')],
      ],
      entryPoints: '[console_scripts]\nevil = evil:main\n',
    });
    const index = await startIndex([evil]);
    const options = { home, cache, index: index.url, python: process.env['OCDL_PYTHON'] };
    const harness = await openLocalCluster({ sandbox: 'bubblewrap', home, environment: createEnvironments(options) });
    try {
      const code = `import evil, os\nopen(os.environ["OCDL_OUTPUTS"] + "/model.onnx", "w").write("made")\nprint("THE JOB RAN")`;
      const spec = { ...pythonJob(harness.api, { code }), lock: lockOf(evil) };
      const outcome = await runJob(harness, spec);
      expect(outcome).toMatchObject({ status: 'succeeded' });
      // It is armed: in the job's sandbox it runs, before the job does, and sees nothing of the platform.
      const { log } = outcome;
      const lines = log.split('\n');
      for (const who of ['pth', 'sitecustomize', 'import']) expect(log).toContain(`BOOTED ${who} in /job`);
      expect(log).toContain('THE JOB RAN');
      expect(lines.filter((line) => line.startsWith('KEY'))).toEqual(
        lines.filter((line) => line === 'KEY False TOKEN False'),
      );
      // Nothing ran before the inputs were there, nor after the job's end: not in the installation, not in the wrapper.
      const first = lines.findIndex((line) => line.startsWith('BOOTED'));
      const last = lines.findLastIndex((line) => line.startsWith('BOOTED'));
      expect(lines.findIndex((line) => line.startsWith('fetched '))).toBeLessThan(first);
      expect(lines.findIndex((line) => line === 'the Python environment is ready')).toBeLessThan(first);
      expect(lines.slice(last).join('\n')).toContain('THE JOB RAN');
      expect(readdirSync(canaries)).toEqual([]);
      // The same interpreter outside: what the platform never does.
      const environment = await createEnvironments(options)({
        lock: spec.lock,
        owner: 'project',
        sandbox: await detectSandbox(),
      });
      spawnSync(environment.python, ['-c', 'pass']);
      expect(readdirSync(canaries).length).toBeGreaterThan(0);
    } finally {
      await harness.close();
      await index.close();
      rmSync(parent, { recursive: true, force: true });
    }
  });
});

(hasSandbox ? describe : describe.skip)(
  'a scientist who tries to run code as the platform through the lock of a run',
  () => {
    const locks: readonly (readonly [string, (url: string, folder: string, source: Made) => string])[] = [
      ['names the address of a source package', (url, _, { file }) => `built @ ${new URL(url).origin}/files/${file}\n`],
      [
        'names it with a digest',
        (url, _, made) => `built @ ${new URL(url).origin}/files/${made.file} --hash=sha256:${made.sha256}\n`,
      ],
      ['requests a build from source', (_, __, made) => `--no-binary :all:\n${lockOf(made)}`],
      ['requests a build from source for one package', (_, __, made) => `${lockOf(made).trim()} --no-binary=built\n`],
      ['pins a package that exists only as source', (_, __, made) => lockOf(made)],
      ['installs a folder of this machine', (_, folder) => `-e ${folder}\n`],
      ['installs a folder given by its path', (_, folder) => `${folder}\n`],
      ['sets another index', (url, _, made) => `--index-url ${url}\n${lockOf(made)}`],
      ['includes a file of this machine', (_, folder) => `-r ${folder}/requirements.txt\n`],
      ['hides an option behind another encoding', () => `# coding: utf-7\n+AC0-e .\n`],
      [
        'hides an option behind a Unicode line separator',
        (_, __, made) => `# x\u2028--no-binary :all:\n${lockOf(made)}`,
      ],
    ];
    test.each(locks)(
      '%s: the run fails with a non-retryable failure, and no foreign code has run',
      async (_, lockFor) => {
        const canary = join(folder, 'canary');
        chmodSync(folder, 0o777);
        writeFileSync(join(folder, 'setup.py'), `open(${JSON.stringify(canary)}, "w").write("ran")\n`);
        const source = makeSource({ name: 'built', canary });
        const index = await startIndex([source]);
        const options = {
          home: join(folder, 'home'),
          cache: CACHE,
          index: index.url,
          python: process.env['OCDL_PYTHON'],
        };
        const harness = await openLocalCluster({ sandbox: 'bubblewrap', environment: createEnvironments(options) });
        try {
          const spec = {
            ...pythonJob(harness.api, { code: 'print("THE JOB RAN")' }),
            lock: lockFor(index.url, folder, source),
          };
          const outcome = await runJob(harness, spec);
          expect(outcome).toMatchObject({ status: 'failed', reason: 'lock' });
          expect(outcome.log).not.toContain('THE JOB RAN');
          expect(existsSync(canary)).toBe(false);
          expect(index.asked.filter((path) => path.startsWith('/files/'))).toEqual([]);
        } finally {
          await harness.close();
          await index.close();
        }
      },
    );
  },
);
