// Processes whose clocks are wrong: what Records compare comes from the database's clock alone.
import assert from 'node:assert/strict';
import { jest } from '@jest/globals';
import { createPostgresRecords } from '../../activities/adapters/postgres/records.ts';
import type { Records } from '../../activities/records.ts';
import { openLifecycle } from '../contracts/records/lifecycle-scene.ts';
import { createScene } from '../contracts/records.ts';
import { freshDatabase } from '../servers.ts';

const opened: { records?: Records } = {};
beforeAll(async () => {
  opened.records = await createPostgresRecords({ url: await freshDatabase() });
});
afterAll(async () => opened.records?.close());

const HOUR_MS = 3_600_000;

/** Does the work with this process's clock shifted; timers are unaffected. */
async function withClockOff<R>(ms: number, work: () => Promise<R>): Promise<R> {
  const kept = [
    'setTimeout',
    'clearTimeout',
    'setInterval',
    'clearInterval',
    'setImmediate',
    'clearImmediate',
  ] as const;
  jest.useFakeTimers({
    doNotFake: [...kept, 'nextTick', 'queueMicrotask', 'performance', 'hrtime'],
    now: Date.now() + ms,
  });
  try {
    return await work();
  } finally {
    jest.useRealTimers();
  }
}

async function openLife(policy = {}) {
  assert.ok(opened.records, 'PostgreSQL could not be opened: see the failure of beforeAll');
  return openLifecycle(opened.records, createScene(), policy);
}

describe.each([
  ['ahead', HOUR_MS],
  ['behind', -HOUR_MS],
])('a worker whose clock is an hour %s', (_, off) => {
  it('accepts the same evaluations as evidence as any other worker', async () => {
    const { start, validate, ask, evaluate, give } = await openLife();
    await start('rf-1');
    const early = await (await ask('rf-1'))();
    await withClockOff(off, () => validate('rf-1'));
    const refused = await give('rf-1', 'approve', 'mia', { report: early });
    assert.match(refused.message, /before the version became new/);
    const approved = await give('rf-1', 'approve', 'mia', { report: await evaluate('rf-1') });
    assert.equal(approved.came, 'done', approved.message);
  });

  it('accepts an undo within its window, refuses it afterwards, and does not close the version earlier', async () => {
    const { idOf, submit, give, standing } = await openLife({ undoWithinSeconds: 600 });
    for (const id of ['rf-1', 'rf-2']) {
      await submit(id);
      await withClockOff(off, () => give(id, 'reject', 'mia', { args: { reason: 'no' } }));
    }
    const { version, undoUntil } = await standing('rf-1');
    const rest = Date.parse(undoUntil ?? '') - Date.now();
    assert.ok(rest > 500_000 && rest <= 600_000, `${rest} ms are left`);
    const records = opened.records ?? assert.fail('no records');
    const after = await withClockOff(off, () => records.advanceVersion(idOf('rf-1'), { revision: version.revision }));
    assert.equal(after.closed, false);
    const undone = await withClockOff(off, () => give('rf-1', 'undo', 'mia'));
    assert.equal(undone.came, 'done', undone.message);
  });

  it('closes a rejected version when its undo window has passed', async () => {
    const { idOf, submit, give, standing } = await openLife({ undoWithinSeconds: 0 });
    await submit('rf-1');
    await give('rf-1', 'reject', 'mia', { args: { reason: 'no' } });
    const { version } = await standing('rf-1');
    const records = opened.records ?? assert.fail('no records');
    const after = await withClockOff(off, () => records.advanceVersion(idOf('rf-1'), { revision: version.revision }));
    assert.equal(after.closed, true);
  });
});
