// How the end of a model service is reported: only a service that was killed from outside is worth another attempt.
import { expect, test } from '@jest/globals';
import { endOf } from '../../activities/adapters/local-process/service.ts';

const spec = { name: 'served' };

test.each([
  [
    'the kernel killed it for lack of memory',
    { code: 137, exceeded: 'memory' },
    false,
    /needed more memory .* \(status 137\)/,
  ],
  ['somebody killed it', { code: 137 }, true, /was killed from outside \(status 137\)/],
  ['it exited', { code: 1 }, false, /exited on its own \(status 1\)/],
] as const)('%s', (_, ended, killed, how) => {
  const end = endOf(spec, ended, 'its last line');
  expect(end.killed).toBe(killed);
  expect(end.detail).toMatch(how);
  expect(end.detail).toContain('its last line');
});
