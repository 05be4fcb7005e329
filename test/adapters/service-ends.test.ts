// How the end of a model service is reported: only a service that was killed from outside is worth another attempt.
import { expect, test } from '@jest/globals';
import assert from 'node:assert/strict';
import { fileURLToPath } from 'node:url';
import { endOf } from '../../activities/adapters/local-process/service.ts';

import { isFinal } from '../../activities/failures.ts';
import { openLocalCluster, processesWith, sandboxForTests } from './local-cluster.ts';

const MIB = 1024 ** 2;
const hasSandbox = await sandboxForTests('the limits of model services');
const spec = { name: 'served' };

test.each([
  [
    'the kernel killed it for lack of memory',
    { code: 137, exceeded: 'memory' },
    false,
    /needed more memory .* \(status 137\)/,
  ],
  ['the platform stopped it for its memory', { code: null, exceeded: 'memory' }, false, /exceeded the limit of memory/],
  [
    'the platform stopped it for its files',
    { code: null, exceeded: 'disk' },
    false,
    /exceeded the limit of disk space/,
  ],
  ['somebody killed it', { code: 137 }, true, /was killed from outside \(status 137\)/],
  ['it exited', { code: 1 }, false, /exited on its own \(status 1\)/],
] as const)('%s', (_, ended, killed, how) => {
  const end = endOf(spec, ended, 'its last line');
  expect(end.killed).toBe(killed);
  expect(end.detail).toMatch(how);
  expect(end.detail).toContain('its last line');
});

describe.each([['none'], ...(hasSandbox ? [['bubblewrap']] : [])] as ['none' | 'bubblewrap'][])(
  'sandbox: %s',
  (sandbox) => {
    const inferenceEntry = fileURLToPath(new URL('./stand-ins/hungry-service.ts', import.meta.url));
    const serviceLimits = { memoryBytes: 400 * MIB, diskBytes: 4 * MIB };
    const { signal } = new AbortController();

    test.each([
      ['memory', /it used \d+ bytes of memory; the limit is 419430400$/m],
      ['disk', /use \d+ bytes of disk; the limit is 4194304$/m],
    ])('a model service that exceeds its limit of %s is stopped, and not tried again', async (what, why) => {
      const { cluster, home, model, get, close } = await openLocalCluster({ sandbox, inferenceEntry, serviceLimits });
      try {
        const served = { name: `hungry-${what}`, files: model, compute: 'cpu' as const };
        const { address, ended } = await cluster.startService({ ...served, version: `${what}-late` }, signal);
        expect(await get(address, '/')).toBe(200);
        assert.ok(ended);
        const end = await ended;
        expect(end.killed).toBe(false);
        expect(end.detail).toMatch(new RegExp(`^service hungry-${what} was stopped: it exceeded the limit of ${what}`));
        expect(end.detail).toMatch(why);
        // Before it is ready.
        const early = await cluster
          .startService({ ...served, version: `${what}-early` }, signal)
          .catch((error: unknown) => error);
        expect(String(early)).toMatch(/not ready: service hungry-\w+ was stopped: it exceeded the limit/);
        expect(isFinal(early)).toBe(true);
        expect(processesWith(home)).toEqual([]);
      } finally {
        await close();
      }
    });
  },
);
