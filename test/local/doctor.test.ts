// `ocdl` and `ocdl doctor` from the command line, with a PATH on which programs are missing.
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { detectSandbox } from '../../activities/adapters/local-process/sandbox.ts';
import { sandboxState } from '../../workers/doctor.ts';
import { anyFreePort } from '../../deploy/local/ports.ts';
import { runProgram, type ProgramEnd } from '../../deploy/local/run-program.ts';
import { findOnPath, temporalCachePath } from '../../deploy/local/temporal-binary.ts';
import { serverProblem } from '../../workers/doctor.ts';

const ocdl = fileURLToPath(new URL('../../api/cli/ocdl.js', import.meta.url));
let folder: string;
let path: string;
let env: Record<string, string | undefined>;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'ocdl-doctor-'));
  path = join(folder, 'bin');
  mkdirSync(path);
  env = { PATH: path, HOME: folder, OCDL_HOME: join(folder, 'home'), OCDL_CACHE: join(folder, 'cache') };
});

afterEach(() => rmSync(folder, { recursive: true, force: true }));

const run = (...args: readonly string[]): Promise<ProgramEnd> =>
  runProgram(process.execPath, [ocdl, ...args], { env, timeoutMs: 120_000 });

function fake(name: string, body: string): void {
  writeFileSync(join(path, name), `#!${process.execPath}\n${body}\n`);
  chmodSync(join(path, name), 0o755);
}

/** A fake Python that answers the platform's probe: version, folder, missing modules. */
function fakePython(name: string, { version = [3, 12], missing = [] as readonly string[] } = {}): void {
  const answer = { version, executable: join(path, name), prefix: folder, missing };
  fake(name, `console.log('${JSON.stringify(answer)}')`);
}

/** Fakes of all required programs; `unshare` (with which root runs PostgreSQL) is real. */
function fakeAll(): void {
  fake('git', "console.log('git version 2.50.1')");
  fakePython('python3');
  mkdirSync(join(temporalCachePath(join(folder, 'cache')), '..'), { recursive: true });
  writeFileSync(temporalCachePath(join(folder, 'cache')), '', { mode: 0o755 });
  for (const name of ['unshare', 'true']) {
    const real = findOnPath(name, process.env.PATH);
    if (real !== undefined) symlinkSync(real, join(path, name));
  }
}

/** Longer than the doctor's limit for a system that does not answer. */
const SYSTEMS_MS = 120_000;

const lineOf = (output: string, name: string): string =>
  output.split('\n').find((line) => line.slice(9).startsWith(name)) ?? `no line for ${name} in: ${output}`;

test(
  'exits 0 if all requirements are met, and lists recommendations',
  async () => {
    fakeAll();
    // The worker's result does not depend on this PATH.
    const { kind } = await detectSandbox();
    if (kind === 'none') env = { ...env, OCDL_JOBS_WITHOUT_SANDBOX: 'true' };
    const { code, output } = await run('doctor');
    expect(lineOf(output, 'Git')).toMatch(/^ok .*2\.50\.1/);
    expect(lineOf(output, 'Python')).toMatch(/^ok .*3\.12 \(.*python3\)/);
    expect(lineOf(output, 'Temporal')).toMatch(/^ok .*cache/);
    expect(lineOf(output, 'PostgreSQL')).toMatch(/^ok .*PostgreSQL/);
    const tells = kind === 'none' ? /^without .*apt-get install bubblewrap/ : /^ok .*sandboxed/;
    expect(lineOf(output, 'bubblewrap')).toMatch(tells);
    for (const name of ['HDFS', 'Alluxio', 'S3', 'Kafka', 'Git remote'])
      expect(lineOf(output, name)).toMatch(/^ok .*embedded/);
    expect(output).toContain('The platform can start here.');
    expect(code).toBe(0);
  },
  SYSTEMS_MS,
);

test('a missing bubblewrap is an error unless the operator allows jobs without a sandbox', async () => {
  const detect = () => Promise.resolve({ kind: 'none', why: 'there is none' } as const);
  expect(await sandboxState(false, detect)).toEqual({
    name: 'bubblewrap',
    wrong: expect.stringMatching(
      /^jobs and model services cannot run here: there is none .*OCDL_JOBS_WITHOUT_SANDBOX=true/,
    ) as unknown,
  });
  expect(await sandboxState(true, detect)).toEqual({
    name: 'bubblewrap',
    without: expect.stringMatching(
      /^local jobs run without a sandbox because OCDL_JOBS_WITHOUT_SANDBOX is true/,
    ) as unknown,
  });
});

test(
  'checks each configured system independently and reports problems without secrets',
  async () => {
    fakeAll();
    // Accepts connections but never answers: only the limit ends the wait.
    const silent = createServer();
    await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
    const { port } = silent.address() as { port: number };
    const nobody = `127.0.0.1:${await anyFreePort('127.0.0.1')}`;
    env = {
      ...env,
      ...{ TEMPORAL_ADDRESS: nobody, DATABASE_URL: `postgresql://ocdl:hunter2@${nobody}/ocdl` },
      ...{ OCDL_HDFS_URL: `http://${nobody}`, OCDL_KAFKA_BROKERS: nobody, OCDL_S3_BUCKET: 'releases' },
      ...{
        OCDL_S3_ENDPOINT: `http://127.0.0.1:${port}`,
        OCDL_S3_ACCESS_KEY_ID: 'ocdl',
        OCDL_S3_SECRET_ACCESS_KEY: 'hunter2',
      },
    };
    try {
      const { code, output } = await run('doctor');
      expect(lineOf(output, 'Temporal')).toMatch(/^wrong .*check that it is running, TEMPORAL_ADDRESS/);
      expect(lineOf(output, 'PostgreSQL')).toMatch(/^wrong .*cannot be reached/);
      expect(lineOf(output, 'HDFS')).toMatch(/^wrong .*no NameNode answers/);
      expect(lineOf(output, 'S3')).toMatch(/^wrong /);
      expect(lineOf(output, 'Kafka')).toMatch(/^wrong .*does not answer/);
      expect(lineOf(output, 'Git remote')).toMatch(/^ok .*embedded/);
      expect(output).toMatch(/Wrong: Temporal, PostgreSQL, HDFS, S3, Kafka\./);
      expect(output).not.toContain('hunter2');
      expect(code).toBe(1);
    } finally {
      silent.close();
    }
  },
  SYSTEMS_MS,
);

