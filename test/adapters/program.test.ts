// Programs whose process or log cannot be recorded at their start, as on a full disk or without file descriptors.
import { test } from '@jest/globals';
import { execFile } from 'node:child_process';
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { findPython } from '../../activities/adapters/local-process/python.ts';
import { isAlive, type ProcessMark } from '../../activities/adapters/local-process/process-tree.ts';
import { keyOf } from '../../activities/adapters/local-process/job-progress.ts';
import { runJob } from '../../activities/adapters/local-process/job.ts';
import { openProgramLog } from '../../activities/adapters/local-process/program-log.ts';
import { startProgram } from '../../activities/adapters/local-process/program.ts';
import { isFinal } from '../../activities/failures.ts';
import { pythonJob } from '../contracts/cluster.ts';
import { runJob as runToEnd } from '../contracts/run-job.ts';
import { openLocalCluster, processesWith } from './local-cluster.ts';
import { scratchFolder } from './scratch-folder.ts';

const scratch = await scratchFolder();
afterAll(scratch.remove);

test('a program whose process cannot be recorded is ended, and its start has failed', async () => {
  const log = openProgramLog({ path: join(scratch.path, 'log') });
  const seen: { mark?: ProcessMark } = {};
  const program = startProgram({
    ...{ program: 'sleep', args: ['60'], env: { PATH: '/usr/bin:/bin' }, cwd: scratch.path, sandboxed: false, log },
    onStart: (mark) => {
      seen.mark = mark;
      throw new Error('ENOSPC: no space left on device, write');
    },
  });
  const ended = await program.ended;
  expect(ended.code).toBeNull();
  expect(ended.failedStart).toMatch(/^cannot start sleep: .*ENOSPC/);
  expect(seen.mark && isAlive(seen.mark)).toBe(false);
  expect(log.tail()).toMatch(/^cannot start sleep: its process cannot be recorded: ENOSPC: no space left on device/);
  log.close();
});

test('without file descriptors, programs and logs report it, and the worker goes on', async () => {
  const program = fileURLToPath(new URL('./stand-ins/out-of-files.ts', import.meta.url));
  const folder = join(scratch.path, 'out-of-files');
  mkdirSync(folder);
  // 200: Node itself opens some tens.
  const limited = ['-c', 'ulimit -n 200 && exec "$0" "$@"', process.execPath, '--import', 'tsx', program, folder];
  const { stdout } = await promisify(execFile)('sh', limited, {
    cwd: fileURLToPath(new URL('../..', import.meta.url)),
  });
  const refused = { code: null, failedStart: 'cannot start true: spawn true EMFILE' };
  expect(JSON.parse(stdout)).toEqual({
    before: { code: 0 },
    ended: [refused, refused],
    opened: expect.stringMatching(/^Error: the log of the program cannot be opened: EMFILE/) as unknown,
    after: { code: 0 },
  });
});

const failureOf = (work: Promise<unknown>): Promise<unknown> =>
  work.then(
    () => undefined,
    (error: unknown) => error,
  );

describe('what cannot be recorded is tried again:', () => {
  const { signal } = new AbortController();

  test('the program of a job', async () => {
    const { api, home, close } = await openLocalCluster({ sandbox: 'none' });
    try {
      const python = await findPython(process.env['OCDL_PYTHON']);
      const folder = join(scratch.path, 'job');
      mkdirSync(folder);
      const starts = { count: 0 };
      const setting = {
        ...{ sandbox: { kind: 'none', why: 'a test' } as const, folder, home, uid: 0, finished: false },
        capsule: fileURLToPath(new URL('../../deploy/capsule', import.meta.url)),
        environment: () =>
          Promise.resolve({ python: python.executable, base: python.executable, folders: [python.prefix] }),
        onStart: () => {
          // The first program fetches the inputs.
          if (++starts.count === 2) throw new Error('ENOSPC: no space left on device, write');
        },
        onFinished: () => Promise.reject(new Error('it did not run')),
      };
      const log = openProgramLog({ path: join(folder, 'log') });
      const spec = pythonJob(api, { code: 'print("ran")' });
      const error = await failureOf(runJob({ ...setting, token: api.tokenOf(spec.data.job) }, spec, signal, log));
      log.close();
      expect(String(error)).toMatch(/^Error: job j\w+: cannot start .*: its process cannot be recorded: ENOSPC/);
      expect(isFinal(error)).toBe(false);
    } finally {
      await close();
    }
  });

  test('a service', async () => {
    const { cluster, model, close } = await openLocalCluster({
      sandbox: 'none',
      // A folder in the place of the record.
      fetchFile: (_, destination) => {
        mkdirSync(join(dirname(dirname(destination)), 'pid'), { recursive: true });
        return Promise.resolve();
      },
    });
    try {
      const spec = { name: 'unrecorded', version: 'v1', files: model, compute: 'cpu' as const };
      const error = await failureOf(cluster.startService(spec, signal));
      expect(String(error)).toMatch(
        /^Error: service unrecorded: cannot start .*: its process cannot be recorded: EISDIR/,
      );
      expect(isFinal(error)).toBe(false);
    } finally {
      await close();
    }
  });

  test('a job whose log cannot be opened', async () => {
    const { cluster, api, home, close } = await openLocalCluster({ sandbox: 'none' });
    try {
      const spec = pythonJob(api, { code: 'print("ran")', name: 'unlogged' });
      // An interrupted job, so that its log is kept; a folder in the place of the log.
      const folder = join(home, 'jobs', spec.name);
      mkdirSync(join(folder, 'log'), { recursive: true });
      writeFileSync(join(folder, 'started'), keyOf(spec));
      const outcome = await runToEnd({ cluster, api }, spec);
      expect(outcome).toMatchObject({ status: 'failed', reason: 'environment' });
      expect(outcome.log).toMatch(/^the log of the program cannot be opened: EISDIR/);
      expect(processesWith(home)).toEqual([]);
    } finally {
      await close();
    }
  });

  test('a service whose log cannot be opened: nothing of it is left', async () => {
    const before = process.env['TMPDIR'];
    const temporary = join(scratch.path, 'tmp');
    mkdirSync(temporary);
    const { cluster, model, home, close } = await openLocalCluster({
      sandbox: 'none',
      // Too long for the socket, which is then in the temporary folder.
      home: join(scratch.path, 'h'.repeat(120)),
      fetchFile: (_, destination) => {
        mkdirSync(join(dirname(dirname(destination)), 'log'), { recursive: true });
        return Promise.resolve();
      },
    });
    process.env['TMPDIR'] = temporary;
    try {
      const spec = { name: 'unlogged', version: 'v1', files: model, compute: 'cpu' as const };
      const error = await failureOf(cluster.startService(spec, signal));
      expect(String(error)).toMatch(
        /^Error: service unlogged was not started: the log of the program cannot be opened: EISDIR/,
      );
      expect(isFinal(error)).toBe(false);
      expect([readdirSync(temporary), readdirSync(join(home, 'services')), processesWith(home)]).toEqual([[], [], []]);
    } finally {
      if (before === undefined) delete process.env['TMPDIR'];
      else process.env['TMPDIR'] = before;
      await close();
    }
  });
});
