// The loop that links the audit: several at the same time, after failures, until stopped.
import { setTimeout as sleep } from 'node:timers/promises';
import { createPostgresRecords } from '../../activities/adapters/postgres/records.ts';
import { keepLinked } from '../../workers/chainer.ts';
import { createScene } from '../contracts/records.ts';
import { freshDatabase } from '../servers.ts';

it('links the rows of two processes within a second, and nothing after it is stopped', async () => {
  const url = await freshDatabase();
  const both = [await createPostgresRecords({ url }), await createPostgresRecords({ url })] as const;
  const warnings: string[] = [];
  const onWarn = (message: string): void => void warnings.push(message);
  const { entry } = createScene();
  try {
    const loops = both.map((records) => keepLinked({ records, onWarn }));
    for (let n = 0; n < 50; n += 1) for (const records of both) await records.record([entry()], []);
    await until(async () => (await both[0].verifyAudit()).unlinked === 0);
    expect(await both[0].verifyAudit()).toEqual({ rows: 100, broken: null, unlinked: 0, overdue: 0 });
    await Promise.all(loops.map((loop) => loop.stop()));
    await both[0].record([entry()], []);
    await sleep(1_000);
    expect(await both[0].verifyAudit()).toEqual({ rows: 101, broken: null, unlinked: 1, overdue: 0 });
    expect(warnings).toEqual([]);
  } finally {
    await Promise.all(both.map((records) => records.close()));
  }
});

it('continues immediately after a full batch, and retries after a failure with a warning', async () => {
  const answers: (number | Error)[] = [1_000, 1_000, 1_000, new Error('it is away'), 3];
  const warnings: string[] = [];
  const state = { calls: 0 };
  const linkAudit = async (): Promise<number> => {
    state.calls += 1;
    const answer = answers.shift() ?? 0;
    if (answer instanceof Error) throw answer;
    return answer;
  };
  // With this long interval, only a loop that does not wait after a full batch makes the first four calls in time.
  const loop = keepLinked({
    records: { linkAudit },
    onWarn: (message) => void warnings.push(message),
    everyMs: 600_000,
  });
  await until(async () => warnings.length > 0);
  expect(state.calls).toBe(4);
  expect(warnings).toEqual([expect.stringContaining('it is away')]);
  await until(async () => state.calls >= 5);
  await loop.stop();
  expect(answers).toEqual([]);
});

it('waits after a batch that is not full, so that few rows are not a transaction each', async () => {
  const state = { calls: 0 };
  const linkAudit = async (): Promise<number> => {
    state.calls += 1;
    return 7;
  };
  const loop = keepLinked({ records: { linkAudit }, onWarn: () => undefined, everyMs: 600_000 });
  await until(async () => state.calls > 0);
  await sleep(200);
  await loop.stop();
  expect(state.calls).toBe(1);
});

async function until(isSo: () => Promise<boolean>): Promise<void> {
  for (const end = Date.now() + 20_000; !(await isSo()); await sleep(20))
    if (Date.now() > end) throw new Error('waited in vain');
}