test('on an empty PATH it exits 1 and says how to install each program', async () => {
  const { code, output } = await run('doctor');
  expect(lineOf(output, 'Git')).toMatch(/^missing .*apt-get install git/);
  expect(lineOf(output, 'Python')).toMatch(/^missing .*apt-get install python3 python3-venv/);
  expect(lineOf(output, 'Temporal')).toMatch(/^missing .*TEMPORAL_ADDRESS/);
  expect(output).toMatch(/Missing: Git, Python, Temporal/);
  expect(code).toBe(1);
});

test('a Python that is too old or lacks venv counts as missing', async () => {
  fakeAll();
  fakePython('python3', { missing: ['venv'] });
  expect(lineOf((await run('doctor')).output, 'Python')).toMatch(/^missing .*does not have the modules venv/);
  fakePython('python3', { version: [3, 9] });
  expect(lineOf((await run('doctor')).output, 'Python')).toMatch(/^missing .*is Python 3\.9, older than 3\.10/);
});

test('Python is found by OCDL_PYTHON or under any of its names, as in the platform', async () => {
  fakeAll();
  fakePython('python3', { version: [3, 9] });
  fakePython('python3.11', { version: [3, 11] });
  expect(lineOf((await run('doctor')).output, 'Python')).toMatch(/^ok .*3\.11 \(.*python3\.11\)/);
  fakePython('mine', { version: [3, 13] });
  env = { ...env, OCDL_PYTHON: join(path, 'mine') };
  expect(lineOf((await run('doctor')).output, 'Python')).toMatch(/^ok .*3\.13 \(.*mine\)/);
});

test('a Git that is too old counts as missing', async () => {
  fakeAll();
  fake('git', "console.log('git version 2.34.1')");
  expect(lineOf((await run('doctor')).output, 'Git')).toMatch(/^missing .*is 2\.34\.1; 2\.36 or newer is needed/);
});

test(
  'reaches a database whose URL is set by file, with its CA',
  async () => {
    fakeAll();
    const nobody = `127.0.0.1:${await anyFreePort('127.0.0.1')}`;
    writeFileSync(join(folder, 'url'), `postgresql://ocdl:hunter2@${nobody}/ocdl\n`);
    writeFileSync(join(folder, 'ca.pem'), '');
    env = { ...env, DATABASE_URL_FILE: join(folder, 'url'), DATABASE_CA_FILE: join(folder, 'ca.pem') };
    const { code, output } = await run('doctor');
    expect(lineOf(output, 'PostgreSQL')).toMatch(/^wrong .*cannot be reached/);
    expect(output).not.toContain('hunter2');
    expect(code).toBe(1);
  },
  SYSTEMS_MS,
);

test.each([
  ['1.28.3', expect.stringContaining('version 1.28.3, but 1.29 or newer is required')],
  ['1.29.0', undefined],
  ['2.0.0', undefined],
])('a Temporal server %s', (version, problem: unknown) => {
  expect(serverProblem(version)).toEqual(problem);
});

test('a requested port that is in use is reported with its variable', async () => {
  fakeAll();
  const port = await anyFreePort('127.0.0.1');
  const blocker = createServer();
  await new Promise<void>((resolve) => blocker.listen(port, '127.0.0.1', resolve));
  env = { ...env, OCDL_API_PORT: String(port) };
  try {
    const { code, output } = await run('doctor');
    expect(lineOf(output, 'API port')).toMatch(new RegExp(`^missing .*${port} is in use.*OCDL_API_PORT`));
    expect(code).toBe(1);
  } finally {
    blocker.close();
  }
});

test('an invalid variable is named', async () => {
  env = { ...env, OCDL_API_PORT: 'eighty', DATABASE_URL: 'nonsense' };
  const { code, output } = await run('doctor');
  expect(output).toMatch(/OCDL_API_PORT: must be a port from 0 to 65535\n +DATABASE_URL: must be a URL/);
  expect(code).toBe(1);
});

test.each([
  [['--help'], 0, /start .*doctor .*demo /s],
  [['doctor', '--help'], 0, /Usage: ocdl doctor/],
  [['start', '--help'], 0, /--verbose/],
  [[], 2, /Usage: ocdl COMMAND/],
  [['strat'], 2, /Unknown command "strat"/],
  [['constructor'], 2, /Unknown command "constructor"/],
  [['start', '--loud'], 2, /--loud/],
  [['doctor', 'extra'], 2, /extra/],
] as const)('ocdl %j exits %i', async (args, code, says) => {
  const end = await run(...args);
  expect(end.output).toMatch(says);
  expect(end.code).toBe(code);
});
