// Programs whose process cannot be recorded at their start, as on a full disk.
import { test } from '@jest/globals';
import { mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { findPython } from '../../activities/adapters/local-process/python.ts';
import { isAlive, type ProcessMark } from '../../activities/adapters/local-process/process-tree.ts';
import { runJob } from '../../activities/adapters/local-process/job.ts';
import { openProgramLog } from '../../activities/adapters/local-process/program-log.ts';
import { startProgram } from '../../activities/adapters/local-process/program.ts';
import { isFinal } from '../../activities/failures.ts';
import { pythonJob } from '../contracts/cluster.ts';
import { openLocalCluster } from './local-cluster.ts';
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
});
