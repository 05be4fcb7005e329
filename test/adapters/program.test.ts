// One program whose process cannot be recorded at its start.
import { test } from '@jest/globals';
import { join } from 'node:path';
import { isAlive, type ProcessMark } from '../../activities/adapters/local-process/process-tree.ts';
import { openProgramLog } from '../../activities/adapters/local-process/program-log.ts';
import { startProgram } from '../../activities/adapters/local-process/program.ts';
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
  expect(ended).toEqual({ code: null, failedStart: expect.stringMatching(/^cannot start sleep: .*ENOSPC/) });
  expect(seen.mark && isAlive(seen.mark)).toBe(false);
  expect(log.tail()).toMatch(/^cannot start sleep: its process cannot be recorded: ENOSPC: no space left on device/);
  log.close();
});
